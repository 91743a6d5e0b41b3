//! Makes tar archives: of local files, as docker makes them, and of another archive whose top gets a new name.
//! Names that are too long for a header go into PAX records.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::Path,
};

use tar::{EntryType, Header};

use super::{entries, pieces::PieceReader, plan::Rename};
use crate::pipe::Pieces;

/// Files with several names that are remembered; more are copied once for each name.
const MAX_LINKED: usize = 100_000;
/// The end of an archive.
const END: [u8; 1024] = [0; 1024];

type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// Packs what is at `path` under the name `top`; "." leaves the directory itself out.
pub(super) fn pack(out: &mut Pieces, path: &Path, top: &str) -> io::Result<()> {
    let mut packer = Packer { out, linked: HashMap::new() };
    let name = if top == "." { &[][..] } else { top.as_bytes() };
    packer.any(path, name)?;
    out.write_all(&END)
}

struct Packer<'a> {
    out: &'a mut Pieces,
    /// The first name of each file that has several, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

impl Packer<'_> {
    fn any(&mut self, path: &Path, name: &[u8]) -> io::Result<()> {
        let at =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let meta = fs::symlink_metadata(path).map_err(at)?;
        let kind = meta.file_type();
        if kind.is_dir() {
            if !name.is_empty() {
                let header = header(&meta, EntryType::Directory, 0);
                put(self.out, header, &[name, b"/"].concat(), b"", Vec::new())?;
            }
            let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let mut entries = entries.map_err(at)?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let last = entry.file_name();
                let below = if name.is_empty() { &[][..] } else { &[name, b"/"].concat() };
                self.any(&entry.path(), &[below, last.as_bytes()].concat())?;
            }
            return Ok(());
        }
        if kind.is_symlink() {
            let target = fs::read_link(path).map_err(at)?;
            let header = header(&meta, EntryType::Symlink, 0);
            return put(self.out, header, name, target.as_os_str().as_bytes(), Vec::new());
        }
        if kind.is_socket() {
            return Ok(()); // It means nothing elsewhere; docker leaves it out, too.
        }
        if !kind.is_file() {
            return Err(at(io::Error::other("it is a device or a fifo, which is not copied")));
        }
        let inode = (meta.dev(), meta.ino());
        if meta.nlink() > 1 {
            if let Some(first) = self.linked.get(&inode) {
                return put(self.out, header(&meta, EntryType::Link, 0), name, first, Vec::new());
            }
            if self.linked.len() < MAX_LINKED {
                self.linked.insert(inode, name.to_vec());
            }
        }
        let file = File::open(path).map_err(at)?;
        let header = header(&meta, EntryType::Regular, meta.len());
        put(self.out, header, name, b"", Vec::new())?;
        self.out.copy(file, meta.len()).map_err(at)?;
        pad(self.out, meta.len())
    }
}

/// Writes the same archive with a new name for its top.
pub(super) fn renamed(from: PieceReader, out: &mut Pieces, rename: &Rename) -> io::Result<()> {
    entries::each(from, |entry| {
        let kind = entry.header().entry_type();
        let name = rename.apply(&entry.path_bytes());
        let target = entry.link_name_bytes().unwrap_or_default();
        let target = if kind.is_hard_link() { rename.apply(&target) } else { target.into_owned() };
        let mut records = Records::new();
        if let Some(said) = entry.pax_extensions()? {
            for record in said {
                let record = record?;
                let key = record.key_bytes();
                if !matches!(key, b"path" | b"linkpath" | b"size") {
                    records.push((key.to_vec(), record.value_bytes().to_vec()));
                }
            }
        }
        let (old, size) = (entry.header(), entry.size());
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(old.mode()?);
        header.set_uid(old.uid()?);
        header.set_gid(old.gid()?);
        header.set_mtime(old.mtime()?);
        header.set_size(size);
        put(out, header, &name, &target, records)?;
        out.copy(entry, size)?;
        pad(out, size)
    })?;
    out.write_all(&END)
}

fn header(meta: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(meta.mode() & 0o7777);
    header.set_uid(meta.uid().into());
    header.set_gid(meta.gid().into());
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or_default());
    header.set_size(size);
    header
}

/// Writes an entry's header, and before it what the header has no room for.
fn put(
    out: &mut Pieces,
    mut header: Header,
    name: &[u8],
    target: &[u8],
    mut records: Records,
) -> io::Result<()> {
    let mut fit = |field: &mut [u8; 100], value: &[u8], key: &[u8]| {
        let room = value.len().min(field.len());
        field[..room].copy_from_slice(&value[..room]);
        if room < value.len() {
            records.push((key.to_vec(), value.to_vec()));
        }
    };
    let old = header.as_old_mut();
    fit(&mut old.name, name, b"path");
    fit(&mut old.linkname, target, b"linkpath");
    if !records.is_empty() {
        let data = records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>();
        let mut extension = Header::new_ustar();
        extension.set_entry_type(EntryType::XHeader);
        extension.as_old_mut().name[..9].copy_from_slice(b"PaxHeader");
        extension.set_mode(0o644);
        extension.set_size(data.len() as u64);
        extension.set_cksum();
        out.write_all(extension.as_bytes())?;
        out.write_all(&data)?;
        pad(out, data.len() as u64)?;
    }
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// A PAX record, which begins with its own length.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn pad(out: &mut Pieces, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % 512).unwrap_or_default();
    if over == 0 { Ok(()) } else { out.write_all(&END[..512 - over]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_itself() {
        assert_eq!(record(b"path", b"x"), b"9 path=x\n");
        for n in [1, 80, 88, 89, 90, 91, 900, 990, 5000] {
            let record = record(b"path", &vec![b'n'; n]);
            let length = record.split(|b| *b == b' ').next().unwrap();
            assert_eq!(std::str::from_utf8(length).unwrap(), record.len().to_string());
        }
    }
}
