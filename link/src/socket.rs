//! A TCP stream that can be reset as it closes. An ordinary close waits its turn behind what was not
//! acknowledged, so where packets are lost one way only, the end that still hears is told nothing by
//! it. A reset waits for nothing: the end that notices tells the other one at once. It reads ahead: TLS
//! would take 4 KiB with each system call.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::controller::traffic::Traffic;

/// Bytes that one system call may read: a full HTTP/2 frame in TLS records is a little over 64 KiB.
const READ: usize = 128 * 1024;

thread_local! {
    /// What is read to and lies idle; a buffer for each of thousands of sockets would mostly do so.
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Idle buffers of a thread: a socket has one only from a read until all of it is taken, mostly within one turn.
const SPARES: usize = 4;

/// What was read ahead.
#[derive(Debug)]
struct Ahead {
    buffer: Box<[u8]>,
    /// Of which this was not taken yet.
    left: Range<usize>,
}

impl Ahead {
    fn new() -> Self {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        Self { buffer: spare.unwrap_or_else(|| vec![0; READ].into()), left: 0..0 }
    }

    /// Takes what there is room for. Gives itself back while something is left.
    fn take(mut self, into: &mut ReadBuf<'_>) -> Option<Self> {
        let end = self.left.end.min(self.left.start + into.remaining());
        into.put_slice(&self.buffer[self.left.start..end]);
        self.left.start = end;
        if !self.left.is_empty() {
            return Some(self);
        }
        self.spare();
        None
    }

    fn spare(self) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARES {
                spare.push(self.buffer);
            }
        });
    }
}

/// Decides how a [`Socket`] closes; clones share the decision.
#[derive(Debug, Clone, Default)]
pub(crate) struct Close(Arc<AtomicBool>);

impl Close {
    /// The other end is taken for dead: what waits to be sent is given up with the connection.
    pub(crate) fn by_reset(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The stream.
#[derive(Debug)]
pub(crate) struct Socket {
    tcp: TcpStream,
    close: Close,
    /// What was read ahead and not taken yet.
    ahead: Option<Ahead>,
    traffic: Option<Arc<Traffic>>,
}

impl Socket {
    /// Closes as `close` says when it is dropped.
    pub(crate) fn new(tcp: TcpStream, close: Close) -> Self {
        Self { tcp, close, ahead: None, traffic: None }
    }

    /// The same with its bytes counted.
    pub(crate) fn counted(mut self, traffic: Arc<Traffic>) -> Self {
        self.traffic = Some(traffic);
        self
    }

    fn has_read(&self, bytes: usize) {
        if let Some(traffic) = &self.traffic {
            traffic.received(bytes);
        }
    }

    fn has_written(&self, written: &Poll<io::Result<usize>>) {
        if let (Some(traffic), Poll::Ready(Ok(bytes))) = (&self.traffic, written) {
            traffic.sent(*bytes);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.close.0.load(Ordering::Relaxed) {
            // Refused: it closes the ordinary way.
            let _ = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(ahead) = this.ahead.take() {
            this.ahead = ahead.take(into);
            return Poll::Ready(Ok(()));
        }
        if into.remaining() >= READ {
            let before = into.filled().len();
            ready!(Pin::new(&mut this.tcp).poll_read(cx, into))?;
            this.has_read(into.filled().len() - before);
            return Poll::Ready(Ok(()));
        }
        let mut ahead = Ahead::new();
        let mut read = ReadBuf::new(&mut ahead.buffer);
        let result = Pin::new(&mut this.tcp).poll_read(cx, &mut read);
        ahead.left = 0..read.filled().len();
        this.has_read(ahead.left.end);
        this.ahead = ahead.take(into);
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.has_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, pieces);
        self.has_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn read_after(decide: impl FnOnce(Close)) -> io::Result<usize> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        let close = Close::default();
        let socket = Socket::new(listener.accept().await?.0, close.clone());
        decide(close);
        drop(socket);
        client.read(&mut [0]).await
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_not_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut socket = Socket::new(listener.accept().await.unwrap().0, Close::default());
        let sent: Vec<u8> = (0..3 * READ).map(|n| (n % 251) as u8).collect();
        let reading = async {
            let mut got = Vec::new();
            let mut piece = [0; 1000];
            loop {
                match socket.read(&mut piece).await.unwrap() {
                    0 => return got,
                    read => got.extend_from_slice(&piece[..read]),
                }
            }
        };
        let writing = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let (got, ()) = tokio::join!(reading, writing);
        assert_eq!(got, sent);
    }

    #[tokio::test]
    async fn it_closes_by_a_reset_only_where_that_was_decided() {
        assert_eq!(read_after(|_| {}).await.unwrap(), 0);
        let reset = read_after(|close| close.by_reset()).await.unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    }
}
