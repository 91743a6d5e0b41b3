//! Images: what one is, its names, its way from and to registries, and as tar archives. Every name is
//! checked before it goes into a URL.

use bytes::Bytes;
use dockctl_api::{
    error::bad_field,
    v1::{
        ImageLayer, ImportImageRequest, PruneImagesRequest, PruneImagesResponse, PullImageRequest,
        PushImageRequest, RemoveImageRequest, RemoveImageResponse,
    },
};
use futures_util::Stream;
use http::Method;
use prost_types::Timestamp;
use serde::Deserialize;
use tonic::Status;

use super::{
    Engine,
    fault::Call,
    filters,
    names::{self, image_path, split_image},
    query::Query,
    registry,
    transfer::{Post, Told},
    wire::LONG,
};

/// One line of the engine's list of what it removed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Removed {
    untagged: Option<String>,
    deleted: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    images_deleted: Option<Vec<Removed>>,
    space_reclaimed: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Layer {
    id: String,
    created: i64,
    created_by: String,
    size: i64,
    comment: String,
    tags: Option<Vec<String>>,
}

impl Engine {
    /// All that the engine knows of an image: its own JSON, untouched.
    pub(crate) async fn inspect_image(&self, image: &str) -> Result<String, Status> {
        let image = names::image("image", image)?;
        let path = format!("/images/{}/json", image_path(image));
        self.json(&path, Call::new("GET /images/{name}/json")).await
    }

    /// The layers of an image, the newest first.
    pub(crate) async fn image_history(&self, image: &str) -> Result<Vec<ImageLayer>, Status> {
        let image = names::image("image", image)?;
        let path = format!("/images/{}/history", image_path(image));
        let layers: Vec<Layer> =
            self.look_at(Call::new("GET /images/{name}/history"), &path).await?;
        Ok(layers.into_iter().map(ImageLayer::from).collect())
    }

    /// Gives an image a further name.
    pub(crate) async fn tag_image(&self, image: &str, tag: &str) -> Result<(), Status> {
        let image = names::image("image", image)?;
        let (repo, tag) = split_image(names::image("tag", tag)?, "latest");
        let mut query = Query::default();
        query.add("repo", repo);
        query.add("tag", tag);
        let path = query.on(&format!("/images/{}/tag", image_path(image)));
        let call = Call::new("POST /images/{name}/tag");
        self.send(call, self.limit, Method::POST, &path, None).await.map(drop)
    }

    /// Removes a name of an image, and the image with its last one.
    pub(crate) async fn remove_image(
        &self,
        request: &RemoveImageRequest,
    ) -> Result<RemoveImageResponse, Status> {
        let image = image_path(names::image("image", &request.image)?);
        let mut query = Query::default();
        query.flag("force", request.force);
        query.flag("noprune", request.no_prune);
        let path = query.on(&format!("/images/{image}"));
        let call = Call::new("DELETE /images/{name}");
        let answer = self.send(call, LONG, Method::DELETE, &path, None).await?;
        let (untagged, deleted) = parted(self.read(call, &answer)?);
        Ok(RemoveImageResponse { untagged, deleted })
    }

    /// Removes images that nothing uses.
    pub(crate) async fn prune_images(
        &self,
        request: &PruneImagesRequest,
    ) -> Result<PruneImagesResponse, Status> {
        let mut filters = request.filters.clone();
        if request.all {
            filters.push("dangling=false".to_owned());
        }
        let path = filters::on("/images/prune", &filters)?;
        let call = Call::new("POST /images/prune");
        let pruned: Pruned = self.change(call, &path, None, LONG).await?;
        let (untagged, deleted) = parted(pruned.images_deleted.unwrap_or_default());
        let space_reclaimed = pruned.space_reclaimed.unwrap_or(0);
        Ok(PruneImagesResponse { untagged, deleted, space_reclaimed })
    }

    /// Pulls an image.
    pub(crate) async fn pull_image(&self, request: &PullImageRequest) -> Result<Told, Status> {
        let image = names::image("image", &request.image)?;
        let missing = if request.all_tags { "" } else { "latest" };
        let (name, tag) = split_image(image, missing);
        if request.all_tags && !tag.is_empty() {
            return Err(bad_field("all_tags", "tag can't be used with --all-tags/-a"));
        }
        let mut query = Query::default();
        query.add("fromImage", name);
        query.add("tag", tag);
        query.add("platform", &request.platform);
        let path = query.on("/images/create");
        let headers = vec![registry::auth(request.login.as_ref())?];
        self.post(Post { call: Call::new("POST /images/create"), path, headers }).await
    }

    /// Pushes an image.
    pub(crate) async fn push_image(&self, request: &PushImageRequest) -> Result<Told, Status> {
        let missing = if request.all_tags { "" } else { "latest" };
        let (name, tag) = split_image(names::image("image", &request.image)?, missing);
        if request.all_tags && !tag.is_empty() {
            return Err(bad_field("all_tags", "tag can't be used with --all-tags/-a"));
        }
        let mut query = Query::default();
        query.add("tag", tag);
        let path = query.on(&format!("/images/{}/push", image_path(name)));
        let headers = vec![registry::auth(request.login.as_ref())?];
        self.post(Post { call: Call::new("POST /images/{name}/push"), path, headers }).await
    }

    /// Images as one tar archive, in pieces. The engine writes all of it to its own disk first, so that
    /// the first may be long in coming.
    pub(crate) async fn save_images(
        &self,
        images: &[String],
    ) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + use<>, Status> {
        if images.is_empty() {
            return Err(bad_field("images", "name at least one image"));
        }
        let mut query = Query::default();
        for image in images {
            query.add("names", names::image("images", image)?);
        }
        self.get_bytes(Call::new("GET /images/get"), &query.on("/images/get"), None).await
    }

    /// Loads images from a tar archive.
    pub(crate) async fn load_images(
        &self,
        bytes: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
    ) -> Result<Told, Status> {
        let call = Call::new("POST /images/load");
        let path = "/images/load?quiet=0".to_owned();
        self.post_bytes(Post { call, path, headers: Vec::new() }, bytes).await
    }

    /// Makes an image of a tar archive of files, as the request's first message says.
    pub(crate) async fn import_image(
        &self,
        first: &ImportImageRequest,
        bytes: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
    ) -> Result<Told, Status> {
        let mut query = Query::default();
        query.add("fromSrc", if first.url.is_empty() { "-" } else { &first.url });
        if !first.image.is_empty() {
            let (repo, tag) = split_image(names::image("image", &first.image)?, "latest");
            query.add("repo", repo);
            query.add("tag", tag);
        }
        query.add("message", &first.message);
        first.changes.iter().for_each(|change| query.add("changes", change));
        query.add("platform", &first.platform);
        let path = query.on("/images/create");
        let call = Call::new("POST /images/create");
        self.post_bytes(Post { call, path, headers: Vec::new() }, bytes).await
    }
}

/// Names and ids that are gone.
fn parted(removed: Vec<Removed>) -> (Vec<String>, Vec<String>) {
    let (mut untagged, mut deleted) = (Vec::new(), Vec::new());
    for one in removed {
        untagged.extend(one.untagged);
        deleted.extend(one.deleted);
    }
    (untagged, deleted)
}

impl From<Layer> for ImageLayer {
    fn from(layer: Layer) -> Self {
        Self {
            id: layer.id,
            created_at: Some(Timestamp { seconds: layer.created, nanos: 0 }),
            created_by: layer.created_by,
            size: u64::try_from(layer.size).unwrap_or(0),
            comment: layer.comment,
            tags: layer.tags.unwrap_or_default(),
        }
    }
}
