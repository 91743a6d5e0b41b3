//! What the agent must not forget: its identity, and what it was about to do about it.
//!
//! Owns the data directory: a sled database (`state/`) and a mirror of the same record
//! (`identity.json`). Called by `join` and `run`, through `spawn_blocking`: every write waits for the
//! disk. It never talks to anybody and never decides what to do with an identity.
//!
//! Each write goes to the mirror first, which is replaced atomically, and then to sled, which is
//! flushed. Each copy has a checksum and a revision, and the newest good one wins; a broken one is
//! made anew from the other. So a crash, a power cut or a torn file at any moment costs nothing, and a
//! write that could not reach both is an error.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

mod database;
mod file;
mod record;
#[cfg(test)]
mod tests;
pub mod token;

#[cfg(fuzzing)]
pub use record::fuzz_record;

use database::Database;
use record::{Found, Record};

/// What is wrong with the agent's state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be read or written.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why; no `source`, which `{:#}` would say a second time.
        problem: io::Error,
    },
    /// The database could not take a write.
    #[error("{path}: the agent's database could not be written: {problem}")]
    Database {
        /// Where it is.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Another process has the directory.
    #[error("{0} is in use by another agent; stop it first, or use another --data-dir")]
    InUse(PathBuf),
    /// There was an identity, and no copy of it can be read.
    #[error(
        "the agent's identity in {0} is damaged, and so is its copy; restore the directory from a \
         backup, or move it away, delete the agent with `dockctl agents rm` and join again with a new token"
    )]
    Lost(PathBuf),
    /// A step was taken without the one before it.
    #[error("{0}")]
    OutOfOrder(&'static str),
}

/// Who the agent is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The agent's id.
    pub agent_id: String,
    /// The agent's name.
    pub name: String,
    /// The private key, PKCS#8 DER.
    #[serde(with = "record::base64_bytes")]
    pub key: Vec<u8>,
    /// The certificate, DER.
    #[serde(with = "record::base64_bytes")]
    pub certificate: Vec<u8>,
    /// The certificate of the controller's CA, DER.
    #[serde(with = "record::base64_bytes")]
    pub ca: Vec<u8>,
    /// The controller's agent port, host:port.
    pub controller: String,
    /// The labels that it asked for when it joined; none where an older agent joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_labels: Option<BTreeMap<String, String>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("agent_id", &self.agent_id)
            .field("name", &self.name)
            .field("controller", &self.controller)
            .finish_non_exhaustive()
    }
}

/// An enrolment that was begun. Repeating it with the same key and token gives the same agent and
/// uses up nothing more of the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingEnrollment {
    /// The private key, PKCS#8 DER.
    #[serde(with = "record::base64_bytes")]
    pub key: Vec<u8>,
    /// The name that the agent wants.
    pub name: String,
    /// The labels that it wants.
    pub labels: BTreeMap<String, String>,
    /// The whole join token.
    pub token: String,
    /// The controller's agent port, host:port.
    pub controller: String,
}

impl fmt::Debug for PendingEnrollment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingEnrollment")
            .field("name", &self.name)
            .field("labels", &self.labels)
            .field("controller", &self.controller)
            .finish_non_exhaustive()
    }
}

/// The agent's memory; clones share it. All calls block on the disk.
#[derive(Clone)]
pub struct State {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    record: Record,
    /// The highest revision that any copy may have, that of a write that failed half-way included.
    revision: u64,
    directory: PathBuf,
    mirror: PathBuf,
    database: Database,
    /// Held as long as the state is in use.
    _lock: File,
}

impl State {
    /// Opens the state in a directory, which is made (mode 0700) if need be, and mends whichever copy
    /// is damaged. One process at a time.
    ///
    /// Errors: [`StateError::InUse`]; [`StateError::Lost`] where there was an identity and neither copy
    /// can be read; [`StateError::File`].
    pub fn open(data_dir: &Path) -> Result<Self, StateError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(|problem| StateError::File { path: data_dir.to_owned(), problem })?;
        let lock = lock(data_dir)?;
        let mirror = data_dir.join("identity.json");
        let mirrored = file::read_optional(&mirror)
            .map_err(|problem| StateError::File { path: mirror.clone(), problem })?
            .map_or(Found::Nothing, |bytes| Record::decode(&bytes));
        let (database, stored) = Database::open(data_dir);

