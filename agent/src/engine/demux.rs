//! Decodes the body of a log into records: Docker's frames for a container without a TTY, plain lines
//! for one with. Pure: bytes in, records out, the same however the bytes were cut. Called by `logs`.

use bytes::{Buf as _, Bytes, BytesMut};
use dockctl_api::v1::{LogRecord, LogStream};

/// How much log data one message holds when data flows fast.
pub(super) const BATCH: usize = 64 << 10;

/// The longest frame. Engines split long lines at 16 KiB; `LogRecord.data` may have 1 MiB.
const MAX_FRAME: usize = 1 << 20;
/// Where the engine splits a long line.
const PART: usize = 16 << 10;
/// The length of the engine's timestamp with the space behind it: "2006-01-02T15:04:05.000000000Z ".
const STAMP: usize = 31;

/// Why the body of a log cannot be decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DemuxError {
    #[error("the log has a frame with an unknown header")]
    Header,
    #[error("the log has a frame of {0} bytes")]
    TooLong(usize),
    #[error("the log ends within a frame")]
    Truncated,
    /// The engine's own words about a log that it cannot read on.
    #[error("{0}")]
    Engine(String),
}

/// Records that are being gathered for one message.
#[derive(Default)]
pub(super) struct Batch {
    records: Vec<LogRecord>,
    run: BytesMut,
    stream: LogStream,
    len: usize,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn is_full(&self, more: usize) -> bool {
        self.len > 0 && self.len + more > BATCH
    }

    /// Makes room for what is likely to come.
    fn expect(&mut self, bytes: usize) {
        self.run.reserve(bytes.min(BATCH.saturating_sub(self.len)));
    }

    fn push(&mut self, stream: LogStream, data: &[u8]) {
        if self.stream != stream {
            self.end_run();
            self.stream = stream;
        }
        self.run.extend_from_slice(data);
        self.len += data.len();
    }

    fn end_run(&mut self) {
        if !self.run.is_empty() {
            let data: Bytes = self.run.split().freeze();
            self.records.push(LogRecord { stream: self.stream.into(), data });
        }
    }

    /// The records, in the engine's order; the batch is empty again.
    pub(super) fn take(&mut self) -> Vec<LogRecord> {
        self.end_run();
        self.run = BytesMut::new();
        self.len = 0;
        std::mem::take(&mut self.records)
    }
}

/// A decoder for one log.
pub(super) struct Demux {
    kind: Kind,
    timestamps: bool,
}

enum Kind {
    /// Whether the last frame of stdout and of stderr left its line open.
    Frames { open: [bool; 2] },
    /// The timestamp of the line that is open.
    Tty { open: Option<[u8; STAMP]> },
}

impl Demux {
    /// `tty`: whether the container has a TTY. `timestamps`: whether they were asked for.
    pub(super) fn new(tty: bool, timestamps: bool) -> Self {
        let kind = if tty { Kind::Tty { open: None } } else { Kind::Frames { open: [false; 2] } };
        Self { kind, timestamps }
    }

    /// Moves whole entries from the buffer to the batch, and tells whether the batch was full before
    /// the buffer was empty of them. `end`: nothing will follow what is in the buffer.
    pub(super) fn decode(
        &mut self,
        buffer: &mut BytesMut,
        batch: &mut Batch,
        end: bool,
    ) -> Result<bool, DemuxError> {
        if !buffer.is_empty() {
            batch.expect(buffer.len());
        }
        match &mut self.kind {
            Kind::Frames { open } => frames(open, self.timestamps, buffer, batch, end),
            Kind::Tty { open } => {
                let open = self.timestamps.then_some(open);
                Ok(lines(open, buffer, batch, end))
            }
        }
    }
}

fn frames(
    open: &mut [bool; 2],
    timestamps: bool,
    buffer: &mut BytesMut,
    batch: &mut Batch,
    end: bool,
) -> Result<bool, DemuxError> {
    while let Some(&[kind, z1, z2, z3, a, b, c, d]) = buffer.first_chunk() {
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if kind > 3 || [z1, z2, z3] != [0; 3] {
            return Err(DemuxError::Header);
        }
        if len > MAX_FRAME {
            return Err(DemuxError::TooLong(len));
        }
        let Some(data) = buffer.get(8..8 + len) else { break };
        if batch.is_full(len) {
            return Ok(true);
        }
        let (stream, open) = match kind {
            3 => return Err(DemuxError::Engine(String::from_utf8_lossy(data).trim().to_owned())),
            2 => (LogStream::Stderr, &mut open[1]),
            _ => (LogStream::Stdout, &mut open[0]),
        };
        // The engine repeats the timestamp in every part of a line that it has split.
        let repeated = if timestamps && *open { stamp_len(data) } else { 0 };
        batch.push(stream, &data[repeated..]);
        if let Some(last) = data.last() {
            *open = *last != b'\n';
        }
        buffer.advance(8 + len);
    }
    if end && !buffer.is_empty() { Err(DemuxError::Truncated) } else { Ok(false) }
}

