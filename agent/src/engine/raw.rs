//! Streams from the engine: one HTTP/1.0 request on a connection of its own, read in large pieces.
//! dockerd sends one HTTP chunk for each log line and an HTTP library hands on one frame for each;
//! over HTTP/1.0 there are no chunks, at a fraction of the CPU time. Used by `logs`, `events`,
//! `stats`, `copy` and, for waits, by `attach`, `containers` and `exec`.
//! There is no task behind a stream: it reads when it is polled, and dropping it closes the socket.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf as _, BytesMut};
use futures_util::Stream;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    endpoint::Io,
    fault::Fault,
    wire::{self, Open, TIMEOUT, Wire, decode},
};

/// How much is read at once.
const READ_SIZE: usize = 64 << 10;
/// The longest head of an answer.
const MAX_HEAD: usize = 16 << 10;
/// The longest error message or line of JSON.
pub(super) const MAX_LINE: usize = 4 << 20;

/// The body of an open stream.
pub(super) struct Raw {
    pub(super) io: Box<dyn Io>,
    /// What has been read and not consumed.
    pub(super) buffer: BytesMut,
    /// The answer's head.
    head: BytesMut,
    _open: Open,
}

impl Raw {
    /// Opens a stream at a path (with its query) below the API version. The answer's head must come
    /// within 30 s; after that there is no limit.
    pub(super) async fn open(wire: &Arc<Wire>, path: &str) -> Result<Self, Fault> {
        Self::request(wire, "GET", path, TIMEOUT).await
    }

    /// The same with another method, and a limit for the answer's head.
    pub(super) async fn request(
        wire: &Arc<Wire>,
        method: &str,
        path: &str,
        limit: Duration,
    ) -> Result<Self, Fault> {
        let ask = || wire::within(limit, Self::ask(wire, method, path));
        wire.retried(ask).await
    }

    async fn ask(wire: &Arc<Wire>, method: &str, path: &str) -> Result<Self, Fault> {
        let head = format!("{path} HTTP/1.0\r\nHost: docker\r\n\r\n");
        let mut raw = Self::send(wire, method, &head).await?;
        let code = raw.head().await?;
        if (200..300).contains(&code) { Ok(raw) } else { Err(raw.refused(code).await) }
    }

    /// Sends a request: its method, and the rest of its head from the path below the API version on.
    pub(super) async fn send(wire: &Arc<Wire>, method: &str, rest: &str) -> Result<Self, Fault> {
        let prefix = wire.prefix().await.map_err(Fault::unsent)?;
        let io = wire.endpoint.connect().await.map_err(Fault::Connect)?;
        let (buffer, head, _open) = (BytesMut::new(), BytesMut::new(), Open::new(wire));
        let mut raw = Self { io, buffer, head, _open };
        let request = format!("{method} {prefix}{rest}");
        raw.io.write_all(request.as_bytes()).await.map_err(|e| lost(&e))?;
        Ok(raw)
    }

    /// The fault of an answer with this code, whose message follows.
    pub(super) async fn refused(&mut self, code: u16) -> Fault {
        // An engine that waits for the rest of an upload leaves the connection open behind its answer; one that
        // took not all of it may break off there. The sentence counts.
        let length = self.field("content-length").and_then(|length| length.parse().ok());
        let length = length.unwrap_or(MAX_LINE).min(MAX_LINE);
        while self.buffer.len() < length && self.fill().await.is_ok_and(|read| read > 0) {}
        Fault::answer(code, &self.buffer)
    }

    /// A field of the answer's head.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.head).ok()?;
        let mut fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Lets data gather from now on: fewer and larger pieces, up to 2 ms later.
    pub(super) fn gather(&mut self) {
        self.io.gather();
    }

