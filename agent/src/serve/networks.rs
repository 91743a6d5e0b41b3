//! NetworkService on the engine.

use dockctl_api::v1::{
    ConnectNetworkRequest, ConnectNetworkResponse, CreateNetworkRequest, CreateNetworkResponse,
    DisconnectNetworkRequest, DisconnectNetworkResponse, InspectNetworkRequest,
    InspectNetworkResponse, ListNetworksRequest, ListNetworksResponse, PruneNetworksRequest,
    PruneNetworksResponse, RemoveNetworkRequest, RemoveNetworkResponse,
    network_service_server::NetworkService,
};
use tonic::{Request, Response, Status};

use super::Agent;

#[tonic::async_trait]
impl NetworkService for Agent {
    async fn list_networks(
        &self,
        request: Request<ListNetworksRequest>,
    ) -> Result<Response<ListNetworksResponse>, Status> {
        let mut networks = self.engine(&request).list_networks(&request.get_ref().filters).await?;
        for network in &mut networks {
            network.agent = self.name.to_string();
        }
        Ok(Response::new(ListNetworksResponse { networks }))
    }

    async fn inspect_network(
        &self,
        request: Request<InspectNetworkRequest>,
    ) -> Result<Response<InspectNetworkResponse>, Status> {
        let json = self.engine(&request).inspect_network(&request.get_ref().network).await?;
        Ok(Response::new(InspectNetworkResponse { json }))
    }

    async fn create_network(
        &self,
        request: Request<CreateNetworkRequest>,
    ) -> Result<Response<CreateNetworkResponse>, Status> {
        self.engine(&request).create_network(request.get_ref()).await.map(Response::new)
    }

    async fn remove_network(
        &self,
        request: Request<RemoveNetworkRequest>,
    ) -> Result<Response<RemoveNetworkResponse>, Status> {
        self.engine(&request).remove_network(&request.get_ref().network).await?;
        Ok(Response::new(RemoveNetworkResponse {}))
    }

    async fn connect_network(
        &self,
        request: Request<ConnectNetworkRequest>,
    ) -> Result<Response<ConnectNetworkResponse>, Status> {
        self.engine(&request).connect_network(request.get_ref()).await?;
        Ok(Response::new(ConnectNetworkResponse {}))
    }

    async fn disconnect_network(
        &self,
        request: Request<DisconnectNetworkRequest>,
    ) -> Result<Response<DisconnectNetworkResponse>, Status> {
        self.engine(&request).disconnect_network(request.get_ref()).await?;
        Ok(Response::new(DisconnectNetworkResponse {}))
    }

    async fn prune_networks(
        &self,
        request: Request<PruneNetworksRequest>,
    ) -> Result<Response<PruneNetworksResponse>, Status> {
        let deleted = self.engine(&request).prune_networks(&request.get_ref().filters).await?;
        Ok(Response::new(PruneNetworksResponse { deleted }))
    }
}
