//! A session with a program: what the caller sends goes to the engine, what the engine sends goes to the
//! caller, both at once and neither faster than it is taken. Used by `exec` and `attach`, which know how a
//! session begins and what its end means.

use std::{convert::Infallible, future::pending, io, time::Duration};

use bytes::Bytes;
use dockctl_api::v1::{LogStream, TerminalSize};
use futures_util::{Stream, StreamExt as _};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{mpsc, watch},
    time::timeout,
};
use tonic::Status;

use super::{
    demux::{Batch, Demux},
    detach::Keys,
    fault::Fault,
    hijack::{Reader, Writer},
};

/// Pieces of output on their way, of 64 KiB at most.
pub(super) const QUEUE: usize = 4;

/// How long the engine may take to close a session that was left.
const CLOSING: Duration = Duration::from_secs(5);

/// A piece of a caller's input.
#[derive(Debug)]
pub(crate) enum Input {
    /// Bytes for standard input.
    Stdin(Bytes),
    /// The terminal has another size.
    Resize(TerminalSize),
    /// A signal, by name or number.
    Signal(String),
}

/// A piece of a session's output.
#[derive(Debug)]
pub(crate) enum Output {
    /// It has begun.
    Started {
        /// The exec's id; empty for an attachment.
        exec_id: String,
        /// Whether there is a terminal.
        tty: bool,
    },
    /// Standard output, or the terminal's.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// The program has ended.
    Exit(i32),
}

/// Where output goes. It is closed when the caller hangs up.
pub(super) type Outputs = mpsc::Sender<Result<Output, Status>>;

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There is no more output.
    Closed,
    /// The detach keys were typed.
    Detached,
    /// The caller has gone.
    HungUp,
}

/// What the end of the input is to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// The end of its standard input.
    HalfClose,
    /// The same on a terminal, where nothing can be closed: the key that says so.
    EndKey,
    /// Nothing: its standard input outlives the session.
    Nothing,
}

/// The program that a session is with.
pub(super) trait Program: Sync {
    /// Tells the terminal its size.
    fn resize(&self, size: TerminalSize) -> impl Future<Output = ()> + Send;
    /// Sends a signal. An error ends the session.
    fn signal(&self, signal: &str) -> impl Future<Output = Result<(), Status>> + Send;
}

/// What a session is made of.
pub(super) struct Session<'a, P> {
    pub(super) program: &'a P,
    /// Whether output is a terminal's; otherwise it comes in frames.
    pub(super) tty: bool,
    /// The terminal's first size.
    pub(super) size: Option<TerminalSize>,
    /// The detach keys, where there are any.
    pub(super) keys: Option<Keys>,
    pub(super) at_end: AtEnd,
    pub(super) outputs: &'a Outputs,
}

impl<P: Program> Session<'_, P> {
    /// Runs until one of its ends.
    pub(super) async fn run(
        mut self,
        reader: &mut Reader,
        writer: &mut Writer,
        input: impl Stream<Item = Result<Input, Status>>,
    ) -> Result<End, Talk> {
        let (sizes, resized) = watch::channel(self.size.filter(is_size));
        let keys = self.keys.take();
        let end = tokio::select! {
            () = self.outputs.closed() => Ok(End::HungUp),
            end = self.feed(&mut *writer, keys, input, &sizes) => Ok(end?),
            end = self.print(&mut *reader) => end,
            never = self.resize(resized) => match never {},
        };
        if matches!(end, Ok(End::Detached)) {
            // An engine that cannot write what a program prints takes its terminal away from it; so it is
            // told that no more input comes, and read until it closes.
            let closed = async {
                writer.shutdown().await?;
                while reader.fill().await? > 0 {
                    reader.buffer.clear();
                }
                io::Result::Ok(())
            };
            let _ = timeout(CLOSING, closed).await;
        }
        end
    }

    /// Passes input on. Ends only where that ends the session.
    async fn feed(
        &self,
        writer: &mut Writer,
        mut keys: Option<Keys>,
        input: impl Stream<Item = Result<Input, Status>>,
        sizes: &watch::Sender<Option<TerminalSize>>,
    ) -> Result<End, Talk> {
        let mut input = std::pin::pin!(input);
        while let Some(piece) = input.next().await {
            match piece.map_err(Talk::Caller)? {
                Input::Stdin(data) => {
                    let (data, detached) = match &mut keys {
                        Some(keys) => keys.pass(data),
                        None => (data, false),
                    };
                    // A program that no longer reads is no failure; its output tells how it ends.
                    let _ = writer.write_all(&data).await;
                    if detached {
                        return Ok(End::Detached);
                    }
                }
                Input::Resize(size) if is_size(&size) => drop(sizes.send_replace(Some(size))),
                Input::Resize(_) => {}
                Input::Signal(signal) => {
                    self.program.signal(&signal).await.map_err(Talk::Caller)?;
                }
            }
        }
        let _ = match self.at_end {
            AtEnd::HalfClose => writer.shutdown().await,
            AtEnd::EndKey => writer.write_all(b"\x04").await,
            AtEnd::Nothing => Ok(()),
        };
        pending().await
    }

    /// Passes output on until there is no more.
    async fn print(&self, reader: &mut Reader) -> Result<End, Talk> {
        let (mut demux, mut batch) = (Demux::new(false, false), Batch::default());
        loop {
            let read = reader.fill().await;
            let read = read.map_err(|e| Talk::Engine(Fault::Lost(e.to_string())))?;
            if self.tty {
                if read == 0 {
                    return Ok(End::Closed);
                }
                if !self.send(Output::Stdout(reader.buffer.split().freeze())).await {
                    return Ok(End::HungUp);
                }
                continue;
            }
            let mut more = true;
            while more {
                let decoded = demux.decode(&mut reader.buffer, &mut batch, read == 0);
                for record in batch.take() {
                    let output = match record.stream() {
                        LogStream::Stderr => Output::Stderr(record.data),
                        _ => Output::Stdout(record.data),
                    };
                    if !self.send(output).await {
                        return Ok(End::HungUp);
                    }
                }
                more = decoded.map_err(|e| Talk::Engine(Fault::Garbage(e.to_string())))?;
            }
            if read == 0 {
                return Ok(End::Closed);
            }
        }
    }

    /// Whether somebody is there to take it.
    async fn send(&self, output: Output) -> bool {
        self.outputs.send(Ok(output)).await.is_ok()
    }

    /// Tells the terminal each size that is still the last one by then.
    async fn resize(&self, mut sizes: watch::Receiver<Option<TerminalSize>>) -> Infallible {
        loop {
            let size = *sizes.borrow_and_update();
            if let Some(size) = size.filter(|_| self.tty) {
                self.program.resize(size).await;
            }
            if sizes.changed().await.is_err() {
                return pending().await;
            }
        }
    }
}

/// Why a session broke off.
#[derive(Debug)]
pub(super) enum Talk {
    /// By what the caller sent.
    Caller(Status),
    /// By what the engine sent, or because it went away.
    Engine(Fault),
}

/// A size that a terminal can have; a caller without one says 0.
pub(super) fn is_size(size: &TerminalSize) -> bool {
    let good = 1..=u32::from(u16::MAX);
    good.contains(&size.rows) && good.contains(&size.columns)
}
