//! ImageService on the engine.

use std::sync::Arc;

use dockctl_api::v1::{ListImagesRequest, ListImagesResponse, image_service_server::ImageService};
use tonic::{Request, Response, Status};

use super::Agent;

#[tonic::async_trait]
impl ImageService for Agent {
    async fn list_images(
        &self,
        _: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let mut images = Arc::unwrap_or_clone(self.engine.list_images().await?);
        for image in &mut images {
            image.agent = self.name.to_string();
        }
        Ok(Response::new(ListImagesResponse { images, ..Default::default() }))
    }
}
