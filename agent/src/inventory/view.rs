//! What there is on the host, and what changed between two looks at it. Pure: the watcher keeps one
//! `View` and asks it for the frames and events that a new list makes.

use std::collections::{BTreeMap, HashMap, HashSet};

use dockctl_api::{
    link::v1::Inventory,
    v1::{Container, Event, Image},
};
use prost_types::Timestamp;

use crate::engine::keep_times;

/// Containers in one frame at most.
pub(super) const FRAME: usize = 100;

/// Containers and images as last seen.
#[derive(Debug, Default)]
pub(super) struct View {
    containers: BTreeMap<String, Container>,
    images: Vec<Image>,
}

/// What a look at the engine changed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Change {
    /// New and changed containers.
    pub(super) containers: Vec<Container>,
    /// Ids of containers that are gone.
    pub(super) removed: Vec<String>,
    /// All images, if they changed.
    pub(super) images: Option<Vec<Image>>,
    /// What must have happened, as events that the engine did not send.
    pub(super) inferred: Vec<Event>,
}

impl View {
    pub(super) fn new(containers: Vec<Container>, images: Vec<Image>) -> Self {
        let containers = containers.into_iter().map(|c| (c.id.clone(), c)).collect();
        Self { containers, images }
    }

    /// Takes over a list of all containers and all images. Events are inferred but for the objects in
    /// `told`, of which the engine's own events were seen. `now` is the time of inferred events.
    pub(super) fn replace(
        &mut self,
        containers: Vec<Container>,
        images: Vec<Image>,
        told: &HashSet<String>,
        now: Timestamp,
    ) -> Change {
        let mut gone: HashSet<String> = self.containers.keys().cloned().collect();
        let mut change = Change::default();
        for container in containers {
            gone.remove(&container.id);
            self.see(container, told, now, &mut change);
        }
        let mut gone: Vec<String> = gone.into_iter().collect();
        gone.sort_unstable();
        for id in gone {
            self.lose(id, told, now, &mut change);
        }
        let untold = |event: &Event| !told.contains(&event.actor_id);
        change.inferred.extend(image_events(&self.images, &images, now).into_iter().filter(untold));
        change.images = self.replace_images(images);
        change
    }

    /// Takes over what was found when the containers `asked` were looked up. Their events are known,
    /// so none is inferred.
    pub(super) fn update(&mut self, asked: &HashSet<String>, found: Vec<Container>) -> Change {
        let mut change = Change::default();
        let now = Timestamp::default();
        let mut gone: HashSet<&String> = asked.iter().collect();
        for container in found {
            gone.remove(&container.id);
            self.see(container, asked, now, &mut change);
        }
        for id in gone {
            self.lose(id.clone(), asked, now, &mut change);
        }
        change
    }

    /// Takes over a list of all images; the images again if they changed.
    pub(super) fn replace_images(&mut self, images: Vec<Image>) -> Option<Vec<Image>> {
        if self.images == images {
            return None;
        }
        self.images = images;
        Some(self.images.clone())
    }

    /// The whole view as frames, the last of which is complete and has the images.
    pub(super) fn full(&self) -> Vec<Inventory> {
        let all: Vec<&Container> = self.containers.values().collect();
        let mut frames: Vec<Inventory> = all
            .chunks(FRAME)
            .map(|chunk| Inventory {
                full: true,
                containers: chunk.iter().map(|c| (*c).clone()).collect(),
                ..Inventory::default()
            })
            .collect();
        if frames.is_empty() {
            frames.push(Inventory { full: true, ..Inventory::default() });
        }
        if let Some(last) = frames.last_mut() {
            last.images.clone_from(&self.images);
            last.images_changed = true;
            last.complete = true;
        }
        frames
    }

    fn see(
        &mut self,
        mut container: Container,
        told: &HashSet<String>,
        now: Timestamp,
        change: &mut Change,
    ) {
        let before = self.containers.get(&container.id);
        if let Some(before) = before {
            keep_times(before, &mut container);
        }
        if before == Some(&container) {
            return;
        }
        if !told.contains(&container.id) {
            let actions = actions(before, &container);
            change.inferred.extend(actions.into_iter().map(|a| event(&container, a, now)));
        }
        self.containers.insert(container.id.clone(), container.clone());
        change.containers.push(container);
    }

    fn lose(&mut self, id: String, told: &HashSet<String>, now: Timestamp, change: &mut Change) {
        let Some(before) = self.containers.remove(&id) else { return };
        if !told.contains(&id) {
            if is_up(&before.state) {
                change.inferred.push(event(&before, "die", now));
            }
            change.inferred.push(event(&before, "destroy", now));
        }
        change.removed.push(id);
    }
}

