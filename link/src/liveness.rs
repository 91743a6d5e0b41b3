//! Whether the other end still lives, and how far and how skewed it is. Pure: one state machine for
//! both ends; the controller also measures the round trip and the clock offset with it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What the silence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Heard within 1.6 heartbeat intervals.
    Live,
    /// An answer is overdue.
    Suspect,
    /// Silent for 2.8 intervals: the link is to be closed.
    Dead,
}

/// Samples kept of round trip and offset.
const SAMPLES: usize = 8;
/// Pings that may be on their way before old ones are forgotten.
const IN_FLIGHT: usize = 8;

/// Liveness of the other end of one link.
#[derive(Debug)]
pub struct Liveness {
    interval: Duration,
    heard: Instant,
    pings: VecDeque<(u64, Instant, i64)>,
    next_seq: u64,
    samples: VecDeque<(Duration, i64)>,
}

impl Liveness {
    /// A link that was just opened.
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, heard: now, pings: VecDeque::new(), next_seq: 1, samples: VecDeque::new() }
    }

    /// Any frame of the other end arrived.
    pub fn heard(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    /// When the other end was last heard.
    pub fn last_heard(&self) -> Instant {
        self.heard
    }

    /// What the silence means now.
    pub fn state(&self, now: Instant) -> State {
        let silence = now.saturating_duration_since(self.heard);
        if silence >= self.interval.mul_f64(2.8) {
            State::Dead
        } else if silence >= self.interval.mul_f64(1.6) {
            State::Suspect
        } else {
            State::Live
        }
    }

    /// When `state` changes next if nothing is heard until then.
    pub fn next_change(&self, now: Instant) -> Instant {
        let at = |factor| self.heard + self.interval.mul_f64(factor);
        if now < at(1.6) { at(1.6) } else { at(2.8) }
    }

    /// Makes the number of the next ping; `wall_ms` is the own clock, Unix milliseconds.
    pub fn ping(&mut self, now: Instant, wall_ms: i64) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.pings.push_back((seq, now, wall_ms));
        if self.pings.len() > IN_FLIGHT {
            self.pings.pop_front();
        }
        seq
    }

    /// The answer to a ping with the other end's clock; gives the round trip. An unknown or repeated
    /// number counts as heard only.
    pub fn pong(&mut self, seq: u64, now: Instant, their_wall_ms: i64) -> Option<Duration> {
        self.heard(now);
        let at = self.pings.iter().position(|(s, ..)| *s == seq)?;
        let (_, sent, wall_ms) = self.pings.drain(..=at).next_back()?;
        let round_trip = now.saturating_duration_since(sent);
        let half = i64::try_from(round_trip.as_millis() / 2).unwrap_or(i64::MAX);
        let offset = their_wall_ms.saturating_sub(wall_ms).saturating_sub(half);
        self.samples.push_back((round_trip, offset));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        Some(round_trip)
    }

    /// Median round trip of the last samples.
    pub fn round_trip(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.samples.iter().map(|s| s.0).collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// Their clock minus ours, milliseconds, from the sample with the shortest round trip, whose
    /// error is smallest: at most half of that round trip.
    pub fn clock_offset_ms(&self) -> Option<i64> {
        self.samples.iter().min_by_key(|s| s.0).map(|s| s.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn silence_turns_suspect_then_dead_within_15_seconds() {
        let t0 = Instant::now();
        let live = Liveness::new(crate::wire::HEARTBEAT, t0);
        assert_eq!(live.state(t0 + 7 * S), State::Live);
        assert_eq!(live.state(t0 + 8 * S), State::Suspect);
        assert_eq!(live.state(t0 + 14 * S), State::Dead);
        assert_eq!(live.next_change(t0), t0 + 8 * S);
        assert_eq!(live.next_change(t0 + 9 * S), t0 + 14 * S);
    }

    #[test]
    fn measures_round_trip_and_offset() {
        let t0 = Instant::now();
        let mut live = Liveness::new(5 * S, t0);
        let seq = live.ping(t0, 1_000_000);
        // An agent an hour ahead, 20 ms away.
        live.pong(seq, t0 + Duration::from_millis(20), 1_000_000 + 3_600_000 + 10);
        assert_eq!(live.round_trip(), Some(Duration::from_millis(20)));
        assert_eq!(live.clock_offset_ms(), Some(3_600_000));
        live.pong(seq, t0 + S, 0);
        assert_eq!(live.clock_offset_ms(), Some(3_600_000), "a repeated pong measures nothing");
    }

    proptest! {
        /// Whatever is lost on the way, an end that is heard at least every interval never dies, and
        /// one that is silent always does.
        #[test]
        fn no_false_death(gaps in prop::collection::vec(0u64..8_000, 1..200)) {
            let mut now = Instant::now();
            let mut live = Liveness::new(5 * S, now);
            for gap in gaps {
                now += Duration::from_millis(gap);
                prop_assert_ne!(live.state(now), State::Dead);
                live.heard(now);
                prop_assert_eq!(live.state(now), State::Live);
            }
            prop_assert_eq!(live.state(now + 14 * S), State::Dead);
        }

        #[test]
        fn memory_is_bounded(pings in 0usize..500) {
            let t0 = Instant::now();
            let mut live = Liveness::new(S, t0);
            for _ in 0..pings { live.ping(t0, 0); }
            prop_assert!(live.pings.len() <= IN_FLIGHT);
        }
    }
}
