//! How far a copy is, on a terminal's stderr: bytes and rate, while it runs.

use std::{
    future::Future,
    io::{self, Write as _},
    pin::pin,
    time::{Duration, Instant},
};

use super::human::decimal_size;

/// How often it is drawn.
const EVERY: Duration = Duration::from_millis(200);

/// Waits for `work`, and shows `bytes()` meanwhile unless that is not wanted.
pub(crate) async fn wait<T>(
    shown: bool,
    what: &str,
    bytes: impl Fn() -> u64,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    if !shown {
        return work.await;
    }
    let (start, mut err) = (Instant::now(), io::stderr());
    let mut last = 0;
    loop {
        let tick = tokio::time::timeout(EVERY, &mut work).await;
        if let Ok(done) = tick {
            // What cannot be shown is no reason to fail.
            let _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
            return done;
        }
        let now = bytes();
        let rate = if now > last { now as f64 / start.elapsed().as_secs_f64() } else { 0.0 };
        last = now;
        let (now, rate) = (decimal_size(now, 4), decimal_size(rate as u64, 3));
        let _ = write!(err, "\r\x1b[K{what}: {now}, {rate}/s").and_then(|()| err.flush());
    }
}
