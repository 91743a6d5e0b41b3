//! Tickets: each stands for what its maker sent as his `authorization`, once and for a short while. They live in
//! memory only.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dockctl_api::{random, sha256_hex};

/// How long a ticket is good for.
const LIFETIME: Duration = Duration::from_secs(30);
/// Most tickets that are good at once; beyond it the oldest go.
const MOST: usize = 10_000;

#[derive(Default)]
pub(super) struct Tickets {
    /// By the hash of the ticket, so that the time of a look tells nothing of it.
    open: Mutex<HashMap<String, (String, SystemTime)>>,
}

impl Tickets {
    /// A new ticket, and when it ends.
    pub(super) fn create(&self, bearer: &str, now: SystemTime) -> (String, SystemTime) {
        let ticket = URL_SAFE_NO_PAD.encode(random::<24>());
        let ends = now + LIFETIME;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, ends)| *ends > now);
        if open.len() >= MOST
            && let Some(oldest) = open.iter().min_by_key(|(_, (_, ends))| *ends)
        {
            let oldest = oldest.0.clone();
            open.remove(&oldest);
        }
        open.insert(sha256_hex(ticket.as_bytes()), (bearer.to_owned(), ends));
        (ticket, ends)
    }

    /// What a ticket stands for; it is gone then.
    pub(super) fn redeem(&self, ticket: &str, now: SystemTime) -> Option<String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (bearer, ends) = open.remove(&sha256_hex(ticket.as_bytes()))?;
        (ends > now).then_some(bearer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_works_once_and_not_for_long() {
        let (tickets, now) = (Tickets::default(), SystemTime::now());
        let (ticket, ends) = tickets.create("Bearer x", now);
        assert_eq!(tickets.redeem("", now), None);
        assert_eq!(tickets.redeem(&ticket, now).as_deref(), Some("Bearer x"));
        assert_eq!(tickets.redeem(&ticket, now), None);
        let (late, _) = tickets.create("Bearer x", now);
        assert_eq!(tickets.redeem(&late, ends), None);
    }

    #[test]
    fn there_are_never_too_many() {
        let (tickets, now) = (Tickets::default(), SystemTime::now());
        for n in 0..20 {
            tickets.create("Bearer x", now + Duration::from_secs(2 * n));
        }
        assert!(tickets.open.lock().unwrap().len() <= 15, "those that ended are gone");
    }
}
