//! Files out of and into containers: the engine's archive calls, with `tar_check` between them and the caller.
//! Called by `serve::copy`. Both directions hold one piece at a time and read on only when it has gone.

use std::io;

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use dockctl_api::{
    PIECE,
    error::{bad_field, reason, status},
    v1::PathStat,
};
use futures_util::{FutureExt as _, Stream, stream};
use serde::Deserialize;
use tonic::{Code, Status};

use super::{
    Engine,
    fault::{Call, Fault},
    names,
    raw::{Raw, lost},
    tar_check::{Refusal, TarCheck},
    upload::Upload,
};

const HEAD: &str = "HEAD /containers/{id}/archive";
const GET: &str = "GET /containers/{id}/archive";
const PUT: &str = "PUT /containers/{id}/archive";

/// How much is read ahead, bytes.
const AHEAD: usize = 4 * PIECE;
/// The longest path, bytes: Linux's PATH_MAX.
const MAX_PATH: usize = 4096;

/// What the engine's header says of a path.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stat {
    name: String,
    size: i64,
    mode: u32,
    #[serde(default)]
    link_target: String,
}

impl Engine {
    /// Tells what is at a path in a container. Errors: NOT_FOUND where nothing is.
    pub async fn stat_path(&self, container: &str, path: &str) -> Result<PathStat, Status> {
        let url = self.archive_url(container, path, "").await?;
        let told = |fault: Fault| self.wire.status(&fault, Call::on(HEAD, container));
        // The answer to HEAD has no room for a sentence.
        match Raw::request(&self.wire, "HEAD", &url, self.limit).await {
            Ok(raw) => stat(&raw).map_err(told),
            Err(Fault::Answer { code: 404, message, .. }) if message.is_empty() => Err(status(
                Code::NotFound,
                reason::NOT_FOUND,
                format!("Could not find the file {path} in container {container}"),
                &[("call", HEAD)],
            )),
            Err(fault) if matches!(&fault, Fault::Answer { message, .. } if message.is_empty()) => {
                let why = self.read_archive(container, path).await.err();
                Err(why.unwrap_or_else(|| told(fault)))
            }
            Err(fault) => Err(told(fault)),
        }
    }

    /// Opens the archive of a path in a container: what is there, and the archive in pieces. The stream ends
    /// after its first error; its end without one is the archive's own.
    pub async fn read_archive(
        &self,
        container: &str,
        path: &str,
    ) -> Result<
        (PathStat, impl Stream<Item = Result<Bytes, Status>> + Send + 'static + use<>),
        Status,
    > {
        // The root's entries would have absolute names.
        let is_root = !path.is_empty() && path.bytes().all(|byte| byte == b'/');
        let url = self.archive_url(container, if is_root { "/." } else { path }, "").await?;
        let told = |fault: Fault| self.wire.status(&fault, Call::on(GET, container));
        let raw = Raw::open(&self.wire, &url).await.map_err(told)?;
        let stat = stat(&raw).map_err(told)?;
        let reader = Reader {
            engine: self.clone(),
            container: container.to_owned(),
            raw,
            check: TarCheck::new(),
            ended: false,
        };
        let pieces = stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            let item = reader.next().await.transpose()?;
            let more = item.is_ok();
            Some((item, more.then_some(reader)))
        });
        Ok((stat, pieces))
    }

    /// Begins to unpack an archive into a directory of a container. Nothing reaches the engine before the
    /// first header is good.
    pub async fn write_archive(
        &self,
        container: &str,
        path: &str,
        keep_owners: bool,
    ) -> Result<Writer, Status> {
        let query = match keep_owners {
            true => "&noOverwriteDirNonDir=true&copyUIDGID=true",
            false => "&noOverwriteDirNonDir=true",
        };
        Ok(Writer {
            url: self.archive_url(container, path, query).await?,
            engine: self.clone(),
            container: container.to_owned(),
            check: TarCheck::new(),
            kept: BytesMut::new(),
            upload: None,
        })
    }

    /// The URL of a path's archive. By id: the name may pass to another container.
    async fn archive_url(
        &self,
        container: &str,
        path: &str,
        query: &str,
    ) -> Result<String, Status> {
        names::container("container", container)?;
        if path.is_empty() || path.len() > MAX_PATH || path.contains('\0') {
            return Err(bad_field("path", "a path has 1 to 4,096 bytes, none of them zero"));
        }
        let id = self.facts(container).await?.id;
        Ok(format!("/containers/{id}/archive?path={}{query}", names::encode(path)))
    }
}

