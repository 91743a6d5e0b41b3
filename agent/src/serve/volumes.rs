//! VolumeService on the engine.

use dockctl_api::v1::{
    CreateVolumeRequest, CreateVolumeResponse, InspectVolumeRequest, InspectVolumeResponse,
    ListVolumesRequest, ListVolumesResponse, PruneVolumesRequest, PruneVolumesResponse,
    RemoveVolumeRequest, RemoveVolumeResponse, volume_service_server::VolumeService,
};
use tonic::{Request, Response, Status};

use super::Agent;

#[tonic::async_trait]
impl VolumeService for Agent {
    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let mut list = self.engine(&request).list_volumes(&request.get_ref().filters).await?;
        for volume in &mut list.volumes {
            volume.agent = self.name.to_string();
        }
        Ok(Response::new(list))
    }

    async fn inspect_volume(
        &self,
        request: Request<InspectVolumeRequest>,
    ) -> Result<Response<InspectVolumeResponse>, Status> {
        let json = self.engine(&request).inspect_volume(&request.get_ref().volume).await?;
        Ok(Response::new(InspectVolumeResponse { json }))
    }

    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let mut volume = self.engine(&request).create_volume(request.get_ref()).await?;
        volume.agent = self.name.to_string();
        Ok(Response::new(CreateVolumeResponse { volume: Some(volume) }))
    }

    async fn remove_volume(
        &self,
        request: Request<RemoveVolumeRequest>,
    ) -> Result<Response<RemoveVolumeResponse>, Status> {
        let engine = self.engine(&request);
        let RemoveVolumeRequest { volume, force, .. } = request.into_inner();
        engine.remove_volume(&volume, force).await?;
        Ok(Response::new(RemoveVolumeResponse {}))
    }

    async fn prune_volumes(
        &self,
        request: Request<PruneVolumesRequest>,
    ) -> Result<Response<PruneVolumesResponse>, Status> {
        self.engine(&request).prune_volumes(request.get_ref()).await.map(Response::new)
    }
}