    /// Reads the head and leaves what follows it in the buffer.
    pub(super) async fn head(&mut self) -> Result<u16, Fault> {
        let end = loop {
            let end = self.buffer.windows(4).position(|w| w == b"\r\n\r\n");
            match end {
                Some(end) => break end,
                None if self.buffer.len() > MAX_HEAD => {
                    return Err(Fault::Garbage("the head of its answer has no end".to_owned()));
                }
                None => {}
            }
            if self.fill().await.map_err(|e| lost(&e))? == 0 {
                return Err(match self.buffer.is_empty() {
                    true => Fault::Lost("it was closed without an answer".to_owned()),
                    false => Fault::Garbage("its answer ends within the head".to_owned()),
                });
            }
        };
        self.head = self.buffer.split_to(end);
        self.buffer.advance(4);
        status_code(&self.head)
    }

    /// Reads more into the buffer; 0 at the end. Safe to drop at any time.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        fill(&mut self.io, &mut self.buffer).await
    }

    /// The next line of JSON; None at the end.
    async fn next_json<T: DeserializeOwned>(&mut self) -> Option<Result<T, Fault>> {
        let mut searched = 0;
        loop {
            if let Some(line) = next_line(&mut self.buffer, &mut searched).transpose() {
                return Some(line.and_then(|line| decode(&line)));
            }
            match self.fill().await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(e) => return Some(Err(lost(&e))),
            }
        }
    }

    /// The stream as lines of JSON. It ends after its first error.
    pub(super) fn json<T: DeserializeOwned + Send + 'static>(
        self,
    ) -> impl Stream<Item = Result<T, Fault>> + Send + 'static {
        futures_util::stream::unfold(Some(self), |raw| async {
            let mut raw = raw?;
            let item = raw.next_json().await?;
            let more = item.is_ok();
            Some((item, more.then_some(raw)))
        })
    }
}

/// Reads more into a buffer that lasts as long as its stream, and grows only while the engine has much to
/// say; 0 at the end. Safe to drop at any time.
pub(super) async fn fill(
    io: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<usize> {
    let wanted = if buffer.capacity() == 0 { 4 << 10 } else { READ_SIZE };
    if buffer.capacity() - buffer.len() < wanted / 2 {
        buffer.reserve(wanted);
    }
    io.read_buf(buffer).await
}

/// Takes the next line that is not blank out of a buffer; None where more must be read first. So many
/// bytes of it were `searched` before and hold no end of a line.
pub(super) fn next_line(
    buffer: &mut BytesMut,
    searched: &mut usize,
) -> Result<Option<BytesMut>, Fault> {
    while let Some(end) = buffer[*searched..].iter().position(|b| *b == b'\n') {
        let line = buffer.split_to(*searched + end + 1);
        *searched = 0;
        if !line.trim_ascii().is_empty() {
            return Ok(Some(line));
        }
    }
    *searched = buffer.len();
    match *searched > MAX_LINE {
        true => Err(Fault::Garbage("a line of its answer has no end".to_owned())),
        false => Ok(None),
    }
}

pub(super) fn lost(error: &io::Error) -> Fault {
    Fault::Lost(error.to_string())
}

fn status_code(head: &[u8]) -> Result<u16, Fault> {
    let garbage = |what: &str| Fault::Garbage(what.to_owned());
    let head =
        std::str::from_utf8(head).map_err(|_| garbage("the head of its answer is no text"))?;
    let mut lines = head.split("\r\n");
    let code = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| garbage("its answer is not HTTP"))?;
    let chunked = lines.filter_map(|line| line.split_once(':')).any(|(name, value)| {
        name.eq_ignore_ascii_case("transfer-encoding")
            && !value.trim().eq_ignore_ascii_case("identity")
    });
    // RFC 9112 forbids it towards HTTP/1.0; reading on would mix chunk sizes into the data.
    if chunked { Err(garbage("it answers HTTP/1.0 with chunks")) } else { Ok(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        assert_eq!(status_code(b"HTTP/1.0 200 OK\r\nA: b").unwrap(), 200);
        assert_eq!(status_code(b"HTTP/1.1 404 Not Found").unwrap(), 404);
        for bad in [
            &b"SSH-2.0-OpenSSH"[..],
            b"HTTP/1.0",
            b"",
            b"\xff",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked",
        ] {
            assert!(matches!(status_code(bad), Err(Fault::Garbage(_))), "{bad:?}");
        }
    }
}
