//! The few secrets that live in files of their own beside the database: the CA's key, the key of the
//! tokens, the first password. Written so that a power cut leaves the old file or the new one, never
//! a torn one. Called by `ca` and `app::auth`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Mode of a file that only its owner may read.
pub(crate) const PRIVATE: u32 = 0o600;
/// Mode of a file that anybody may read.
pub(crate) const PUBLIC: u32 = 0o644;

/// Replaces a file atomically and durably.
pub(crate) fn write(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    stage(path, contents, mode)?;
    publish(path)
}

/// The first half of [`write`]: the new contents are on the disk, but not yet under their name.
pub(crate) fn stage(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let staged = staged(path);
    // A leftover of a crash may have another owner or mode.
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&staged)?;
    file.write_all(contents)?;
    file.sync_all()?;
    sync_directory(directory(path))
}

/// The second half of [`write`].
pub(crate) fn publish(path: &Path) -> io::Result<()> {
    fs::rename(staged(path), path)?;
    sync_directory(directory(path))
}

/// Where [`stage`] puts the new contents of a file.
pub(crate) fn staged(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Reads a file; none if it does not exist.
pub(crate) fn read_optional(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_private_file_is_replaced_whole_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert_eq!(read_optional(&path).unwrap(), None);
        fs::write(dir.path().join("key.new"), "left over").unwrap();
        write(&path, b"one", PRIVATE).unwrap();
        write(&path, b"two", PRIVATE).unwrap();
        assert_eq!(read_optional(&path).unwrap().as_deref(), Some(b"two".as_slice()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
