//! The way from a call to the thread that writes files: bytes in pieces, over a queue whose bound slows the
//! faster side down.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Pieces under way.
const QUEUE: usize = 4;

/// The thread's end of a download.
pub(super) struct PieceReader {
    queue: Receiver<Option<Bytes>>,
    piece: Bytes,
}

/// A way from a call to a thread; None says that the call failed.
pub(super) fn download() -> (Sender<Option<Bytes>>, PieceReader) {
    let (sender, queue) = channel(QUEUE);
    (sender, PieceReader { queue, piece: Bytes::new() })
}

impl PieceReader {
    /// The next piece; None at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self.queue.blocking_recv() {
            Some(Some(piece)) => Ok(Some(piece)),
            Some(None) => Err(io::Error::other("the archive broke off")),
            None => Ok(None),
        }
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.next()? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let taken = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..taken]);
        Ok(taken)
    }
}

/// Counts what is done, for what is said of a failure.
#[derive(Debug, Clone, Default)]
pub(super) struct Count(Arc<AtomicU64>);

impl Count {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
