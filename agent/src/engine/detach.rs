//! Detach keys: what is typed to leave a session and let its program run. As docker's own client does,
//! the keys are taken out here, so that it is known that the session was left and did not just end. Pure.

use bytes::{BufMut as _, Bytes, BytesMut};
use dockctl_api::error::bad_field;
use tonic::Status;

/// Docker's own keys.
const DEFAULT: &str = "ctrl-p,ctrl-q";

/// A sequence of keys and how much of it was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keys {
    keys: Vec<u8>,
    typed: usize,
}

impl Keys {
    /// Reads keys as docker writes them: letters or ctrl-<value>, where <value> is one of a-z, @, [, \,
    /// ], ^ and _, with commas between; empty means ctrl-p,ctrl-q.
    pub(super) fn parse(text: &str) -> Result<Self, Status> {
        let text = if text.is_empty() { DEFAULT } else { text };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        let keys = keys.filter(|keys| keys.len() <= 16).ok_or_else(|| {
            bad_field("detach_keys", format!("invalid detach keys ({text}): write ctrl-p,ctrl-q"))
        })?;
        Ok(Self { keys, typed: 0 })
    }

    /// What of the input is for the program, and whether the sequence was completed. The beginning of a
    /// sequence is held back until it is known what it is.
    pub(super) fn pass(&mut self, data: Bytes) -> (Bytes, bool) {
        if self.typed == 0 && !data.contains(&self.keys[0]) {
            return (data, false);
        }
        let mut passed = BytesMut::with_capacity(data.len() + self.typed);
        for byte in data {
            if byte != self.keys[self.typed] {
                passed.put_slice(&self.keys[..self.typed]);
                self.typed = 0;
            }
            if byte == self.keys[self.typed] {
                self.typed += 1;
            } else {
                passed.put_u8(byte);
            }
            if self.typed == self.keys.len() {
                return (passed.freeze(), true);
            }
        }
        (passed.freeze(), false)
    }
}

fn key(text: &str) -> Option<u8> {
    match text.strip_prefix("ctrl-").map(str::as_bytes) {
        Some([b'a'..=b'z' | b'@' | b'['..=b'_']) => text.bytes().last().map(|b| b & 0x1f),
        Some(_) => None,
        None if text.len() == 1 => text.bytes().next(),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str, pieces: &[&'static [u8]]) -> (Vec<u8>, bool) {
        let mut keys = Keys::parse(keys).unwrap();
        let mut passed = Vec::new();
        for piece in pieces {
            let (bytes, detached) = keys.pass(Bytes::from_static(piece));
            passed.extend_from_slice(&bytes);
            if detached {
                return (passed, true);
            }
        }
        (passed, false)
    }

    #[test]
    fn the_keys_are_found_however_they_are_cut_and_nothing_else_is_lost() {
        for pieces in
            [&[&b"ls\n\x10\x11rest"[..]][..], &[b"ls\n\x10", b"\x11"], &[b"ls\n", b"\x10\x11"]]
        {
            assert_eq!(typed("", pieces), (b"ls\n".to_vec(), true), "{pieces:?}");
        }
        assert_eq!(typed("", &[b"\x10", b"x\x10", b"\x10\x11"]), (b"\x10x\x10".to_vec(), true));
        assert_eq!(typed("", &[b"\x11\x10q"]), (b"\x11\x10q".to_vec(), false));
        assert_eq!(typed("ctrl-\\,a", &[b"\x10\x11\x1cb\x1ca"]), (b"\x10\x11\x1cb".to_vec(), true));
        assert_eq!(typed("q", &[b"q"]), (Vec::new(), true));
    }

    #[test]
    fn keys_are_written_as_docker_writes_them() {
        for good in ["ctrl-@", "ctrl-z", "a,b,ctrl-_", "ctrl-[", "ctrl-^,ctrl-]"] {
            assert!(Keys::parse(good).is_ok(), "{good}");
        }
        for bad in ["ctrl-", "ctrl-A", "ctrl-1", "ab", ",", "a,", "é"] {
            assert!(Keys::parse(bad).is_err(), "{bad}");
        }
    }
}
