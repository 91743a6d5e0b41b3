//! Following a log through lost links, without a lost or a doubled line. A pure state machine: bytes of
//! log records in, whole lines out, and the request that continues where the output ended. `logs.rs`
//! does the IO.
//!
//! The engine stamps each entry, and one stream's stamps do not run backwards. So for each stream the
//! last stamp delivered, and how many entries with just this stamp, say where to go on: ask for all
//! since a second before the newest, drop what is older than the last or counted already. An entry is
//! the text up to a line feed; only its beginning has a stamp. It is delivered when it is whole, so
//! that a cut leaves no half line, but on a TTY, where a prompt must show at once; then the bytes shown
//! of it are counted and not shown again.
//!
//! Should a host's clock be set back, lines around that moment can come twice after a reconnect, but
//! none is lost.

use std::borrow::Cow;

use dockctl_api::v1::{LogStream, StreamLogsRequest};
use prost_types::Timestamp;

/// The usual size of a part of a line that does not end, bytes.
pub(crate) const LONGEST_HELD: usize = 1024 * 1024;
/// The longest that a stamp and its space can be, bytes.
const LONGEST_STAMP: usize = 31;

/// An engine's time: seconds since 1970 and nanoseconds.
pub(crate) type Stamp = (i64, i32);

/// Where delivered bytes go.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(LogStream, &[u8]);

/// How lines are to be delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Each line begins with its stamp.
    pub(crate) stamps: bool,
    /// A TTY's lines wait to be whole too.
    pub(crate) whole: bool,
    /// A line that does not end is passed on in parts of this size, bytes.
    pub(crate) longest: usize,
}

/// The state of a followed log.
pub(crate) struct Resume {
    asked: StreamLogsRequest,
    started: Stamp,
    shape: Shape,
    /// The stamp of the first entry delivered: with `tail`, what is older was not asked for.
    first: Option<Stamp>,
    streams: [Stream; 4],
}

#[derive(Default)]
struct Stream {
    /// The last stamp delivered, and how many entries with it.
    last: Option<(Stamp, u32)>,
    /// After a reconnect, until something new comes: how many entries with the last stamp came again.
    again: Option<u32>,
    /// The entry that a cut left half shown, and how many of its bytes were.
    half: Option<(Stamp, usize)>,
    /// The entry that is coming in.
    entry: Option<Entry>,
}

/// An entry whose line feed has not come yet.
enum Entry {
    /// Too short to tell its stamp.
    Head(Vec<u8>),
    /// Seen before.
    Dropped,
    /// To be delivered.
    Wanted {
        stamp: Option<Stamp>,
        /// Bytes that came, of what is delivered.
        come: usize,
        /// Bytes that were shown.
        shown: usize,
        /// Bytes that came and wait for the line feed.
        held: Vec<u8>,
    },
}

impl Resume {
    /// For this request. `started` is the time of asking, from which a follow without any past lines
    /// goes on if nothing came before the first cut.
    pub(crate) fn new(mut asked: StreamLogsRequest, started: Timestamp, shape: Shape) -> Self {
        asked.timestamps = true;
        let started = (started.seconds, started.nanos);
        Self { asked, started, shape, first: None, streams: Default::default() }
    }

    /// The request to open the log with now.
    pub(crate) fn request(&self) -> StreamLogsRequest {
        let newest =
            self.streams.iter().filter_map(|s| s.half.map(|h| h.0).max(s.last.map(|l| l.0)));
        let mut request = self.asked.clone();
        let since = match newest.max() {
            Some((seconds, nanos)) => (seconds - 1, nanos),
            None if self.asked.tail == Some(0) && self.was_cut() => self.started,
            None => return request,
        };
        let asked = self.asked.since.map(|t| (t.seconds, t.nanos));
        let (seconds, nanos) = asked.map_or(since, |asked| asked.max(since));
        request.since = Some(Timestamp { seconds, nanos });
        request.tail = None;
        request
    }

    /// The stream ended before its time and is to be opened again.
    pub(crate) fn cut(&mut self) {
        for stream in &mut self.streams {
            stream.again = Some(0);
            if let Some(Entry::Wanted { stamp: Some(stamp), shown: shown @ 1.., .. }) =
                stream.entry.take()
            {
                stream.half = Some((stamp, shown));
            }
        }
    }

    /// Takes a record's data and delivers what is new and whole.
    pub(crate) fn record(&mut self, stream: LogStream, data: &[u8], sink: Sink<'_>) {
        let at_once = stream == LogStream::Tty && !self.shape.whole;
        for piece in data.split_inclusive(|b| *b == b'\n') {
            self.piece(stream, piece, at_once, sink);
        }
    }

    /// The log came to its end: delivers a last line without a line feed.
    pub(crate) fn finish(&mut self, sink: Sink<'_>) {
        for id in [LogStream::Unspecified, LogStream::Stdout, LogStream::Stderr, LogStream::Tty] {
            match self.streams[id as usize].entry.take() {
                Some(Entry::Head(held) | Entry::Wanted { held, .. }) if !held.is_empty() => {
                    sink(id, &held);
                }
                _ => {}
            }
        }
    }

    fn was_cut(&self) -> bool {
        self.streams.iter().any(|s| s.again.is_some())
    }