impl Change {
    /// The change as frames; none if nothing changed.
    pub(super) fn frames(self) -> Vec<Inventory> {
        let mut frames = Vec::new();
        let mut containers = self.containers.into_iter().peekable();
        while containers.peek().is_some() {
            let containers = containers.by_ref().take(FRAME).collect();
            frames.push(Inventory { containers, ..Inventory::default() });
        }
        let images_changed = self.images.is_some();
        if frames.is_empty() && (images_changed || !self.removed.is_empty()) {
            frames.push(Inventory::default());
        }
        if let Some(last) = frames.last_mut() {
            last.removed_containers = self.removed;
            last.images = self.images.unwrap_or_default();
            last.images_changed = images_changed;
        }
        frames
    }
}

fn is_up(state: &str) -> bool {
    matches!(state, "running" | "paused")
}

/// What must have happened to a container between two looks.
fn actions(before: Option<&Container>, now: &Container) -> Vec<&'static str> {
    let mut actions = Vec::new();
    let was = before.map_or("created", |before| before.state.as_str());
    if before.is_none() {
        actions.push("create");
    }
    if before.is_some_and(|before| before.name != now.name) {
        actions.push("rename");
    }
    match (was, now.state.as_str()) {
        ("paused", "running") => actions.push("unpause"),
        ("running", "paused") => actions.push("pause"),
        (was, "running") if !is_up(was) => actions.push("start"),
        (was, "paused") if !is_up(was) => actions.extend(["start", "pause"]),
        (was, "exited" | "dead" | "restarting") if is_up(was) => actions.push("die"),
        // One that was created and has exited since has run in between.
        ("created", "exited" | "restarting") => actions.extend(["start", "die"]),
        _ => {}
    }
    actions
}

fn event(container: &Container, action: &str, now: Timestamp) -> Event {
    let mut attributes = container.labels.clone();
    attributes.insert("name".to_owned(), container.name.clone());
    attributes.insert("image".to_owned(), container.image.clone());
    if action == "die"
        && let Some(code) = exit_code(&container.status)
    {
        attributes.insert("exitCode".to_owned(), code.to_owned());
    }
    Event {
        r#type: "container".to_owned(),
        action: action.to_owned(),
        actor_id: container.id.clone(),
        attributes,
        time: Some(now),
        inferred: true,
    }
}

/// The exit code in a status such as "Exited (137) 2 seconds ago".
fn exit_code(status: &str) -> Option<&str> {
    let (_, rest) = status.split_once('(')?;
    let (code, _) = rest.split_once(')')?;
    code.parse::<i32>().is_ok().then_some(code)
}

