//! A connection that is taken over: a POST after whose answer both ends send what they like. Used by
//! `exec` and `attach`. There is no task behind it, and dropping both halves closes the socket.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use bytes::{Bytes, BytesMut};
use http::{
    Request, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, UPGRADE},
};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, ReadHalf, WriteHalf};

use super::{
    endpoint::Io,
    fault::Fault,
    raw::READ_SIZE,
    wire::{TIMEOUT, Wire, within},
};

/// The half that is written; shutting it down leaves the other one open.
pub(super) type Writer = WriteHalf<Box<dyn Io>>;

/// The half that is read.
pub(super) struct Reader {
    io: ReadHalf<Box<dyn Io>>,
    /// What has been read and not consumed.
    pub(super) buffer: BytesMut,
    wire: Arc<Wire>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.wire.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reader {
    /// Reads more into the buffer; 0 at the end. Safe to drop at any time.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        // A session that says little needs little; one whose reads are full gets room for large ones.
        let wanted = if self.buffer.capacity() == 0 { 4 << 10 } else { READ_SIZE };
        if self.buffer.capacity() - self.buffer.len() < wanted / 2 {
            self.buffer.reserve(wanted);
        }
        self.io.read_buf(&mut self.buffer).await
    }
}

/// Posts JSON to a path (with its query) below the API version and takes the connection over. The answer
/// must come within 30 s; after that there is no limit.
pub(super) async fn open(
    wire: &Arc<Wire>,
    path: &str,
    json: Bytes,
) -> Result<(Reader, Writer), Fault> {
    let ask = || within(TIMEOUT, ask(wire, path, json.clone()));
    match ask().await {
        Err(fault) if wire.renegotiates(&fault) => ask().await,
        other => other,
    }
}

async fn ask(wire: &Arc<Wire>, path: &str, json: Bytes) -> Result<(Reader, Writer), Fault> {
    let garbage = |what: String| Fault::Garbage(what);
    let body = UnsyncBoxBody::new(Full::new(json).map_err(|never| match never {}));
    let request = Request::post(path)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "tcp")
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|e| garbage(format!("{path}: {e}")))?;
    let response = wire.versioned(request).await?;
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {}
        // What an engine answers that was not asked to upgrade: somebody between has taken that out, and
        // would not pass on what we send.
        status if status.is_success() => {
            let what = "a proxy before it does not let a connection be upgraded";
            return Err(garbage(what.to_owned()));
        }
        _ => {
            let (status, body) = wire.read(response).await?;
            return Err(Fault::answer(status.as_u16(), &body));
        }
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|e| Fault::Lost(e.to_string()))?;
    let parts = upgraded.downcast::<TokioIo<Box<dyn Io>>>();
    let parts = parts.map_err(|_| garbage("its connection is of another kind".to_owned()))?;
    let (io, writer) = tokio::io::split(parts.io.into_inner());
    wire.streams.fetch_add(1, Ordering::Relaxed);
    Ok((Reader { io, buffer: parts.read_buf.into(), wire: wire.clone() }, writer))
}