/// The length of a timestamp at the beginning of `data`, with its space; 0 if there is none.
fn stamp_len(data: &[u8]) -> usize {
    let end = data.iter().take(40).position(|b| *b == b' ').map_or(0, |space| space + 1);
    let looks = end >= 20 && data[4] == b'-' && data[10] == b'T' && data[end - 2] != b' ';
    if looks { end } else { 0 }
}

/// A TTY's log has no frames. With timestamps, `open` is the timestamp of a line of which the engine
/// has sent full parts only; the next part repeats it.
fn lines(
    mut open: Option<&mut Option<[u8; STAMP]>>,
    buffer: &mut BytesMut,
    batch: &mut Batch,
    end: bool,
) -> bool {
    loop {
        let stamp = if open.is_some() { STAMP } else { 0 };
        // The engine's timestamps need no search for a line feed.
        let text = buffer.get(stamp..).unwrap_or_default();
        let part = &text[..text.len().min(PART)];
        let line = part.iter().position(|b| *b == b'\n').map(|at| at + 1);
        let len = match line {
            Some(len) => len,
            None if part.len() == PART => PART,
            None if end && !buffer.is_empty() => part.len(),
            None => return false,
        };
        let whole = (stamp + len).min(buffer.len());
        if batch.is_full(whole) {
            return true;
        }
        let piece = &buffer[..whole];
        let repeated = match &mut open {
            Some(open) => {
                let own: Option<[u8; STAMP]> = piece.first_chunk().copied();
                let repeated = open.is_some() && **open == own;
                **open = if line.is_none() { own } else { None };
                if repeated { STAMP } else { 0 }
            }
            None => 0,
        };
        batch.push(LogStream::Tty, &piece[repeated..]);
        buffer.advance(whole);
    }
}