fn image_events(before: &[Image], now: &[Image], time: Timestamp) -> Vec<Event> {
    fn by_id(images: &[Image]) -> HashMap<&str, &Image> {
        images.iter().map(|image| (image.id.as_str(), image)).collect()
    }
    let (old, new) = (by_id(before), by_id(now));
    let event = |image: &Image, action: &str, name: &str| Event {
        r#type: "image".to_owned(),
        action: action.to_owned(),
        actor_id: image.id.clone(),
        attributes: HashMap::from([("name".to_owned(), name.to_owned())]),
        time: Some(time),
        inferred: true,
    };
    let mut events = Vec::new();
    for image in before {
        let left = new.get(image.id.as_str());
        for tag in image.tags.iter().filter(|tag| left.is_none_or(|i| !i.tags.contains(tag))) {
            events.push(event(image, "untag", tag));
        }
        if left.is_none() {
            events.push(event(image, "delete", &image.id));
        }
    }
    for image in now {
        let had = old.get(image.id.as_str());
        for tag in image.tags.iter().filter(|tag| had.is_none_or(|i| !i.tags.contains(tag))) {
            events.push(event(image, "tag", tag));
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn container(id: &str, state: &str) -> Container {
        Container {
            id: id.to_owned(),
            name: format!("name-{id}"),
            state: state.to_owned(),
            status: if state == "exited" {
                "Exited (137) 1 second ago".to_owned()
            } else {
                String::new()
            },
            ..Container::default()
        }
    }

    fn image(id: &str, tags: &[&str]) -> Image {
        let tags = tags.iter().map(|t| (*t).to_owned()).collect();
        Image { id: id.to_owned(), tags, ..Image::default() }
    }

    fn seen(change: &Change) -> Vec<(String, String)> {
        change.inferred.iter().map(|e| (e.actor_id.clone(), e.action.clone())).collect()
    }

    fn replace(view: &mut View, containers: Vec<Container>, told: &[&str]) -> Change {
        let told = told.iter().map(|t| (*t).to_owned()).collect();
        let images = view.images.clone();
        view.replace(containers, images, &told, Timestamp { seconds: 9, nanos: 0 })
    }

    #[test]
    fn what_was_missed_is_inferred() {
        let start = ["a", "b", "c", "d"].map(|id| container(id, "running")).to_vec();
        let mut view = View::new(start, vec![]);
        let mut renamed = container("d", "running");
        renamed.name = "other".to_owned();
        let now = vec![
            container("a", "exited"),
            container("c", "paused"),
            renamed,
            container("e", "running"),
        ];
        let change = replace(&mut view, now, &[]);
        let expected = [
            ("a", "die"),
            ("c", "pause"),
            ("d", "rename"),
            ("e", "create"),
            ("e", "start"),
            ("b", "die"),
            ("b", "destroy"),
        ];
        assert_eq!(seen(&change), expected.map(|(id, action)| (id.to_owned(), action.to_owned())));
        assert!(change.inferred.iter().all(|e| e.inferred && e.time.is_some()));
        assert_eq!(change.inferred[0].attributes["exitCode"], "137");
        assert_eq!(change.removed, ["b"]);
    }

    #[test]
    fn what_the_engine_told_is_not_inferred_again() {
        let mut view =
            View::new(vec![container("a", "running"), container("b", "running")], vec![]);
        let change = replace(&mut view, vec![container("a", "exited")], &["a", "b"]);
        assert!(change.inferred.is_empty());
        assert_eq!((change.containers.len(), change.removed.len()), (1, 1));
    }

    #[test]
    fn images_are_compared_by_id_and_tag() {
        let mut view = View::new(vec![], vec![image("1", &["a", "b"]), image("2", &["c"])]);
        let now = vec![image("1", &["a", "d"]), image("3", &["e"])];
        let change = view.replace(vec![], now.clone(), &HashSet::new(), Timestamp::default());
        let expected =
            [("1", "untag"), ("2", "untag"), ("2", "delete"), ("1", "tag"), ("3", "tag")];
        assert_eq!(seen(&change), expected.map(|(id, action)| (id.to_owned(), action.to_owned())));
        assert_eq!(change.images, Some(now.clone()));
        assert!(view.replace_images(now).is_none());
    }

    #[test]
    fn nothing_new_makes_no_frame() {
        let mut view = View::new(vec![container("a", "running")], vec![]);
        assert!(replace(&mut view, vec![container("a", "running")], &[]).frames().is_empty());
        let gone = view.update(&HashSet::from(["a".to_owned()]), vec![]).frames();
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].removed_containers, ["a"]);
        assert!(!gone[0].images_changed);
    }

    #[test]
    fn a_full_view_comes_in_frames_and_the_last_is_complete() {
        let many = (0..(2 * FRAME + 1)).map(|i| container(&format!("{i:04}"), "running")).collect();
        let frames = View::new(many, vec![image("1", &[])]).full();
        assert_eq!(
            frames.iter().map(|f| f.containers.len()).collect::<Vec<_>>(),
            [FRAME, FRAME, 1]
        );
        assert!(frames.iter().all(|f| f.full));
        assert_eq!(frames.iter().map(|f| f.complete).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(frames[2].images.len(), 1);
        let empty = View::default().full();
        assert!(empty.len() == 1 && empty[0].complete);
    }

    fn any_list() -> impl Strategy<Value = Vec<Container>> {
        let states = prop::sample::select(vec![
            "created",
            "running",
            "paused",
            "restarting",
            "exited",
            "dead",
        ]);
        prop::collection::btree_map(0u8..8, states, 0..8).prop_map(|all| {
            all.into_iter().map(|(id, state)| container(&id.to_string(), state)).collect()
        })
    }

    proptest! {
        /// Whoever applies the frames has what the engine has.
        #[test]
        fn frames_lead_from_one_view_to_the_next(lists in prop::collection::vec(any_list(), 1..6)) {
            let mut view = View::default();
            let mut mirror: BTreeMap<String, Container> = BTreeMap::new();
            for list in lists {
                for frame in replace(&mut view, list.clone(), &[]).frames() {
                    for c in frame.containers {
                        mirror.insert(c.id.clone(), c);
                    }
                    for id in frame.removed_containers {
                        mirror.remove(&id);
                    }
                }
                let wanted: BTreeMap<_, _> = list.into_iter().map(|c| (c.id.clone(), c)).collect();
                prop_assert_eq!(&mirror, &wanted);
                prop_assert_eq!(&view.containers, &wanted);
            }
        }
    }
}
