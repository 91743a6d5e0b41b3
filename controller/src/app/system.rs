//! The controller's own version, and the events of the whole fleet.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use dockctl_api::{
    VERSION,
    policy::Policies,
    v1::{
        Event, GetInfoRequest, GetInfoResponse, GetVersionRequest, GetVersionResponse, Notice,
        PingRequest, PingResponse, StreamEventsRequest, StreamEventsResponse,
        system_service_client::SystemServiceClient, system_service_server::SystemService,
    },
};
use futures_util::{Stream, TryStreamExt as _, stream};
use prost::Message as _;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tonic::{Request, Response, Status, body::Body};

use super::{auth::Principal, names::Selector, served_by_agents};
use crate::fleet::{
    fanout::Fanout,
    forward::Caller,
    registry::{FleetEvent, Happened, Registry},
};

/// The controller's part of SystemService.
pub struct System {
    /// The live fleet.
    pub registry: Registry,
    /// Where the rpcs' policies are.
    pub policies: Arc<Policies>,
}

const STREAM_EVENTS: &str = "/dockctl.v1.SystemService/StreamEvents";

type Events = Pin<Box<dyn Stream<Item = Result<StreamEventsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl SystemService for System {
    async fn get_version(
        &self,
        _: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        Ok(Response::new(GetVersionResponse {
            version: VERSION.to_owned(),
            revision: option_env!("DOCKCTL_REVISION").unwrap_or_default().to_owned(),
            platform: dockctl_api::platform(),
            ..Default::default()
        }))
    }

    async fn get_info(
        &self,
        _: Request<GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        Err(served_by_agents())
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse::default()))
    }

    type StreamEventsStream = Events;

    async fn stream_events(
        &self,
        request: Request<StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        if request.get_ref().since.is_some() {
            return self.past_events(request).await;
        }
        let request = request.into_inner();
        let watch = Watch {
            selector: Selector::parse(&request.agent_selector)?,
            events: self.registry.events(),
            registry: self.registry.clone(),
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
        Ok(Response::new(Box::pin(futures_util::StreamExt::take_until(messages, end))))
    }
}

impl System {
    /// Past events are what each engine remembers, so every agent is asked, as in a merged call.
    async fn past_events(
        &self,
        request: Request<StreamEventsRequest>,
    ) -> Result<Response<Events>, Status> {
        let method = self.policies.get(STREAM_EVENTS);
        let method =
            method.cloned().ok_or_else(|| Status::internal("StreamEvents has no policy"))?;
        let caller = request.extensions().get::<Principal>().map(Caller::from).unwrap_or_default();
        let headers = request.metadata().clone().into_headers();
        let request = request.into_inner();
        let merged = Fanout {
            registry: self.registry.clone(),
            method,
            message: request.encode_to_vec().into(),
            selector: Selector::parse(&request.agent_selector)?,
            headers,
            caller,
        }
        .start()?;
        // The generated client reads the merged answer as it would read one from the network.
        let merged = Arc::new(Mutex::new(Some(merged)));
        let answer = tower::service_fn(move |_: http::Request<Body>| {
            let merged = merged.lock().unwrap_or_else(PoisonError::into_inner).take();
            std::future::ready(merged.ok_or_else(|| Status::internal("asked twice")))
        });
        let mut client = SystemServiceClient::new(answer);
        let events = client.stream_events(request).await?.into_inner();
        let shown = |event: &Event| !event.action.starts_with("exec_");
        let events = events.try_filter(move |message| {
            std::future::ready(message.event.as_ref().is_none_or(shown))
        });
        Ok(Response::new(Box::pin(events)))
    }
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
