//! A sign of life on a terminal's stderr for anything that takes over a second, and below it how far the parts
//! are.

use std::{
    future::Future,
    io::{self, Write},
    pin::pin,
    time::Duration,
};

use super::{Term, progress::cut, size};

const FRAMES: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// Takes away what was drawn.
pub(super) const CLEAR: &str = "\r\x1b[J";

/// Waits for `work`; after the first second says what it waits for, and what the parts say.
pub(crate) async fn wait<T>(
    term: Term,
    what: &str,
    parts: &dyn Fn() -> Vec<String>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    if !term.err {
        return work.await;
    }
    if let Ok(done) = tokio::time::timeout(Duration::from_secs(1), &mut work).await {
        return done;
    }
    // What cannot be shown is no reason to stop the work.
    let show = |text: &str| drop(io::stderr().write_all(text.as_bytes()));
    for frame in FRAMES.iter().cycle() {
        show(&drawn(&format!("{frame} {what}"), &parts(), size(io::stderr())));
        if let Ok(done) = tokio::time::timeout(Duration::from_millis(100), &mut work).await {
            show(CLEAR);
            return done;
        }
    }
    work.await
}

/// A line and those of the parts, of which as many as there is room for; the cursor ends where it was.
fn drawn(line: &str, parts: &[String], (columns, rows): (usize, usize)) -> String {
    // One that wraps could not be redrawn.
    let fits = |line: &str| cut(line, columns.saturating_sub(1));
    let mut text = format!("{CLEAR}{}", fits(line));
    let parts = &parts[..parts.len().min(rows.saturating_sub(2))];
    for part in parts {
        text.push('\n');
        text.push_str(&fits(part));
    }
    if !parts.is_empty() {
        text.push_str(&format!("\r\x1b[{}A", parts.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_fits_and_leaves_the_cursor_in_its_first_line() {
        assert_eq!(drawn("⠋ waiting", &[], (80, 24)), "\r\x1b[J⠋ waiting");
        let parts: Vec<String> = (0..9).map(|n| format!("host {n}")).collect();
        let text = drawn("⠋ waiting for all 9", &parts, (10, 4));
        assert_eq!(text, "\r\x1b[J⠋ waiting\nhost 0\nhost 1\r\x1b[2A");
        assert_eq!(drawn("⠋", &parts, (0, 0)), "\r\x1b[J");
    }
}
