//! ImageService on the engine. Bytes go up and down as they come: nothing here gathers them.

use std::sync::Arc;

use bytes::Bytes;
use dockctl_api::v1::{
    BuildImageRequest, BuildImageResponse, ImportImageRequest, ImportImageResponse,
    InspectImageRequest, InspectImageResponse, ListImageHistoryRequest, ListImageHistoryResponse,
    ListImagesRequest, ListImagesResponse, LoadImagesRequest, LoadImagesResponse, Progress,
    PruneImagesRequest, PruneImagesResponse, PullImageRequest, PullImageResponse, PushImageRequest,
    PushImageResponse, RemoveImageRequest, RemoveImageResponse, SaveImagesRequest,
    SaveImagesResponse, TagImageRequest, TagImageResponse, image_service_server::ImageService,
};
use futures_util::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{Agent, ResponseStream};
use crate::engine::{ImageQuery, Told};

#[tonic::async_trait]
impl ImageService for Agent {
    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let ListImagesRequest { all, filters, .. } = request.into_inner();
        let query = ImageQuery { all, filters };
        let mut images = Arc::unwrap_or_clone(self.engine.list_images(query).await?);
        for image in &mut images {
            image.agent = self.name.to_string();
        }
        Ok(Response::new(ListImagesResponse { images, ..Default::default() }))
    }

    async fn inspect_image(
        &self,
        request: Request<InspectImageRequest>,
    ) -> Result<Response<InspectImageResponse>, Status> {
        let json = self.engine(&request).inspect_image(&request.into_inner().image).await?;
        Ok(Response::new(InspectImageResponse { json }))
    }

    async fn list_image_history(
        &self,
        request: Request<ListImageHistoryRequest>,
    ) -> Result<Response<ListImageHistoryResponse>, Status> {
        let layers = self.engine(&request).image_history(&request.into_inner().image).await?;
        Ok(Response::new(ListImageHistoryResponse { layers }))
    }

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<ResponseStream<PullImageResponse>>, Status> {
        let progress = self.engine.pull_image(request.get_ref()).await?;
        Ok(told(progress, |progress| PullImageResponse { progress: Some(progress) }))
    }

    async fn push_image(
        &self,
        request: Request<PushImageRequest>,
    ) -> Result<Response<ResponseStream<PushImageResponse>>, Status> {
        let progress = self.engine.push_image(request.get_ref()).await?;
        Ok(told(progress, |progress| PushImageResponse { progress: Some(progress) }))
    }

    async fn tag_image(
        &self,
        request: Request<TagImageRequest>,
    ) -> Result<Response<TagImageResponse>, Status> {
        let engine = self.engine(&request);
        let TagImageRequest { image, tag, .. } = request.into_inner();
        engine.tag_image(&image, &tag).await?;
        Ok(Response::new(TagImageResponse {}))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        self.engine(&request).remove_image(request.get_ref()).await.map(Response::new)
    }

    async fn prune_images(
        &self,
        request: Request<PruneImagesRequest>,
    ) -> Result<Response<PruneImagesResponse>, Status> {
        self.engine(&request).prune_images(request.get_ref()).await.map(Response::new)
    }

    async fn save_images(
        &self,
        request: Request<SaveImagesRequest>,
    ) -> Result<Response<ResponseStream<SaveImagesResponse>>, Status> {
        let pieces = self.engine.save_images(&request.get_ref().images).await?;
        Ok(Response::new(Box::pin(pieces.map(|data| Ok(SaveImagesResponse { data: data? })))))
    }

    async fn load_images(
        &self,
        request: Request<Streaming<LoadImagesRequest>>,
    ) -> Result<Response<ResponseStream<LoadImagesResponse>>, Status> {
        let (_, bytes) = upload(request.into_inner(), |message| &mut message.data).await?;
        let progress = self.engine.load_images(bytes).await?;
        Ok(told(progress, |progress| LoadImagesResponse { progress: Some(progress) }))
    }

    async fn import_image(
        &self,
        request: Request<Streaming<ImportImageRequest>>,
    ) -> Result<Response<ResponseStream<ImportImageResponse>>, Status> {
        let (first, bytes) = upload(request.into_inner(), |message| &mut message.data).await?;
        let progress = self.engine.import_image(&first, bytes).await?;
        Ok(told(progress, |progress| ImportImageResponse { progress: Some(progress) }))
    }

    async fn build_image(
        &self,
        request: Request<Streaming<BuildImageRequest>>,
    ) -> Result<Response<ResponseStream<BuildImageResponse>>, Status> {
        let (first, bytes) = upload(request.into_inner(), |message| &mut message.data).await?;
        let progress = self.engine.build_image(&first.options.unwrap_or_default(), bytes).await?;
        Ok(told(progress, |progress| BuildImageResponse { progress: Some(progress) }))
    }
}

/// The first message of an upload, and its bytes: those of the first message, then the others'.
async fn upload<T: Send + 'static>(
    mut messages: Streaming<T>,
    data: fn(&mut T) -> &mut Bytes,
) -> Result<(T, impl Stream<Item = Result<Bytes, Status>> + Send + 'static), Status> {
    let first = messages.message().await?;
    let mut first = first.ok_or_else(|| Status::invalid_argument("the stream has no message"))?;
    let begin = std::mem::take(data(&mut first));
    let begin = futures_util::stream::iter([Ok(begin)]);
    let rest = messages.map(move |message| message.map(|mut m| std::mem::take(data(&mut m))));
    // An empty piece would end the engine's request.
    let bytes = begin
        .chain(rest)
        .filter(|piece| std::future::ready(piece.as_ref().map_or(true, |piece| !piece.is_empty())));
    Ok((first, bytes))
}

/// Progress in the messages of one rpc.
fn told<T: Send + 'static>(
    progress: Told,
    message: fn(Progress) -> T,
) -> Response<ResponseStream<T>> {
    Response::new(Box::pin(progress.map(move |progress| progress.map(message))))
}
