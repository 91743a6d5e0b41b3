//! The proof that a log is whole: its lines carry numbers from 1 up, and every byte read goes through
//! [`LineCheck`]. Also takes the engine's own framing off, for what curl reads.

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, BytesMut};

/// Checks that numbered lines come whole, once and in order.
#[derive(Debug, Default)]
pub(crate) struct LineCheck {
    cut: Vec<u8>,
    lines: u64,
}

impl LineCheck {
    /// Takes the next bytes, cut anywhere.
    ///
    /// # Errors
    /// Names the first line that is lost, doubled, torn or out of order.
    pub(crate) fn feed(&mut self, mut data: &[u8]) -> Result<()> {
        while let Some(end) = data.iter().position(|b| *b == b'\n') {
            let (line, rest) = data.split_at(end);
            data = &rest[1..];
            if self.cut.is_empty() {
                self.line(line)?;
            } else {
                let mut whole = std::mem::take(&mut self.cut);
                whole.extend_from_slice(line);
                self.line(&whole)?;
            }
        }
        self.cut.extend_from_slice(data);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<()> {
        self.lines += 1;
        let number = number(line);
        let text = || String::from_utf8_lossy(line).chars().take(40).collect::<String>();
        ensure!(number == Some(self.lines), "line {} reads {:?}", self.lines, text());
        Ok(())
    }

    /// How many lines came.
    ///
    /// # Errors
    /// When the last one has no end.
    pub(crate) fn finish(self) -> Result<u64> {
        ensure!(self.cut.is_empty(), "the log ends within line {}", self.lines + 1);
        Ok(self.lines)
    }
}

/// The number that a line begins with.
pub(crate) fn number(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&line[..digits]).ok()?.parse().ok()
}

/// Takes the engine's framing (a stream number, three zeros, the length big endian) off a log.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    /// Read, and not decoded yet.
    pub(crate) buffer: BytesMut,
}

impl Demux {
    /// The next entry; None until more is in the buffer.
    pub(crate) fn next(&mut self) -> Option<BytesMut> {
        let length = self.buffer.get(4..8)?.try_into().ok().map(u32::from_be_bytes)? as usize;
        if self.buffer.len() < 8 + length {
            return None;
        }
        self.buffer.advance(8);
        Some(self.buffer.split_to(length))
    }

    /// The number of the only line in a framed log.
    pub(crate) fn only_number(log: &[u8]) -> Result<u64> {
        let line = log.get(8..).and_then(number);
        line.context("the engine's last line has no number")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_be_cut_anywhere() {
        let text = b"1 x\n2 x\n0000003\n";
        for cut in 0..text.len() {
            let mut check = LineCheck::default();
            check.feed(&text[..cut]).unwrap();
            check.feed(&text[cut..]).unwrap();
            assert_eq!(check.finish().unwrap(), 3);
        }
    }

    #[test]
    fn lost_doubled_and_torn_lines_are_named() {
        for bad in ["1\n3\n", "1\n1\n", "1\nx2\n", "1\n\n"] {
            let error = LineCheck::default().feed(bad.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with("line 2 reads"), "{bad:?}: {error}");
        }
        let mut check = LineCheck::default();
        check.feed(b"1\n2").unwrap();
        assert!(check.finish().is_err());
    }

    #[test]
    fn framing_comes_off() {
        let mut demux = Demux::default();
        let framed = b"\x01\0\0\0\0\0\0\x0212\x02\0\0\0\0\0\0\x013";
        let mut entries = Vec::new();
        for byte in framed {
            demux.buffer.extend_from_slice(&[*byte]);
            entries.extend(demux.next());
        }
        assert_eq!(entries, [&b"12"[..], b"3"]);
        assert_eq!(Demux::only_number(&framed[..10]).unwrap(), 12);
    }
}
