//! `cp`: files between this machine and containers, and from one container to another. What a path means is
//! `plan`'s business, and docker's; files are read and written on a thread of their own (`pack`, `unpack`),
//! with a bounded number of pieces between it and the call.

mod entries;
mod local;
mod pack;
mod pieces;
mod plan;
mod unpack;

use std::{io, path::Path};

use bytes::Bytes;
use dockctl_api::{
    error::reason,
    v1::{
        PathStat, ReadArchiveRequest, ReadArchiveResponse, StatPathRequest, WriteArchiveRequest,
        copy_service_client::CopyServiceClient,
    },
};
use futures_util::StreamExt as _;
use tokio::{sync::mpsc::Sender, task::spawn_blocking};
use tonic::Streaming;

use super::{Ctx, host};
use crate::{
    args::copy::Cp,
    error::{Error, Exit, Result},
    output::{clean, human::decimal_size, progress::Meter},
    pipe::{self, Pieces},
    refs::Ref,
    resolve::{self, Target},
};
use pieces::Count;
use plan::{Destination, Plan, Source};

/// Go's file mode bits, which the engine's API has.
const MODE_DIR: u32 = 1 << 31;
const MODE_LINK: u32 = 1 << 27;
const MODE_ODD: u32 = MODE_LINK | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;

/// What the progress bar says.
const COPYING: &str = "copying";

/// One side of a copy.
enum Place {
    Container(Ref, String),
    Local(String),
}

/// Reads an argument as docker does: a ':' makes it a container's, unless it begins with '/' or '.'.
fn place(text: &str) -> Result<Place> {
    match text.split_once(':') {
        Some((name, path)) if !text.starts_with(['/', '.']) => {
            let name = name.parse().map_err(|why| {
                Error::usage(format!("\"{}\": {why}", clean(name)))
                    .hint("a local path with a ':' in it begins with '/' or './'")
            })?;
            Ok(Place::Container(name, path.to_owned()))
        }
        _ => Ok(Place::Local(text.to_owned())),
    }
}

/// A container and a path in it.
struct Remote {
    target: Target,
    path: String,
}

impl Remote {
    async fn find(ctx: &Ctx, name: &Ref, path: String) -> Result<Self> {
        let resolving = resolve::resolve(&ctx.session, name);
        Ok(Self { target: ctx.wait("looking for the container", resolving).await?, path })
    }

    fn shown(&self) -> String {
        format!("{}:{}", self.target.shown(), clean(&self.path))
    }

    async fn told<T>(&self, ctx: &Ctx, result: Result<T>) -> Result<T> {
        match result {
            Err(error @ Error::Told(_)) => {
                Err(resolve::explain(&ctx.session, &self.target, error).await)
            }
            result => result,
        }
    }
}

/// `dockctl cp SRC DST`.
pub(crate) async fn run(ctx: &Ctx, args: Cp) -> Result<()> {
    if args.source.is_empty() || args.destination.is_empty() {
        let which = if args.source.is_empty() { "source" } else { "destination" };
        return Err(Error::usage(format!("{which} can not be empty")));
    }
    let copy = Copy {
        ctx,
        keep_owners: args.archive,
        follow: args.follow_link,
        // An archive on the terminal itself leaves no room for another line.
        quiet: args.quiet || args.destination == "-" && ctx.term.out,
    };
    let (bytes, to) = match (place(&args.source)?, place(&args.destination)?) {
        (Place::Container(from, path), Place::Local(to)) => {
            let from = Remote::find(ctx, &from, path).await?;
            let result = copy.bring_out(&from, &to).await;
            (from.told(ctx, result).await?, to)
        }
        (Place::Local(from), Place::Container(to, path)) => {
            let to = Remote::find(ctx, &to, path).await?;
            let result = copy.bring_in(&from, &to).await;
            (to.told(ctx, result).await?, to.shown())
        }
        (Place::Container(from, source), Place::Container(to, path)) => {
            let from = Remote::find(ctx, &from, source).await?;
            let to = Remote::find(ctx, &to, path).await?;
            (copy.across(&from, &to).await?, to.shown())
        }
        _ => return Err(Error::usage("must specify at least one container source")),
    };
    if ctx.term.err && !copy.quiet && to != "-" {
        let size = decimal_size(bytes, 3);
        ctx.term.notice(&format!("Successfully copied {size} to {}", clean(&to)));
    }
    Ok(())
}

struct Copy<'a> {
    ctx: &'a Ctx,
    keep_owners: bool,
    follow: bool,
    /// Whether nobody watches.
    quiet: bool,
}

