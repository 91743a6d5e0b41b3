//! Users and API tokens as they were a moment ago, so that a busy caller costs the store nothing. What this
//! controller changes is forgotten at once; what another one changes, within [`FRESH`].

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use tonic::Status;

use crate::{
    app::access::Authority,
    store::{self, ApiTokenRecord, StoreError, UserRecord, unix_ms},
};

/// How long a look at a record is good for.
const FRESH: Duration = Duration::from_secs(5);
/// Most records of each kind that are remembered between looks.
const KEPT: usize = 1024;
/// How exactly the last use of a token is known, milliseconds.
const LAST_USE: i64 = 60_000;

/// A user and what he may do.
#[derive(Debug)]
pub(super) struct KnownUser {
    pub(super) record: UserRecord,
    pub(super) authority: Arc<Authority>,
}

/// An API token, and what is written of its use.
#[derive(Debug)]
pub(super) struct KnownToken {
    pub(super) record: ApiTokenRecord,
    used_at: AtomicI64,
}

/// The records by id and by hash; None for those that are not there.
#[derive(Default)]
struct Kept {
    users: HashMap<String, (Option<Arc<KnownUser>>, SystemTime)>,
    tokens: HashMap<String, (Option<Arc<KnownToken>>, SystemTime)>,
}

pub(super) struct Known {
    store: store::Handle,
    kept: Mutex<Kept>,
    /// How often something was forgotten.
    changes: watch::Sender<u64>,
}

impl Known {
    pub(super) fn new(store: store::Handle) -> Self {
        Self { store, kept: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Forgets all, and tells those who wait for changes.
    pub(super) fn forget(&self) {
        let mut kept = self.kept();
        *kept = Kept::default();
        // Counted before anybody may look again: what was read before is not kept after.
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) async fn user(
        &self,
        id: &str,
        now: SystemTime,
    ) -> Result<Option<Arc<KnownUser>>, Status> {
        if let Some(known) = fresh(self.kept().users.get(id), now) {
            return Ok(known);
        }
        let before = *self.changes.borrow();
        let found = StoreError::optional(self.store.user_by_id(id).await)?.map(|record| {
            Arc::new(KnownUser { authority: Arc::new(Authority::of_user(&record)), record })
        });
        let mut kept = self.kept();
        if *self.changes.borrow() == before {
            keep(&mut kept.users, id, found.clone(), now);
        }
        Ok(found)
    }

    pub(super) async fn token(
        &self,
        hash: &str,
        now: SystemTime,
    ) -> Result<Option<Arc<KnownToken>>, Status> {
        if let Some(known) = fresh(self.kept().tokens.get(hash), now) {
            return Ok(known);
        }
        let before = *self.changes.borrow();
        let found = StoreError::optional(self.store.api_token(hash).await)?.map(|record| {
            let used_at = AtomicI64::new(record.last_used_at.unwrap_or_default());
            Arc::new(KnownToken { used_at, record })
        });
        let mut kept = self.kept();
        if *self.changes.borrow() == before {
            keep(&mut kept.tokens, hash, found.clone(), now);
        }
        Ok(found)
    }

    /// Writes down that a token is used, once a minute, in the background.
    pub(super) fn used(&self, token: &KnownToken, now: SystemTime) {
        let (now, before) = (unix_ms(now), token.used_at.load(Ordering::Relaxed));
        let due = now.saturating_sub(before) >= LAST_USE
            && token
                .used_at
                .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if due {
            let (store, id) = (self.store.clone(), token.record.id.clone());
            tokio::spawn(async move {
                if let Err(error) = store.touch_api_token(&id, now).await {
                    tracing::warn!(%error, "cannot store when an API token was last used");
                }
            });
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh<T: Clone>(kept: Option<&(T, SystemTime)>, now: SystemTime) -> Option<T> {
    let (known, looked_at) = kept?;
    now.duration_since(*looked_at).is_ok_and(|age| age < FRESH).then(|| known.clone())
}

fn keep<T>(kept: &mut HashMap<String, (T, SystemTime)>, key: &str, known: T, now: SystemTime) {
    if kept.len() >= KEPT {
        kept.clear();
    }
    kept.insert(key.to_owned(), (known, now));
}
