//! What one agent's host holds, as the agent told it last. Pure; the registry keeps one for each agent.

use std::{collections::BTreeMap, time::SystemTime};

use dockctl_api::{
    link::v1::Inventory,
    v1::{Container, EngineStatus, Image},
};
use prost::Message;

/// Bytes of containers, and of images, that one agent may tell of, so that a hostile one cannot fill
/// the controller's memory. 50,000 containers of 1 KiB fit.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Leaves out what is beyond the bound.
fn bound(agent: &str, containers: &mut BTreeMap<String, Container>) {
    let mut held: usize = containers.values().map(Message::encoded_len).sum();
    if held <= MAX_BYTES {
        return;
    }
    tracing::warn!(
        agent,
        held,
        "its containers take more than {MAX_BYTES} bytes; the rest is left out"
    );
    while held > MAX_BYTES
        && let Some((_, left_out)) = containers.pop_last()
    {
        held -= left_out.encoded_len();
    }
}

/// One host's containers and images.
#[derive(Debug, Default)]
pub struct View {
    /// By container id.
    pub containers: BTreeMap<String, Container>,
    /// All images.
    pub images: Vec<Image>,
    /// The engine beside the agent.
    pub engine: EngineStatus,
    /// When the agent last told anything.
    pub as_of: Option<SystemTime>,
    /// A full inventory that has not come to its end.
    arriving: Option<BTreeMap<String, Container>>,
}

impl View {
    /// Takes a frame in. `agent` is the session's own name: what the frame says of it is not believed.
    pub fn apply(&mut self, agent: &str, frame: Inventory, now: SystemTime) {
        let named = frame.containers.into_iter().map(|mut container| {
            agent.clone_into(&mut container.agent);
            container.stale = false;
            (container.id.clone(), container)
        });
        if frame.full {
            let mut all = self.arriving.take().unwrap_or_default();
            all.extend(named);
            if frame.complete {
                self.containers = all;
            } else {
                self.arriving = Some(all);
            }
        } else {
            self.containers.extend(named);
            for id in &frame.removed_containers {
                self.containers.remove(id);
            }
        }
        bound(agent, &mut self.containers);
        if let Some(arriving) = &mut self.arriving {
            bound(agent, arriving);
        }
        if frame.images_changed {
            self.images = frame.images;
            let mut room = MAX_BYTES;
            self.images.retain(|image| {
                room = room.saturating_sub(image.encoded_len());
                room > 0
            });
            for image in &mut self.images {
                agent.clone_into(&mut image.agent);
                image.stale = false;
            }
        }
        self.as_of = Some(now);
    }

    /// A new session begins: a full inventory that the old one did not finish is forgotten.
    pub fn restart(&mut self) {
        self.arriving = None;
    }

    /// How many containers run, and how many there are.
    pub fn counts(&self) -> (u32, u32) {
        let running = self.containers.values().filter(|c| c.state == "running").count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (count(running), count(self.containers.len()))
    }
}

/// Whether a container is meant by a name, an id or the beginning of an id.
pub fn is_meant(container: &Container, reference: &str) -> bool {
    let prefix = reference.len() >= 4 && container.id.starts_with(reference);
    container.name == reference || container.id == reference || prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, agent: &str) -> Container {
        Container { id: id.into(), agent: agent.into(), ..Default::default() }
    }

    fn full(ids: &[&str], complete: bool) -> Inventory {
        let containers = ids.iter().map(|id| container(id, "liar")).collect();
        Inventory { full: true, complete, containers, ..Default::default() }
    }

    #[test]
    fn a_full_inventory_replaces_only_when_complete() {
        let (mut view, now) = (View::default(), SystemTime::now());
        view.apply("web-1", full(&["old"], true), now);
        view.apply("web-1", full(&["a"], false), now);
        assert!(view.containers.contains_key("old"));
        view.apply("web-1", full(&["b"], true), now);
        assert_eq!(view.containers.keys().collect::<Vec<_>>(), ["a", "b"]);
        view.apply("web-1", full(&["half"], false), now);
        view.restart();
        view.apply("web-1", full(&["c"], true), now);
        assert_eq!(view.containers.keys().collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn a_hostile_inventory_is_bounded() {
        let (mut view, now) = (View::default(), SystemTime::now());
        for frame in 0..20 {
            let big = (0..10).map(|n| Container {
                id: format!("{frame}-{n}"),
                command: "x".repeat(1024 * 1024),
                ..Default::default()
            });
            let change = Inventory { containers: big.collect(), ..Default::default() };
            view.apply("hostile", change, now);
        }
        let held: usize = view.containers.values().map(Message::encoded_len).sum();
        assert!(held <= MAX_BYTES && held > MAX_BYTES - 2 * 1024 * 1024, "{held}");
    }

    #[test]
    fn an_agent_speaks_for_itself_only() {
        let mut view = View::default();
        view.apply("web-1", full(&["a"], true), SystemTime::now());
        assert_eq!(view.containers["a"].agent, "web-1");
    }

    #[test]
    fn changes_add_and_remove() {
        let (mut view, now) = (View::default(), SystemTime::now());
        view.apply("w", full(&["a", "b"], true), now);
        let change = Inventory {
            containers: vec![container("c", "w")],
            removed_containers: vec!["a".into(), "never-was".into()],
            ..Default::default()
        };
        view.apply("w", change, now);
        assert_eq!(view.containers.keys().collect::<Vec<_>>(), ["b", "c"]);
    }
}
