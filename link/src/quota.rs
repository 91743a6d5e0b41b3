//! A token bucket that slows a flooding agent down instead of dropping what it says. Pure.
//! What something costs is up to the caller: one token for a frame, more for a large one.

use std::time::{Duration, Instant};

/// Allows `rate` tokens a second with bursts of `burst`.
#[derive(Debug)]
pub struct Quota {
    rate: f64,
    burst: f64,
    left: f64,
    at: Instant,
}

impl Quota {
    /// A full bucket.
    pub fn new(rate: u32, burst: u32, now: Instant) -> Self {
        Self { rate: f64::from(rate), burst: f64::from(burst), left: f64::from(burst), at: now }
    }

    /// Takes what one thing costs; returns how long to wait before the next one.
    pub fn take(&mut self, tokens: u32, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.left = (self.left + passed * self.rate).min(self.burst) - f64::from(tokens);
        Duration::from_secs_f64((-self.left / self.rate).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_slowed_to_the_rate() {
        let mut now = Instant::now();
        let t0 = now;
        let mut quota = Quota::new(100, 10, now);
        for _ in 0..1_000 {
            now += quota.take(1, now);
        }
        let seconds = (now - t0).as_secs_f64();
        assert!((9.5..=10.5).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_large_frame_waits_for_as_many_small_ones() {
        let now = Instant::now();
        let mut quota = Quota::new(100, 10, now);
        assert_eq!(quota.take(60, now), Duration::from_millis(500));
        assert_eq!(quota.take(1, now + Duration::from_millis(500)), Duration::from_millis(10));
    }

    #[test]
    fn a_calm_agent_never_waits() {
        let mut now = Instant::now();
        let mut quota = Quota::new(100, 10, now);
        for _ in 0..1_000 {
            now += Duration::from_millis(10);
            assert_eq!(quota.take(1, now), Duration::ZERO);
        }
    }
}
