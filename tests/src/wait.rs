//! The one way to wait: for a condition, with a limit that only a broken program reaches.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// Limit for things that happen at once.
pub const SHORT: Duration = Duration::from_secs(30);
/// Limit for things that include reconnects, time-outs of the link, or a Docker engine's start.
pub const LONG: Duration = Duration::from_secs(120);

/// Looks every 20 ms until `condition` gives a value. An error of the condition means "not yet"; the
/// last one is told if the limit is reached.
///
/// # Errors
/// When `limit` is over.
pub async fn await_until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now() + limit;
    let mut last = anyhow!("the first look did not end");
    loop {
        ticks.tick().await;
        match timeout_at(end, condition()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => last = anyhow!("not so yet"),
            Ok(Err(error)) => last = error,
            // What the looks before have seen says more than that this one was cut short.
            Err(_) => {}
        }
        if Instant::now() >= end {
            return Err(last.context(format!("waited {limit:?} in vain for {what}")));
        }
    }
}
