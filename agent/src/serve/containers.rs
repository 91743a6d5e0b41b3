//! ContainerService: each rpc is one call of the engine, with the agent's name put in.

use std::sync::Arc;

use dockctl_api::v1::{
    InspectContainerRequest, InspectContainerResponse, KillContainerRequest, KillContainerResponse,
    ListContainersRequest, ListContainersResponse, RestartContainerRequest,
    RestartContainerResponse, StartContainerRequest, StartContainerResponse, StopContainerRequest,
    StopContainerResponse, StreamLogsRequest, StreamLogsResponse, StreamStatsRequest,
    StreamStatsResponse, container_service_server::ContainerService,
};
use futures_util::StreamExt as _;
use tonic::{Request, Response, Status};

use super::{Agent, ResponseStream, stats};
use crate::engine::{ListQuery, StopOptions};

#[tonic::async_trait]
impl ContainerService for Agent {
    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersResponse>, Status> {
        let ListContainersRequest { all, label_selector, container, .. } = request.into_inner();
        let list =
            self.engine.list_containers(ListQuery { all, label_selector, container }).await?;
        let mut containers = Arc::unwrap_or_clone(list);
        for container in &mut containers {
            container.agent = self.name.to_string();
        }
        Ok(Response::new(ListContainersResponse { containers, ..Default::default() }))
    }

    async fn inspect_container(
        &self,
        request: Request<InspectContainerRequest>,
    ) -> Result<Response<InspectContainerResponse>, Status> {
        let json = self.engine.inspect(&request.into_inner().container).await?;
        Ok(Response::new(InspectContainerResponse { json: json.to_string() }))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Result<Response<StartContainerResponse>, Status> {
        self.engine.start(&request.into_inner().container).await?;
        Ok(Response::new(StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Result<Response<StopContainerResponse>, Status> {
        let StopContainerRequest { container, timeout, signal, .. } = request.into_inner();
        self.engine.stop(&container, &StopOptions { timeout, signal }).await?;
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn restart_container(
        &self,
        request: Request<RestartContainerRequest>,
    ) -> Result<Response<RestartContainerResponse>, Status> {
        let RestartContainerRequest { container, timeout, signal, .. } = request.into_inner();
        self.engine.restart(&container, &StopOptions { timeout, signal }).await?;
        Ok(Response::new(RestartContainerResponse {}))
    }

    async fn kill_container(
        &self,
        request: Request<KillContainerRequest>,
    ) -> Result<Response<KillContainerResponse>, Status> {
        let KillContainerRequest { container, signal, .. } = request.into_inner();
        self.engine.kill(&container, &signal).await?;
        Ok(Response::new(KillContainerResponse {}))
    }

    async fn stream_logs(
        &self,
        request: Request<StreamLogsRequest>,
    ) -> Result<Response<ResponseStream<StreamLogsResponse>>, Status> {
        let log = self.engine.logs(request.get_ref()).await?;
        let agent = self.name.clone();
        let messages = log.map(move |records| {
            Ok(StreamLogsResponse { agent: agent.to_string(), records: records?, notice: None })
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn stream_stats(
        &self,
        request: Request<StreamStatsRequest>,
    ) -> Result<Response<ResponseStream<StreamStatsResponse>>, Status> {
        let samples = stats::stream(self.clone(), request.into_inner()).await?;
        Ok(Response::new(Box::pin(samples)))
    }
}
