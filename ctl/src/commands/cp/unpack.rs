//! Unpacks an archive into a local directory. The archive's maker is not trusted: every path is walked from that
//! directory down, part by part, and no part may be a symbolic link, whoever made it. There are no devices, no
//! "..", no absolute names, and no owners but the user himself; modes are kept as docker keeps them, and
//! extended attributes are left out.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens,
    linkat, mkdirat, openat, statat, symlinkat, unlinkat, utimensat,
};
use tar::{Entry, EntryType};

use super::{
    entries,
    pieces::{Count, PieceReader},
    plan::Rename,
};
use crate::pipe::PIECE;

/// Directories within each other; each is a file descriptor.
const MAX_DEPTH: usize = 256;
/// The longest name or target, bytes.
const MAX_NAME: usize = 4096;

/// Unpacks into `dir`. `written` counts the entries that are there in whole.
pub(super) fn unpack(
    from: PieceReader,
    dir: &str,
    rename: &Rename,
    written: &Count,
) -> io::Result<()> {
    let root =
        openat(CWD, dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| io::Error::new(io::Error::from(e).kind(), format!("{dir}: {e}")))?;
    let mut tree = Tree { root, open: Vec::new() };
    entries::each(from, |entry| {
        let name = rename.apply(&entry.path_bytes());
        tree.add(entry, &name, rename).map_err(|error| {
            let shown = String::from_utf8_lossy(&name);
            io::Error::new(error.kind(), format!("{shown:?}: {error}"))
        })?;
        written.add(1);
        Ok(())
    })?;
    tree.leave(0)
}

/// The directory, and the one below it, and so on, in which something is being unpacked.
struct Tree {
    root: OwnedFd,
    open: Vec<Open>,
}

struct Open {
    name: Vec<u8>,
    fd: OwnedFd,
    /// What it is to have when all is in it: its mode and time.
    set: Option<(u32, u64)>,
}

impl Tree {
    fn add(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        name: &[u8],
        rename: &Rename,
    ) -> io::Result<()> {
        let header = entry.header();
        let (kind, mode, time) = (header.entry_type(), header.mode()? & 0o7777, header.mtime()?);
        let parts = inside(name)?;
        let Some((last, parents)) = parts.split_last() else { return Ok(()) };
        let size = entry.size();
        match kind {
            EntryType::Directory => {
                let parent = self.enter(parents)?;
                let there = there(parent, last)?;
                match there {
                    Some(FileType::Directory) => {}
                    Some(_) => return refuse("cannot overwrite a non-directory with a directory"),
                    // Others look in when it is done.
                    None => mkdirat(parent, *last, Mode::from_raw_mode(0o700))?,
                }
                self.enter(&parts)?;
                if let Some(open) = self.open.last_mut() {
                    open.set = Some((mode, time));
                }
            }
            EntryType::Regular => {
                let parent = self.make_room(parents, last)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let fd =
                    openat(parent, *last, flags | OFlags::NOFOLLOW, Mode::from_raw_mode(0o600))?;
                let mut file = File::from(fd);
                copy(entry, &mut file, size)?;
                fchmod(&file, Mode::from_raw_mode(mode))?;
                futimens(&file, &times(time))?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                if target.is_empty() || target.len() > MAX_NAME || target.contains(&0) {
                    return refuse("it is a link to nothing");
                }
                let parent = self.make_room(parents, last)?;
                symlinkat(&*target, parent, *last)?;
                utimensat(parent, *last, &times(time), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            EntryType::Link => {
                let target = rename.apply(&entry.link_name_bytes().unwrap_or_default());
                let target = inside(&target)?;
                let Some((old, old_parents)) = target.split_last() else {
                    return refuse("it is a hard link to the directory itself");
                };
                if target == parts {
                    return refuse("it is a hard link to itself");
                }
                let old_parent = self.walk(old_parents)?;
                let parent = self.make_room(parents, last)?;
                linkat(&old_parent, *old, parent, *last, AtFlags::empty())?;
            }
            EntryType::Char | EntryType::Block => return refuse("it is a device"),
            EntryType::Fifo => return refuse("it is a fifo"),
            _ => return refuse("it is neither a file nor a directory nor a link"),
        }
        Ok(())
    }

    /// Opens these directories below the root; what is missing is made.
    fn enter(&mut self, parts: &[&[u8]]) -> io::Result<BorrowedFd<'_>> {
        if parts.len() > MAX_DEPTH {
            return refuse("it lies too deep");
        }
        let same = self.open.iter().zip(parts).take_while(|(open, part)| open.name == **part);
        let same = same.count();
        self.leave(same)?;
        for part in &parts[same..] {
            let parent = self.here();
            if there(parent, part)?.is_none() {
                mkdirat(parent, *part, Mode::from_raw_mode(0o777))?;
            }
            let fd = open_dir(parent, part)?;
            self.open.push(Open { name: part.to_vec(), fd, set: None });
        }
        Ok(self.here())
    }

    /// Leaves all but the outer `keep` directories, which are then done.
    fn leave(&mut self, keep: usize) -> io::Result<()> {
        while self.open.len() > keep {
            if let Some(Open { fd, set: Some((mode, time)), .. }) = self.open.pop() {
                fchmod(&fd, Mode::from_raw_mode(mode))?;
                futimens(&fd, &times(time))?;
            }
        }
        Ok(())
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.root.as_fd(), |open| open.fd.as_fd())
    }

