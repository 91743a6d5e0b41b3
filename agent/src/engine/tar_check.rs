//! Looks at a tar archive while it streams by, and refuses what could reach out of where it is unpacked. Pure
//! and incremental: nothing of the data is copied, and of the names only what a long one needs. `copy`
//! runs every archive through it, in both directions; no byte of an entry goes on before its header is good.
//!
//! Refused are names that are absolute or hold "..", hard links to such, devices and fifos, every type that
//! is not a file, directory or link, and entries that pass *through* a symbolic link of the same archive. A
//! symbolic link itself may lead anywhere: docker copies it as the link that it is, it can only do harm when
//! something is written through it, and that is what is refused (here, and again by `dockctl` and the engine).
//!
//! Several programs read the same bytes after us, and where two of them would read an archive differently, it
//! could show one of them names that we have not seen. So what is ambiguous is refused as well: links and
//! directories with data, long names said twice, sparse files, a checksum that only signed bytes give, fields of
//! the old GNU format that Go takes for a prefix. A compressed archive is refused by its first bytes, since the
//! engine would unpack it by itself (CVE-2026-41567).

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

/// The unit of a tar archive, bytes.
const BLOCK: usize = 512;
/// The longest extended header or long name, bytes; Go's reader has the same.
const MAX_EXTENSION: u64 = 1 << 20;
/// The longest name, bytes: Linux's PATH_MAX.
const MAX_NAME: usize = 4096;
/// Symbolic links in one archive: each is remembered in 8 bytes or so.
const MAX_LINKS: usize = 500_000;
/// The largest file, bytes: what every reader's arithmetic has room for.
const MAX_SIZE: u64 = 1 << 60;
/// What the engine takes for a compressed archive: gzip, bzip2, xz, zstd.
const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];

/// Why an archive goes no further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{why}", if .entry.is_empty() { String::new() } else { format!("{:?}: ", .entry) })]
pub(super) struct Refusal {
    /// The entry; empty where it is about the archive itself.
    pub(super) entry: String,
    /// What is wrong, to be read after the entry's name.
    pub(super) why: &'static str,
}

type Result<T> = std::result::Result<T, Refusal>;

fn archive(why: &'static str) -> Refusal {
    Refusal { entry: String::new(), why }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A header comes; the number of zero blocks before it is 0 or 1.
    Header { zeros: u8 },
    /// The data of an entry and its padding, bytes.
    Data(u64),
    /// An extension of this type: its data, then its padding, bytes.
    Extension { kind: u8, left: u64, padding: u64 },
    /// After the end of the archive.
    End,
}

/// The state of one archive.
#[derive(Debug)]
pub(super) struct TarCheck {
    state: State,
    first: bool,
    /// The data of the extension that is being read.
    extension: Vec<u8>,
    /// What extensions have said of the next entry.
    next: Said,
    /// Hashes of the names of the symbolic links so far.
    links: HashSet<u64>,
    hasher: RandomState,
}

