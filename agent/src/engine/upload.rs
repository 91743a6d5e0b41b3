//! A request whose body is a stream, to the engine: one HTTP/1.1 PUT on a connection of its own, in chunks of the
//! size in which the data come. Used by `copy`. Nothing runs behind it; dropping it closes the socket, and the
//! engine takes a body without its end for one that was cut off.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::AsyncWriteExt as _,
    time::{timeout, timeout_at},
};

use super::{
    fault::Fault,
    raw::{Raw, lost},
    wire::{TIMEOUT, Wire, within},
};

/// How long a piece may take, and the answer after the last: the engine's disk may be slow.
const STALL: Duration = Duration::from_secs(120);
/// How long the engine may look at the request before the body is sent without its word; a proxy
/// may not know of the question.
const EXPECT: Duration = Duration::from_secs(2);

/// A request whose body is being sent.
pub(super) struct Upload(Raw);

impl Upload {
    /// Begins the request at a path (with its query) below the API version. What the engine finds wrong
    /// before it needs the body is the fault of this.
    pub(super) async fn open(wire: &Arc<Wire>, path: &str) -> Result<Self, Fault> {
        let head = format!(
            "{path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nExpect: 100-continue\r\n\
             Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let mut raw = within(TIMEOUT, Raw::send(wire, "PUT", &head)).await?;
        let head = timeout(EXPECT, raw.head()).await;
        match head {
            Err(_) => Ok(Self(raw)),
            Ok(code) => match code? {
                100 => Ok(Self(raw)),
                code => Err(refused(&mut raw, code).await),
            },
        }
    }

    /// Sends a piece, which is not empty.
    pub(super) async fn send(&mut self, piece: Bytes) -> Result<(), Fault> {
        let head = format!("{:x}\r\n", piece.len());
        // In one write: each wakes the engine.
        let mut chunk = head.as_bytes().chain(piece).chain(&b"\r\n"[..]);
        let sent = timeout(STALL, self.0.io.write_all_buf(&mut chunk));
        let sent = sent.await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
        self.sent(sent).await
    }

    /// Ends the body and waits for the engine's answer.
    pub(super) async fn finish(mut self) -> Result<(), Fault> {
        let sent = self.0.io.write_all(b"0\r\n\r\n").await;
        self.sent(sent).await?;
        match within(STALL, self.answer()).await? {
            200..300 => Ok(()),
            code => Err(refused(&mut self.0, code).await),
        }
    }

    /// An engine that takes no more has most often said why.
    async fn sent(&mut self, result: io::Result<()>) -> Result<(), Fault> {
        let Err(error) = result else { return Ok(()) };
        match within(TIMEOUT, self.answer()).await {
            Ok(code @ 300..) => Err(refused(&mut self.0, code).await),
            _ => Err(lost(&error)),
        }
    }

    /// The code of the final answer.
    async fn answer(&mut self) -> Result<u16, Fault> {
        loop {
            match self.0.head().await? {
                100..200 => {}
                code => return Ok(code),
            }
        }
    }
}

/// The engine's sentence, for which it needs no long time.
async fn refused(raw: &mut Raw, code: u16) -> Fault {
    let end = tokio::time::Instant::now() + TIMEOUT;
    let empty = Fault::answer(code, b"");
    timeout_at(end, raw.refused(code)).await.unwrap_or(empty)
}
