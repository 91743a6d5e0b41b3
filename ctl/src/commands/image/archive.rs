//! `save`, `load` and `import`: images as tar archives, streamed between the host and a file or pipe
//! here. However large, some MiB of it are in memory.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use dockctl_api::v1::{
    ImportImageRequest, LoadImagesRequest, LoadImagesResponse, SaveImagesRequest,
    SaveImagesResponse, image_service_client::ImageServiceClient,
};
use futures_util::{Stream, StreamExt as _, stream};
use tonic::Streaming;

use super::{Ctx, Show, host};
use crate::{
    args::images::{Import, Load, Save},
    error::{Error, Result},
    output::progress::Meter,
    pipe,
};

/// `dockctl save IMAGE...`.
pub(crate) async fn save(ctx: &Ctx, args: Save) -> Result<()> {
    if args.file().is_none() && ctx.term.out {
        return Err(Error::usage("cowardly refusing to save to a terminal")
            .hint("use the -o flag or redirect"));
    }
    let agent = host::agent(ctx, &args.on).await?;
    let pieces = saved(ctx, &agent, &args.images).await?.then(|piece| async {
        match piece {
            Ok(SaveImagesResponse { data }) => Ok(data),
            Err(status) => Err(host::told(ctx, &agent, status.into()).await),
        }
    });
    let meter = Meter::new(ctx.term, &format!("saving from {agent}"), None, false);
    pipe::Target::open(args.file().map(PathBuf::as_path))?.receive(meter.over(pieces)).await
}

/// Images of a host as pieces of one archive.
pub(super) async fn saved(
    ctx: &Ctx,
    agent: &str,
    images: &[String],
) -> Result<Streaming<SaveImagesResponse>> {
    let request = SaveImagesRequest { agent: agent.to_owned(), images: images.to_vec() };
    let call = ctx.session.call(None, |channel| {
        let request = request.clone();
        async move { ImageServiceClient::new(channel).save_images(request).await }
    });
    match ctx.wait("the engine gathers the image", call).await {
        Ok(pieces) => Ok(pieces),
        Err(error) => Err(host::told(ctx, agent, error).await),
    }
}

/// `dockctl load`.
pub(crate) async fn load(ctx: &Ctx, args: Load) -> Result<()> {
    if args.input.is_none() && ctx.term.input {
        return Err(Error::usage("requested load from stdin, but stdin is empty")
            .hint("name the archive with -i, or redirect"));
    }
    let agent = host::agent(ctx, &args.on).await?;
    let (file, length) = pipe::source(args.input.as_deref())?;
    let meter = Meter::new(ctx.term, &format!("loading on {agent}"), length, args.quiet);
    let pieces = meter.over(pipe::read(file)?);
    let mut show = Show::start(ctx, false)?;
    let result = load_on(ctx, &agent, pieces, async |message: LoadImagesResponse| {
        let progress = message.progress.filter(|p| !args.quiet || !p.stream.is_empty());
        show.show(progress).await
    });
    let result = result.await;
    show.finish(result)
}

/// Loads an archive on a host.
pub(super) async fn load_on(
    ctx: &Ctx,
    agent: &str,
    pieces: impl Stream<Item = Result<Bytes>> + Send + 'static,
    show: impl AsyncFnMut(LoadImagesResponse) -> Result<()>,
) -> Result<()> {
    let first = LoadImagesRequest { agent: agent.to_owned(), data: Bytes::new() };
    let pieces = pieces.map(|data| Ok(LoadImagesRequest { agent: String::new(), data: data? }));
    let call =
        |channel, upload| async move { ImageServiceClient::new(channel).load_images(upload).await };
    host::send_up(ctx, agent, first, pieces, call, show).await
}

/// `dockctl import FILE [NAME]`.
pub(crate) async fn import(ctx: &Ctx, args: Import) -> Result<()> {
    let text = args.file.to_string_lossy().into_owned();
    let remote = text.starts_with("http://") || text.starts_with("https://");
    let agent = host::agent(ctx, &args.on).await?;
    let pieces = match remote {
        true => stream::empty().boxed(),
        false => {
            let path = (args.file != Path::new("-")).then_some(args.file.as_path());
            let (file, length) = pipe::source(path)?;
            let meter = Meter::new(ctx.term, &format!("importing on {agent}"), length, false);
            meter.over(pipe::read(file)?).boxed()
        }
    };
    let pieces =
        pieces.map(|data| Ok(ImportImageRequest { data: data?, ..ImportImageRequest::default() }));
    let first = ImportImageRequest {
        agent: agent.clone(),
        image: args.name,
        message: args.message,
        changes: args.change,
        platform: args.platform,
        data: Bytes::new(),
        url: if remote { text } else { String::new() },
    };
    let call = |channel, upload| async move {
        ImageServiceClient::new(channel).import_image(upload).await
    };
    let mut show = Show::start(ctx, false)?;
    let told =
        async |message: dockctl_api::v1::ImportImageResponse| show.show(message.progress).await;
    let result = host::send_up(ctx, &agent, first, pieces, call, told).await;
    show.finish(result)
}
