//! How far long work is: the engine's messages as docker shows them, a line for each layer that is
//! redrawn in place on a terminal, and a meter of bytes for what goes up or down.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use dockctl_api::v1::Progress;
use unicode_width::UnicodeWidthChar;

use super::{Term, clean, escape::Sanitizer, human};

/// Signs in a bar.
const BAR: usize = 25;
/// A meter is redrawn this often at most.
const REDRAW: Duration = Duration::from_millis(100);

/// The engine's messages as text.
pub(crate) struct View {
    /// The terminal's width; None where nobody looks.
    width: Option<usize>,
    /// What the lines at the bottom are about.
    lines: Vec<String>,
    sanitizer: Sanitizer,
}

impl View {
    /// A view for a terminal, or for what is none.
    pub(crate) fn new(is_terminal: bool) -> Self {
        let width = || terminal_size::terminal_size().map_or(80, |(width, _)| width.0.into());
        Self { width: is_terminal.then(width), lines: Vec::new(), sanitizer: Sanitizer::default() }
    }

    /// What to print for a message; nothing for some.
    pub(crate) fn text(&mut self, progress: &Progress) -> String {
        if !progress.stream.is_empty() {
            self.lines.clear();
            return self.stream(&progress.stream);
        }
        if progress.status.is_empty() {
            return String::new();
        }
        let Some(width) = self.width else {
            // Without a terminal only what is done is worth a line.
            return match progress.current == 0 && progress.total == 0 {
                true => head(progress) + "\n",
                false => String::new(),
            };
        };
        let line = cut(&line(progress), width.saturating_sub(1));
        if progress.id.is_empty() {
            self.lines.clear();
            return format!("\x1b[2K{line}\n");
        }
        match self.lines.iter().position(|id| *id == progress.id) {
            Some(at) => {
                let up = self.lines.len() - at;
                let down = if up > 1 { format!("\x1b[{}B", up - 1) } else { String::new() };
                format!("\x1b[{up}A\r\x1b[2K{line}\n{down}")
            }
            None => {
                self.lines.push(progress.id.clone());
                format!("\x1b[2K{line}\n")
            }
        }
    }

    fn stream(&mut self, text: &str) -> String {
        if self.width.is_none() {
            return text.to_owned();
        }
        let mut shown = Vec::with_capacity(text.len());
        self.sanitizer.push(text.as_bytes(), &mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    }
}

fn head(progress: &Progress) -> String {
    let status = clean(&progress.status);
    match progress.id.as_str() {
        "" => status,
        id => format!("{}: {status}", clean(id)),
    }
}

fn line(progress: &Progress) -> String {
    let head = head(progress);
    match (progress.current, progress.total) {
        (0, 0) => head,
        (current, 0) => format!("{head} {}", human::decimal_size(current, 4)),
        (current, total) => format!(
            "{head} {} {}/{}",
            bar(current, total),
            human::decimal_size(current.min(total), 4),
            human::decimal_size(total, 4)
        ),
    }
}

/// A bar as docker draws it.
fn bar(current: u64, total: u64) -> String {
    let done = (u128::from(current) * BAR as u128 / u128::from(total.max(1))).min(BAR as u128);
    let done = usize::try_from(done).unwrap_or(BAR);
    let tip = if done < BAR { ">" } else { "" };
    format!("[{}{tip}{}]", "=".repeat(done), " ".repeat(BAR - done - tip.len()))
}

/// A line cut to a width, since one that wraps could not be redrawn.
fn cut(line: &str, width: usize) -> String {
    let mut left = width;
    line.chars()
        .take_while(|c| match left.checked_sub(c.width().unwrap_or(0)) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        })
        .collect()
}

/// Bytes that went one way, on stderr where a person reads it.
pub(crate) struct Meter {
    what: String,
    shown: bool,
    total: Option<u64>,
    bytes: u64,
    begun: Instant,
    drawn: Option<Instant>,
}

impl Meter {
    /// Nothing yet of `total` bytes, where that is known. `quiet` shows nothing.
    pub(crate) fn new(term: Term, what: &str, total: Option<u64>, quiet: bool) -> Self {
        let (shown, begun) = (term.err && !quiet, Instant::now());
        Self { what: clean(what), shown, total, bytes: 0, begun, drawn: None }
    }

    /// So many more.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.shown && self.drawn.is_none_or(|at| at.elapsed() >= REDRAW) {
            self.drawn = Some(Instant::now());
            // What cannot be shown is no reason to stop the work.
            let _ = io::stderr().write_all(format!("\r\x1b[2K{}", self.line()).as_bytes());
        }
    }

    /// How many so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = io::stderr().write_all(b"\r\x1b[2K");
        }
    }

    fn line(&self) -> String {
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let rate = human::decimal_size((self.bytes as f64 / seconds) as u64, 3);
        let bytes = human::decimal_size(self.bytes, 4);
        match self.total {
            Some(total) if total > 0 => {
                let total_shown = human::decimal_size(total, 4);
                format!("{} {} {bytes}/{total_shown} {rate}/s", self.what, bar(self.bytes, total))
            }
            _ => format!("{} {bytes} {rate}/s", self.what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(width: Option<usize>) -> View {
        View { width, lines: Vec::new(), sanitizer: Sanitizer::default() }
    }

    fn layer(id: &str, status: &str, current: u64, total: u64) -> Progress {
        let (id, status) = (id.to_owned(), status.to_owned());
        Progress { id, status, current, total, ..Progress::default() }
    }

    #[test]
    fn layers_are_redrawn_in_their_own_lines() {
        let mut view = view(Some(80));
        assert_eq!(view.text(&layer("a", "Waiting", 0, 0)), "\x1b[2Ka: Waiting\n");
        assert_eq!(view.text(&layer("b", "Waiting", 0, 0)), "\x1b[2Kb: Waiting\n");
        assert_eq!(view.text(&layer("b", "Pulled", 0, 0)), "\x1b[1A\r\x1b[2Kb: Pulled\n");
        assert_eq!(
            view.text(&layer("a", "Downloading", 500, 1000)),
            "\x1b[2A\r\x1b[2Ka: Downloading [============>            ] 500B/1kB\n\x1b[1B"
        );
    }

    #[test]
    fn lines_never_wrap_and_hold_no_escapes() {
        let mut view = view(Some(20));
        let text = view.text(&layer("a\x1b[2J", &"long ".repeat(20), 5, 9));
        assert_eq!(text, "\x1b[2Ka: long long long l\n");
        let stream = Progress { stream: "x\x1b[31my\n".to_owned(), ..Progress::default() };
        assert_eq!(view.text(&stream), "xy\n");
    }

    #[test]
    fn without_a_terminal_lines_are_plain() {
        let mut view = view(None);
        assert_eq!(view.text(&layer("a", "Downloading", 1, 2)), "");
        assert_eq!(view.text(&layer("a", "Pull complete", 0, 0)), "a: Pull complete\n");
        assert_eq!(view.text(&layer("", "Status: done", 0, 0)), "Status: done\n");
    }

    #[test]
    fn bars_end_where_they_should() {
        assert_eq!(bar(0, 10), format!("[>{}]", " ".repeat(24)));
        assert_eq!(bar(10, 10), format!("[{}]", "=".repeat(25)));
        assert_eq!(bar(u64::MAX, 1), format!("[{}]", "=".repeat(25)));
    }
}
