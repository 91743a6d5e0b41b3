//! A TCP stream that can be reset as it closes. An ordinary close waits its turn behind what was not
//! acknowledged, so where packets are lost one way only, the end that still hears is told nothing by
//! it. A reset waits for nothing: the end that notices tells the other one at once.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

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
}

impl Socket {
    /// Closes as `close` says when it is dropped.
    pub(crate) fn new(tcp: TcpStream, close: Close) -> Self {
        Self { tcp, close }
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
        Pin::new(&mut self.tcp).poll_read(cx, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, pieces)
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
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

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
    async fn it_closes_by_a_reset_only_where_that_was_decided() {
        assert_eq!(read_after(|_| {}).await.unwrap(), 0);
        let reset = read_after(|close| close.by_reset()).await.unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    }
}
