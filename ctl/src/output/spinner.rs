//! A sign of life on a terminal's stderr for anything that takes over a second.

use std::{
    future::Future,
    io::{self, Write},
    pin::pin,
    time::Duration,
};

use super::{Term, columns, progress::cut};

const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// Waits for `work`; after the first second says what it waits for.
pub(crate) async fn wait<T>(term: Term, what: &str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    if !term.err {
        return work.await;
    }
    if let Ok(done) = tokio::time::timeout(Duration::from_secs(1), &mut work).await {
        return done;
    }
    let mut err = io::stderr();
    for frame in FRAMES.iter().cycle() {
        // One that wraps could not be redrawn.
        let line = cut(&format!("{frame} {what}"), columns(io::stderr()).saturating_sub(1));
        // What cannot be shown is no reason to stop the work.
        let _ = write!(err, "\r\x1b[K{line}").and_then(|()| err.flush());
        if let Ok(done) = tokio::time::timeout(Duration::from_millis(100), &mut work).await {
            let _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
            return done;
        }
    }
    work.await
}