    /// A piece of one entry; it has a line feed at most at its end.
    fn piece(&mut self, id: LogStream, piece: &[u8], at_once: bool, sink: Sink<'_>) {
        let ended = piece.ends_with(b"\n");
        let head = match self.streams[id as usize].entry.take() {
            None => Cow::Borrowed(piece),
            Some(Entry::Head(mut head)) => {
                head.extend_from_slice(piece);
                Cow::Owned(head)
            }
            Some(entry) => return self.go_on(id, entry, piece, at_once, sink),
        };
        match self.begin(id, &head, ended) {
            Begun::Whole(text) => sink(id, text),
            Begun::Entry(entry, text) => self.go_on(id, entry, text, at_once, sink),
        }
    }

    /// Reads an entry's stamp and decides on it. A whole entry of which nothing was shown, by far the
    /// most common case, is delivered without a copy.
    fn begin<'a>(&mut self, id: LogStream, text: &'a [u8], ended: bool) -> Begun<'a> {
        let stamp = parse_stamp(text);
        if stamp.is_none() && !ended && text.len() < LONGEST_STAMP {
            return Begun::Entry(Entry::Head(Vec::new()), text);
        }
        let shown = match stamp {
            None => 0, // not the engine's doing: never dropped, never counted
            Some((stamp, _)) => match self.admit(id, stamp) {
                Some(shown) => shown,
                None => return Begun::Entry(Entry::Dropped, text),
            },
        };
        let text = match stamp {
            Some((_, length)) if !self.shape.stamps => &text[length..],
            _ => text,
        };
        let stamp = stamp.map(|s| s.0);
        if ended && shown == 0 {
            self.delivered(id, stamp);
            return Begun::Whole(text);
        }
        Begun::Entry(Entry::Wanted { stamp, come: 0, shown, held: Vec::new() }, text)
    }

    /// Adds text to an entry, delivers what is due of it, and keeps or ends it.
    fn go_on(
        &mut self,
        id: LogStream,
        mut entry: Entry,
        text: &[u8],
        at_once: bool,
        sink: Sink<'_>,
    ) {
        let (ended, longest) = (text.ends_with(b"\n"), self.shape.longest);
        match &mut entry {
            Entry::Dropped => {}
            Entry::Head(head) => head.extend_from_slice(text),
            Entry::Wanted { stamp, come, shown, held } => {
                let fresh = &text[shown.saturating_sub(*come).min(text.len())..];
                *come += text.len();
                held.extend_from_slice(fresh);
                if ended || at_once || held.len() >= longest {
                    if !held.is_empty() {
                        sink(id, held);
                    }
                    *shown += held.len();
                    held.clear();
                    let stamp = *stamp;
                    self.first = self.first.or(stamp);
                    if ended {
                        self.delivered(id, stamp);
                    }
                }
            }
        }
        if !ended {
            self.streams[id as usize].entry = Some(entry);
        }
    }

    /// Whether an entry is new: None to drop it, or how many of its bytes were shown before.
    fn admit(&mut self, id: LogStream, stamp: Stamp) -> Option<usize> {
        let floor = self.first.filter(|_| self.asked.tail.is_some());
        let stream = &mut self.streams[id as usize];
        let Some(again) = &mut stream.again else { return Some(0) };
        match stream.last {
            None if floor.is_some_and(|floor| stamp < floor) => return None,
            Some((last, _)) if stamp < last => return None,
            Some((last, count)) if stamp == last && *again < count => {
                *again += 1;
                return None;
            }
            _ => stream.again = None,
        }
        let half = stream.half.take();
        Some(half.filter(|(s, _)| *s == stamp).map_or(0, |(_, shown)| shown))
    }

    /// Counts an entry as delivered.
    fn delivered(&mut self, id: LogStream, stamp: Option<Stamp>) {
        let Some(stamp) = stamp else { return };
        self.first = self.first.or(Some(stamp));
        let last = &mut self.streams[id as usize].last;
        *last = match *last {
            Some((same, count)) if same == stamp => Some((stamp, count.saturating_add(1))),
            _ => Some((stamp, 1)),
        };
    }
}

enum Begun<'a> {
    /// Deliver this and be done with the entry.
    Whole(&'a [u8]),
    /// Go on with this entry and text.
    Entry(Entry, &'a [u8]),
}

/// The stamp that a text begins with (RFC 3339, UTC, up to nine decimals) and its length with the
/// space after it.
pub(crate) fn parse_stamp(text: &[u8]) -> Option<(Stamp, usize)> {
    let end = text.iter().take(LONGEST_STAMP).position(|b| *b == b' ')?;
    let (stamp, zone) = text[..end].split_at_checked(end.checked_sub(1)?)?;
    let (whole, fraction) = stamp.split_at_checked(19)?;
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if zone != b"Z" || punctuation.iter().any(|(at, mark)| whole[*at] != *mark) {
        return None;
    }
    let number = |digits: &[u8]| {
        digits
            .iter()
            .try_fold(0i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
    };
    let (year, month, day) = (number(&whole[..4])?, number(&whole[5..7])?, number(&whole[8..10])?);
    let (hour, minute, second) =
        (number(&whole[11..13])?, number(&whole[14..16])?, number(&whole[17..])?);
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let nanos = match fraction.split_first() {
        None => 0,
        Some((b'.', digits @ [_, ..])) => {
            let missing = u32::try_from(9usize.checked_sub(digits.len())?).ok()?;
            number(digits)? * 10i64.pow(missing)
        }
        Some(_) => return None,
    };
    // Days since 1970 in the proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible
    // low-level date algorithms"): years begin in March, so that leap days come last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some(((seconds, i32::try_from(nanos).ok()?), end + 1))
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;
