//! `save`, `load` and `import`: images as tar archives, streamed between the host and a file or pipe
//! here. However large, some MiB of it are in memory.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::MetadataExt as _},
    path::Path,
};

use bytes::Bytes;
use dockctl_api::v1::{
    ImportImageRequest, LoadImagesRequest, LoadImagesResponse, SaveImagesRequest,
    SaveImagesResponse, image_service_client::ImageServiceClient,
};
use futures_util::{Stream, StreamExt as _, stream};
use tempfile::NamedTempFile;
use tonic::Streaming;

use super::{Ctx, Show, host};
use crate::{
    args::images::{Import, Load, Save},
    error::{Error, Exit, Result},
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
    let mut pieces = saved(ctx, &agent, &args.images).await?;
    let (file, target) = match args.file() {
        None => (File::from(io::stdout().as_fd().try_clone_to_owned()?), None),
        Some(path) => target(path).map_err(|e| pipe::of_file(path, &e))?,
    };
    let sink = pipe::Sink::start(file)?;
    let mut meter = Meter::new(ctx.term, &format!("saving from {agent}"), None, false);
    let received = async {
        loop {
            match pieces.message().await {
                Ok(Some(SaveImagesResponse { data })) => {
                    meter.add(data.len());
                    sink.send(data).await?;
                }
                Ok(None) => return Ok(()),
                Err(status) => return Err(host::told(ctx, &agent, status.into()).await),
            }
        }
    };
    let result = received.await;
    meter.clear();
    sink.finish(result)?;
    if let (Some(target), Some(path)) = (target, args.file()) {
        target.persist(path).map_err(|e| pipe::of_file(path, &e.error))?;
    }
    Ok(())
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

/// Where to write: a file beside the target that takes its place when it is whole, so that a failure
/// leaves what was there; but into a pipe or device that is there.
fn target(path: &Path) -> io::Result<(File, Option<NamedTempFile>)> {
    match path.metadata() {
        Ok(about) if about.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(about) if !about.is_file() => Ok((File::options().write(true).open(path)?, None)),
        // A file with further names must stay the same file.
        Ok(about) if about.nlink() > 1 => Ok((File::create(path)?, None)),
        _ => {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let file = NamedTempFile::new_in(dir.unwrap_or(Path::new(".")))?;
            Ok((file.as_file().try_clone()?, Some(file)))
        }
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
    let pieces = metered(pipe::read(file)?, meter);
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

/// Pieces of a file, counted as they go.
pub(super) fn metered(
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    meter: Meter,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    let pieces = pieces.boxed();
    futures_util::stream::unfold((pieces, meter), |(mut pieces, mut meter)| async {
        let Some(piece) = pieces.next().await else {
            meter.clear();
            return None;
        };
        match &piece {
            Ok(piece) => meter.add(piece.len()),
            Err(_) => meter.clear(),
        }
        let piece = piece.map_err(|e| Error::new(Exit::Failed, e.to_string()));
        Some((piece, (pieces, meter)))
    })
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
            metered(pipe::read(file)?, meter).boxed()
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
