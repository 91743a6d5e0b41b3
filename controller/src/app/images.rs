//! Fleet lists of images, from the inventory.

use dockctl_api::v1::{
    Image, ListImagesRequest, ListImagesResponse, image_service_server::ImageService,
};
use tonic::{Request, Response, Status};

use super::names::Selector;
use crate::fleet::registry::Registry;

/// The controller's part of ImageService.
pub struct Images {
    /// The live fleet.
    pub registry: Registry,
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let agents = Selector::parse(&request.get_ref().agent_selector)?;
        let mut response = ListImagesResponse::default();
        self.registry.visit(&agents, |view, held| {
            let mut images: Vec<Image> =
                held.images.iter().map(|i| Image { stale: view.stale, ..i.clone() }).collect();
            images.sort_by(|a, b| (&a.tags, &a.id).cmp(&(&b.tags, &b.id)));
            response.images.append(&mut images);
            response.views.push(view);
        });
        Ok(Response::new(response))
    }
}