        let (newest, mirror_is_stale, database_is_stale) = match (mirrored, stored) {
            (Found::Good(a), Found::Good(b)) if a.revision == b.revision => (a, false, false),
            (Found::Good(a), Found::Good(b)) if a.revision > b.revision => (a, false, true),
            (Found::Good(_), Found::Good(b)) => (b, true, false),
            (Found::Good(a), _) => (a, false, true),
            (_, Found::Good(b)) => (b, true, false),
            (Found::Nothing, Found::Nothing) => (Box::default(), false, false),
            _ => return Err(StateError::Lost(data_dir.to_owned())),
        };
        let mut shared = Shared {
            revision: newest.revision,
            record: *newest,
            directory: data_dir.to_owned(),
            mirror,
            database,
            _lock: lock,
        };
        // The agent is itself already. Where the disk is full or read-only it runs on one copy, and
        // the next write that is needed says so.
        if mirror_is_stale && let Err(error) = shared.write_mirror() {
            tracing::warn!(%error, "the copy of the agent's identity could not be mended");
        }
        if database_is_stale && let Err(error) = shared.write_database() {
            tracing::warn!(%error, "the agent's database could not be mended");
        }
        Ok(Self { shared: Arc::new(Mutex::new(shared)) })
    }

    /// The directory that it was opened in.
    pub fn directory(&self) -> PathBuf {
        self.lock().directory.clone()
    }

    /// Who the agent is; none before it has enrolled.
    pub fn identity(&self) -> Option<Identity> {
        self.lock().record.identity.clone()
    }

    /// The enrolment that was begun and not completed.
    pub fn pending_enrollment(&self) -> Option<PendingEnrollment> {
        self.lock().record.pending_enrollment.clone()
    }

    /// Remembers an enrolment before Enroll is called, instead of any older one.
    pub fn begin_enrollment(&self, pending: PendingEnrollment) -> Result<(), StateError> {
        self.change(|record| record.pending_enrollment = Some(pending))
    }

    /// Remembers who the agent is now, and forgets what was pending.
    pub fn complete_enrollment(&self, identity: Identity) -> Result<(), StateError> {
        self.change(|record| {
            *record =
                Record { revision: record.revision, identity: Some(identity), ..Record::default() };
        })
    }

    /// Forgets an enrolment that the controller has refused for good.
    pub fn abandon_enrollment(&self) -> Result<(), StateError> {
        self.change(|record| record.pending_enrollment = None)
    }

    /// Remembers the key of a renewal before Renew is called, and returns the key to use: that of a
    /// renewal that was interrupted, or else `fresh_key` (both PKCS#8 DER).
    pub fn begin_renewal(&self, fresh_key: Vec<u8>) -> Result<Vec<u8>, StateError> {
        let pending = self.lock().record.pending_renewal.clone();
        if let Some(key) = pending {
            return Ok(key);
        }
        self.change(|record| record.pending_renewal = Some(fresh_key.clone()))?;
        Ok(fresh_key)
    }

    /// Takes a renewed certificate and the key that was made for it for the agent's own; the identity
    /// is used from the next connection on.
    pub fn complete_renewal(
        &self,
        certificate: Vec<u8>,
        ca: Vec<u8>,
    ) -> Result<Identity, StateError> {
        let mut shared = self.lock();
        let (Some(identity), Some(key)) =
            (shared.record.identity.clone(), shared.record.pending_renewal.clone())
        else {
            return Err(StateError::OutOfOrder("no renewal was begun"));
        };
        let identity = Identity { key, certificate, ca, ..identity };
        let mut next = shared.record.clone();
        next.identity = Some(identity.clone());
        next.pending_renewal = None;
        shared.save(next)?;
        Ok(identity)
    }

    fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), StateError> {
        let mut shared = self.lock();
        let mut next = shared.record.clone();
        change(&mut next);
        shared.save(next)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Writes both copies. On an error the agent goes on with what it had; after a restart it may
    /// find the new record, since one copy may have it.
    fn save(&mut self, next: Record) -> Result<(), StateError> {
        self.revision += 1;
        let before =
            std::mem::replace(&mut self.record, Record { revision: self.revision, ..next });
        let written = self.write_mirror().and_then(|()| self.write_database());
        if written.is_err() {
            self.record = before;
        }
        written
    }

    fn write_mirror(&self) -> Result<(), StateError> {
        file::write_private(&self.mirror, &self.record.encode()?)
            .map_err(|problem| StateError::File { path: self.mirror.clone(), problem })
    }

    fn write_database(&mut self) -> Result<(), StateError> {
        self.database.write(self.record.encode()?)
    }
}

fn lock(data_dir: &Path) -> Result<File, StateError> {
    let path = data_dir.join("lock");
    let failed = |problem| StateError::File { path: path.clone(), problem };
    let lock = file::open_private(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StateError::InUse(data_dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
