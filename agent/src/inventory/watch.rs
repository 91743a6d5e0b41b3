//! The watcher: subscribe → list → diff, then follow the engine's events; again every 60 s and after
//! any end of the event stream. Events go out first, the inventory follows: one look at just the
//! containers that something happened to, however many events there were meanwhile.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    future::Future,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime},
};

use dockctl_api::{
    link::v1::connect_request::Frame,
    v1::{Container, EngineStatus, Event, Image, StreamEventsRequest},
};
use futures_util::{Stream, StreamExt as _};
use prost_types::Timestamp;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{
    Shared,
    view::{Change, View},
};
use crate::engine::{Engine, ImageQuery, ListQuery};

/// How often everything is compared anew.
const RESYNC: Duration = Duration::from_secs(60);
/// How often a silent engine is asked whether it is there.
const PING: Duration = Duration::from_secs(10);
/// An engine that takes longer to answer that is down.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the engine has to tell by itself what a comparison shows, before it is inferred.
const SUSPECT: Duration = Duration::from_millis(500);
/// How long to wait after a failure: this, doubled with each further one.
const RETRY: Duration = Duration::from_millis(100);
/// The longest wait, so that a restarted engine is seen within 2 s.
const MAX_RETRY: Duration = Duration::from_secs(2);
/// How many events the engine itself remembers and replays.
const REPLAYED: usize = 256;
/// When a container that died is looked at again: dockerd (20.10) sends `die` before its own list
/// shows the container as exited.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(250),
    Duration::from_secs(1),
];
/// Above this many containers to look at, all are listed.
const MANY: usize = 50;

type Look<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

pub(super) async fn run(engine: &Engine, shared: &Shared) {
    let mut watch = Watch {
        engine,
        shared,
        seen: VecDeque::new(),
        last: None,
        dirty: HashSet::new(),
        asked: HashSet::new(),
        again: BTreeSet::new(),
        dirty_images: false,
        suspects: Vec::new(),
    };
    let mut wait = RETRY;
    loop {
        let mut answered = false;
        // A future of this size does not belong on every caller's stack.
        match Box::pin(watch.session(&mut answered)).await {
            Ok(()) => wait = RETRY,
            Err(status) => {
                watch.set_engine(EngineStatus {
                    error: status.message().to_owned(),
                    ..EngineStatus::default()
                });
                wait = if answered { RETRY } else { (wait * 2).min(MAX_RETRY) };
                tokio::time::sleep(wait).await;
            }
        }
    }
}

struct Watch<'a> {
    engine: &'a Engine,
    shared: &'a Shared,
    /// The last events, to know them again when the engine replays them. By what they are, not by
    /// their time alone: the engine's clock may be set back.
    seen: VecDeque<u64>,
    /// The time of the last event.
    last: Option<Timestamp>,
    /// Containers that something happened to since they were last looked at.
    dirty: HashSet<String>,
    /// Containers that are being looked at.
    asked: HashSet<String>,
    /// Containers to look at once more, and when.
    again: BTreeSet<(Instant, String)>,
    dirty_images: bool,
    /// Inferred events that the engine may yet send itself.
    suspects: Vec<Event>,
}

