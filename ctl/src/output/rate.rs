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
    loop {
        if let Ok(done) = tokio::time::timeout(EVERY, &mut work).await {
            // What cannot be shown is no reason to fail.
            let _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
            return done;
        }
        let line = line(what, bytes(), start.elapsed());
        let _ = write!(err, "\r\x1b[K{line}").and_then(|()| err.flush());
    }
}

/// The bytes so far, and the rate since the beginning.
fn line(what: &str, bytes: u64, since: Duration) -> String {
    let rate = bytes as f64 / since.as_secs_f64().max(0.001);
    format!("{what}: {}, {}/s", decimal_size(bytes, 4), decimal_size(rate as u64, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_rate_are_shown_in_dockers_units() {
        let two = Duration::from_secs(2);
        assert_eq!(line("copying", 123_400_000, two), "copying: 123.4MB, 61.7MB/s");
        assert_eq!(line("copying", 0, Duration::ZERO), "copying: 0B, 0B/s");
    }
}
