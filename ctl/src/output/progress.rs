//! How far long work is: the engine's messages as docker shows them, a line for each layer that is
//! redrawn in place on a terminal, and a meter of bytes for what goes up or down.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dockctl_api::v1::Progress;
use futures_util::{Stream, StreamExt as _, stream};
use unicode_width::UnicodeWidthChar;

use super::{Term, clean, columns, escape::Sanitizer, human, table::shorten};

/// Signs in a bar.
const BAR: usize = 25;
/// A meter says so much at least of what it is about, signs.
const SHORT: usize = 12;
/// A meter is redrawn this often at most.
const REDRAW: Duration = Duration::from_millis(100);

/// The engine's messages as text.
pub(crate) struct View {
    /// The terminal's width; None where nobody looks.
    width: Option<usize>,
    /// What the lines at the bottom are about.
    lines: Vec<String>,
    sanitizer: Sanitizer,
}

impl View {
    /// A view for a terminal, or for what is none.
    pub(crate) fn new(is_terminal: bool) -> Self {
        let width = is_terminal.then(|| columns(io::stdout()));
        Self { width, lines: Vec::new(), sanitizer: Sanitizer::default() }
    }

    /// What to print for a message; nothing for some.
    pub(crate) fn text(&mut self, progress: &Progress) -> String {
        if !progress.stream.is_empty() {
            self.lines.clear();
            return self.stream(&progress.stream);
        }
        if progress.status.is_empty() {
            return String::new();
        }
        let Some(width) = self.width else {
            // Without a terminal only what is done is worth a line.
            return match progress.current == 0 && progress.total == 0 {
                true => head(progress) + "\n",
                false => String::new(),
            };
        };
        let line = cut(&line(progress), width.saturating_sub(1));
        if progress.id.is_empty() {
            self.lines.clear();
            return format!("\x1b[2K{line}\n");
        }
        match self.lines.iter().position(|id| *id == progress.id) {
            Some(at) => {
                let up = self.lines.len() - at;
                let down = if up > 1 { format!("\x1b[{}B", up - 1) } else { String::new() };
                format!("\x1b[{up}A\r\x1b[2K{line}\n{down}")
            }
            None => {
                self.lines.push(progress.id.clone());
                format!("\x1b[2K{line}\n")
            }
        }
    }

    fn stream(&mut self, text: &str) -> String {
        if self.width.is_none() {
            return text.to_owned();
        }
        let mut shown = Vec::with_capacity(text.len());
        self.sanitizer.push(text.as_bytes(), &mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    }
}

fn head(progress: &Progress) -> String {
    let status = clean(&progress.status);
    match progress.id.as_str() {
        "" => status,
        id => format!("{}: {status}", clean(id)),
    }
}

fn line(progress: &Progress) -> String {
    let head = head(progress);
    match (progress.current, progress.total) {
        (0, 0) => head,
        (current, 0) => format!("{head} {}", human::decimal_size(current, 4)),
        (current, total) => format!("{head} {}", amount(current, total)),
    }
}

/// How much of all, as a bar and in bytes.
pub(crate) fn amount(current: u64, total: u64) -> String {
    let size = |bytes| human::decimal_size(bytes, 4);
    format!("{} {}/{}", bar(current, total), size(current.min(total)), size(total))
}

/// A bar as docker draws it.
fn bar(current: u64, total: u64) -> String {
    let done = (u128::from(current) * BAR as u128 / u128::from(total.max(1))).min(BAR as u128);
    let done = usize::try_from(done).unwrap_or(BAR);
    let tip = if done < BAR { ">" } else { "" };
    format!("[{}{tip}{}]", "=".repeat(done), " ".repeat(BAR - done - tip.len()))
}

/// A line cut to a width, since one that wraps could not be redrawn.
pub(super) fn cut(line: &str, width: usize) -> String {
    let mut left = width;
    line.chars()
        .take_while(|c| match left.checked_sub(c.width().unwrap_or(0)) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        })
        .collect()
}

/// Bytes that go one way, on stderr where a person reads it. Dropped, its line is taken away.
pub(crate) struct Meter(Arc<Mutex<Line>>);

struct Line {
    what: String,
    shown: bool,
    total: Option<u64>,
    bytes: u64,
    begun: Instant,
    drawn: Option<Instant>,
}

impl Meter {
    /// Nothing yet of `total` bytes, where that is known. `quiet` shows nothing.
    pub(crate) fn new(term: Term, what: &str, total: Option<u64>, quiet: bool) -> Self {
        let (shown, begun) = (term.err && !quiet, Instant::now());
        let line = Line { what: clean(what), shown, total, bytes: 0, begun, drawn: None };
        Self(Arc::new(Mutex::new(line)))
    }

    /// So many more.
    pub(crate) fn add(&self, bytes: usize) {
        lock(&self.0).add(bytes);
    }

