//! The table of calls that wait for their answer in one session. Pure: what an answer is, is the
//! caller's choice.

use std::collections::HashMap;

/// Calls under way, by id; each is answered at most once.
#[derive(Debug)]
pub struct Calls<T> {
    waiting: HashMap<u64, T>,
    last_id: u64,
    limit: usize,
    closed: bool,
}

/// Why a call cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The session is over.
    #[error("the session is over")]
    Closed,
    /// As many calls as allowed are under way.
    #[error("too many calls are under way on this agent")]
    Full,
}

impl<T> Calls<T> {
    /// An empty table for at most `limit` calls at once.
    pub fn new(limit: usize) -> Self {
        Self { waiting: HashMap::new(), last_id: 0, limit, closed: false }
    }

    /// Adds a call and gives it an id that is new in this session.
    pub fn add(&mut self, waiter: T) -> Result<u64, Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        if self.waiting.len() >= self.limit {
            return Err(Refused::Full);
        }
        self.last_id += 1;
        self.waiting.insert(self.last_id, waiter);
        Ok(self.last_id)
    }

    /// Takes the waiter of a call: to answer it, or because it was cancelled. None where the call is
    /// unknown, answered or cancelled.
    pub fn take(&mut self, id: u64) -> Option<T> {
        self.waiting.remove(&id)
    }

    /// Ends the table: takes every waiter and refuses new calls.
    pub fn close(&mut self) -> Vec<T> {
        self.closed = true;
        self.waiting.drain().map(|(_, waiter)| waiter).collect()
    }

    /// How many calls wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no call waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn a_full_or_closed_table_refuses() {
        let mut calls = Calls::new(1);
        let id = calls.add('a').unwrap();
        assert_eq!(calls.add('b'), Err(Refused::Full));
        assert_eq!(calls.take(id), Some('a'));
        assert_eq!(calls.take(id), None);
        calls.add('c').unwrap();
        assert_eq!(calls.close(), ['c']);
        assert_eq!(calls.add('d'), Err(Refused::Closed));
    }

    proptest! {
        /// In any order of adds, answers and a close, each call is answered exactly once.
        #[test]
        fn exactly_one_answer(steps in prop::collection::vec((any::<bool>(), 0u64..40), 0..200)) {
            let mut calls = Calls::new(1_000);
            let (mut added, mut taken) = (HashSet::new(), HashSet::new());
            for (add, id) in steps {
                if add {
                    let n = added.len();
                    added.insert(n);
                    prop_assert_eq!(calls.add(n).unwrap(), n as u64 + 1);
                } else if let Some(waiter) = calls.take(id) {
                    prop_assert!(taken.insert(waiter));
                }
            }
            for waiter in calls.close() {
                prop_assert!(taken.insert(waiter));
            }
            prop_assert_eq!(added, taken);
        }
    }
}
