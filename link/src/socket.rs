//! A TCP stream that can be reset as it closes. An ordinary close waits its turn behind what was not
//! acknowledged, so where packets are lost one way only, the end that still hears is told nothing by
//! it. A reset waits for nothing: the end that notices tells the other one at once. It reads ahead: TLS
//! would take 4 KiB with each system call.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::controller::traffic::Traffic;

/// Bytes that one system call may read: a full HTTP/2 frame in TLS records is a little over 64 KiB.
const READ: usize = 128 * 1024;

thread_local! {
    /// Where they are read to; a buffer for each of thousands of sockets would mostly lie idle.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
    ahead: Bytes,
    traffic: Option<Arc<Traffic>>,
}

impl Socket {
    /// Closes as `close` says when it is dropped.
    pub(crate) fn new(tcp: TcpStream, close: Close) -> Self {
        Self { tcp, close, ahead: Bytes::new(), traffic: None }
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
        if !this.ahead.is_empty() {
            let taken = this.ahead.split_to(this.ahead.len().min(into.remaining()));
            into.put_slice(&taken);
            return Poll::Ready(Ok(()));
        }
        if into.remaining() >= READ {
            let before = into.filled().len();
            ready!(Pin::new(&mut this.tcp).poll_read(cx, into))?;
            this.has_read(into.filled().len() - before);
            return Poll::Ready(Ok(()));
        }
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(READ, 0);
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut read))?;
            this.has_read(read.filled().len());
            let (taken, ahead) = read.filled().split_at(read.filled().len().min(into.remaining()));
            into.put_slice(taken);
            this.ahead = Bytes::copy_from_slice(ahead);
            Poll::Ready(Ok(()))
        })
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
