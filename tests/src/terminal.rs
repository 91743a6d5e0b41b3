//! A program on a terminal of its own, as a person has it before them.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result};
use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::{
    process::wrapped,
    wait::{LONG, await_until},
};

/// The terminal and the program on it, which ends with this.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    /// Kept open, so that what the terminal is set to can be seen after the program's end.
    _slave: OwnedFd,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    /// How much of it has been waited for.
    seen: usize,
}

impl Terminal {
    /// Starts a program on a terminal of that size.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&*name, flags, Mode::empty())?;
        tcsetwinsize(&master, size(rows, columns))?;

        // Makes it the program's controlling terminal, from which ^C comes as a signal.
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty");
        let mut command = wrapped(setsid, command);
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave.try_clone()?);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;

        let (master, shown) = (File::from(master), Arc::new(Mutex::new(Vec::new())));
        let (mut reader, sink) = (master.try_clone()?, shown.clone());
        // Ends with the terminal, when its last other end is closed.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend(&buffer[..read]);
            }
        });
        Ok(Self { master, _slave: slave, child, shown, seen: 0 })
    }

    /// Types.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn type_keys(&mut self, keys: &str) -> Result<()> {
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    /// Gives the window another size.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        Ok(tcsetwinsize(&self.master, size(rows, columns))?)
    }

    /// All that was shown so far.
    pub fn shown(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Waits until that text is shown, after what was waited for before.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn wait_for(&mut self, text: &str) -> Result<()> {
        let shown = self.shown.clone();
        let seen = self.seen;
        let what = format!("{text:?} on the terminal");
        let found = await_until(&what, LONG, async || {
            let shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            let new = shown.get(seen..).unwrap_or_default();
            let at = new.windows(text.len()).position(|w| w == text.as_bytes());
            match at {
                Some(at) => Ok(Some(seen + at + text.len())),
                None => anyhow::bail!("it shows {:?}", String::from_utf8_lossy(new)),
            }
        });
        self.seen = found.await?;
        Ok(())
    }

    /// Whether keys go to the program one by one and are not shown by the terminal itself.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn is_raw(&self) -> Result<bool> {
        let modes = tcgetattr(&self.master)?.local_modes;
        Ok(!modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG))
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for the program's end and gives its exit code; -1 for a death by signal.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn exit_code(&mut self) -> Result<i32> {
        let ended = await_until("the end of the program on the terminal", LONG, async || {
            Ok(self.child.try_wait()?)
        });
        Ok(ended.await?.code().unwrap_or(-1))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