    /// Opens the parents and removes what has the name and is no directory.
    fn make_room(&mut self, parents: &[&[u8]], last: &[u8]) -> io::Result<BorrowedFd<'_>> {
        let parent = self.enter(parents)?;
        match there(parent, last)? {
            None => {}
            Some(FileType::Directory) => {
                return refuse("cannot overwrite a directory with a non-directory");
            }
            Some(_) => unlinkat(parent, last, AtFlags::empty())?,
        }
        Ok(parent)
    }

    /// Opens directories that are there, leaving none.
    fn walk(&self, parts: &[&[u8]]) -> io::Result<OwnedFd> {
        let mut fd = self.root.try_clone()?;
        for part in parts {
            fd = open_dir(fd.as_fd(), part)?;
        }
        Ok(fd)
    }
}

fn refuse<T>(why: &str) -> io::Result<T> {
    Err(io::Error::other(why))
}

/// The parts of a name that stays inside.
fn inside(name: &[u8]) -> io::Result<Vec<&[u8]>> {
    if name.is_empty() || name.len() > MAX_NAME || name.contains(&0) {
        return refuse("its name is empty, too long or has a zero byte");
    }
    if name.starts_with(b"/") {
        return refuse("its name is absolute");
    }
    let parts = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let parts: Vec<_> = parts.collect();
    match parts.iter().any(|part| *part == b"..") {
        true => refuse("its name leads out of the directory"),
        false => Ok(parts),
    }
}

