//! Files and pipes beside the event loop: a thread reads or writes them, with a bounded queue between,
//! so that a slow disk or a pipe that nobody reads blocks neither calls nor the connection's keepalive.
//! A thread that waits for ever, for example on stdin, does not keep dockctl from ending.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{fd::AsFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use crate::{
    error::{Error, Exit, Result},
    output::clean,
};

/// The size of a piece, bytes: of some messages, so that the threads wake each other less often.
pub(crate) const PIECE: usize = 4 * dockctl_api::PIECE;
/// Pieces under way at most.
const QUEUE: usize = 4;

/// What a thread hands its data to.
pub(crate) struct Pieces {
    /// The piece that is being filled. What lies behind `filled` is only room to read into.
    buffer: Vec<u8>,
    filled: usize,
    queue: mpsc::Sender<io::Result<Option<Bytes>>>,
}

impl Pieces {
    fn new(queue: mpsc::Sender<io::Result<Option<Bytes>>>) -> Self {
        Self { buffer: Vec::with_capacity(PIECE), filled: 0, queue }
    }

    /// Hands a piece on as it is.
    pub(crate) fn pass(&mut self, piece: Bytes) -> io::Result<()> {
        self.flush()?;
        self.send(Ok(Some(piece)))
    }

    /// Copies exactly this many bytes.
    pub(crate) fn copy(&mut self, from: impl Read, size: u64) -> io::Result<()> {
        match self.fill(from, size)? {
            0 => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it became shorter while it was read",
            )),
        }
    }

    /// Copies to the end.
    pub(crate) fn copy_all(&mut self, from: impl Read) -> io::Result<()> {
        self.fill(from, u64::MAX).map(drop)
    }

    /// Copies so many bytes, reading straight into pieces and as much at once as there is room for; how
    /// many there were too few.
    fn fill(&mut self, mut from: impl Read, size: u64) -> io::Result<u64> {
        let mut left = size;
        while left > 0 {
            let room = PIECE - self.filled;
            let end = self.filled + usize::try_from(left).map_or(room, |left| left.min(room));
            if self.buffer.len() < end {
                self.buffer.resize(end, 0);
            }
            match from.read(&mut self.buffer[self.filled..end]) {
                Ok(0) => break,
                Ok(read) => {
                    self.filled += read;
                    left -= read as u64;
                    self.flush_full()?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(left)
    }

    fn flush_full(&mut self) -> io::Result<()> {
        if self.filled < PIECE { Ok(()) } else { self.flush() }
    }

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
        let length = data.len().min(PIECE - self.filled);
        self.buffer.truncate(self.filled);
        self.buffer.extend_from_slice(&data[..length]);
        self.filled += length;
        self.flush_full()?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        let mut piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        piece.truncate(std::mem::take(&mut self.filled));
        self.send(Ok(Some(piece.into())))
    }
}

/// What `work` makes, in a thread of its own, each piece for one message. It ends only when `work` has done all.
pub(crate) fn produce(
    work: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
) -> io::Result<impl Stream<Item = Result<Bytes>> + Send + 'static> {
    let (queue, pieces) = mpsc::channel(QUEUE);
    // Not a task of the runtime, which would wait for its end: it may be stdin that says nothing.
    thread::Builder::new().name("reader".to_owned()).spawn(move || {
        let mut out = Pieces::new(queue);
        let result = work(&mut out);
        out.finish(result);
    })?;
    let failed = |why: &str| Error::new(Exit::Failed, clean(why));
    let begin = (Bytes::new(), Some(pieces));
    Ok(futures_util::stream::unfold(begin, move |(mut left, pieces)| async move {
        let mut pieces = pieces?;
        if left.is_empty() {
            left = match pieces.recv().await {
                Some(Ok(Some(piece))) => piece,
                Some(Ok(None)) => return None,
                Some(Err(error)) => return Some((Err(failed(&error.to_string())), (left, None))),
                None => {
                    return Some((Err(failed("the reading thread has failed")), (left, None)));
                }
            };
        }
        let message = left.split_to(left.len().min(dockctl_api::PIECE));
        Some((Ok(message), (left, Some(pieces))))
    }))
}

/// All of a reader.
pub(crate) fn read(
    from: impl Read + Send + 'static,
) -> io::Result<impl Stream<Item = Result<Bytes>> + Send + 'static> {
    produce(move |out| out.copy_all(from))
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

/// Where data goes, in a thread of its own. A file is complete or not there at all: it is written beside
/// its place and takes it when it is whole, so that a failure leaves what was there.
pub(crate) struct Target {
    queue: mpsc::Sender<Bytes>,
    thread: JoinHandle<io::Result<()>>,
    /// The file's name; None for stdout.
    path: Option<PathBuf>,
    /// The file that takes its place.
    part: Option<NamedTempFile>,
}

