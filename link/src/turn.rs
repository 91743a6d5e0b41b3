//! What a connection writes in one turn goes out together. h2 writes an answer's data and then its
//! trailers, a request's headers and, when hyper's other tasks have run, its body: each a system call, a
//! TLS record and a reader that is woken. Here they wait for the end of the turn, which is when all tasks
//! that were ready have run once. Used by both ends of every connection; it knows no HTTP.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may wait: one TLS record. What does not fit goes out at once.
const MAX_WAITING: usize = 16 * 1024;

/// Splits `io` into what the connection reads and writes, and what sends at the end of each turn.
pub(crate) fn split<IO>(io: IO) -> (Turns<IO>, EndOfTurn<IO>) {
    let shared = Arc::new(Mutex::new(Shared { io, waiting: BytesMut::new() }));
    (Turns(shared.clone()), EndOfTurn { shared, others_ran: false })
}

/// The connection's half. Its writes wait; its flush does nothing, since the turn's end flushes.
pub(crate) struct Turns<IO>(Arc<Mutex<Shared<IO>>>);

/// Poll it after the connection, in the same task: it sends what waits. Resolves only with an error.
pub(crate) struct EndOfTurn<IO> {
    shared: Arc<Mutex<Shared<IO>>>,
    /// Since something began to wait.
    others_ran: bool,
}

struct Shared<IO> {
    io: IO,
    waiting: BytesMut,
}

fn lock<IO>(shared: &Mutex<Shared<IO>>) -> MutexGuard<'_, Shared<IO>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<IO: AsyncWrite + Unpin> Shared<IO> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.waiting.advance(written),
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Sends what waits and then these pieces, of which it gives how much went, in one write.
    fn poll_send_with(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.waiting.len();
            let all: Vec<_> = std::iter::once(&self.waiting[..])
                .chain(pieces.iter().map(|piece| &piece[..]))
                .filter(|piece| !piece.is_empty())
                .map(IoSlice::new)
                .collect();
            match ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &all))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written if written > waiting => {
                    self.waiting.clear();
                    return Poll::Ready(Ok(written - waiting));
                }
                written => self.waiting.advance(written),
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> Future for EndOfTurn<IO> {
    type Output = io::Error;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Error> {
        let this = &mut *self;
        let mut shared = lock(&this.shared);
        if !shared.waiting.is_empty() && !this.others_ran {
            this.others_ran = true;
            cx.waker().wake_by_ref(); // To the end of the queue.
            return Poll::Pending;
        }
        this.others_ran = false;
        match ready!(shared.poll_send(cx)) {
            Ok(()) => Poll::Pending, // The connection's next turn polls again.
            Err(error) => Poll::Ready(error),
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Turns<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).io).poll_read(cx, into)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Turns<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.0);
        let length = pieces.iter().map(|piece| piece.len()).sum();
        if shared.waiting.len() + length > MAX_WAITING {
            return shared.poll_send_with(cx, pieces);
        }
        pieces.iter().for_each(|piece| shared.waiting.extend_from_slice(piece));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        ready!(shared.poll_send(cx))?;
        Pin::new(&mut shared.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn writes_of_one_turn_go_out_together_in_order() {
        let (near, mut far) = duplex(1 << 20);
        let (mut turns, mut end) = split(near);
        turns.write_all(b"data, ").await.unwrap();
        turns.flush().await.unwrap();
        turns.write_all(b"trailers").await.unwrap();
        let mut got = [0; 64];
        assert!(poll!(&mut end).is_pending()); // The other tasks first.
        assert!(poll!(Box::pin(far.read(&mut got))).is_pending());
        assert!(poll!(&mut end).is_pending());
        assert_eq!(far.read(&mut got).await.unwrap(), 14);
        assert_eq!(&got[..14], b"data, trailers");
    }

    #[tokio::test]
    async fn what_is_too_much_to_wait_goes_out_after_what_waits() {
        let (near, mut far) = duplex(1 << 20);
        let (mut turns, _end) = split(near);
        turns.write_all(b"first ").await.unwrap();
        turns.write_all(&[b'x'; MAX_WAITING]).await.unwrap();
        turns.shutdown().await.unwrap();
        let mut got = String::new();
        far.read_to_string(&mut got).await.unwrap();
        assert!(got.starts_with("first xxx"));
        assert_eq!(got.len(), 6 + MAX_WAITING);
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_holds_the_writer_back() {
        let (near, mut far) = duplex(1024);
        let (mut turns, mut end) = split(near);
        let flood = vec![7; 10 * MAX_WAITING];
        let mut writing = Box::pin(turns.write_all(&flood));
        assert!(poll!(&mut writing).is_pending());
        assert!(poll!(&mut end).is_pending());
        let mut got = vec![0; flood.len()];
        let both = async { tokio::join!(writing, far.read_exact(&mut got)) };
        let (written, read) = tokio::select! {
            biased;
            both = both => both,
            error = &mut end => panic!("{error}"),
        };
        written.unwrap();
        read.unwrap();
        assert_eq!(got, flood);
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_ends_it() {
        let (near, far) = duplex(1024);
        let (mut turns, end) = split(near);
        drop(far);
        turns.write_all(b"anybody?").await.unwrap();
        assert_eq!(end.await.kind(), io::ErrorKind::BrokenPipe);
    }
}