/// For the fuzzer: all that one log says, stream by stream in order, or the kind of its fault.
#[cfg(fuzzing)]
pub fn fuzz_demux(
    tty: bool,
    timestamps: bool,
    pieces: &[&[u8]],
) -> Result<Vec<(i32, Vec<u8>)>, String> {
    let (mut buffer, mut batch) = (BytesMut::new(), Batch::default());
    let (mut demux, mut runs) = (Demux::new(tty, timestamps), Vec::<(i32, Vec<u8>)>::new());
    for (i, piece) in pieces.iter().enumerate() {
        buffer.extend_from_slice(piece);
        loop {
            let decoded = demux.decode(&mut buffer, &mut batch, i + 1 == pieces.len());
            decoded.map_err(|error| error.to_string())?;
            if batch.is_empty() {
                break;
            }
            for record in batch.take() {
                match runs.last_mut() {
                    Some((stream, run)) if *stream == record.stream => run.extend(record.data),
                    _ => runs.push((record.stream, record.data.to_vec())),
                }
            }
        }
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T1: &str = "2026-11-22T15:00:00.000000001Z ";
    const T2: &str = "2026-11-22T15:00:00.000000002Z ";

    fn frame(kind: u8, data: &[u8]) -> Vec<u8> {
        let mut out = vec![kind, 0, 0, 0];
        out.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
        out.extend_from_slice(data);
        out
    }

    type Run = (LogStream, Vec<u8>);

    /// Decodes pieces as they come; returns each stream's run of bytes in order, and every batch's size.
    fn decode(mut demux: Demux, pieces: &[&[u8]]) -> Result<(Vec<Run>, Vec<usize>), DemuxError> {
        let (mut buffer, mut batch) = (BytesMut::new(), Batch::default());
        let (mut runs, mut sizes): (Vec<Run>, _) = (Vec::new(), Vec::new());
        for (i, piece) in pieces.iter().enumerate() {
            buffer.extend_from_slice(piece);
            loop {
                demux.decode(&mut buffer, &mut batch, i + 1 == pieces.len())?;
                if batch.is_empty() {
                    break;
                }
                let records = batch.take();
                sizes.push(records.iter().map(|r| r.data.len()).sum());
                for record in records {
                    match runs.last_mut() {
                        Some((stream, run)) if *stream == record.stream() => {
                            run.extend_from_slice(&record.data);
                        }
                        _ => runs.push((record.stream(), record.data.to_vec())),
                    }
                }
            }
        }
        Ok((runs, sizes))
    }

    #[test]
    fn streams_keep_their_order_and_bytes() {
        let mut body = frame(1, b"a\n");
        body.extend(frame(1, b"\xff\x00\n"));
        body.extend(frame(2, b"err\n"));
        body.extend(frame(1, b"b\n"));
        let (runs, _) = decode(Demux::new(false, false), &[&body]).unwrap();
        let expected: Vec<Run> = vec![
            (LogStream::Stdout, b"a\n\xff\x00\n".to_vec()),
            (LogStream::Stderr, b"err\n".to_vec()),
            (LogStream::Stdout, b"b\n".to_vec()),
        ];
        assert_eq!(runs, expected);
    }

    #[test]
    fn a_split_line_has_one_timestamp() {
        let mut body = frame(1, format!("{T1}aaa").as_bytes());
        body.extend(frame(2, format!("{T2}err\n").as_bytes()));
        body.extend(frame(1, format!("{T1}bbb").as_bytes()));
        body.extend(frame(1, format!("{T1}\n").as_bytes()));
        body.extend(frame(1, format!("{T2}next\n").as_bytes()));
        let (runs, _) = decode(Demux::new(false, true), &[&body]).unwrap();
        let of = |wanted| -> Vec<u8> {
            runs.iter().filter(|(s, _)| *s == wanted).flat_map(|(_, d)| d.clone()).collect()
        };
        assert_eq!(of(LogStream::Stdout), format!("{T1}aaabbb\n{T2}next\n").into_bytes());
        assert_eq!(of(LogStream::Stderr), format!("{T2}err\n").into_bytes());
        // Without timestamps what looks like one is data.
        let (runs, _) = decode(Demux::new(false, false), &[&body]).unwrap();
        assert_eq!(runs[2].1, format!("{T1}bbb{T1}\n{T2}next\n").into_bytes());
    }

    #[test]
    fn hostile_headers_are_errors() {
        let broken = |body: &[u8]| decode(Demux::new(false, false), &[body]).unwrap_err();
        assert_eq!(broken(b"HTTP/1.0 nonsense"), DemuxError::Header);
        assert_eq!(broken(&[1, 0, 1, 0, 0, 0, 0, 1, b'x']), DemuxError::Header);
        assert_eq!(
            broken(&[1, 0, 0, 0, 255, 255, 255, 255]),
            DemuxError::TooLong(u32::MAX as usize)
        );
        assert_eq!(broken(&[1, 0, 0, 0, 0, 0, 0, 9, b'x']), DemuxError::Truncated);
        assert_eq!(broken(&[1, 0]), DemuxError::Truncated);
        let told = broken(&frame(3, b"Error grabbing logs: EOF\n"));
        assert_eq!(told, DemuxError::Engine("Error grabbing logs: EOF".to_owned()));
    }

    #[test]
    fn a_tty_log_may_begin_with_anything() {
        let body = b"\x01\x00\x00\x00\x00\x00\x00\x05hello\r\nrest";
        let (runs, _) = decode(Demux::new(true, false), &[body]).unwrap();
        assert_eq!(runs, vec![(LogStream::Tty, body.to_vec())]);
    }

    #[test]
    fn a_long_tty_line_has_one_timestamp() {
        let long = "x".repeat(PART);
        let body = format!("{T1}{long}{T1}{long}{T1}end\r\n{T2}short\r\n{T2}{long}{T1}other\r\n");
        let expected = format!("{T1}{long}{long}end\r\n{T2}short\r\n{T2}{long}{T1}other\r\n");
        let (runs, _) = decode(Demux::new(true, true), &[body.as_bytes()]).unwrap();
        assert_eq!(runs[0].1, expected.into_bytes());
    }

    /// Cuts a body at the given places.
    fn cut<'a>(body: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        at.extend([0, body.len()]);
        at.sort_unstable();
        at.windows(2).map(|w| &body[w[0]..w[1]]).collect()
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..50),
            (1usize..40_000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        ]
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            frames in prop::collection::vec((0u8..3, line()), 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            timestamps in any::<bool>(),
        ) {
            let body: Vec<u8> = frames.iter().flat_map(|(kind, data)| frame(*kind, data)).collect();
            let (whole, _) = decode(Demux::new(false, timestamps), &[&body]).unwrap();
            let (pieces, sizes) = decode(Demux::new(false, timestamps), &cut(&body, &cuts)).unwrap();
            prop_assert_eq!(whole, pieces);
            prop_assert!(sizes.iter().all(|size| *size <= BATCH));
        }

        #[test]
        fn cuts_change_nothing_on_a_tty(
            body in prop::collection::vec(line(), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            timestamps in any::<bool>(),
        ) {
            let body = body.concat();
            let (whole, _) = decode(Demux::new(true, timestamps), &[&body]).unwrap();
            let (pieces, _) = decode(Demux::new(true, timestamps), &cut(&body, &cuts)).unwrap();
            if !timestamps {
                prop_assert_eq!(whole.iter().map(|(_, run)| run.len()).sum::<usize>(), body.len());
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(body in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = decode(Demux::new(false, true), &[&body]);
            let _ = decode(Demux::new(true, true), &[&body]);
        }
    }
}
