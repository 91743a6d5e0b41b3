//! How far pulls are that go on at the same time: a line for each.

use std::{cell::RefCell, collections::BTreeMap};

use dockctl_api::v1::Progress;

use crate::output::progress::amount;

/// What is under way; by where each is and what it pulls.
pub(super) struct Pulls {
    /// Whether nobody is to be told.
    pub(super) quiet: bool,
    under_way: RefCell<BTreeMap<String, Layers>>,
}

/// Of one pull, by id.
#[derive(Default)]
struct Layers(BTreeMap<String, Layer>);

#[derive(Default)]
struct Layer {
    current: u64,
    total: u64,
    is_there: bool,
}

impl Pulls {
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, under_way: RefCell::default() }
    }

    /// One begins, or goes on; `what` may be shown.
    pub(super) fn told(&self, what: &str, progress: &Progress) {
        self.under_way.borrow_mut().entry(what.to_owned()).or_default().told(progress);
    }

    /// One has ended.
    pub(super) fn ended(&self, what: &str) {
        self.under_way.borrow_mut().remove(what);
    }

    /// The lines.
    pub(super) fn lines(&self) -> Vec<String> {
        let pulls = self.under_way.borrow();
        let shown = pulls.iter().filter(|_| !self.quiet);
        shown.map(|(what, layers)| format!("{what}: {}", layers.line())).collect()
    }
}

impl Layers {
    fn told(&mut self, progress: &Progress) {
        // A tag's message has an id, too.
        if progress.id.is_empty() || progress.status.starts_with("Pulling from") {
            return;
        }
        let layer = self.0.entry(progress.id.clone()).or_default();
        match progress.status.as_str() {
            "Downloading" if progress.total > 0 => {
                (layer.current, layer.total) = (progress.current, progress.total);
            }
            "Verifying Checksum" | "Download complete" => layer.current = layer.total,
            "Pull complete" | "Already exists" => {
                (layer.current, layer.is_there) = (layer.total, true);
            }
            _ => {}
        }
    }

    fn line(&self) -> String {
        let (all, there) = (self.0.len(), self.0.values().filter(|layer| layer.is_there).count());
        let sum = |of: fn(&Layer) -> u64| self.0.values().map(of).fold(0, u64::saturating_add);
        match (all, sum(|layer| layer.total)) {
            (0, _) => "asking for the image".to_owned(),
            (_, 0) => format!("{there} of {all} layers"),
            (_, total) => {
                format!("{there} of {all} layers {}", amount(sum(|layer| layer.current), total))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulls_line_says_how_much_has_come() {
        let pulls = Pulls::new(false);
        let told = |id: &str, status: &str, current, total| {
            let (id, status) = (id.to_owned(), status.to_owned());
            pulls.told("web-1", &Progress { id, status, current, total, ..Progress::default() });
            pulls.lines().concat()
        };
        assert_eq!(told("1.2", "Pulling from team/app", 0, 0), "web-1: asking for the image");
        assert_eq!(told("a", "Pulling fs layer", 0, 0), "web-1: 0 of 1 layers");
        told("b", "Already exists", 0, 0);
        let half = "web-1: 1 of 2 layers [============>            ] 50B/100B";
        assert_eq!(told("a", "Downloading", 50, 100), half);
        let full = format!("[{}] 100B/100B", "=".repeat(25));
        assert_eq!(told("a", "Download complete", 0, 0), format!("web-1: 1 of 2 layers {full}"));
        told("a", "Extracting", 7, 100);
        assert_eq!(told("a", "Pull complete", 0, 0), format!("web-1: 2 of 2 layers {full}"));
        pulls.told("db-1", &Progress::default());
        assert_eq!(pulls.lines().len(), 2);
        pulls.ended("web-1");
        assert_eq!(pulls.lines(), ["db-1: asking for the image"]);
    }
}
