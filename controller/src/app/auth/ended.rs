//! Logins that have ended while access tokens of theirs are still good. In memory only: a controller that starts
//! again takes such a token for the rest of its 15 minutes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use super::access;

/// How long an access token may be taken after its login's end, clocks that differ included.
const KEPT: Duration = Duration::from_secs(access::LIFETIME.as_secs() + 60);

#[derive(Default)]
pub(super) struct Ended(Mutex<HashMap<String, SystemTime>>);

impl Ended {
    /// A login has ended.
    pub(super) fn add(&self, family: String, now: SystemTime) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|_, at| now.duration_since(*at).is_ok_and(|age| age < KEPT));
        ended.insert(family, now);
    }

    /// Whether this one has.
    pub(super) fn has(&self, family: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(family)
    }
}