/// Each copy gives the archive's bytes.
impl Copy<'_> {
    /// From a container to this machine.
    async fn bring_out(&self, from: &Remote, to: &str) -> Result<u64> {
        if to == "-" {
            let (source, archive) = self.open(from).await?;
            let meter = self.meter(&source);
            let pieces = meter.over(archive.map(|piece| Ok(piece?.data)));
            pipe::Target::open(None)?.receive(pieces).await?;
            return Ok(meter.bytes());
        }
        let to = local::path(to)?;
        local::check_output(&to)?;
        let (source, archive) = self.open(from).await?;
        let destination = local::destination(&to)?;
        let Plan { dir, rename } = plan::plan(&source, &destination).map_err(failed)?;
        let (queue, reader) = pieces::download();
        let written = Count::default();
        let (count, place) = (written.clone(), dir.clone());
        let unpacking = spawn_blocking(move || unpack::unpack(reader, &place, &rename, &count));
        let meter = self.meter(&source);
        let pumping = Box::pin(pump(archive, queue, |bytes| meter.add(bytes)));
        let result = match tokio::join!(pumping, unpacking) {
            (Err(error), _) => Err(error),
            (Ok(()), Ok(unpacked)) => unpacked.map_err(local::failure),
            (Ok(()), Err(_)) => Err(failed("unpacking broke off")),
        };
        result.map(|()| meter.bytes()).map_err(|error| {
            let entries = written.get();
            error.hint(format!(
                "before that, {entries} of its entries were written to {}",
                clean(&dir)
            ))
        })
    }

    /// From this machine into a container.
    async fn bring_in(&self, from: &str, to: &Remote) -> Result<u64> {
        let destination = self.destination(to).await?;
        if from == "-" {
            if !destination.is_dir {
                let place = to.shown();
                return Err(failed(format!("destination \"{place}\" must be a directory")));
            }
            let (stdin, size) = pipe::source(None)?;
            let meter = Meter::new(self.ctx.term, COPYING, size, self.quiet);
            let read = |out: &mut Pieces| out.copy_all(stdin);
            return self.upload(&to.target, destination.path, meter, read).await;
        }
        let source = local::source(&local::path(from)?, self.follow)?;
        let Plan { dir, rename } = plan::plan(&source, &destination).map_err(failed)?;
        let (parent, last) = plan::split(&source.path);
        let path = plan::join(&parent, &last);
        let pack = move |out: &mut Pieces| pack::pack(out, Path::new(&path), &rename.to);
        self.upload(&to.target, dir, self.meter(&source), pack).await
    }

    /// From one container into another.
    async fn across(&self, from: &Remote, to: &Remote) -> Result<u64> {
        let ctx = self.ctx;
        let destination = self.destination(to).await;
        let destination = to.told(ctx, destination).await?;
        let opened = self.open(from).await;
        let (source, archive) = from.told(ctx, opened).await?;
        let planned = plan::plan(&source, &destination).map_err(failed);
        let Plan { dir, rename } = to.told(ctx, planned).await?;
        let (queue, mut reader) = pieces::download();
        let make = move |out: &mut Pieces| match rename.is_none() {
            true => {
                while let Some(piece) = reader.next()? {
                    out.pass(piece)?;
                }
                Ok(())
            }
            false => pack::renamed(reader, out, &rename),
        };
        let upload = self.upload(&to.target, dir, self.meter(&source), make);
        // What is counted is what leaves again.
        let (pumped, uploaded) = tokio::join!(pump(archive, queue, |_| {}), upload);
        from.told(ctx, pumped).await?;
        to.told(ctx, uploaded).await
    }

    fn meter(&self, source: &Source) -> Meter {
        Meter::new(self.ctx.term, COPYING, source.size, self.quiet)
    }

    /// Opens a path's archive, the link there followed if that was asked for.
    async fn open(&self, from: &Remote) -> Result<(Source, Streaming<ReadArchiveResponse>)> {
        let (mut path, mut rebase) = (from.path.clone(), None);
        if self.follow
            && let Some(stat) = self.stat(&from.target, &path).await?
            && stat.mode & MODE_LINK != 0
        {
            (path, rebase) = plan::followed(&path, &plan::target_of(&path, &stat.link_target));
        }
        let request = ReadArchiveRequest {
            agent: from.target.agent.clone(),
            container: from.target.container.clone(),
            path: path.clone(),
        };
        let call = self.ctx.session.call(None, |channel| {
            let request = request.clone();
            async move { CopyServiceClient::new(channel).read_archive(request).await }
        });
        let mut archive = self.ctx.wait("opening the archive", call).await?;
        let first = archive.message().await?.and_then(|first| first.stat);
        let stat = first.ok_or_else(|| failed("the agent does not say what is at the path"))?;
        let size = (stat.mode & (MODE_DIR | MODE_ODD) == 0).then_some(stat.size);
        Ok((Source { path, is_dir: stat.mode & MODE_DIR != 0, size, rebase }, archive))
    }

    /// What is at a path; None where nothing is.
    async fn stat(&self, target: &Target, path: &str) -> Result<Option<PathStat>> {
        let request = StatPathRequest {
            agent: target.agent.clone(),
            container: target.container.clone(),
            path: path.to_owned(),
        };
        let asked = self.ctx.session.ask(|channel| {
            let request = request.clone();
            async move { CopyServiceClient::new(channel).stat_path(request).await }
        });
        match asked.await {
            Err(error) if error.has_reason(reason::NOT_FOUND) => Ok(None),
            answer => Ok(answer?.stat),
        }
    }

    /// What a container's path is to a copy; a link there is followed once, as docker does.
    async fn destination(&self, to: &Remote) -> Result<Destination> {
        let mut path = to.path.clone();
        let mut stat = self.stat(&to.target, &path).await?;
        if let Some(link) = stat.as_ref().filter(|stat| stat.mode & MODE_LINK != 0) {
            path = plan::target_of(&path, &link.link_target);
            stat = self.stat(&to.target, &path).await?;
        }
        let mode = stat.as_ref().map_or(0, |stat| stat.mode);
        if mode & MODE_ODD != 0 {
            let place = to.shown();
            return Err(failed(format!(
                "destination \"{place}\" must be a directory or a regular file"
            )));
        }
        Ok(Destination { path, exists: stat.is_some(), is_dir: mode & MODE_DIR != 0 })
    }

    /// Sends what `make` writes, on a thread of its own, as an archive to be unpacked in `path`.
    async fn upload(
        &self,
        target: &Target,
        path: String,
        meter: Meter,
        make: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
    ) -> Result<u64> {
        let first = WriteArchiveRequest {
            agent: target.agent.clone(),
            container: target.container.clone(),
            path,
            keep_owners: self.keep_owners,
            data: Bytes::new(),
        };
        let pieces = meter
            .over(pipe::produce(make)?)
            .map(|data| Ok(WriteArchiveRequest { data: data?, ..Default::default() }));
        let (upload, failure) = host::whole(first, pieces);
        // The calls before this one have seen to it that the token is good, so that there is no second try.
        let call = self.ctx.session.call(None, |channel| {
            let upload = upload.take();
            async move { CopyServiceClient::new(channel).write_archive(upload?).await }
        });
        let work = async {
            tokio::select! {
                biased;
                error = failure => Err(error),
                answer = call => answer.map(|_| meter.bytes()),
            }
        };
        Box::pin(work).await.map_err(|error| match meter.bytes() {
            0 => error,
            sent => error.hint(format!(
                "{} were on their way, of which a part may have been unpacked",
                decimal_size(sent, 3)
            )),
        })
    }
}

