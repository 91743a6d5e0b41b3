//! The two ways between a call and the thread that reads or writes files: bytes in pieces, over queues whose
//! bound slows the faster side down.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The size of a piece, bytes: a multiple of a tar block, so that no header is cut.
pub(super) const PIECE: usize = 256 << 10;
/// Pieces under way.
const QUEUE: usize = 4;

/// What a thread makes.
pub(super) enum Part {
    /// The next bytes.
    Data(Bytes),
    /// All is made.
    End,
    /// No more is made.
    Failed(io::Error),
}

/// The thread's end of an upload.
pub(super) struct PieceWriter {
    queue: Sender<Part>,
    buffer: Vec<u8>,
}

/// A way from a thread to a call.
pub(super) fn parts() -> (PieceWriter, Receiver<Part>) {
    let (queue, parts) = channel(QUEUE);
    (PieceWriter { queue, buffer: Vec::new() }, parts)
}

impl PieceWriter {
    /// Hands a piece on as it is; nothing may be buffered.
    pub(super) fn pass(&mut self, piece: Bytes) -> io::Result<()> {
        self.put(Part::Data(piece))
    }

    /// Copies exactly this many bytes.
    pub(super) fn copy(&mut self, mut from: impl Read, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            self.buffer.reserve_exact(PIECE - self.buffer.len());
            let room = (PIECE - self.buffer.len()) as u64;
            let read = from.by_ref().take(room.min(left)).read_to_end(&mut self.buffer)?;
            if read == 0 {
                let why = "it became shorter while it was read";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
            left -= read as u64;
            self.flush_full()?;
        }
        Ok(())
    }

    /// Copies to the end.
    pub(super) fn copy_all(&mut self, mut from: impl Read) -> io::Result<()> {
        loop {
            self.buffer.reserve_exact(PIECE - self.buffer.len());
            let room = (PIECE - self.buffer.len()) as u64;
            if from.by_ref().take(room).read_to_end(&mut self.buffer)? == 0 {
                return Ok(());
            }
            self.flush_full()?;
        }
    }

    /// Ends the upload, for good or not.
    pub(super) fn end(mut self, result: io::Result<()>) {
        let last = match result.and_then(|()| self.flush_buffer()) {
            Ok(()) => Part::End,
            Err(error) => Part::Failed(error),
        };
        // A call that is over has been told why by others.
        let _ = self.put(last);
    }

    fn flush_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < PIECE { Ok(()) } else { self.flush_buffer() }
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.buffer);
        self.put(Part::Data(piece.into()))
    }

    fn put(&mut self, part: Part) -> io::Result<()> {
        self.queue.blocking_send(part).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PieceWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.reserve_exact(PIECE - self.buffer.len());
        let taken = data.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        self.flush_full()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

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

/// Counts what is done, for the progress bar and for what is said of a failure.
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
