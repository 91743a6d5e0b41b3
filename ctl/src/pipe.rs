//! Files and pipes beside the event loop: a thread reads or writes them, with a bounded queue between,
//! so that a slow disk or a pipe that nobody reads blocks neither calls nor the connection's keepalive.
//! A thread that waits for ever, for example on stdin, does not keep dockctl from ending.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    os::fd::AsFd,
    path::Path,
    thread::{self, JoinHandle},
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::sync::mpsc;

use crate::error::{Error, Exit, Result};

/// The size of a piece, bytes: also of a message, which may have 1 MiB.
pub(crate) const PIECE: usize = 256 * 1024;
/// Pieces under way at most.
const QUEUE: usize = 4;

/// What a thread writes its data to.
pub(crate) struct Pieces {
    buffer: BytesMut,
    queue: mpsc::Sender<io::Result<Option<Bytes>>>,
}

impl Pieces {
    fn send(&mut self, piece: io::Result<Option<Bytes>>) -> io::Result<()> {
        self.queue.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn finish(mut self, result: io::Result<()>) {
        // Where nobody listens any more, nobody misses the end.
        let _ = match result.and_then(|()| self.flush()) {
            Ok(()) => self.send(Ok(None)),
            Err(error) => self.send(Err(error)),
        };
    }
}

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let length = data.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&data[..length]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(PIECE));
        self.send(Ok(Some(piece.freeze())))
    }
}

/// The data that `work` writes, in a thread of its own. It ends only when `work` has done all.
pub(crate) fn produce(
    work: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
    let (queue, pieces) = mpsc::channel(QUEUE);
    thread::Builder::new().name("reader".to_owned()).spawn(move || {
        let mut out = Pieces { buffer: BytesMut::with_capacity(PIECE), queue };
        let result = work(&mut out);
        out.finish(result);
    })?;
    Ok(futures_util::stream::unfold(Some(pieces), |pieces| async {
        let mut pieces = pieces?;
        match pieces.recv().await {
            Some(Ok(Some(piece))) => Some((Ok(piece), Some(pieces))),
            Some(Ok(None)) => None,
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(io::Error::other("the reading thread has failed")), None)),
        }
    }))
}

/// All of a reader.
pub(crate) fn read(
    from: impl Read + Send + 'static,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
    produce(move |out| io::copy(&mut BufReader::with_capacity(PIECE, from), out).map(drop))
}

/// A file, or stdin where none is named; and a regular file's length.
pub(crate) fn source(path: Option<&Path>) -> Result<(File, Option<u64>)> {
    let file = match path {
        Some(path) => File::open(path).map_err(|e| of_file(path, &e))?,
        None => File::from(io::stdin().as_fd().try_clone_to_owned()?),
    };
    let about = file.metadata()?;
    if about.is_dir() {
        let path = path.unwrap_or(Path::new("stdin"));
        return Err(of_file(path, &io::ErrorKind::IsADirectory.into()));
    }
    Ok((file, about.is_file().then_some(about.len())))
}

/// What is said of a file that cannot be used.
pub(crate) fn of_file(path: &Path, error: &io::Error) -> Error {
    Error::new(Exit::Failed, format!("{}: {error}", path.display()))
}

/// Where data goes, in a thread of its own.
pub(crate) struct Sink {
    queue: mpsc::Sender<Bytes>,
    thread: JoinHandle<io::Result<File>>,
}

impl Sink {
    /// Writes to a file.
    pub(crate) fn start(mut file: File) -> io::Result<Self> {
        let (queue, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(move || {
            while let Some(piece) = pieces.blocking_recv() {
                file.write_all(&piece)?;
            }
            file.flush()?;
            Ok(file)
        })?;
        Ok(Self { queue, thread })
    }

    /// Hands a piece over, waiting for room. Fails once a write has failed; `finish` tells why.
    pub(crate) async fn send(&self, piece: Bytes) -> Result<()> {
        self.queue.send(piece).await.map_err(|_| Error::BrokenPipe)
    }

    /// Waits until all is written. Whatever ended the thread takes precedence over `result`.
    pub(crate) fn finish<T>(self, result: Result<T>) -> Result<T> {
        drop(self.queue);
        match self.thread.join() {
            Ok(Ok(_)) => result,
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Error::new(Exit::Failed, "the writing thread has failed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn all_comes_in_order_and_an_error_is_no_end() {
        let data: Vec<u8> = (0..3 * PIECE + 5).map(|n| (n % 251) as u8).collect();
        let pieces = read(io::Cursor::new(data.clone())).unwrap();
        let pieces: Vec<Bytes> = pieces.map(|p| p.unwrap()).collect().await;
        assert!(pieces.iter().all(|p| p.len() <= PIECE));
        assert_eq!(pieces.concat(), data);

        let failing = produce(|out| {
            out.write_all(b"half")?;
            Err(io::Error::other("gone"))
        });
        let items: Vec<io::Result<Bytes>> = failing.unwrap().collect().await;
        assert!(items.last().unwrap().is_err(), "{items:?}");
    }
}
