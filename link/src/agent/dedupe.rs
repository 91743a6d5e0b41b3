//! The agent's memory of calls that changed something: a call that arrives twice runs once. It is
//! bounded, and lives as long as the agent's process.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use dockctl_api::link::v1::CallResult;
use tokio::sync::watch;

/// How many calls are remembered.
pub const REMEMBERED: usize = 1_024;

/// What became of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It runs.
    Running,
    /// It ran; this was the answer.
    Ran(CallResult),
    /// It was cut off while it ran.
    Unknown,
}

/// Calls by request id. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Dedupe {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    calls: HashMap<String, watch::Receiver<Outcome>>,
    order: VecDeque<String>,
}

/// What to do with a call.
#[derive(Debug)]
pub enum Claim {
    /// Run it, and tell the ticket.
    Run(Ticket),
    /// It was seen before: await its outcome.
    Seen(watch::Receiver<Outcome>),
}

/// The duty to tell how a call ended. Dropped without a word, the outcome is unknown.
#[derive(Debug)]
pub struct Ticket {
    outcome: watch::Sender<Outcome>,
}

impl Dedupe {
    /// Claims a call.
    pub fn claim(&self, request_id: &str) -> Claim {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = inner.calls.get(request_id) {
            return Claim::Seen(seen.clone());
        }
        let (outcome, watcher) = watch::channel(Outcome::Running);
        inner.calls.insert(request_id.to_owned(), watcher);
        inner.order.push_back(request_id.to_owned());
        if inner.order.len() > REMEMBERED
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.calls.remove(&oldest);
        }
        Claim::Run(Ticket { outcome })
    }
}

impl Ticket {
    /// The call ran; this is its answer.
    pub fn ran(self, result: CallResult) {
        self.outcome.send_replace(Outcome::Ran(result));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.outcome.send_if_modified(|outcome| {
            let cut = *outcome == Outcome::Running;
            if cut {
                *outcome = Outcome::Unknown;
            }
            cut
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(claim: Claim) -> Outcome {
        match claim {
            Claim::Run(_) => panic!("it would run twice"),
            Claim::Seen(seen) => seen.borrow().clone(),
        }
    }

    #[test]
    fn the_second_gets_the_first_ones_answer() {
        let dedupe = Dedupe::default();
        let Claim::Run(ticket) = dedupe.claim("a") else { panic!("new") };
        assert_eq!(outcome(dedupe.claim("a")), Outcome::Running);
        let result = CallResult { call_id: 7, ..Default::default() };
        ticket.ran(result.clone());
        assert_eq!(outcome(dedupe.claim("a")), Outcome::Ran(result));
    }

    #[test]
    fn a_cut_call_is_not_run_again() {
        let dedupe = Dedupe::default();
        drop(dedupe.claim("a"));
        assert_eq!(outcome(dedupe.claim("a")), Outcome::Unknown);
    }

    #[test]
    fn memory_is_bounded() {
        let dedupe = Dedupe::default();
        for n in 0..REMEMBERED * 3 {
            dedupe.claim(&n.to_string());
        }
        let inner = dedupe.inner.lock().unwrap();
        assert_eq!((inner.calls.len(), inner.order.len()), (REMEMBERED, REMEMBERED));
    }
}