fn stat(raw: &Raw) -> Result<PathStat, Fault> {
    let garbage = || Fault::Garbage("it does not say what is at the path".to_owned());
    let header = raw.field("x-docker-container-path-stat").ok_or_else(garbage)?;
    let json = base64::engine::general_purpose::STANDARD.decode(header).map_err(|_| garbage())?;
    let stat: Stat = serde_json::from_slice(&json).map_err(|_| garbage())?;
    Ok(PathStat {
        name: stat.name,
        size: u64::try_from(stat.size).unwrap_or_default(),
        mode: stat.mode,
        link_target: stat.link_target,
    })
}

fn refused(code: Code, refusal: &Refusal) -> Status {
    let message = format!("the archive is refused: {refusal}");
    status(code, reason::BAD_ARCHIVE, message, &[("entry", &refusal.entry)])
}

struct Reader {
    engine: Engine,
    container: String,
    raw: Raw,
    check: TarCheck,
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let buffer = &mut self.raw.buffer;
            if buffer.len() < PIECE && !self.ended {
                if buffer.capacity() - buffer.len() < PIECE {
                    buffer.reserve(AHEAD);
                }
                self.fill_up()?;
            }
            let buffer = &mut self.raw.buffer;
            let here = buffer.len().min(PIECE);
            let passed = self
                .check
                .pass(&buffer[..here])
                .map_err(|r| refused(Code::FailedPrecondition, &r))?;
            if passed > 0 {
                return Ok(Some(buffer.split_to(passed).freeze()));
            }
            if self.ended {
                let left = buffer.len();
                // HTTP/1.0 marks a body's end by closing, which is also how a failing engine ends it.
                let whole = self.check.finish(left).map_err(|r| Fault::Lost(r.to_string()));
                return whole.map(|()| None).map_err(|fault| self.fault(&fault));
            }
            self.fill().await?;
        }
    }

    /// Waits for more.
    async fn fill(&mut self) -> Result<(), Status> {
        let read = self.raw.fill().await;
        self.has_read(read)
    }

    /// Takes what more is there already.
    fn fill_up(&mut self) -> Result<(), Status> {
        while self.raw.buffer.len() < AHEAD
            && !self.ended
            && let Some(read) = self.raw.fill().now_or_never()
        {
            self.has_read(read)?;
        }
        Ok(())
    }

    fn has_read(&mut self, read: io::Result<usize>) -> Result<(), Status> {
        self.ended = read.map_err(|e| self.fault(&lost(&e)))? == 0;
        Ok(())
    }

    fn fault(&self, fault: &Fault) -> Status {
        self.engine.wire.status(fault, Call::on(GET, &self.container))
    }
}

/// An archive that is being unpacked in a container.
pub struct Writer {
    engine: Engine,
    container: String,
    url: String,
    check: TarCheck,
    /// What is not enough for a header.
    kept: BytesMut,
    /// None until the first header was good.
    upload: Option<Upload>,
}

impl Writer {
    /// Takes the next piece.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Status> {
        let mut piece = match self.kept.is_empty() {
            true => piece,
            false => {
                self.kept.extend_from_slice(&piece);
                self.kept.split().freeze()
            }
        };
        let passed = self.check.pass(&piece).map_err(|r| refused(Code::InvalidArgument, &r))?;
        let passed = piece.split_to(passed);
        self.kept.extend_from_slice(&piece);
        if passed.is_empty() {
            return Ok(());
        }
        let sent = match &mut self.upload {
            Some(upload) => upload.send(passed).await,
            none => match Upload::open(&self.engine.wire, &self.url).await {
                Ok(upload) => none.insert(upload).send(passed).await,
                Err(fault) => Err(fault),
            },
        };
        sent.map_err(|fault| self.fault(&fault))
    }

    /// Ends the archive, which must be whole, and waits until the engine has unpacked it.
    pub async fn finish(mut self) -> Result<(), Status> {
        let whole = self.check.finish(self.kept.len());
        whole.map_err(|r| refused(Code::InvalidArgument, &r))?;
        match self.upload.take() {
            Some(upload) => upload.finish().await.map_err(|fault| self.fault(&fault)),
            None => Ok(()),
        }
    }

    fn fault(&self, fault: &Fault) -> Status {
        self.engine.wire.status(fault, Call::on(PUT, &self.container))
    }
}
