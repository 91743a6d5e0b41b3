//! Fleet lists of images, from the inventory.

use std::ops::ControlFlow;

use dockctl_api::v1::{Image, ListImagesResponse};

use super::names::Selector;
use crate::fleet::registry::Registry;

/// The images of the selected agents.
pub(super) fn list(registry: &Registry, agents: &Selector) -> ListImagesResponse {
    let mut response = ListImagesResponse::default();
    registry.visit(agents, "", |visited| {
        let view = visited.view();
        let mut images: Vec<Image> = visited
            .holds()
            .images
            .iter()
            .map(|i| Image { stale: view.stale, ..i.clone() })
            .collect();
        images.sort_by(|a, b| (&a.tags, &a.id).cmp(&(&b.tags, &b.id)));
        response.images.append(&mut images);
        response.views.push(view);
        ControlFlow::Continue(())
    });
    response
}
