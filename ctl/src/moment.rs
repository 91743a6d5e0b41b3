//! Times and spans of time as people write them, and the clock. `--since` takes what docker takes: a
//! span back from now ("10m", "1h30m"), a Unix time ("1764000000.5"), or a date ("2026-11-22",
//! "2026-11-22T15:27:00", both UTC, or RFC 3339 with an offset).

use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

use prost_types::Timestamp;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    timestamp_now().seconds
}

/// This machine's time.
pub(crate) fn timestamp_now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Seconds from `then` to now; 0 where it is not known or lies ahead.
pub(crate) fn since(then: Option<&Timestamp>) -> i64 {
    then.map_or(0, |t| now().saturating_sub(t.seconds).max(0))
}

/// A time as RFC 3339 in UTC with nine digits, which sorts as text; empty when not known.
pub(crate) fn rfc3339(time: Option<&Timestamp>) -> String {
    let Some(time) = time else { return String::new() };
    match OffsetDateTime::from_unix_timestamp(time.seconds) {
        Ok(t) => format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second(),
            time.nanos
        ),
        Err(_) => String::new(),
    }
}

/// A time to the second, for people; empty when not known.
pub(crate) fn seconds(time: Option<&Timestamp>) -> String {
    let text = rfc3339(time);
    text.split_once('.').map_or_else(String::new, |(head, _)| format!("{head}Z"))
}

/// A point in time on the command line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        moment(text, timestamp_now()).map(Moment).ok_or_else(|| {
            "not a time: write a span (10m, 1h30m), a Unix time, or a date (2026-11-22T15:27:00Z)"
                .to_owned()
        })
    }
}

fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some((seconds, nanos)) = unix(text) {
        return Some(Timestamp { seconds, nanos });
    }
    if let Some(span) = parse_span(text) {
        let time = SystemTime::try_from(now).ok()?.checked_sub(span)?;
        return Some(Timestamp::from(time));
    }
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        _ => text.to_owned(),
    };
    let parse = |t: &str| OffsetDateTime::parse(t, &Rfc3339).ok();
    let time = parse(&full).or_else(|| parse(&format!("{full}Z")))?;
    Some(Timestamp { seconds: time.unix_timestamp(), nanos: time.nanosecond().try_into().ok()? })
}

/// "1764000000" or "1764000000.123456789".
fn unix(text: &str) -> Option<(i64, i32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Some((whole.parse().ok()?, nanos))
}

/// A span of time on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse().ok().map(Duration::from_secs);
        seconds
            .or_else(|| parse_span(text))
            .map(Span)
            .ok_or_else(|| "not a span of time: write for example 30s, 10m, 1h30m or 7d".to_owned())
    }
}

/// Numbers with units, largest first or not: "1h30m", "1.5s", "200ms", "7d".
fn parse_span(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let unit = match &tail[..end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let seconds = number.parse::<f64>().ok()? * unit;
        total = total.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
        rest = &tail[end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp { seconds: 1_795_361_220, nanos: 500_000_000 };

    fn at(text: &str) -> Option<(i64, i32)> {
        moment(text, NOW).map(|t| (t.seconds, t.nanos))
    }

    #[test]
    fn moments() {
        assert_eq!(at("10m"), Some((NOW.seconds - 600, 500_000_000)));
        assert_eq!(at("1h30m"), Some((NOW.seconds - 5400, 500_000_000)));
        assert_eq!(at("1764000000"), Some((1_764_000_000, 0)));
        assert_eq!(at("1764000000.25"), Some((1_764_000_000, 250_000_000)));
        assert_eq!(at("1970-01-02"), Some((86_400, 0)));
        assert_eq!(at("1970-01-01T00:01"), Some((60, 0)));
        assert_eq!(at("1970-01-01T00:00:01"), Some((1, 0)));
        assert_eq!(at("1970-01-01T00:00:01.5Z"), Some((1, 500_000_000)));
        assert_eq!(at("1970-01-01T01:00:00+01:00"), Some((0, 0)));
        for bad in ["", "yesterday", "10x", "1h-3m", "-5m", "2026-13-01", "1.2.3", "m", "ü"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }

    #[test]
    fn spans() {
        let span = |t: &str| t.parse::<Span>().map(|s| s.0.as_millis());
        assert_eq!(span("30"), Ok(30_000));
        assert_eq!(span("1.5s"), Ok(1500));
        assert_eq!(span("7d"), Ok(604_800_000));
        assert!(span("soon").is_err());
        assert!(span("9e999s").is_err());
    }

    #[test]
    fn times_are_printed_in_utc() {
        let time = Timestamp { seconds: 1_795_361_220, nanos: 123_456_789 };
        assert_eq!(rfc3339(Some(&time)), "2026-11-22T15:27:00.123456789Z");
        assert_eq!(seconds(Some(&time)), "2026-11-22T15:27:00Z");
        assert_eq!(rfc3339(None), "");
    }
}
