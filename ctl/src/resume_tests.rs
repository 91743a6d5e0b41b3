//! Tests of `resume`: the single rules by example, and the promise itself, exactly once and in order,
//! against a model of the engine under random cuts.

use proptest::prelude::*;

use super::*;

const PLAIN: Shape = Shape { stamps: false, whole: false, longest: LONGEST_HELD };

fn new(tail: Option<u32>, since: Option<i64>) -> Resume {
    let since = since.map(|seconds| Timestamp { seconds, nanos: 0 });
    let asked = StreamLogsRequest { follow: true, tail, since, ..StreamLogsRequest::default() };
    Resume::new(asked, Timestamp { seconds: 500, nanos: 0 }, PLAIN)
}

fn feed(resume: &mut Resume, stream: LogStream, text: &str) -> String {
    let mut out = Vec::new();
    resume.record(stream, text.as_bytes(), &mut |_, bytes| out.extend_from_slice(bytes));
    String::from_utf8(out).unwrap()
}

fn out(resume: &mut Resume, text: &str) -> String {
    feed(resume, LogStream::Stdout, text)
}

/// The stamp of a second and a nanosecond, as the engine writes it.
fn at(seconds: i64, nanos: i32) -> String {
    crate::moment::rfc3339(Some(&Timestamp { seconds, nanos }))
}

