//! SystemService on the engine. Live events come from the inventory's one watcher; only who asks for
//! the past, or for an end, gets a stream of his own from the engine.

use dockctl_api::v1::{
    GetDiskUsageRequest, GetDiskUsageResponse, GetInfoRequest, GetInfoResponse, GetVersionRequest,
    GetVersionResponse, Notice, PingRequest, PingResponse, PruneBuildCacheRequest,
    PruneBuildCacheResponse, StreamEventsRequest, StreamEventsResponse,
    system_service_server::SystemService,
};
use futures_util::StreamExt as _;
use tonic::{Request, Response, Status};

use super::{Agent, ResponseStream};
use crate::{engine::check_types, inventory::Live};

#[tonic::async_trait]
impl SystemService for Agent {
    async fn get_version(
        &self,
        _: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        let engine = self.engine.version().await?;
        Ok(Response::new(GetVersionResponse {
            version: dockctl_api::VERSION.to_owned(),
            revision: option_env!("DOCKCTL_REVISION").unwrap_or_default().to_owned(),
            engine_version: engine.version.clone(),
            engine_api_version: engine.api_version.clone(),
            platform: engine.platform.clone(),
        }))
    }

    async fn get_info(
        &self,
        request: Request<GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        Ok(Response::new(GetInfoResponse { json: self.engine(&request).info().await? }))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        let latency = self.engine.ping().await?;
        // A ping takes 30 s at most.
        Ok(Response::new(PingResponse { engine_latency: latency.try_into().ok() }))
    }

    async fn get_disk_usage(
        &self,
        _: Request<GetDiskUsageRequest>,
    ) -> Result<Response<GetDiskUsageResponse>, Status> {
        Ok(Response::new(GetDiskUsageResponse { json: self.engine.disk_usage().await? }))
    }

    async fn prune_build_cache(
        &self,
        request: Request<PruneBuildCacheRequest>,
    ) -> Result<Response<PruneBuildCacheResponse>, Status> {
        self.engine.prune_build_cache(request.get_ref()).await.map(Response::new)
    }

    async fn stream_events(
        &self,
        request: Request<StreamEventsRequest>,
    ) -> Result<Response<ResponseStream<StreamEventsResponse>>, Status> {
        let request = request.into_inner();
        check_types(&request.types)?;
        let agent = self.name.to_string();
        if request.since.is_some() || request.until.is_some() {
            let events = self.engine.events(&request).await?;
            return Ok(Response::new(Box::pin(events.map(move |event| {
                let (agent, event) = (agent.clone(), Some(event?));
                Ok(StreamEventsResponse { agent, event, notice: None })
            }))));
        }
        let types = request.types;
        let messages = self.inventory.events().filter_map(move |live| {
            let wanted = match &live {
                Live::Event(event) => types.is_empty() || types.contains(&event.r#type),
                Live::Lagged(_) => true,
            };
            std::future::ready(wanted.then(|| Ok(response(&agent, live))))
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

fn response(agent: &str, live: Live) -> StreamEventsResponse {
    let (event, notice) = match live {
        Live::Event(event) => (Some((*event).clone()), None),
        Live::Lagged(lost) => (
            None,
            Some(Notice {
                reason: "LAGGED".to_owned(),
                message: format!("{lost} events were lost because they were not read in time"),
            }),
        ),
    };
    StreamEventsResponse { agent: agent.to_owned(), event, notice }
}
