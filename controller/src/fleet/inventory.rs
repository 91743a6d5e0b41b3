//! What one agent's host holds, as the agent told it last. Pure; the registry keeps one for each agent.

use std::{borrow::Borrow, cmp::Ordering, collections::BTreeSet, time::SystemTime};

use bytes::Bytes;
use dockctl_api::{
    link::v1::Inventory,
    v1::{Container, EngineStatus, Image},
};
use prost::{Message, length_delimiter_len};

/// Bytes of containers, and of images, that one agent may tell of, so that a hostile one cannot fill
/// the controller's memory. 50,000 containers of 1 KiB fit.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What holding one container costs beside its bytes, about: its place, its index, its allocations.
const OVERHEAD: usize = 256;

/// A container as lists want it: encoded once, when it is told, and not at each answer. Held by the
/// hundred thousand, so its id and name are not held twice. Ordered by the id.
#[derive(Debug)]
pub struct Held {
    /// Whether it runs.
    pub is_running: bool,
    /// Whether it is paused.
    pub is_paused: bool,
    /// The whole Container message, with its agent, not stale.
    pub encoded: Bytes,
    id: Place,
    name: Place,
}

/// Where in the encoded message a text begins and ends.
#[derive(Debug, Clone, Copy)]
struct Place(u32, u32);

impl Held {
    /// None for a message of more than 4 GB.
    fn new(container: &Container) -> Option<Self> {
        let encoded: Bytes = container.encode_to_vec().into();
        // prost writes the fields in the order of their numbers: agent, id, name, each a tag of one byte,
        // a length and the text, unless that is empty.
        let mut at = 0;
        let mut next = |text: &str| {
            if !text.is_empty() {
                at += 1 + length_delimiter_len(text.len()) + text.len();
            }
            let end = u32::try_from(at).ok()?;
            Some(Place(end - u32::try_from(text.len()).ok()?, end))
        };
        next(&container.agent)?;
        let (id, name) = (next(&container.id)?, next(&container.name)?);
        Some(Self {
            is_running: container.state == "running",
            is_paused: container.state == "paused",
            encoded,
            id,
            name,
        })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.text(self.id)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text(self.name)
    }

    fn text(&self, Place(begin, end): Place) -> &str {
        let bytes = self.encoded.get(begin as usize..end as usize).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    fn cost(&self) -> usize {
        self.encoded.len() + OVERHEAD
    }
}

impl Borrow<str> for Held {
    fn borrow(&self) -> &str {
        self.id()
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id().cmp(other.id())
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Held {}

/// Containers by id, with a bound.
#[derive(Debug, Default)]
pub struct Containers {
    by_id: BTreeSet<Held>,
    bytes: usize,
}

impl Containers {
    /// Each container.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.by_id.iter()
    }

    /// Takes containers in; what is beyond the bound is left out.
    fn extend(&mut self, agent: &str, containers: Vec<Container>) {
        let mut left_out = 0;
        for mut container in containers {
            agent.clone_into(&mut container.agent);
            container.stale = false;
            self.remove(&container.id);
            match Held::new(&container).filter(|held| self.bytes + held.cost() <= MAX_BYTES) {
                Some(held) => {
                    self.bytes += held.cost();
                    self.by_id.insert(held);
                }
                None => left_out += 1,
            }
        }
        if left_out > 0 {
            tracing::warn!(
                agent,
                left_out,
                "its containers take more than {MAX_BYTES} bytes; some are left out"
            );
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(gone) = self.by_id.take(id) {
            self.bytes -= gone.cost();
        }
    }
}

/// One host's containers and images.
#[derive(Debug, Default)]
pub struct View {
    /// What it holds.
    pub containers: Containers,
    /// All images.
    pub images: Vec<Image>,
    /// The engine beside the agent.
    pub engine: EngineStatus,
    /// When the agent last told anything.
    pub as_of: Option<SystemTime>,
    /// A full inventory that has not come to its end.
    arriving: Option<Containers>,
}

impl View {
    /// Takes a frame in. `agent` is the session's own name: what the frame says of it is not believed.
    pub fn apply(&mut self, agent: &str, frame: Inventory, now: SystemTime) {
        if frame.full {
            let mut all = self.arriving.take().unwrap_or_default();
            all.extend(agent, frame.containers);
            if frame.complete {
                self.containers = all;
            } else {
                self.arriving = Some(all);
            }
        } else {
            self.containers.extend(agent, frame.containers);
            for id in &frame.removed_containers {
                self.containers.remove(id);
            }
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
        let running = self.containers.iter().filter(|held| held.is_running).count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (count(running), count(self.containers.by_id.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(view: &View) -> Vec<&str> {
        view.containers.iter().map(Held::id).collect()
    }

    #[test]
    fn id_and_name_are_found_in_what_is_encoded() {
        for (agent, id, name) in
            [("web-1", "0a1b", "shop"), ("", "0a1b", ""), ("w", "", "name"), ("", "", "")]
        {
            for long in ["", &"x".repeat(300)] {
                let container = Container {
                    agent: agent.to_owned(),
                    id: format!("{id}{long}"),
                    name: format!("{long}{name}"),
                    image: "image".to_owned(),
                    ..Default::default()
                };
                let held = Held::new(&container).unwrap();
                assert_eq!((held.id(), held.name()), (&*container.id, &*container.name));
                assert_eq!(Container::decode(&*held.encoded).unwrap(), container);
            }
        }
    }

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
        assert_eq!(ids(&view), ["old"]);
        view.apply("web-1", full(&["b"], true), now);
        assert_eq!(ids(&view), ["a", "b"]);
        view.apply("web-1", full(&["half"], false), now);
        view.restart();
        view.apply("web-1", full(&["c"], true), now);
        assert_eq!(ids(&view), ["c"]);
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
        let held: usize = view.containers.iter().map(Held::cost).sum();
        assert_eq!(held, view.containers.bytes);
        assert!(held <= MAX_BYTES && held > MAX_BYTES - 2 * 1024 * 1024, "{held}");
    }

    #[test]
    fn an_agent_speaks_for_itself_only() {
        let mut view = View::default();
        view.apply("web-1", full(&["a"], true), SystemTime::now());
        let held = view.containers.iter().next().unwrap();
        assert_eq!(Container::decode(&*held.encoded).unwrap().agent, "web-1");
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
        assert_eq!(ids(&view), ["b", "c"]);
    }
}
