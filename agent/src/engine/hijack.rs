//! A connection that is taken over: a POST after whose answer both ends send what they like. Used by
//! `exec` and `attach`. There is no task behind it, and dropping both halves closes the socket.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    Request, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, UPGRADE},
};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper_util::rt::TokioIo;
use tokio::io::{ReadHalf, WriteHalf};

use super::{
    endpoint::Io,
    fault::Fault,
    raw::fill,
    wire::{Open, Wire, within},
};

/// The half that is written; shutting it down leaves the other one open.
pub(super) type Writer = WriteHalf<Box<dyn Io>>;

/// The half that is read.
pub(super) struct Reader {
    io: ReadHalf<Box<dyn Io>>,
    /// What has been read and not consumed.
    pub(super) buffer: BytesMut,
    unix: bool,
    _open: Open,
}

impl Reader {
    /// Reads more into the buffer; 0 at the end. Safe to drop at any time.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        match fill(&mut self.io, &mut self.buffer).await {
            // The engine has closed it before it took all of the input, which a program need not read. On a
            // Unix socket this comes after all that was sent, on others in its stead.
            Err(e) if self.unix && e.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            read => read,
        }
    }
}

/// Posts JSON to a path (with its query) below the API version and takes the connection over. The answer
/// must come within `limit`; after that there is none.
pub(super) async fn open(
    wire: &Arc<Wire>,
    path: &str,
    json: Bytes,
    limit: Duration,
) -> Result<(Reader, Writer), Fault> {
    wire.retried(|| within(limit, ask(wire, path, json.clone()))).await
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
    // What an engine answers that was not asked to upgrade: somebody between has taken that out, and would
    // not pass on what we send.
    let proxy = || garbage("a proxy before it does not let a connection be upgraded".to_owned());
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {}
        status if status.is_success() => return Err(proxy()),
        _ => return wire.whole(response).await.and_then(|_| Err(proxy())),
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|e| Fault::Lost(e.to_string()))?;
    let parts = upgraded.downcast::<TokioIo<Box<dyn Io>>>();
    let parts = parts.map_err(|_| garbage("its connection is of another kind".to_owned()))?;
    let (io, writer) = tokio::io::split(parts.io.into_inner());
    let (buffer, unix) = (parts.read_buf.into(), wire.endpoint.is_unix());
    Ok((Reader { io, buffer, unix, _open: Open::new(wire) }, writer))
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::UnixStream};

    use super::{
        super::{
            endpoint::{Endpoint, TlsEnv},
            gather::Gather,
        },
        *,
    };

    #[tokio::test]
    async fn input_that_nobody_took_does_not_hide_the_end_of_the_output() {
        let wire = Wire::new(Endpoint::parse("unix:///s", &TlsEnv::default()).unwrap());
        let (mut near, mut far) = UnixStream::pair().unwrap();
        near.write_all(b"input").await.unwrap();
        far.write_all(b"output").await.unwrap();
        drop(far);
        let io: Box<dyn Io> = Box::new(Gather::new(near));
        let (io, _writer) = tokio::io::split(io);
        let (buffer, unix, _open) = (BytesMut::new(), true, Open::new(&wire));
        let mut reader = Reader { io, buffer, unix, _open };
        assert_eq!(reader.fill().await.unwrap(), 6);
        assert_eq!(reader.fill().await.unwrap(), 0);
        assert_eq!(reader.buffer, "output");
    }
}
