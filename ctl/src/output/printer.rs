//! Writes streams on a thread of its own. A reader that stops reading (`dockctl logs web | less`) then
//! blocks this thread only: the connection's keepalive goes on, and the queue's bound, through
//! HTTP/2 flow control, slows the sender down.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::fd::AsFd,
    thread::JoinHandle,
};

use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{Term, escape::Sanitizer};
use crate::error::{Error, Result};

/// Chunks under way at most; a chunk is one message's worth, so some MiB in all.
const QUEUE: usize = 8;
/// Bytes gathered before a write.
const BUFFER: usize = 64 * 1024;

/// One of the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The sending end; see the module's head.
pub(crate) struct Printer {
    queue: Sender<(To, Bytes)>,
    thread: JoinHandle<io::Result<()>>,
    /// For stdout and stderr: takes escapes out where a person reads.
    sanitizers: [Option<Sanitizer>; 2],
}

impl Printer {
    /// Starts the thread. `raw` leaves escape sequences alone even on a terminal.
    pub(crate) fn start(term: Term, raw: bool) -> io::Result<Self> {
        // Not io::stdout(): its line buffering would cost two writes a chunk.
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let err = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let (queue, chunks) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("printer".to_owned())
            .spawn(|| write(chunks, out, err))?;
        let sanitize = |person: bool| (person && !raw).then(Sanitizer::default);
        Ok(Self { queue, thread, sanitizers: [sanitize(term.out), sanitize(term.err)] })
    }

    /// Hands a chunk over, waiting for room. Fails once a write has failed.
    pub(crate) async fn send(&mut self, to: To, chunk: Bytes) -> Result<()> {
        let chunk = match &mut self.sanitizers[to as usize] {
            Some(sanitizer) => {
                let mut shown = Vec::with_capacity(chunk.len());
                sanitizer.push(&chunk, &mut shown);
                shown.into()
            }
            None => chunk,
        };
        self.pass(to, chunk).await
    }

    /// Hands over text of our own making, colours and all.
    pub(crate) async fn send_own(&self, to: To, text: impl Into<Bytes>) -> Result<()> {
        self.pass(to, text.into()).await
    }

    async fn pass(&self, to: To, chunk: Bytes) -> Result<()> {
        // Only a failed write ends the thread early, and finish() tells which.
        self.queue.send((to, chunk)).await.map_err(|_| Error::BrokenPipe)
    }

    /// Waits until all is written. Whatever ended the thread takes precedence over `result`.
    pub(crate) fn finish<T>(self, result: Result<T>) -> Result<T> {
        drop(self.queue);
        match self.thread.join() {
            Ok(Ok(())) | Err(_) => result,
            Ok(Err(error)) => Err(error.into()),
        }
    }
}

/// The thread: writes what comes, gathers small chunks, and flushes when nothing waits.
fn write(mut chunks: Receiver<(To, Bytes)>, out: File, mut err: File) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    while let Some(first) = chunks.blocking_recv() {
        let mut next = Some(first);
        while let Some((to, chunk)) = next {
            match to {
                To::Out => out.write_all(&chunk)?,
                To::Err => {
                    out.flush()?; // both may be the same terminal: keep the order
                    err.write_all(&chunk)?;
                }
            }
            next = chunks.try_recv().ok();
        }
        out.flush()?;
    }
    Ok(())
}
