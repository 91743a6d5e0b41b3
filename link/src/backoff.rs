//! When to dial again: random(0, min(25 s, 1 s · 2ⁿ)), "full jitter", so that ten thousand agents
//! that lost one controller do not come back at the same moment, and all within 30 s of its return
//! (docs/decisions/0009). Pure: randomness and time are arguments.

use std::time::{Duration, Instant};

/// The upper bound of the first wait.
pub const BASE: Duration = Duration::from_secs(1);
/// The upper bound of every wait.
pub const CAP: Duration = Duration::from_secs(25);
/// A link that stood this long makes the next wait a first one again.
pub const STABLE: Duration = Duration::from_secs(60);

/// The reconnect schedule of one agent.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
    connected_at: Option<Instant>,
}

impl Backoff {
    /// The link came up.
    pub fn connected(&mut self, now: Instant) {
        self.connected_at = Some(now);
    }

    /// The link went down or a dial failed: how long to wait before the next dial.
    ///
    /// `random` is uniform in 0..=1; anything else is clamped.
    pub fn failed(&mut self, now: Instant, random: f64) -> Duration {
        if self.connected_at.take().is_some_and(|at| now.saturating_duration_since(at) >= STABLE) {
            self.failures = 0;
        }
        let bound =
            BASE.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(random.clamp(0.0, 1.0))
    }
}

/// A random number in 0..1 from the operating system.
pub fn random() -> f64 {
    f64::from(u32::from_le_bytes(dockctl_api::random())) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_double_up_to_the_cap() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let waits: Vec<u64> = (0..9).map(|_| backoff.failed(now, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 25, 25, 25, 25]);
    }

    #[test]
    fn only_a_stable_link_resets() {
        let (mut backoff, t0) = (Backoff::default(), Instant::now());
        for _ in 0..5 {
            backoff.failed(t0, 1.0);
        }
        backoff.connected(t0);
        assert_eq!(backoff.failed(t0 + Duration::from_secs(59), 1.0).as_secs(), 25);
        backoff.connected(t0);
        assert_eq!(backoff.failed(t0 + STABLE, 1.0).as_secs(), 1);
    }

    proptest! {
        #[test]
        fn never_above_the_cap(steps in prop::collection::vec((0u64..200, any::<f64>(), any::<bool>()), 0..100)) {
            let (mut backoff, mut now) = (Backoff::default(), Instant::now());
            for (seconds, random, up) in steps {
                if up { backoff.connected(now); }
                now += Duration::from_secs(seconds);
                let random = if random.is_nan() { 0.5 } else { random };
                prop_assert!(backoff.failed(now, random) <= CAP);
            }
        }
    }
}
