//! ContainerService: each rpc is one call of the engine, with the agent's name put in.

use std::sync::Arc;

use dockctl_api::v1::{
    CommitContainerRequest, CommitContainerResponse, CreateContainerRequest,
    CreateContainerResponse, DiffContainerRequest, DiffContainerResponse, ExportContainerRequest,
    ExportContainerResponse, InspectContainerRequest, InspectContainerResponse,
    KillContainerRequest, KillContainerResponse, ListContainersRequest, ListContainersResponse,
    ListProcessesRequest, ListProcessesResponse, PauseContainerRequest, PauseContainerResponse,
    PruneContainersRequest, PruneContainersResponse, RemoveContainerRequest,
    RemoveContainerResponse, RenameContainerRequest, RenameContainerResponse,
    RestartContainerRequest, RestartContainerResponse, StartContainerRequest,
    StartContainerResponse, StopContainerRequest, StopContainerResponse, StreamLogsRequest,
    StreamLogsResponse, StreamStatsRequest, StreamStatsResponse, UnpauseContainerRequest,
    UnpauseContainerResponse, UpdateContainerRequest, UpdateContainerResponse,
    WaitContainerRequest, WaitContainerResponse, container_service_server::ContainerService,
};
use futures_util::{StreamExt as _, stream};
use tonic::{Request, Response, Status};

use super::{Agent, ResponseStream, stats};
use crate::engine::{ListQuery, StopOptions};

#[tonic::async_trait]
impl ContainerService for Agent {
    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersResponse>, Status> {
        let request = request.into_inner();
        let query = ListQuery {
            all: request.all,
            label_selector: request.label_selector,
            container: request.container,
            filters: request.filters,
            last: request.last,
            size: request.size,
        };
        let list = self.engine.list_containers(query).await?;
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
        let engine = self.engine(&request);
        let InspectContainerRequest { container, size, .. } = request.into_inner();
        let json = engine.inspect(&container, size).await?;
        Ok(Response::new(InspectContainerResponse { json: json.to_string() }))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Result<Response<StartContainerResponse>, Status> {
        self.engine(&request).start(&request.into_inner().container).await?;
        Ok(Response::new(StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Result<Response<StopContainerResponse>, Status> {
        let engine = self.engine(&request);
        let StopContainerRequest { container, timeout, signal, .. } = request.into_inner();
        engine.stop(&container, &StopOptions { timeout, signal }).await?;
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn restart_container(
        &self,
        request: Request<RestartContainerRequest>,
    ) -> Result<Response<RestartContainerResponse>, Status> {
        let engine = self.engine(&request);
        let RestartContainerRequest { container, timeout, signal, .. } = request.into_inner();
        engine.restart(&container, &StopOptions { timeout, signal }).await?;
        Ok(Response::new(RestartContainerResponse {}))
    }

    async fn kill_container(
        &self,
        request: Request<KillContainerRequest>,
    ) -> Result<Response<KillContainerResponse>, Status> {
        let engine = self.engine(&request);
        let KillContainerRequest { container, signal, .. } = request.into_inner();
        engine.kill(&container, &signal).await?;
        Ok(Response::new(KillContainerResponse {}))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Result<Response<CreateContainerResponse>, Status> {
        Ok(Response::new(self.engine(&request).create(request.get_ref()).await?))
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Result<Response<RemoveContainerResponse>, Status> {
        self.engine(&request).remove(request.get_ref()).await?;
        Ok(Response::new(RemoveContainerResponse {}))
    }

    async fn rename_container(
        &self,
        request: Request<RenameContainerRequest>,
    ) -> Result<Response<RenameContainerResponse>, Status> {
        let engine = self.engine(&request);
        let RenameContainerRequest { container, name, .. } = request.into_inner();
        engine.rename(&container, &name).await?;
        Ok(Response::new(RenameContainerResponse {}))
    }

    async fn pause_container(
        &self,
        request: Request<PauseContainerRequest>,
    ) -> Result<Response<PauseContainerResponse>, Status> {
        self.engine(&request).pause(&request.into_inner().container).await?;
        Ok(Response::new(PauseContainerResponse {}))
    }

    async fn unpause_container(
        &self,
        request: Request<UnpauseContainerRequest>,
    ) -> Result<Response<UnpauseContainerResponse>, Status> {
        self.engine(&request).unpause(&request.into_inner().container).await?;
        Ok(Response::new(UnpauseContainerResponse {}))
    }

    async fn update_container(
        &self,
        request: Request<UpdateContainerRequest>,
    ) -> Result<Response<UpdateContainerResponse>, Status> {
        let engine = self.engine(&request);
        let UpdateContainerRequest { container, json, .. } = request.into_inner();
        let warnings = engine.update(&container, &json).await?;
        Ok(Response::new(UpdateContainerResponse { warnings }))
    }

    async fn wait_container(
        &self,
        request: Request<WaitContainerRequest>,
    ) -> Result<Response<ResponseStream<WaitContainerResponse>>, Status> {
        let (engine, request) = (self.engine(&request), request.get_ref());
        let exit = engine.wait(&request.container, request.condition()).await?;
        let registered = stream::iter([Ok(WaitContainerResponse { exit: None })]);
        let ended = stream::once(async { Ok(WaitContainerResponse { exit: Some(exit.await?) }) });
        Ok(Response::new(Box::pin(registered.chain(ended))))
    }

    async fn list_processes(
        &self,
        request: Request<ListProcessesRequest>,
    ) -> Result<Response<ListProcessesResponse>, Status> {
        let engine = self.engine(&request);
        let ListProcessesRequest { container, ps_options, .. } = request.into_inner();
        Ok(Response::new(engine.processes(&container, &ps_options).await?))
    }

    async fn diff_container(
        &self,
        request: Request<DiffContainerRequest>,
    ) -> Result<Response<DiffContainerResponse>, Status> {
        let changes = self.engine(&request).diff(&request.into_inner().container).await?;
        Ok(Response::new(DiffContainerResponse { changes }))
    }

    async fn commit_container(
        &self,
        request: Request<CommitContainerRequest>,
    ) -> Result<Response<CommitContainerResponse>, Status> {
        let id = self.engine(&request).commit(request.get_ref()).await?;
        Ok(Response::new(CommitContainerResponse { id }))
    }

    async fn export_container(
        &self,
        request: Request<ExportContainerRequest>,
    ) -> Result<Response<ResponseStream<ExportContainerResponse>>, Status> {
        let pieces = self.engine.export(&request.into_inner().container).await?;
        let messages = pieces.map(|data| Ok(ExportContainerResponse { data: data? }));
        Ok(Response::new(Box::pin(messages)))
    }

    async fn prune_containers(
        &self,
        request: Request<PruneContainersRequest>,
    ) -> Result<Response<PruneContainersResponse>, Status> {
        let pruned = self.engine(&request).prune_containers(&request.into_inner().filters).await?;
        Ok(Response::new(pruned))
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
