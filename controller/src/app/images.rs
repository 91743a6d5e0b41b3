//! Fleet lists of images, from the inventory.

use dockctl_api::v1::{Image, ListImagesResponse};

use super::names::Selector;
use crate::fleet::registry::Registry;

/// The images of the selected agents.
pub(super) fn list(registry: &Registry, agents: &Selector) -> ListImagesResponse {
    let mut response = ListImagesResponse::default();
    registry.visit(agents, |view, held| {
        let mut images: Vec<Image> =
            held.images.iter().map(|i| Image { stale: view.stale, ..i.clone() }).collect();
        images.sort_by(|a, b| (&a.tags, &a.id).cmp(&(&b.tags, &b.id)));
        response.images.append(&mut images);
        response.views.push(view);
    });
    response
}