    /// How many so far.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.0).bytes
    }

    /// The same pieces, counted as they go. At their end the line is taken away.
    pub(crate) fn over<E, S: Stream<Item = Result<Bytes, E>>>(
        &self,
        pieces: S,
    ) -> impl Stream<Item = Result<Bytes, E>> + use<E, S> {
        let (line, end) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let counted = pieces.inspect(move |piece| match piece {
            Ok(piece) => lock(&line).add(piece.len()),
            Err(_) => lock(&line).end(),
        });
        let end = stream::poll_fn(move |_| {
            lock(&end).end();
            None.into()
        });
        counted.chain(end)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // For good: the pieces may be dropped later.
        lock(&self.0).end();
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.shown && self.drawn.is_none_or(|at| at.elapsed() >= REDRAW) {
            self.drawn = Some(Instant::now());
            let line = self.text(columns(io::stderr()).saturating_sub(1));
            // What cannot be shown is no reason to stop the work.
            let _ = io::stderr().write_all(format!("\r\x1b[2K{line}").as_bytes());
        }
    }

    fn end(&mut self) {
        self.shown = false;
        if self.drawn.take().is_some() {
            let _ = io::stderr().write_all(b"\r\x1b[2K");
        }
    }

    /// The line, in which the numbers come before a long name.
    fn text(&self, width: usize) -> String {
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let rate = human::decimal_size((self.bytes as f64 / seconds) as u64, 3);
        let numbers = match self.total {
            // An archive has more bytes than what is in it.
            Some(total) if total > 0 => format!("{} {rate}/s", amount(self.bytes, total)),
            _ => format!("{} {rate}/s", human::decimal_size(self.bytes, 4)),
        };
        let what = shorten(&self.what, width.saturating_sub(numbers.len() + 1).max(SHORT));
        cut(&format!("{what} {numbers}"), width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(width: Option<usize>) -> View {
        View { width, lines: Vec::new(), sanitizer: Sanitizer::default() }
    }

    fn layer(id: &str, status: &str, current: u64, total: u64) -> Progress {
        let (id, status) = (id.to_owned(), status.to_owned());
        Progress { id, status, current, total, ..Progress::default() }
    }

    #[test]
    fn layers_are_redrawn_in_their_own_lines() {
        let mut view = view(Some(80));
        assert_eq!(view.text(&layer("a", "Waiting", 0, 0)), "\x1b[2Ka: Waiting\n");
        assert_eq!(view.text(&layer("b", "Waiting", 0, 0)), "\x1b[2Kb: Waiting\n");
        assert_eq!(view.text(&layer("b", "Pulled", 0, 0)), "\x1b[1A\r\x1b[2Kb: Pulled\n");
        assert_eq!(
            view.text(&layer("a", "Downloading", 500, 1000)),
            "\x1b[2A\r\x1b[2Ka: Downloading [============>            ] 500B/1kB\n\x1b[1B"
        );
    }

    #[test]
    fn lines_never_wrap_and_hold_no_escapes() {
        let mut view = view(Some(20));
        let text = view.text(&layer("a\x1b[2J", &"long ".repeat(20), 5, 9));
        assert_eq!(text, "\x1b[2Ka: long long long l\n");
        let stream = Progress { stream: "x\x1b[31my\n".to_owned(), ..Progress::default() };
        assert_eq!(view.text(&stream), "xy\n");
    }

    #[test]
    fn without_a_terminal_lines_are_plain() {
        let mut view = view(None);
        assert_eq!(view.text(&layer("a", "Downloading", 1, 2)), "");
        assert_eq!(view.text(&layer("a", "Pull complete", 0, 0)), "a: Pull complete\n");
        assert_eq!(view.text(&layer("", "Status: done", 0, 0)), "Status: done\n");
    }

    fn meter(total: Option<u64>) -> Meter {
        let term = Term { out: false, err: false, input: false, colors: false };
        Meter::new(term, &"höst → \x1b[2J日本 ".repeat(9), total, false)
    }

    #[test]
    fn a_meters_line_fits_any_terminal_and_keeps_its_numbers() {
        for (total, bytes) in [(None, 5), (Some(50_000_000), 123_400), (Some(1), u64::MAX)] {
            let meter = meter(total);
            let mut line = lock(&meter.0);
            line.bytes = bytes;
            for width in [0, 1, 20, 79, 200] {
                let text = line.text(width);
                let columns: usize = text.chars().map(|c| c.width().unwrap_or(99)).sum();
                assert!(columns <= width, "{columns} of {width}: {text:?}");
                assert!(width < 79 || text.ends_with("/s"), "{text:?}");
            }
        }
    }

    #[tokio::test]
    async fn pieces_are_counted_as_they_go() {
        let meter = meter(None);
        let pieces = stream::iter([Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"d"))]);
        let pieces: Vec<Result<Bytes, ()>> = meter.over(pieces).collect().await;
        assert_eq!((pieces.len(), meter.bytes()), (2, 4));
        assert!(!lock(&meter.0).shown, "it would be shown when all is through");
    }

    #[test]
    fn bars_end_where_they_should() {
        assert_eq!(bar(0, 10), format!("[>{}]", " ".repeat(24)));
        assert_eq!(bar(10, 10), format!("[{}]", "=".repeat(25)));
        assert_eq!(bar(u64::MAX, 1), format!("[{}]", "=".repeat(25)));
    }
}
