//! The watcher against a pretended engine.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::StreamExt as _;
use tokio::task::JoinHandle;

use super::*;
use crate::engine::fake::{Fake, Reply, usual};

type Updates = Pin<Box<dyn Stream<Item = Frame> + Send>>;

/// A fake with these containers, as (id, state).
fn with(containers: &[(&str, &str)]) -> impl Fn(&str) -> Reply + Send + Sync + use<> {
    let list: Vec<_> = containers
        .iter()
        .map(|(id, state)| serde_json::json!({ "Id": id, "Names": [format!("/{id}")], "State": state }))
        .collect();
    let list = serde_json::json!(list).to_string();
    move |request| match request {
        _ if request.starts_with("GET /containers/json") => Reply::Json(200, list.clone()),
        _ if request.starts_with("GET /images/json") => Reply::Json(200, "[]".to_owned()),
        _ if request.starts_with("GET /events") => Reply::Stream(Vec::new()),
        other => usual(other),
    }
}

fn event(id: &str, action: &str, nanos: u64) -> String {
    let actor = serde_json::json!({ "ID": id, "Attributes": { "name": id } });
    serde_json::json!({ "Type": "container", "Action": action, "Actor": actor, "timeNano": nanos })
        .to_string()
}

struct Running {
    handle: Handle,
    task: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Running {
    fn new(fake: &Fake) -> Self {
        let (handle, inventory) = Inventory::new(fake.engine(), "host-1".into());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(inventory.run(shutdown.clone()));
        Self { handle, task, shutdown }
    }

    /// Updates from now on, after the engine has become available.
    async fn available(&self) -> Updates {
        let mut updates: Updates = Box::pin(self.handle.updates());
        until(&mut updates, |f| matches!(f, Frame::Engine(e) if e.available)).await;
        updates
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// Reads frames up to the first that is wanted.
async fn until(updates: &mut Updates, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = updates.next().await {
        let found = wanted(&frame);
        frames.push(frame);
        if found {
            return frames;
        }
    }
    panic!("the updates ended: {frames:?}")
}

fn is_event(frame: &Frame, action: &str) -> bool {
    matches!(frame, Frame::Event(e) if e.action == action)
}

#[tokio::test]
async fn a_subscriber_gets_status_then_everything_then_changes() {
    let fake = Fake::new(with(&[("a", "running"), ("b", "exited")]));
    let running = Running::new(&fake);
    drop(running.available().await);

    let mut updates: Updates = Box::pin(running.handle.updates());
    let Some(Frame::Engine(engine)) = updates.next().await else { panic!("no status") };
    assert_eq!((engine.available, engine.version.as_str()), (true, "20.10.24"));
    let Some(Frame::Inventory(full)) = updates.next().await else { panic!("no inventory") };
    assert!(full.full && full.complete && full.images_changed);
    assert_eq!(full.containers.len(), 2);
    assert!(full.containers.iter().all(|c| c.agent == "host-1"));

    fake.answer(with(&[("a", "exited"), ("b", "exited")]));
    fake.asked("/events").await;
    fake.push(&event("a", "exec_die", 1));
    fake.push(&event("a", "die", 2));
    let frames = until(&mut updates, |f| matches!(f, Frame::Inventory(_))).await;
    assert!(is_event(&frames[0], "die"), "first the event, without the exec: {frames:?}");
    let Frame::Inventory(change) = &frames[frames.len() - 1] else { panic!() };
    assert!(!change.full);
    assert_eq!((change.containers.len(), change.containers[0].state.as_str()), (1, "exited"));
    running.stop().await;
}

#[tokio::test]
async fn direct_listeners_get_every_event_once() {
    let fake = Fake::new(with(&[("a", "running")]));
    let running = Running::new(&fake);
    let _updates = running.available().await;
    let mut events = Box::pin(running.handle.events());
    fake.push(&event("a", "exec_die", 1));
    fake.push(&event("a", "kill", 2));
    fake.push(&event("a", "kill", 2));
    fake.push(&event("a", "die", 3));
    let mut actions = Vec::new();
    while actions.last().is_none_or(|last| last != "die") {
        let Some(Live::Event(event)) = events.next().await else { panic!("no event") };
        actions.push(event.action.clone());
    }
    assert_eq!(actions, ["exec_die", "kill", "die"]);
    running.stop().await;
}

#[tokio::test]
async fn what_happened_while_the_engine_was_away_is_inferred() {
    let fake = Fake::new(with(&[("a", "running"), ("b", "running")]));
    let running = Running::new(&fake);
    let mut updates = running.available().await;
    fake.stop();
    let frames = until(&mut updates, |f| matches!(f, Frame::Engine(_))).await;
    let Frame::Engine(engine) = &frames[frames.len() - 1] else { panic!() };
    assert!(!engine.available && !engine.error.is_empty());
    assert_eq!(running.handle.engine_status(), *engine);

    fake.answer(with(&[("a", "exited"), ("c", "running")]));
    fake.start();
    let frames = until(&mut updates, |f| is_event(f, "destroy")).await;
    let inferred: Vec<_> = frames
        .iter()
        .filter_map(|f| match f {
            Frame::Event(e) => Some((e.actor_id.as_str(), e.action.as_str(), e.inferred)),
            _ => None,
        })
        .collect();
    let expected = [
        ("a", "die", true),
        ("c", "create", true),
        ("c", "start", true),
        ("b", "die", true),
        ("b", "destroy", true),
    ];
    assert_eq!(inferred, expected);
    running.stop().await;
}

#[tokio::test]
async fn what_the_engine_replays_is_not_inferred_as_well() {
    let fake = Fake::new(with(&[("a", "running")]));
    let running = Running::new(&fake);
    let mut updates = running.available().await;
    fake.push(&event("a", "attach", 1_000_000_007));
    until(&mut updates, |f| is_event(f, "attach")).await;

    let list = with(&[("a", "exited")]);
    fake.answer(move |request| match request {
        _ if request.starts_with("GET /events") => Reply::Stream(
            (event("a", "attach", 1_000_000_007) + "\n" + &event("a", "die", 2_000_000_000) + "\n")
                .into_bytes(),
        ),
        other => list(other),
    });
    fake.cut();
    until(&mut updates, |f| is_event(f, "die")).await;
    fake.asked("since=1.000000007").await;
    fake.push(&event("a", "marker", 3_000_000_000));
    let frames = until(&mut updates, |f| is_event(f, "marker")).await;
    assert!(!frames.iter().any(|f| is_event(f, "die") || is_event(f, "attach")), "{frames:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_burst_of_events_costs_few_looks() {
    let looks = std::sync::Arc::new(AtomicUsize::new(0));
    let (counted, list) = (looks.clone(), with(&[("a", "running")]));
    let fake = Fake::new(move |request| {
        if request.contains("filters=%7B%22id%22") {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        list(request)
    });
    let running = Running::new(&fake);
    let mut updates = running.available().await;
    let lines: Vec<String> = (0..500).map(|i| event("a", "rename", i + 1)).collect();
    fake.push(&lines.join("\n"));
    fake.push(&event("a", "destroy", 1000));
    until(&mut updates, |f| is_event(f, "destroy")).await;
    assert!(looks.load(Ordering::SeqCst) < 100, "{looks:?}");
    running.stop().await;
}

#[tokio::test]
async fn who_falls_behind_gets_everything_anew() {
    let fake = Fake::new(with(&[("a", "running")]));
    let running = Running::new(&fake);
    let mut slow = running.available().await;
    let mut quick: Updates = Box::pin(running.handle.updates());
    let mut events = Box::pin(running.handle.events());
    for i in 0..(KEPT as u64 + 200) {
        fake.push(&event("a", "top", i + 1));
        until(&mut quick, |f| is_event(f, "top")).await;
    }
    assert!(matches!(slow.next().await, Some(Frame::Engine(_))));
    assert!(matches!(slow.next().await, Some(Frame::Inventory(full)) if full.full));
    assert!(matches!(events.next().await, Some(Live::Lagged(_))));
    assert!(matches!(events.next().await, Some(Live::Event(_))));
    running.stop().await;
}

#[tokio::test]
async fn before_the_engine_has_ever_answered_there_is_no_inventory() {
    let fake = Fake::new(with(&[]));
    fake.stop();
    let running = Running::new(&fake);
    let mut updates: Updates = Box::pin(running.handle.updates());
    let frames =
        until(&mut updates, |f| matches!(f, Frame::Engine(e) if e.error.contains("dockerd"))).await;
    assert!(frames.iter().all(|f| matches!(f, Frame::Engine(e) if !e.available)));
    fake.start();
    let frames = until(&mut updates, |f| matches!(f, Frame::Engine(e) if e.available)).await;
    assert!(matches!(&frames[0], Frame::Inventory(full) if full.full && full.complete));
    running.stop().await;
}