/// What extensions say of the entry after them.
#[derive(Debug, Default)]
struct Said {
    pax: bool,
    gnu: bool,
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl TarCheck {
    pub(super) fn new() -> Self {
        Self {
            state: State::Header { zeros: 0 },
            first: true,
            extension: Vec::new(),
            next: Said::default(),
            links: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// How many of these bytes may go on. The rest, shorter than a header, is to be shown again with more
    /// behind it.
    pub(super) fn pass(&mut self, data: &[u8]) -> Result<usize> {
        let mut at = 0;
        loop {
            let rest = &data[at..];
            if rest.is_empty() {
                return Ok(at);
            }
            match self.state {
                State::Data(left) => {
                    let here = shorter(left, rest);
                    at += here;
                    self.state = match left - here as u64 {
                        0 => State::Header { zeros: 0 },
                        left => State::Data(left),
                    };
                }
                State::Extension { kind, left, padding } => {
                    let here = shorter(left, rest);
                    self.extension.extend_from_slice(&rest[..here]);
                    at += here;
                    self.state = match left - here as u64 {
                        0 => self.extended(kind, padding)?,
                        left => State::Extension { kind, left, padding },
                    };
                }
                State::End => {
                    if rest.iter().any(|byte| *byte != 0) {
                        return Err(archive("something follows the end of the archive"));
                    }
                    return Ok(data.len());
                }
                State::Header { zeros } => {
                    if self.first && COMPRESSED.iter().any(|magic| rest.starts_with(magic)) {
                        return Err(archive("it is compressed; only plain tar archives are taken"));
                    }
                    let Some((block, _)) = rest.split_first_chunk::<BLOCK>() else {
                        return Ok(at);
                    };
                    self.state = self.header(block, zeros)?;
                    self.first = false;
                    at += BLOCK;
                }
            }
        }
    }

    /// Checks that the archive is whole; `left` bytes of it did not pass.
    pub(super) fn finish(&self, left: usize) -> Result<()> {
        match self.state {
            State::End => Ok(()),
            _ if self.first && left > 0 => Err(archive("it is no tar archive")),
            _ => Err(archive("the archive is cut off")),
        }
    }

    fn header(&mut self, block: &[u8; BLOCK], zeros: u8) -> Result<State> {
        if block.iter().all(|byte| *byte == 0) {
            return match (zeros, self.next.pax || self.next.gnu) {
                (_, true) => Err(archive("the archive ends where an entry is due")),
                (0, _) => Ok(State::Header { zeros: 1 }),
                _ => Ok(State::End),
            };
        }
        if zeros > 0 {
            return Err(archive("an entry follows the end of the archive"));
        }
        if octal(&block[148..156]) != Some(checksum(block)) {
            return Err(archive(match self.first {
                true => "it is no tar archive",
                false => "a header's checksum is wrong",
            }));
        }
        let header = Header::read(block)?;
        let kind = header.kind;
        if matches!(kind, b'x' | b'g' | b'L' | b'K') {
            let refuse = |why| Err(refusal(&header.name, why));
            return match header.size {
                _ if kind == b'x' && (self.next.pax || self.next.gnu) => {
                    refuse("its header comes twice")
                }
                _ if matches!(kind, b'L' | b'K') && self.next.pax => {
                    refuse("its header comes twice")
                }
                _ if kind == b'g' && (self.next.pax || self.next.gnu) => {
                    refuse("its header has no entry")
                }
                0 | MAX_EXTENSION.. => refuse("its header is empty or too long"),
                left => {
                    self.extension.clear();
                    Ok(State::Extension { kind, left, padding: padding(left) })
                }
            };
        }
        self.entry(header)
    }

    /// Reads an extension that is here in whole.
    fn extended(&mut self, kind: u8, padding: u64) -> Result<State> {
        let data = std::mem::take(&mut self.extension);
        match kind {
            b'L' | b'K' => {
                let end = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let text = data[..end].to_vec();
                if text.is_empty() || text.contains(&0) {
                    return Err(archive("a long name is empty or has a zero byte in it"));
                }
                let slot = if kind == b'L' { &mut self.next.name } else { &mut self.next.target };
                if slot.replace(text).is_some() {
                    return Err(archive("a long name is said twice"));
                }
                self.next.gnu = true;
            }
            kind => {
                let said = records(&data)?;
                if kind == b'g' {
                    if said.name.is_some() || said.target.is_some() || said.size.is_some() {
                        return Err(archive("a global header names or sizes what follows"));
                    }
                } else {
                    self.next = Said { pax: true, ..said };
                }
            }
        }
        Ok(match padding {
            0 => State::Header { zeros: 0 },
            padding => State::Data(padding),
        })
    }

    fn entry(&mut self, mut header: Header) -> Result<State> {
        let said = std::mem::take(&mut self.next);
        header.name = said.name.unwrap_or(header.name);
        header.target = said.target.unwrap_or(header.target);
        header.size = said.size.unwrap_or(header.size);
        let refuse = |why| Err(refusal(&header.name, why));
        match header.kind {
            b'0' | 0 if header.name.ends_with(b"/") => {
                return refuse("a file's name ends with '/'");
            }
            b'0' | 0 => {}
            b'1' | b'2' | b'5' if header.size > 0 => {
                return refuse("a link or directory has data");
            }
            b'1' | b'2' | b'5' => {}
            b'3' | b'4' => return refuse("it is a device"),
            b'6' => return refuse("it is a fifo"),
            b'S' => return refuse("it is a sparse file; store it whole"),
            _ => return refuse("it is neither a file nor a directory nor a link"),
        }
        let parts = match inside(&header.name) {
            Ok(parts) => parts,
            Err(why) => return refuse(why),
        };
        if parts.is_empty() && header.kind != b'5' {
            return refuse("it would replace the directory itself");
        }
        if self.is_through_a_link(&parts) {
            return refuse("it lies beyond a symbolic link of the same archive");
        }
        let mut is_link = header.kind == b'2';
        if is_link && (header.target.is_empty() || header.target.len() > MAX_NAME) {
            return refuse("its target is empty or too long");
        }
        if header.kind == b'1' {
            let target = match inside(&header.target) {
                Ok(target) => target,
                Err(_) => return refuse("it is a hard link that leads out of the archive"),
            };
            if self.is_through_a_link(&target) {
                return refuse("it is a hard link through a symbolic link");
            }
            // A hard link to a symbolic link is another one.
            is_link = self.links.contains(&self.hash(&target));
        }
        if is_link {
            if self.links.len() >= MAX_LINKS {
                return refuse("the archive has too many symbolic links");
            }
            self.links.insert(self.hash(&parts));
        }
        let whole = header.size + padding(header.size);
        Ok(if whole == 0 { State::Header { zeros: 0 } } else { State::Data(whole) })
    }

    fn is_through_a_link(&self, parts: &[&[u8]]) -> bool {
        !self.links.is_empty()
            && (1..parts.len()).any(|n| self.links.contains(&self.hash(&parts[..n])))
    }

    fn hash(&self, parts: &[&[u8]]) -> u64 {
        self.hasher.hash_one(parts)
    }
}

/// What is read of a header.
struct Header {
    kind: u8,
    name: Vec<u8>,
    target: Vec<u8>,
    size: u64,
}

impl Header {
    fn read(block: &[u8; BLOCK]) -> Result<Self> {
        let mut name = text(&block[..100]).to_vec();
        let refuse = |why| Err(refusal(&name, why));
        match &block[257..265] {
            b"ustar\x0000" if &block[508..] == b"tar\0" => {
                return refuse("it is of star's old format");
            }
            b"ustar\x0000" => {}
            // Where these are no times, Go takes them for a prefix of the name.
            b"ustar  \0" => {
                if octal(&block[345..357]).is_none() || octal(&block[357..369]).is_none() {
                    return refuse("its times are no numbers");
                }
            }
            b"\0\0\0\0\0\0\0\0" => {}
            _ => return refuse("its format is unknown"),
        }
        let Some(size) = number(&block[124..136]) else { return refuse("its size is no number") };
        if &block[257..265] == b"ustar\x0000" {
            let prefix = text(&block[345..500]);
            if !prefix.is_empty() {
                name = [prefix, b"/", &name].concat();
            }
        }
        Ok(Self { kind: block[156], name, target: text(&block[157..257]).to_vec(), size })
    }
}

/// The records of a PAX header that say what we must know.
fn records(mut data: &[u8]) -> Result<Said> {
    let broken = || archive("an extended header is broken");
    let mut said = Said::default();
    while !data.is_empty() {
        let space = data.iter().take(8).position(|byte| *byte == b' ').ok_or_else(broken)?;
        let length =
            decimal(&data[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(broken)?;
        if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
            return Err(broken());
        }
        let record = &data[space + 1..length - 1];
        data = &data[length..];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let good = !value.is_empty() && !value.contains(&0);
        let again = match key {
            b"path" if good => said.name.replace(value.to_vec()).is_some(),
            b"linkpath" if good => said.target.replace(value.to_vec()).is_some(),
            b"size" => {
                let size = decimal(value).filter(|size| *size <= MAX_SIZE).ok_or_else(broken)?;
                said.size.replace(size).is_some()
            }
            b"path" | b"linkpath" | b"" => return Err(broken()),
            b"hdrcharset" => return Err(archive("an extended header changes the character set")),
            key if key.starts_with(b"GNU.sparse") => {
                return Err(archive("it has a sparse file; store it whole"));
            }
            _ => false,
        };
        if again {
            return Err(archive("an extended header says something twice"));
        }
    }
    Ok(said)
}

/// The parts of a name that stays inside; none for the root itself.
fn inside(name: &[u8]) -> std::result::Result<Vec<&[u8]>, &'static str> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err("its name is empty or too long");
    }
    if name.starts_with(b"/") {
        return Err("its name is absolute");
    }
    if name.contains(&0) {
        return Err("its name has a zero byte");
    }
    let parts = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let parts: Vec<_> = parts.collect();
    match parts.iter().any(|part| *part == b"..") {
        true => Err("its name has \"..\" in it"),
        false => Ok(parts),
    }
}

fn refusal(name: &[u8], why: &'static str) -> Refusal {
    let shown = String::from_utf8_lossy(name);
    Refusal { entry: shown.chars().take(200).collect(), why }
}

/// The first `left` bytes of these, or all.
fn shorter(left: u64, rest: &[u8]) -> usize {
    usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()))
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// The sum of a header's bytes, the checksum's own taken for spaces.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    sum(&block[..148]) + 8 * u64::from(b' ') + sum(&block[156..])
}

