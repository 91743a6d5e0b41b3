//! The controller's own version, and the events of the whole fleet.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use dockctl_api::{
    VERSION,
    v1::{
        Event, GetVersionResponse, Notice, StreamEventsRequest, StreamEventsResponse,
        system_service_client::SystemServiceClient,
    },
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tonic::{Status, body::Body};

use super::names::Selector;
use crate::fleet::{
    fanout::Fanout,
    registry::{FleetEvent, Happened, Registry},
};

pub(super) type Events = Pin<Box<dyn Stream<Item = Result<StreamEventsResponse, Status>> + Send>>;

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
    let watch = Watch {
        events: past.registry.events(),
        selector: past.selector,
        registry: past.registry,
        types: request.types,
    };
    let until = request.until.and_then(|at| SystemTime::try_from(at).ok());
    let left = until.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
    let messages = stream::unfold(watch, |mut watch| async move {
        let message = watch.next().await?;
        Some((Ok(message), watch))
    });
    let end = async move {
        match left {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    Ok(Box::pin(messages.take_until(end)))
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
    Ok(Box::pin(events))
}

/// One user's view of the fleet's events.
struct Watch {
    selector: Selector,
    events: Receiver<Arc<FleetEvent>>,
    registry: Registry,
    types: Vec<String>,
}

impl Watch {
    async fn next(&mut self) -> Option<StreamEventsResponse> {
        loop {
            match self.events.recv().await {
                Ok(event) if self.wants(&event) => {
                    let agent = event.agent.clone();
                    let (event, notice) = match &event.what {
                        Happened::Event(what) => (Some(what.clone()), None),
                        Happened::Notice(notice) => (None, Some(notice.clone())),
                    };
                    return Some(StreamEventsResponse { agent, event, notice });
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    let message =
                        format!("this watcher reads too slowly and missed {missed} events");
                    let notice = Notice { reason: "LAGGED".to_owned(), message };
                    return Some(StreamEventsResponse {
                        notice: Some(notice),
                        ..Default::default()
                    });
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn wants(&self, event: &FleetEvent) -> bool {
        let type_fits = match &event.what {
            Happened::Event(what) => self.types.is_empty() || self.types.contains(&what.r#type),
            Happened::Notice(_) => true,
        };
        type_fits && self.registry.is_selected(&event.agent_id, &self.selector)
    }
}
