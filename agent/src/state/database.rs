//! The record in sled. sled 0.34 refuses torn files, and where it does not refuse them it may panic:
//! every call runs in a thread of its own, and whatever goes wrong there makes the database broken,
//! which the caller mends from the mirror. A broken one is moved aside, not deleted.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{
    StateError, file,
    record::{Found, Record},
};

const KEY: &[u8] = b"record";
/// Longest that sled may take for one call; a small one takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of sled's page cache.
const CACHE: u64 = 1 << 20;

/// The database, open or yet to be made.
pub(super) struct Database {
    path: PathBuf,
    open: Option<sled::Db>,
}

impl Database {
    /// Opens the database in a data directory and says what is in it. One that does not exist is not
    /// made before the first write, so that a database without a mirror is always a loss, and never
    /// just the rest of a first start.
    pub(super) fn open(data_dir: &Path) -> (Self, Found) {
        let path = data_dir.join("state");
        let mut database = Self { path, open: None };
        let found = match database.path.try_exists() {
            Ok(false) => Found::Nothing,
            _ => database.read().unwrap_or_else(|problem| {
                tracing::warn!(path = %database.path.display(), problem, "the agent's database is broken");
                Found::Broken
            }),
        };
        (database, found)
    }

    fn read(&mut self) -> Result<Found, String> {
        let path = self.path.clone();
        let (db, found) = contained(move || {
            wait_for_lock(&path)?;
            let db = config(&path).open()?;
            let found = db.get(KEY)?.map_or(Found::Nothing, |bytes| Record::decode(&bytes));
            Ok((db, found))
        })?;
        match found {
            // A database whose log was torn at the right place opens, and has forgotten everything.
            Found::Nothing | Found::Broken => Err("its record is gone or damaged".to_owned()),
            Found::Good(_) => {
                self.open = Some(db);
                Ok(found)
            }
        }
    }

    /// Writes the record and waits until it is on the disk. A database that is broken is moved aside
    /// and made anew.
    pub(super) fn write(&mut self, bytes: Vec<u8>) -> Result<(), StateError> {
        let failed = |path: &Path, problem| StateError::Database { path: path.to_owned(), problem };
        let db = match self.open.take() {
            Some(db) => db,
            None => self.make().map_err(|problem| failed(&self.path, problem))?,
        };
        // A call that fails leaves `open` empty: sled is not to be trusted after that.
        let db = contained(move || {
            db.insert(KEY, bytes)?;
            db.flush()?;
            Ok(db)
        });
        self.open = Some(db.map_err(|problem| failed(&self.path, problem))?);
        Ok(())
    }

    fn make(&self) -> Result<sled::Db, String> {
        self.move_aside().map_err(|error| error.to_string())?;
        // sled would let everybody read it.
        DirBuilder::new().mode(0o700).create(&self.path).map_err(|error| error.to_string())?;
        file::sync_parent(&self.path).map_err(|error| error.to_string())?;
        let path = self.path.clone();
        contained(move || config(&path).open())
    }

    /// Moves a broken database to `state.broken-<n>` and deletes the ones before it.
    fn move_aside(&self) -> io::Result<()> {
        if !self.path.try_exists()? {
            return Ok(());
        }
        let parent = self.path.parent().unwrap_or(Path::new("."));
        let mut older = Vec::new();
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|n| n.strip_prefix("state.broken-"));
            if let Some(number) = number.and_then(|n| n.parse::<u32>().ok()) {
                older.push((number, entry.path()));
            }
        }
        let number = older.iter().map(|(number, _)| *number).max().unwrap_or(0).saturating_add(1);
        for (_, path) in older {
            fs::remove_dir_all(path)?;
        }
        let aside = parent.join(format!("state.broken-{number}"));
        tracing::warn!(to = %aside.display(), "moved the broken database aside");
        fs::rename(&self.path, aside)?;
        file::sync_parent(&self.path)
    }
}

fn config(path: &Path) -> sled::Config {
    // No flushing by time: each write is flushed by itself.
    sled::Config::new()
        .path(path)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(CACHE)
        .flush_every_ms(None)
}

/// sled's threads let go of its lock a moment after it was dropped in this process, and it does not
/// wait for that itself. No other process has it: ours alone has the data directory.
fn wait_for_lock(path: &Path) -> io::Result<()> {
    match File::open(path.join("db")) {
        Ok(file) => file.lock(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Runs a call to sled where neither its panic nor its hanging can hurt.
fn contained<T: Send + 'static>(
    call: impl FnOnce() -> sled::Result<T> + Send + 'static,
) -> Result<T, String> {
    let (answer, wait) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("state".to_owned()).spawn(move || {
        // Fails only where nobody waits any more.
        let _ = answer.send(call());
    });
    let thread = thread.map_err(|error| error.to_string())?;
    match wait.recv_timeout(PATIENCE) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(mpsc::RecvTimeoutError::Timeout) => Err("sled does not answer".to_owned()),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let _ = thread.join();
            Err("sled panicked".to_owned())
        }
    }
}
