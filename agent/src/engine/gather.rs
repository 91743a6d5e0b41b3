//! A connection that lets data gather. The engine writes a log line by line; a reader that waits for each
//! write is woken for each, which costs both of them more than the lines do (measured: a third of a whole
//! log's time). So after a read that took all there was, a gathering connection leaves the event loop for
//! a part of a millisecond, in which the engine's writes wake nobody, and only waits when nothing came
//! meanwhile.

use std::{
    io::{self, ErrorKind, IoSlice, Read},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream, unix::pipe::Receiver},
};

/// How long data gathers. A Unix socket holds about 280 short lines, which the engine writes in twice this
/// time when it writes as fast as it can.
const GATHER: Duration = Duration::from_micros(400);

/// A socket that may leave the event loop and come back.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Sized {
    /// The socket outside.
    type Plain: Read;
    /// Leaves.
    fn leave(self) -> io::Result<Self::Plain>;
    /// Comes back.
    fn back(plain: Self::Plain) -> io::Result<Self>;
}

impl Socket for UnixStream {
    type Plain = std::os::unix::net::UnixStream;
    fn leave(self) -> io::Result<Self::Plain> {
        self.into_std()
    }
    fn back(plain: Self::Plain) -> io::Result<Self> {
        Self::from_std(plain)
    }
}

impl Socket for TcpStream {
    type Plain = std::net::TcpStream;
    fn leave(self) -> io::Result<Self::Plain> {
        self.into_std()
    }
    fn back(plain: Self::Plain) -> io::Result<Self> {
        Self::from_std(plain)
    }
}

enum State<S: Socket> {
    /// In the event loop.
    Waiting(S),
    /// Outside, until the sleep ends.
    Resting(S::Plain),
    /// Between the two, or broken there.
    Gone,
}

/// The system's own timer: tokio's knows nothing shorter than a millisecond.
struct Timer {
    /// A timer is read like a pipe.
    fd: Receiver,
    runs: bool,
}

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { fd: Receiver::from_owned_fd_unchecked(timer)?, runs: false })
    }

    fn start(&mut self) -> io::Result<()> {
        let no = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Timespec { tv_sec: 0, tv_nsec: GATHER.subsec_nanos().into() };
        let timer = Itimerspec { it_interval: no, it_value: once };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &timer)?;
        self.runs = true;
        Ok(())
    }

    /// Ready once GATHER has passed since the last start.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.runs {
            ready!(self.fd.poll_read_ready(cx))?;
            match self.fd.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => self.runs = read.map(|_| false)?,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The connection; an ordinary one until [`Gather::gather`] is called.
pub(super) struct Gather<S: Socket> {
    state: State<S>,
    /// None for an ordinary connection.
    rest: Option<Timer>,
}

impl<S: Socket> Gather<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { state: State::Waiting(socket), rest: None }
    }

    /// Lets data gather from now on; where the system has no timer left, it stays as it is.
    pub(super) fn gather(&mut self) {
        self.rest = Timer::new().ok();
    }

    /// The socket in the event loop, brought back where needed.
    fn waiting(&mut self) -> io::Result<Pin<&mut S>> {
        if matches!(self.state, State::Resting(_))
            && let State::Resting(plain) = std::mem::replace(&mut self.state, State::Gone)
        {
            self.state = State::Waiting(S::back(plain)?);
        }
        match &mut self.state {
            State::Waiting(socket) => Ok(Pin::new(socket)),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Leaves the event loop for a while.
    fn rest(&mut self) -> io::Result<()> {
        let Some(rest) = &mut self.rest else { return Ok(()) };
        rest.start()?;
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Waiting(socket) => State::Resting(socket.leave()?),
            other => other,
        };
        Ok(())
    }
}

impl<S: Socket> AsyncRead for Gather<S>
where
    S::Plain: Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let (State::Resting(plain), Some(rest)) = (&mut this.state, &mut this.rest) {
            ready!(rest.poll(cx))?;
            let read = plain.read(buf.initialize_unfilled());
            match read {
                Ok(read) => {
                    buf.advance(read);
                    if buf.remaining() > 0 && read > 0 {
                        this.rest()?;
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let before = buf.filled().len();
        ready!(this.waiting()?.poll_read(cx, buf))?;
        if buf.filled().len() > before && buf.remaining() > 0 {
            this.rest()?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> AsyncWrite for Gather<S>
where
    S::Plain: Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.waiting()?.poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.waiting()?.poll_write_vectored(cx, pieces)
    }

    /// As TCP and Unix sockets are.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn every_byte_comes_in_order_however_it_was_written() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut near = Gather::new(near);
        near.gather();
        near.write_all(b"?").await.unwrap();
        let sent: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        let writer = tokio::spawn(async move {
            assert_eq!(far.read_u8().await.unwrap(), b'?');
            for piece in copy.chunks(997) {
                far.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut came = Vec::new();
        near.read_to_end(&mut came).await.unwrap();
        assert!(came == sent);
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn what_comes_after_a_silence_is_read_and_both_ways_go_on() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut near = Gather::new(near);
        near.gather();
        for n in 0..5 {
            far.write_u8(n).await.unwrap();
            assert_eq!(near.read_u8().await.unwrap(), n);
            near.write_u8(n).await.unwrap();
            assert_eq!(far.read_u8().await.unwrap(), n);
        }
        drop(far);
        assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
