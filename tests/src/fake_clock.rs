//! A clock of one's own for a daemon: libfaketime, steered by a file, so that the clock can be set while
//! the daemon runs. Only the time of day is another; durations are measured as ever.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};

use crate::world::World;

/// Debian's libfaketime; the loader puts the machine's library directory for `$LIB`.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// Which way a clock is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Off {
    /// It shows a time that is yet to come.
    Ahead(Duration),
    /// It shows a time that is long over.
    Behind(Duration),
}

impl Off {
    /// Seconds to add to the right time.
    pub fn seconds(self) -> i64 {
        let (sign, by) = match self {
            Self::Ahead(by) => (1, by),
            Self::Behind(by) => (-1, by),
        };
        sign * i64::try_from(by.as_secs()).unwrap_or(i64::MAX)
    }
}

/// A clock that one or more daemons live by.
#[derive(Debug, Clone)]
pub struct FakeClock {
    file: PathBuf,
}

impl World {
    /// A clock that is right, for now.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn clock(&self) -> Result<FakeClock> {
        let clock = FakeClock { file: self.dir("clock")?.join("offset") };
        clock.set(Off::Ahead(Duration::ZERO))?;
        Ok(clock)
    }
}

impl FakeClock {
    /// Sets it, at once for every daemon that lives by it.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn set(&self, off: Off) -> Result<()> {
        // libfaketime reads the file at each look at the clock: it must never see half of it.
        let staged = self.file.with_extension("new");
        fs::write(&staged, format!("{:+}\n", off.seconds()))?;
        fs::rename(&staged, &self.file)?;
        Ok(())
    }

    /// The variables that make a program live by it.
    ///
    /// # Errors
    /// When the path of its file is not UTF-8.
    pub fn environment(&self) -> Result<Vec<(String, String)>> {
        ensure!(self.file.to_str().is_some(), "{} is not UTF-8", self.file.display());
        let pairs = [
            ("LD_PRELOAD", LIBRARY.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        Ok(pairs.map(|(key, value)| (key.to_owned(), value)).into())
    }
}