#[test]
fn stamps_are_read_exactly() {
    let (stamp, length) = parse_stamp(b"2026-11-22T15:27:00.123456789Z hello").unwrap();
    assert_eq!((stamp, length), ((1_795_361_220, 123_456_789), 31));
    assert_eq!(parse_stamp(b"1970-01-01T00:00:01.5Z x"), Some(((1, 500_000_000), 23)));
    assert_eq!(parse_stamp(b"2024-02-29T00:00:00Z "), Some(((1_709_164_800, 0), 21)));
    for bad in [
        "",
        " ",
        "Z ",
        "hello world",
        "2026-11-22T15:27:00.1234567890Z x",
        "2026-13-22T15:27:00Z x",
        "2026-11-22T15:27:00.Z x",
        "2026-11-22T15:27:00+01:00 x",
        "2026-11-22 15:27:00Z x",
        "2026-11-22T15:27:00Z",
    ] {
        assert_eq!(parse_stamp(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn lines_come_without_stamps_and_whole() {
    let mut resume = new(None, None);
    let text = format!("{} one\n{} two\n{} thr", at(1, 0), at(2, 0), at(3, 0));
    assert_eq!(out(&mut resume, &text), "one\ntwo\n");
    assert_eq!(out(&mut resume, "ee\n"), "three\n");
}

#[test]
fn a_cut_line_comes_once() {
    let mut resume = new(Some(10), None);
    assert_eq!(out(&mut resume, &format!("{} one\n{} two", at(1, 5), at(2, 0))), "one\n");
    resume.cut();
    let request = resume.request();
    assert_eq!(request.since, Some(Timestamp { seconds: 0, nanos: 5 }));
    assert_eq!(request.tail, None);
    assert!(request.timestamps);
    let again = format!("{} one\n{} two!\n", at(1, 5), at(2, 0));
    assert_eq!(out(&mut resume, &again), "two!\n");
}

#[test]
fn equal_stamps_are_counted() {
    let mut resume = new(None, None);
    assert_eq!(out(&mut resume, &format!("{0} a\n{0} b\n", at(1, 0))), "a\nb\n");
    resume.cut();
    assert_eq!(out(&mut resume, &format!("{0} a\n{0} b\n{0} c\n", at(1, 0))), "c\n");
}

#[test]
fn a_prompt_on_a_tty_shows_at_once_and_once() {
    let mut resume = new(None, None);
    let tty = LogStream::Tty;
    assert_eq!(feed(&mut resume, tty, &format!("{} login: ", at(1, 0))), "login: ");
    resume.cut();
    assert_eq!(feed(&mut resume, tty, &format!("{} login: root\r\n", at(1, 0))), "root\r\n");
}

#[test]
fn what_tail_left_out_stays_out() {
    let mut resume = new(Some(1), None);
    assert_eq!(out(&mut resume, &format!("{} last\n", at(10, 0))), "last\n");
    resume.cut();
    let older = format!("{} older\n", at(9, 500));
    assert_eq!(feed(&mut resume, LogStream::Stderr, &older), "");
    let newer = format!("{} newer\n", at(11, 0));
    assert_eq!(feed(&mut resume, LogStream::Stderr, &newer), "newer\n");
}

#[test]
fn nothing_delivered_means_asking_again() {
    let mut resume = new(Some(5), None);
    resume.cut();
    assert_eq!(resume.request().tail, Some(5));
    let mut none = new(Some(0), None);
    assert_eq!(none.request().tail, Some(0));
    none.cut();
    assert_eq!(none.request().tail, None);
    assert_eq!(none.request().since, Some(Timestamp { seconds: 500, nanos: 0 }));
}

#[test]
fn since_never_reaches_back_further_than_asked() {
    let mut resume = new(None, Some(10));
    out(&mut resume, &format!("{} one\n", at(10, 5)));
    resume.cut();
    assert_eq!(resume.request().since, Some(Timestamp { seconds: 10, nanos: 0 }));
}

#[test]
fn the_end_delivers_a_line_without_a_line_feed() {
    let mut resume = new(None, None);
    assert_eq!(out(&mut resume, &format!("{} last", at(1, 0))), "");
    let mut rest = Vec::new();
    resume.finish(&mut |_, bytes| rest.extend_from_slice(bytes));
    assert_eq!(rest, b"last");
}

#[test]
fn lines_without_stamps_are_passed_on() {
    let mut resume = new(None, None);
    assert_eq!(
        out(&mut resume, "no stamp at all, however long it is\n"),
        "no stamp at all, however long it is\n"
    );
    assert_eq!(out(&mut resume, "short\n"), "short\n");
}

/// An entry of the model engine's log.
#[derive(Debug, Clone)]
struct Line {
    stream: LogStream,
    stamp: Stamp,
    text: String,
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let stream =
        prop_oneof![Just(LogStream::Stdout), Just(LogStream::Stderr), Just(LogStream::Tty)];
    // Steps of none, of nanoseconds, and around the second that a resume goes back.
    let step = prop_oneof![Just(0i64), 1i64..4, 400_000_000i64..1_600_000_000];
    proptest::collection::vec((stream, step, 0usize..60), 1..40).prop_map(|parts| {
        let mut now = 1_000_000_000_000i64;
        parts
            .into_iter()
            .enumerate()
            .map(|(i, (stream, step, length))| {
                now += step;
                let stamp = (now / 1_000_000_000, i32::try_from(now % 1_000_000_000).unwrap());
                Line { stream, stamp, text: format!("{i}:{}", "x".repeat(length)) }
            })
            .collect()
    })
}

/// The records that the engine sends for a request: long lines in parts, as Docker splits them.
fn serve(lines: &[Line], request: &StreamLogsRequest, part: usize) -> Vec<(LogStream, Vec<u8>)> {
    let since = request.since.map(|t| (t.seconds, t.nanos));
    let wanted: Vec<&Line> = lines.iter().filter(|l| since.is_none_or(|s| l.stamp >= s)).collect();
    let skip = request.tail.map_or(0, |n| wanted.len().saturating_sub(n as usize));
    let mut records = Vec::new();
    for line in &wanted[skip..] {
        let text = format!("{} {}\n", at(line.stamp.0, line.stamp.1), line.text);
        let (head, body) = text.as_bytes().split_at(31);
        let mut parts = body.chunks(part);
        let first = parts.next().unwrap_or_default();
        records.push((line.stream, [head, first].concat()));
        records.extend(parts.map(|p| (line.stream, p.to_vec())));
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_line_comes_once_and_in_order(
        lines in lines(),
        cuts in proptest::collection::vec(0usize..60, 0..6),
        part in 1usize..40,
        tail in proptest::option::of(1u32..20),
        stamps in any::<bool>(),
        whole in any::<bool>(),
    ) {
        // Two entries of one stamp astride the tail's beginning cannot be told apart afterwards.
        let tail = tail.filter(|_| lines.windows(2).all(|l| l[0].stamp != l[1].stamp));
        let asked = StreamLogsRequest { follow: true, tail, ..StreamLogsRequest::default() };
        let mut resume = Resume::new(asked.clone(), Timestamp::default(), Shape { stamps, whole, longest: LONGEST_HELD });
        let mut got = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        let want_from = tail.map_or(0, |n| lines.len().saturating_sub(n as usize));
        for cut in cuts.into_iter().map(Some).chain([None]) {
            let records = serve(&lines, &resume.request(), part);
            let end = cut.unwrap_or(records.len()).min(records.len());
            for (stream, data) in &records[..end] {
                resume.record(*stream, data, &mut |id, bytes| got[id as usize].extend_from_slice(bytes));
            }
            if cut.is_some() {
                resume.cut();
            }
        }
        resume.finish(&mut |id, bytes| got[id as usize].extend_from_slice(bytes));
        for stream in [LogStream::Stdout, LogStream::Stderr, LogStream::Tty] {
            let want: String = lines[want_from..]
                .iter()
                .filter(|l| l.stream == stream)
                .map(|l| match stamps {
                    true => format!("{} {}\n", at(l.stamp.0, l.stamp.1), l.text),
                    false => format!("{}\n", l.text),
                })
                .collect();
            prop_assert_eq!(String::from_utf8_lossy(&got[stream as usize]), want.as_str());
        }
    }
}