impl Target {
    /// Opens a file, or stdout where none is named. What is there is changed only at the end, unless it
    /// is a pipe, a device, or a file with further names.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let (mut file, part) = match path {
            None => (File::from(io::stdout().as_fd().try_clone_to_owned()?), None),
            Some(path) => place(path).map_err(|e| of_file(path, &e))?,
        };
        let (queue, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(move || {
            while let Some(piece) = pieces.blocking_recv() {
                file.write_all(&piece)?;
            }
            file.flush()
        })?;
        Ok(Self { queue, thread, path: path.map(Path::to_owned), part })
    }

    /// Takes all of an archive.
    pub(crate) async fn receive(self, pieces: impl Stream<Item = Result<Bytes>>) -> Result<()> {
        // Once a write has failed nothing is taken; `finish` tells why.
        let send = |piece| async { self.queue.send(piece).await.map_err(|_| Error::BrokenPipe) };
        let result = pieces.try_for_each(send).await;
        self.finish(result)
    }

    /// Waits until all is written, and gives the file its name if all went well. Whatever ended the thread
    /// takes precedence over `result`.
    fn finish(self, result: Result<()>) -> Result<()> {
        drop(self.queue);
        let failed = |error: io::Error| match &self.path {
            Some(path) => of_file(path, &error),
            None => error.into(),
        };
        match self.thread.join() {
            Ok(written) => written.map_err(failed)?,
            Err(_) => return Err(Error::new(Exit::Failed, "the writing thread has failed")),
        }
        result?;
        match (self.part, &self.path) {
            (Some(part), Some(path)) => part.persist(path).map(drop).map_err(|e| failed(e.error)),
            _ => Ok(()),
        }
    }
}

fn place(path: &Path) -> io::Result<(File, Option<NamedTempFile>)> {
    match path.metadata() {
        Ok(about) if about.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(about) if !about.is_file() => Ok((File::options().write(true).open(path)?, None)),
        // A file with further names must stay the same file.
        Ok(about) if about.nlink() > 1 => Ok((File::create(path)?, None)),
        _ => {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let part = NamedTempFile::new_in(dir.unwrap_or(Path::new(".")))?;
            Ok((part.as_file().try_clone()?, Some(part)))
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
        assert!(pieces.iter().all(|p| p.len() <= dockctl_api::PIECE));
        assert_eq!(pieces.len(), 3 * 4 + 1);
        assert_eq!(pieces.concat(), data);

        let failing = produce(|out| {
            out.write_all(b"half")?;
            Err(io::Error::other("gone\x1b[2J"))
        });
        let mut items: Vec<Result<Bytes>> = failing.unwrap().collect().await;
        let error = items.pop().unwrap().unwrap_err();
        assert_eq!(error.told().unwrap().message, "gone");
    }

    /// Gives all that there is room for, and keeps how much that was.
    struct Counting<'a>(u64, &'a mut Vec<usize>);

    impl Read for Counting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = buffer.len().min(usize::try_from(self.0).unwrap());
            self.0 -= read as u64;
            self.1.push(read);
            buffer[..read].fill(b'r');
            Ok(read)
        }
    }

    #[test]
    fn files_are_read_in_whole_pieces_between_what_is_written() {
        let (queue, mut received) = mpsc::channel(16);
        let mut out = Pieces::new(queue);
        let (piece, mut reads) = (PIECE as u64, Vec::new());
        out.copy_all(Counting(2 * piece, &mut reads)).unwrap();
        assert_eq!(reads, [PIECE, PIECE, 0]);
        reads.clear();
        out.write_all(b"head").unwrap();
        out.copy(Counting(u64::MAX, &mut reads), piece).unwrap();
        assert_eq!(reads, [PIECE - 4, 4]);
        out.write_all(b"tail").unwrap();
        out.pass(Bytes::from_static(b"whole")).unwrap();
        let error = out.copy(Counting(7, &mut reads), 8).unwrap_err();
        assert!(error.to_string().contains("became shorter"), "{error}");
        out.finish(Err(error));

        let mut sizes = Vec::new();
        let mut all = Vec::new();
        while let Some(Ok(Some(piece))) = received.blocking_recv() {
            sizes.push(piece.len());
            all.extend_from_slice(&piece);
        }
        assert_eq!(sizes, [PIECE, PIECE, PIECE, 8, 5]);
        assert_eq!(&all[2 * PIECE..2 * PIECE + 5], b"headr");
        assert!(all.ends_with(b"rrrrtailwhole"));
    }

    async fn write(path: &Path, result: Result<()>) -> Result<()> {
        let pieces = [Ok(Bytes::from_static(b"new")), result.map(|()| Bytes::new())];
        Target::open(Some(path))?.receive(futures_util::stream::iter(pieces)).await
    }

    #[tokio::test]
    async fn a_file_is_complete_or_as_it_was() {
        use std::fs;
        let dir = tempfile::tempdir().unwrap();
        let (file, linked) = (dir.path().join("file"), dir.path().join("linked"));
        let broken = || Err(Error::new(Exit::Failed, "it broke off"));
        assert!(write(&file, broken()).await.is_err() && !file.exists());
        fs::write(&file, "old").unwrap();
        assert!(write(&file, broken()).await.is_err());
        assert_eq!(fs::read(&file).unwrap(), b"old");
        write(&file, Ok(())).await.unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");

        fs::write(&file, "old, and longer").unwrap();
        fs::hard_link(&file, &linked).unwrap();
        write(&linked, Ok(())).await.unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new", "it is no longer the same file");

        let told = |result: Result<()>| result.unwrap_err().told().unwrap().to_string();
        assert!(told(write(dir.path(), Ok(())).await).contains("is a directory"));
        let full = told(write(Path::new("/dev/full"), Ok(())).await);
        assert!(full.starts_with("/dev/full: ") && full.contains("No space left"), "{full}");
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
