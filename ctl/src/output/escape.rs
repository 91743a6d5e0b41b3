//! Keeps what containers say from steering a person's terminal: control characters of C0 and C1 and
//! whole escape sequences (CSI, OSC, DCS, ...) are taken out, line feeds and tabs stay. Logs go
//! through a [`Sanitizer`], which remembers a sequence that is cut between two chunks; names, labels
//! and messages go through [`clean`].

use std::str;

/// One line of text without anything that a terminal would obey, and without the controls that
/// reorder text. Line feeds and tabs become spaces.
pub(crate) fn clean(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    Sanitizer::default().push(text.as_bytes(), &mut out);
    String::from_utf8_lossy(&out)
        .chars()
        .filter(|c| !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .collect::<String>()
        .trim_end()
        .to_owned()
}

/// Where in an escape sequence the text before ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// In none.
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// In a control sequence: ESC [ ... final byte.
    Csi,
    /// In a string that ends with BEL or ESC \.
    Text,
    /// In such a string after an ESC.
    TextEscape,
}

/// Takes escape sequences and control characters out of a stream of bytes.
#[derive(Debug, Default)]
pub(crate) struct Sanitizer {
    state: State,
    /// The bytes so far of a UTF-8 character that is not complete yet; at most 3.
    partial: Vec<u8>,
}

impl Sanitizer {
    /// Appends to `out` what may be shown of `input`.
    pub(crate) fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        while let Some((&byte, tail)) = rest.split_first() {
            if self.state == State::Ground && self.partial.is_empty() && is_plain(byte) {
                let run = rest.iter().position(|b| !is_plain(*b)).unwrap_or(rest.len());
                out.extend_from_slice(&rest[..run]);
                rest = &rest[run..];
            } else {
                self.byte(byte, out);
                rest = tail;
            }
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            return self.character(byte, out);
        }
        self.state = match (self.state, byte) {
            // A line's end ends every sequence: else one hostile line would swallow all that follow.
            (_, b'\n') => {
                out.push(b'\n');
                State::Ground
            }
            (State::Text, 0x1b) => State::TextEscape,
            (State::Text, 0x07 | 0x18 | 0x1a) => State::Ground,
            (State::TextEscape, b'\\') => State::Ground,
            (State::Text, _) => State::Text,
            (_, 0x1b) => State::Escape,
            (State::Escape | State::TextEscape, b'[') => State::Csi,
            (State::Escape | State::TextEscape, b']' | b'P' | b'X' | b'^' | b'_') => State::Text,
            (State::Escape | State::TextEscape, 0x20..=0x2f) => State::Escape,
            (State::Escape | State::TextEscape, 0x30..=0x7e) => State::Ground,
            (State::Csi, 0x20..=0x3f) => State::Csi,
            (State::Csi, 0x40..=0x7e) => State::Ground,
            (_, 0x80..) => {
                self.state = State::Ground;
                return self.character(byte, out);
            }
            (_, byte) => {
                if is_plain(byte) {
                    out.push(byte);
                }
                State::Ground
            }
        };
    }

    /// A byte of a character outside ASCII.
    fn character(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.partial.push(byte);
        match str::from_utf8(&self.partial) {
            Ok(text) => {
                self.state = match text.chars().next() {
                    Some('\u{9b}') => State::Csi,
                    Some('\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}') => State::Text,
                    Some('\u{80}'..='\u{9f}') => State::Ground,
                    _ => {
                        out.extend_from_slice(&self.partial);
                        State::Ground
                    }
                };
                self.partial.clear();
            }
            Err(error) if error.error_len().is_none() => {} // more bytes are to come
            Err(_) => {
                out.extend_from_slice("\u{fffd}".as_bytes());
                let alone = self.partial.len() == 1;
                self.partial.clear();
                if !alone {
                    self.byte(byte, out); // it did not belong to the broken character
                }
            }
        }
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e | b'\n' | b'\t')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(input: &[u8]) -> String {
        let mut out = Vec::new();
        Sanitizer::default().push(input, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sequences_vanish_whole() {
        for (input, want) in [
            (&b"plain\ttext\n"[..], "plain\ttext\n"),
            (b"\x1b[31mred\x1b[0m", "red"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1bPq#0\x1b\\dcs", "dcs"),
            (b"\x1b(Bset", "set"),
            (b"a\x08\x08b\x07c\r\nd\x7f", "abc\nd"),
            ("\u{9b}31mred \u{9d}0;t\u{7}x".as_bytes(), "red x"),
            (b"bad \x9b31m", "bad \u{fffd}31m"),
            ("grüße 日本 🎉".as_bytes(), "grüße 日本 🎉"),
            (b"\xe6\x97x", "\u{fffd}x"),
            (b"\x1b]never ended\nnext line", "\nnext line"),
        ] {
            assert_eq!(shown(input), want, "{input:?}");
        }
    }

    #[test]
    fn cells_are_one_line() {
        assert_eq!(clean("a\nb\tc\x1b[2J\u{202e}d"), "a b cd");
    }

    proptest! {
        #[test]
        fn no_control_survives(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = shown(&input);
            prop_assert!(text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
        }

        #[test]
        fn chunks_make_no_difference(
            input in proptest::collection::vec(
                prop_oneof![any::<u8>(), Just(0x1b), Just(b'['), Just(b']'), Just(0x07)], 0..200),
            cut in 0usize..200,
        ) {
            let (head, tail) = input.split_at(cut.min(input.len()));
            let (mut out, mut sanitizer) = (Vec::new(), Sanitizer::default());
            sanitizer.push(head, &mut out);
            sanitizer.push(tail, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), shown(&input));
        }
    }
}
