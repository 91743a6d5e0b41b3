//! A sign of life on a terminal's stderr for anything that takes over a second.

use std::{
    future::Future,
    io::{self, Write},
    pin::pin,
    time::Duration,
};

use super::Term;

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
        // What cannot be shown is no reason to stop the work.
        let _ = write!(err, "\r\x1b[K{frame} {what}").and_then(|()| err.flush());
        if let Ok(done) = tokio::time::timeout(Duration::from_millis(100), &mut work).await {
            let _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
            return done;
        }
    }
    work.await
}