/// Hands an archive over to a thread. One that takes no more says why itself.
async fn pump(
    mut archive: Streaming<ReadArchiveResponse>,
    queue: Sender<Option<Bytes>>,
    count: impl Fn(usize),
) -> Result<()> {
    loop {
        match archive.message().await {
            Ok(Some(message)) => {
                count(message.data.len());
                if queue.send(Some(message.data)).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(status) => {
                let _ = queue.send(None).await;
                return Err(status.into());
            }
        }
    }
}

fn failed(why: impl Into<String>) -> Error {
    Error::new(Exit::Failed, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_a_containers_as_docker_has_it() {
        let shown = |text: &str| match place(text) {
            Ok(Place::Container(name, path)) => format!("{name} {path}"),
            Ok(Place::Local(path)) => format!("local {path}"),
            Err(error) => format!("error {}", error.code()),
        };
        assert_eq!(shown("web-1/app:/x"), "web-1/app /x");
        assert_eq!(shown("app:x:y"), "app x:y");
        assert_eq!(shown("./a:b"), "local ./a:b");
        assert_eq!(shown("/a:b"), "local /a:b");
        assert_eq!(shown("-"), "local -");
        assert_eq!(shown("file"), "local file");
        assert_eq!(shown("a/b/c:d"), "error 2");
    }
}