/// What has a name in a directory; a link counts as itself.
fn there(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<FileType>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    if there(dir, name)? == Some(FileType::Symlink) {
        return refuse("it lies beyond a symbolic link, and nothing is written through one");
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

fn times(seconds: u64) -> Timestamps {
    let seconds = i64::try_from(seconds).unwrap_or_default();
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
    }
}

fn copy(from: &mut impl Read, to: &mut File, size: u64) -> io::Result<()> {
    // Its own buffer is as large as the pieces, unlike that of io::copy.
    let mut from = io::BufReader::with_capacity(PIECE, from.take(size));
    if io::copy(&mut from, to)? == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
        path::Path,
    };

    use tar::Header;

    use super::{
        super::{pieces, plan},
        *,
    };

    fn entry(kind: EntryType, name: &[u8], target: &[u8], data: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o4750);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        header.set_cksum();
        let mut bytes = [header.as_bytes(), data].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn file(name: &[u8]) -> Vec<u8> {
        entry(EntryType::Regular, name, b"", b"new")
    }

    /// Unpacks, and says how many entries were written.
    fn run(entries: &[Vec<u8>], dir: &Path) -> (u64, io::Result<()>) {
        let archive = [entries.concat(), vec![0; 1024]].concat();
        let (queue, reader) = pieces::download();
        let feed = std::thread::spawn(move || {
            for piece in archive.chunks(700) {
                if queue.blocking_send(Some(piece.to_vec().into())).is_err() {
                    return;
                }
            }
        });
        let source = plan::Source { path: "/top".into(), is_dir: true, size: None, rebase: None };
        let dir = dir.to_str().unwrap().to_owned();
        let to = plan::Destination { path: dir.clone(), exists: true, is_dir: true };
        let (written, rename) = (Count::default(), plan::plan(&source, &to).unwrap().rename);
        let result = unpack(reader, &dir, &rename, &written);
        feed.join().unwrap();
        (written.get(), result)
    }

    #[test]
    fn an_honest_archive_is_unpacked_with_its_modes_and_times() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("old"), "old").unwrap();
        symlink("old", dir.path().join("link")).unwrap();
        let (written, result) = run(
            &[
                entry(EntryType::Directory, b"top/", b"", b""),
                file(b"top/file"),
                entry(EntryType::Link, b"top/again", b"top/file", b""),
                entry(EntryType::Symlink, b"top/out", b"../../anywhere", b""),
                file(b"made/on/the/way"),
                file(b"link"),
            ],
            dir.path(),
        );
        result.unwrap();
        assert_eq!(written, 6);
        let meta = |name: &str| fs::symlink_metadata(dir.path().join(name)).unwrap();
        assert_eq!(meta("top").permissions().mode() & 0o7777, 0o4750);
        assert_eq!((meta("top").mtime(), meta("top/file").mtime()), (1_000_000, 1_000_000));
        assert_eq!((meta("top/file").nlink(), meta("top/file").len()), (2, 3));
        assert!(meta("top/out").is_symlink() && meta("link").is_file());
        assert_eq!(fs::read(dir.path().join("old")).unwrap(), b"old", "written through a link");
        assert_eq!(fs::read(dir.path().join("made/on/the/way")).unwrap(), b"new");
    }

    #[test]
    fn nothing_is_written_outside_whatever_the_archive_says() {
        let link = |name: &[u8], target: &[u8]| entry(EntryType::Symlink, name, target, b"");
        let dir = || entry(EntryType::Directory, b"a/", b"", b"");
        let cases: Vec<(Vec<Vec<u8>>, &str)> = vec![
            (vec![file(b"/tmp/dockctl-canary")], "absolute"),
            (vec![file(b"../canary")], "leads out"),
            (vec![file(b"a/../../canary")], "leads out"),
            (vec![link(b"a", b".."), file(b"a/canary")], "beyond a symbolic link"),
            (vec![link(b"a", b".."), dir(), file(b"a/canary")], "cannot overwrite"),
            (vec![link(b"a", b".."), link(b"b", b"a"), file(b"b/canary")], "beyond a symbolic"),
            (vec![file(b"there/canary")], "beyond a symbolic link"),
            (vec![entry(EntryType::Link, b"a", b"../canary", b""), file(b"a")], "leads out"),
            (vec![entry(EntryType::Link, b"a", b"there/canary", b"")], "beyond a symbolic"),
            (vec![link(b"a", b".."), entry(EntryType::Link, b"b", b"a/canary", b"")], "beyond"),
            (vec![entry(EntryType::Char, b"null", b"", b"")], "device"),
            (vec![entry(EntryType::Block, b"sda", b"", b"")], "device"),
            (vec![entry(EntryType::Fifo, b"pipe", b"", b"")], "fifo"),
            (vec![entry(EntryType::Directory, b"canary/", b"", b"")], "cannot overwrite"),
            (vec![dir(), file(b"a")], "cannot overwrite"),
        ];
        for (entries, says) in cases {
            let outer = tempfile::tempdir().unwrap();
            let inner = outer.path().join("inner");
            fs::create_dir(&inner).unwrap();
            for canary in [outer.path().join("canary"), inner.join("canary")] {
                fs::write(canary, "safe").unwrap();
            }
            symlink("..", inner.join("there")).unwrap();
            let error = run(&entries, &inner).1.unwrap_err().to_string();
            assert!(error.contains(says), "{error:?} does not say {says:?}");
            for canary in [outer.path().join("canary"), inner.join("canary")] {
                assert_eq!(fs::read(&canary).unwrap(), b"safe", "{says}");
                assert_eq!(fs::metadata(&canary).unwrap().nlink(), 1, "{says}");
            }
        }
        assert!(!Path::new("/tmp/dockctl-canary").exists());
    }
}
