//! The controller's own version, and the events of the whole fleet.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use dockctl_api::{
    VERSION,
    error::{reason, status},
    v1::{
        Event, GetVersionResponse, StreamEventsRequest, system_service_client::SystemServiceClient,
    },
};
use dockctl_link::framing;
use futures_util::{Stream, TryStreamExt as _, stream};
use tokio::{
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    time::{Instant, sleep_until, timeout_at},
};
use tonic::{Code, Status, body::Body};

use super::names::Selector;
use crate::fleet::{
    fanout::Fanout,
    registry::{FleetEvent, Registry},
};

/// StreamEventsResponses, gRPC-framed, one or several in a piece.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Pieces a second to all watchers together: each costs a write and wakes a program. With more watchers
/// than a few, what happens in quick succession comes in one piece, a little later.
const PIECES: u32 = 5_000;
/// Pauses below this are none, since the timer has no finer ones; none is longer than that.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(100);
/// A piece that is longer than this goes out without waiting for more.
const PIECE: usize = 32 << 10;

/// What this controller is.
pub(super) fn version() -> GetVersionResponse {
    GetVersionResponse {
        version: VERSION.to_owned(),
        revision: option_env!("DOCKCTL_REVISION").unwrap_or_default().to_owned(),
        platform: dockctl_api::platform(),
        ..Default::default()
    }
}

/// The events of the fleet: from now on as the agents tell them; past ones, which each engine
/// remembers, by asking every agent (`past`).
pub(super) async fn events(request: StreamEventsRequest, past: Fanout) -> Result<Events, Status> {
    if request.since.is_some() {
        return past_events(request, past).await;
    }
    let until = request.until.and_then(|at| SystemTime::try_from(at).ok());
    let left = until.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
    let watch = Watch {
        events: past.registry.events(),
        selector: past.selector,
        registry: past.registry,
        types: request.types,
        next_at: Instant::now(),
        end: left.and_then(|left| Instant::now().checked_add(left)),
        is_over: false,
        missed: 0,
    };
    Ok(Box::pin(stream::unfold(watch, |mut watch| async move {
        let piece = watch.next().await?;
        Some((piece, watch))
    })))
}

async fn past_events(request: StreamEventsRequest, past: Fanout) -> Result<Events, Status> {
    // The generated client reads the merged answer as it would read one from the network.
    let merged = Arc::new(Mutex::new(Some(past.start()?)));
    let answer = tower::service_fn(move |_: http::Request<Body>| {
        let merged = merged.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(merged.ok_or_else(|| Status::internal("asked twice")))
    });
    let mut client = SystemServiceClient::new(answer);
    let events = client.stream_events(request).await?.into_inner();
    let shown = |event: &Event| !event.action.starts_with("exec_");
    let events = events
        .try_filter(move |message| std::future::ready(message.event.as_ref().is_none_or(shown)));
    Ok(Box::pin(events.map_ok(|message| framing::frame_message(&message))))
}

/// One user's view of the fleet's events.
struct Watch {
    selector: Selector,
    events: Receiver<Arc<FleetEvent>>,
    registry: Registry,
    types: Vec<String>,
    /// Before this time what comes is gathered.
    next_at: Instant,
    /// What happens later is not wanted.
    end: Option<Instant>,
    /// The last piece is out.
    is_over: bool,
    /// Events that came while this user did not read.
    missed: u64,
}

impl Watch {
    /// What has happened: at once after a pause, else what came in a short while. Errors: LAGGED, after
    /// which nothing comes.
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        let first = loop {
            if self.missed > 0 {
                return Some(Err(lagged(self.missed)));
            }
            if self.is_over {
                return None;
            }
            let received = match self.end {
                // What has come before the end is taken, also when that is over.
                Some(end) => timeout_at(end, self.events.recv()).await.ok()?,
                None => self.events.recv().await,
            };
            match received {
                Ok(event) if self.wants(&event) => break event,
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => self.missed = missed,
                Err(RecvError::Closed) => return None,
            }
        };
        let next_at = self.end.map_or(self.next_at, |end| end.min(self.next_at));
        if next_at > Instant::now() {
            sleep_until(next_at).await;
        }
        self.is_over = self.end.is_some_and(|end| end <= Instant::now());
        let mut more = Vec::new();
        let mut length = first.framed.len();
        while (length < PIECE || self.is_over) && self.missed == 0 {
            match self.events.try_recv() {
                Ok(event) if self.wants(&event) => {
                    length += event.framed.len();
                    more.push(event);
                }
                Ok(_) => {}
                Err(TryRecvError::Lagged(missed)) => self.missed = missed,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let watchers = u32::try_from(self.registry.watchers()).unwrap_or(u32::MAX);
        let pause = (Duration::from_secs(1) / PIECES).saturating_mul(watchers);
        // Who has more waiting than fits gets it without a pause, or would fall behind for ever.
        self.next_at = Instant::now()
            + match pause {
                pause if pause < SHORTEST || length >= PIECE => Duration::ZERO,
                pause => pause.min(LONGEST),
            };
        if more.is_empty() {
            return Some(Ok(first.framed.clone()));
        }
        let mut whole = BytesMut::with_capacity(length);
        whole.extend_from_slice(&first.framed);
        more.iter().for_each(|event| whole.extend_from_slice(&event.framed));
        Some(Ok(whole.freeze()))
    }

    fn wants(&self, event: &FleetEvent) -> bool {
        let fits = |kind: &String| self.types.is_empty() || self.types.contains(kind);
        event.kind.as_ref().is_none_or(fits)
            && self.registry.is_selected(&event.agent_id, &self.selector)
    }
}

/// The end of a watcher that does not read: the others' events are not kept for it.
fn lagged(missed: u64) -> Status {
    let message = format!("this watcher reads too slowly and missed {missed} events; watch again");
    status(Code::ResourceExhausted, reason::LAGGED, message, &[])
}