/// A field up to its first zero byte.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, with spaces and zero bytes around it; an empty field is 0.
fn octal(field: &[u8]) -> Option<u64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | 0);
    let begin = field.iter().position(|byte| !is_space(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !is_space(byte)).map_or(begin, |last| last + 1);
    field[begin..end].iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// A size: octal, or binary with the high bit set as GNU writes large ones.
fn number(field: &[u8]) -> Option<u64> {
    let size = match field.split_first() {
        Some((0x80, digits)) => digits.iter().try_fold(0_u64, |sum, byte| {
            sum.checked_mul(256).and_then(|sum| sum.checked_add(u64::from(*byte)))
        }),
        _ => octal(field),
    };
    size.filter(|size| *size <= MAX_SIZE)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Runs an archive in pieces through a check, as a fuzz target wants it: what passed, or why nothing more.
#[cfg(any(fuzzing, test))]
#[cfg_attr(not(fuzzing), allow(unreachable_pub))]
pub fn fuzz_tar_check(pieces: &[&[u8]]) -> std::result::Result<Vec<u8>, String> {
    let (mut check, mut kept, mut passed) = (TarCheck::new(), Vec::new(), Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        let n = check.pass(&kept).map_err(|refusal| refusal.to_string())?;
        passed.extend(kept.drain(..n));
    }
    check.finish(kept.len()).map_err(|refusal| refusal.to_string())?;
    Ok(passed)
}

#[cfg(test)]
#[path = "tar_check_tests.rs"]
mod tests;
