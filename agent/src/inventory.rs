//! The inventory: what containers and images there are, whether the engine answers, and what happens
//! on it, kept current by one watcher for the whole agent. The link sends `Handle::updates` to the
//! controller; `serve` takes live events from `Handle::events`. It never changes anything on the host.

#[cfg(test)]
mod tests;
mod view;
mod watch;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dockctl_api::{
    link::v1::connect_request::Frame,
    v1::{EngineStatus, Event},
};
use futures_util::{Stream, stream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use view::View;

/// Updates and events kept for a slow subscriber; one that falls further behind is told so.
const KEPT: usize = 1024;

/// The watcher of one engine.
pub struct Inventory {
    engine: Engine,
    handle: Handle,
}

/// A handle to the inventory, cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    /// The agent's name, which every container and image carries.
    name: Arc<str>,
    state: Mutex<State>,
    /// Inventory and status are sent while `state` is locked, so that a subscriber who locks it gets
    /// the state and everything after it.
    updates: broadcast::Sender<Frame>,
    events: broadcast::Sender<Arc<Event>>,
}

struct State {
    engine: EngineStatus,
    /// None until the engine has answered for the first time.
    view: Option<View>,
}

/// What a subscriber to live events gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Live {
    /// Something happened.
    Event(Arc<Event>),
    /// The subscriber was too slow and has lost this many events.
    Lagged(u64),
}

impl Inventory {
    /// The inventory of an engine, and its watcher, which must be run. `name` is the agent's.
    pub fn new(engine: Engine, name: Arc<str>) -> (Handle, Self) {
        let state = State {
            engine: EngineStatus {
                error: "the agent has just started and not yet reached Docker".to_owned(),
                ..EngineStatus::default()
            },
            view: None,
        };
        let shared = Shared {
            name,
            state: Mutex::new(state),
            updates: broadcast::Sender::new(KEPT),
            events: broadcast::Sender::new(KEPT),
        };
        let handle = Handle { shared: Arc::new(shared) };
        (handle.clone(), Self { engine, handle })
    }

    /// Watches the engine until `shutdown`; an engine that is down is tried again for ever.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(watch::run(&self.engine, &self.handle.shared)).await;
    }
}

impl Handle {
    /// What the controller must know: the engine's status; the full inventory in frames of at most
    /// 100 containers, as soon as the engine has ever answered; then changes and events as they
    /// happen, without `exec_*` events. A subscriber that falls behind gets status and full inventory
    /// again instead of what it missed.
    pub fn updates(&self) -> impl Stream<Item = Frame> + Send + 'static + use<> {
        let (first, updates) = self.shared.subscribe();
        let state = (self.shared.clone(), first, updates);
        stream::unfold(state, |(shared, mut first, mut updates)| async {
            loop {
                if let Some(frame) = first.pop_front() {
                    return Some((frame, (shared, first, updates)));
                }
                match updates.recv().await {
                    Ok(frame) => return Some((frame, (shared, first, updates))),
                    Err(RecvError::Lagged(_)) => (first, updates) = shared.subscribe(),
                    Err(RecvError::Closed) => return None,
                }
            }
        })
    }

    /// Live events of all types from now on, with inferred ones and with `exec_*`.
    pub fn events(&self) -> impl Stream<Item = Live> + Send + 'static + use<> {
        let events = self.shared.events.subscribe();
        stream::unfold(events, |mut events| async {
            match events.recv().await {
                Ok(event) => Some((Live::Event(event), events)),
                Err(RecvError::Lagged(lost)) => Some((Live::Lagged(lost), events)),
                Err(RecvError::Closed) => None,
            }
        })
    }

    /// Whether the engine answers, and if not, why.
    pub fn engine_status(&self) -> EngineStatus {
        self.shared.state().engine.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole state as frames, and a receiver of all that comes after it.
    fn subscribe(&self) -> (VecDeque<Frame>, broadcast::Receiver<Frame>) {
        let state = self.state();
        let mut frames = VecDeque::from([Frame::Engine(state.engine.clone())]);
        frames.extend(state.view.iter().flat_map(View::full).map(Frame::Inventory));
        (frames, self.updates.subscribe())
    }
}