impl Watch<'_> {
    /// One turn: ends well after 60 s, badly when the engine fails. `answered` tells whether the
    /// engine was there at all.
    async fn session(&mut self, answered: &mut bool) -> Result<(), Status> {
        let version = self.engine.version().await?;
        // From the last known event on, the engine replays what was missed, as far as it remembers.
        let request = StreamEventsRequest { since: self.last, ..StreamEventsRequest::default() };
        let events = self.engine.events(&request).await?;
        self.resync().await?;
        *answered = true;
        self.set_engine(EngineStatus {
            available: true,
            version: version.version.clone(),
            api_version: version.api_version.clone(),
            error: String::new(),
        });
        self.follow(pin!(events)).await
    }

    /// Lists everything and compares.
    async fn resync(&mut self) -> Result<(), Status> {
        let (mut containers, mut images) =
            tokio::try_join!(self.list_all(), list_images(self.engine))?;
        self.name(&mut containers, &mut images);
        // The events of these were passed on; only the look at them was still to come.
        let mut told = std::mem::take(&mut self.dirty);
        told.extend(std::mem::take(&mut self.asked));
        self.dirty_images = false;
        let mut state = self.shared.state();
        match &mut state.view {
            Some(view) => {
                let mut change = view.replace(containers, images, &told, now());
                self.suspects.append(&mut change.inferred);
                self.send(change);
            }
            none => {
                for frame in none.insert(View::new(containers, images)).full() {
                    self.send_frame(Frame::Inventory(frame));
                }
            }
        }
        Ok(())
    }

    /// Follows the events until the next resync is due.
    async fn follow(
        &mut self,
        mut events: Pin<&mut impl Stream<Item = Result<Event, Status>>>,
    ) -> Result<(), Status> {
        let mut end = pin!(tokio::time::sleep(RESYNC));
        let mut judge = pin!(tokio::time::sleep(SUSPECT));
        let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
        let mut pinging: Option<Look<Duration>> = None;
        let mut looking: Option<Look<Vec<Container>>> = None;
        let mut looking_at_images: Option<Look<Vec<Image>>> = None;
        loop {
            if looking.is_none() && !self.dirty.is_empty() {
                self.asked = std::mem::take(&mut self.dirty);
                looking = Some(look(self.engine.clone(), &self.asked));
            }
            if looking_at_images.is_none() && std::mem::take(&mut self.dirty_images) {
                let engine = self.engine.clone();
                looking_at_images = Some(Box::pin(async move { list_images(&engine).await }));
            }
            let again = self.again.first().map_or_else(Instant::now, |(at, _)| *at);
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(event) => self.publish(event?),
                    None => return Err(Status::unavailable("Docker has closed its event stream; is it restarting?")),
                },
                found = pending(&mut looking) => {
                    looking = None;
                    let mut found = found?;
                    let asked = std::mem::take(&mut self.asked);
                    found.retain(|container| asked.contains(&container.id));
                    self.name(&mut found, &mut []);
                    let mut state = self.shared.state();
                    let change = state.view.as_mut().map(|view| view.update(&asked, found));
                    self.send(change.unwrap_or_default());
                }
                images = pending(&mut looking_at_images) => {
                    looking_at_images = None;
                    let mut images = images?;
                    self.name(&mut [], &mut images);
                    let mut state = self.shared.state();
                    let images = state.view.as_mut().and_then(|view| view.replace_images(images));
                    self.send(Change { images, ..Change::default() });
                }
                answer = pending(&mut pinging) => {
                    pinging = None;
                    match answer {
                        // A proxy that refuses the ping is an answer, too.
                        Err(status) if status.code() == Code::Unavailable => return Err(status),
                        _ => {}
                    }
                }
                _ = ping.tick(), if pinging.is_none() => {
                    let engine = self.engine.clone();
                    pinging = Some(Box::pin(ping_within(engine)));
                }
                () = &mut judge, if !self.suspects.is_empty() => {
                    for event in std::mem::take(&mut self.suspects) {
                        self.send_event(event);
                    }
                }
                () = tokio::time::sleep_until(again), if !self.again.is_empty() => {
                    self.dirty.extend(self.again.pop_first().map(|(_, id)| id));
                }
                () = &mut end => return Ok(()),
            }
        }
    }

    /// Passes an event on, unless it was passed on before, and notes what must be looked at.
    fn publish(&mut self, event: Event) {
        let key = key(&event);
        if self.seen.contains(&key) {
            return;
        }
        if self.seen.len() >= REPLAYED {
            self.seen.pop_front();
        }
        self.seen.push_back(key);
        self.last = event.time.or(self.last);
        self.suspects.retain(|suspect| suspect.actor_id != event.actor_id);
        self.note(&event);
        self.send_event(event);
    }

    fn note(&mut self, event: &Event) {
        match event.r#type.as_str() {
            "container" if changes_the_list(&event.action) => {
                self.dirty.insert(event.actor_id.clone());
                if event.action == "die" {
                    let now = Instant::now();
                    self.again.extend(AGAIN.map(|wait| (now + wait, event.actor_id.clone())));
                }
            }
            "network" => self.dirty.extend(event.attributes.get("container").cloned()),
            "image" => self.dirty_images = true,
            _ => {}
        }
    }

    fn send_event(&self, event: Event) {
        if !event.action.starts_with("exec_") {
            self.send_frame(Frame::Event(event.clone()));
        }
        // Nobody may be listening.
        let _ = self.shared.events.send(Arc::new(event));
    }

    /// Sends a change. The state must be locked, so that new subscribers get it once.
    fn send(&self, change: Change) {
        for frame in change.frames() {
            self.send_frame(Frame::Inventory(frame));
        }
    }

    fn send_frame(&self, frame: Frame) {
        // Nobody may be listening.
        let _ = self.shared.updates.send(frame);
    }

    /// Tells whether the engine answers, if that is news.
    fn set_engine(&self, engine: EngineStatus) {
        let mut state = self.shared.state();
        if state.engine == engine {
            return;
        }
        match engine.available {
            true => tracing::info!(
                version = engine.version,
                api = engine.api_version,
                host = self.engine.host(),
                "Docker answers"
            ),
            false => tracing::warn!(error = engine.error, "Docker does not answer"),
        }
        self.send_frame(Frame::Engine(engine.clone()));
        state.engine = engine;
    }

    async fn list_all(&self) -> Result<Vec<Container>, Status> {
        let query = ListQuery { all: true, ..ListQuery::default() };
        self.engine.list_containers(query).await.map(Arc::unwrap_or_clone)
    }

    fn name(&self, containers: &mut [Container], images: &mut [Image]) {
        for container in containers {
            container.agent = self.shared.name.to_string();
        }
        for image in images {
            image.agent = self.shared.name.to_string();
        }
    }
}

