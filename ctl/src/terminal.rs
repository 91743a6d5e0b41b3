//! The terminal that a session with a program runs on: raw mode that ends on every way out, its size, and
//! standard input read without keeping the process, or anybody who wants the input after us, waiting.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    os::fd::{AsFd, OwnedFd},
};

use bytes::Bytes;
use dockctl_api::v1::TerminalSize;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr},
};
use tokio::sync::mpsc;

/// How much is read at once: what one message may have.
const READ: usize = 64 << 10;
/// Pieces read ahead.
const QUEUE: usize = 2;

/// Whether standard input is a terminal.
pub(crate) fn is_input() -> bool {
    io::stdin().is_terminal()
}

/// The terminal's size, where there is a terminal.
pub(crate) fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    Some(TerminalSize { rows: size.ws_row.into(), columns: size.ws_col.into() })
}

/// Raw mode: each key goes to the program. Dropped, the terminal is as it was.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Enters raw mode; None where standard input is no terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let before = match tcgetattr(io::stdin()) {
            Ok(before) => before,
            Err(Errno::NOTTY) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut raw = before.clone();
        raw.make_raw();
        // Made first, so that a change of which only a part was done is taken back as well.
        let guard = Self { before };
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(guard))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Standard input, read on a thread of its own. Dropped, the thread reads no further: what is typed
/// afterwards is for whoever comes next.
pub(crate) struct Input {
    pieces: mpsc::Receiver<Bytes>,
    /// Closing it ends the thread.
    _alive: OwnedFd,
}

impl Input {
    /// Begins to read.
    pub(crate) fn start() -> io::Result<Self> {
        let (ends, alive) = pipe_with(PipeFlags::CLOEXEC)?;
        // Not io::stdin(): its buffer would keep what it has read.
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (sender, pieces) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || read(input, &ends, &sender))?;
        Ok(Self { pieces, _alive: alive })
    }

    /// The next piece; None at the end of the input.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }
}

fn read(mut input: File, ends: &OwnedFd, pieces: &mpsc::Sender<Bytes>) {
    let mut buffer = vec![0; READ];
    loop {
        let mut waiting = [PollFd::new(&input, PollFlags::IN), PollFd::new(ends, PollFlags::IN)];
        match poll(&mut waiting, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) if !waiting[1].revents().is_empty() => return,
            Ok(_) => {}
        }
        match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                if pieces.blocking_send(Bytes::copy_from_slice(&buffer[..read])).is_err() {
                    return;
                }
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            // A terminal that went away is the end of its input.
            Err(_) => return,
        }
    }
}