/// Looks at these containers, or at all where they are many.
fn look(engine: Engine, ids: &HashSet<String>) -> Look<Vec<Container>> {
    let ids: Vec<String> = ids.iter().cloned().collect();
    Box::pin(async move {
        if ids.len() > MANY {
            let query = ListQuery { all: true, ..ListQuery::default() };
            return engine.list_containers(query).await.map(Arc::unwrap_or_clone);
        }
        engine.containers_by_id(&ids).await
    })
}

async fn ping_within(engine: Engine) -> Result<Duration, Status> {
    let answer = tokio::time::timeout(PING_TIMEOUT, engine.ping()).await;
    answer.unwrap_or_else(|_| {
        Err(Status::unavailable("Docker does not answer any more; does dockerd hang?"))
    })
}

/// The images; none where a proxy does not let the agent see them, which must not cost the rest.
async fn list_images(engine: &Engine) -> Result<Vec<Image>, Status> {
    match engine.list_images(ImageQuery::default()).await {
        Err(status) if status.code() == Code::PermissionDenied => Ok(Vec::new()),
        images => images.map(Arc::unwrap_or_clone),
    }
}

/// The running look's result; never, if none runs.
async fn pending<T>(look: &mut Option<Look<T>>) -> Result<T, Status> {
    match look {
        Some(look) => look.await,
        None => std::future::pending().await,
    }
}

/// Whether an action on a container can change what a list shows of it.
fn changes_the_list(action: &str) -> bool {
    let aside =
        ["exec_", "top", "attach", "detach", "resize", "archive-path", "copy", "export", "commit"];
    !aside.iter().any(|prefix| action.starts_with(prefix))
}

fn key(event: &Event) -> u64 {
    let mut hasher = DefaultHasher::new();
    let time = event.time.map(|t| (t.seconds, t.nanos));
    (time, &event.r#type, &event.action, &event.actor_id).hash(&mut hasher);
    hasher.finish()
}

fn now() -> Timestamp {
    SystemTime::now().into()
}
