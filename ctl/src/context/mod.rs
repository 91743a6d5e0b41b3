//! A build's context: the local files that `.dockerignore` lets through, as a tar archive that is made
//! while it is sent. Links stay links, owners become root, as docker's client does it.

mod ignore;

use std::{
    fs::{self, File, Metadata},
    io::{self, Cursor, Read, Write},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tar::{Builder, EntryType, Header};

use crate::{
    error::{Error, Exit, Result},
    output::clean,
    pipe::of_file,
};
use ignore::Ignore;

/// The name of a Dockerfile in an archive that is made for it alone, or that came from elsewhere.
const SENT: &str = ".dockctl.Dockerfile";

/// The longest name of an image that is looked at, and the longest ARG, bytes; the engine takes less.
const MAX_NAME: usize = 4096;

/// What is to be sent.
pub(crate) struct Context {
    dir: Option<PathBuf>,
    ignore: Ignore,
    /// The Dockerfile's path in the archive.
    pub(crate) dockerfile: String,
    /// The Dockerfile's text, where it is no file of the context or not known as one.
    sent: Option<Vec<u8>>,
    /// The Dockerfile's text.
    pub(crate) text: Vec<u8>,
}

impl Context {
    /// A directory. `file` is the Dockerfile, anywhere; None means the directory's own.
    pub(crate) fn of_dir(dir: &Path, file: Option<&Path>) -> Result<Self> {
        if !fs::metadata(dir).map_err(|e| of_file(dir, &e))?.is_dir() {
            return Err(Error::new(Exit::Failed, format!("{}: is no directory", dir.display()))
                .hint("a Dockerfile elsewhere is named with -f"));
        }
        let own = dir.join("Dockerfile");
        let file = file.unwrap_or(&own);
        let text = fs::read(file).map_err(|e| of_file(file, &e))?;
        let real = |path: &Path| fs::canonicalize(path).map_err(|e| of_file(path, &e));
        let inside = real(file)?.strip_prefix(real(dir)?).ok().and_then(slashed);
        let mut ignore = read_ignore(dir)?;
        // The engine needs both files; it leaves them out of the context itself.
        for needed in inside.as_deref().into_iter().chain([".dockerignore"]) {
            if ignore.excludes(needed) {
                let again = format!("!{}", escaped(needed));
                ignore.add(&again).map_err(|e| Error::new(Exit::Failed, e))?;
            }
        }
        let sent = inside.is_none().then(|| text.clone());
        let dockerfile = inside.unwrap_or_else(|| SENT.to_owned());
        Ok(Self { dir: Some(dir.to_owned()), ignore, dockerfile, sent, text })
    }

    /// A Dockerfile's text, with the files of a directory or none.
    pub(crate) fn of_text(text: Vec<u8>, dir: Option<&Path>) -> Result<Self> {
        let ignore = dir.map(read_ignore).transpose()?.unwrap_or_default();
        let (dir, sent) = (dir.map(Path::to_owned), Some(text.clone()));
        Ok(Self { dir, ignore, dockerfile: SENT.to_owned(), sent, text })
    }

    /// Writes the archive.
    pub(crate) fn write(&self, out: impl Write) -> io::Result<()> {
        let mut tar = Builder::new(out);
        if let Some(dir) = &self.dir {
            self.add_dir(&mut tar, dir, "")?;
        }
        if let Some(text) = &self.sent {
            let mut header = Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            tar.append_data(&mut header, SENT, Cursor::new(text))?;
        }
        tar.into_inner()?.flush()
    }

    fn add_dir(&self, tar: &mut Builder<impl Write>, dir: &Path, name: &str) -> io::Result<()> {
        let about = |e: io::Error| io::Error::other(format!("{}: {e}", dir.display()));
        let entries: io::Result<Vec<_>> = fs::read_dir(dir).map_err(about)?.collect();
        let mut entries = entries.map_err(about)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let about = |e: io::Error| io::Error::other(format!("{}: {e}", path.display()));
            let own = entry.file_name();
            let own = own.to_str().ok_or_else(|| about(io::Error::other("is not UTF-8")))?;
            let name = if name.is_empty() { own.to_owned() } else { format!("{name}/{own}") };
            let out = self.ignore.excludes(&name);
            let meta = fs::symlink_metadata(&path).map_err(about)?;
            if !out {
                add(tar, &path, &name, &meta).map_err(about)?;
            }
            if meta.is_dir() && (!out || self.ignore.may_return(&name)) {
                self.add_dir(tar, &path, &name)?;
            }
        }
        Ok(())
    }
}

fn add(tar: &mut Builder<impl Write>, path: &Path, name: &str, meta: &Metadata) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(meta.permissions().mode() & 0o7777);
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
    header.set_size(0);
    let kind = meta.file_type();
    if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        return tar.append_link(&mut header, name, fs::read_link(path)?);
    }
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        return tar.append_data(&mut header, format!("{name}/"), io::empty());
    }
    if kind.is_fifo() {
        header.set_entry_type(EntryType::Fifo);
        return tar.append_data(&mut header, name, io::empty());
    }
    if !kind.is_file() {
        return Ok(()); // Sockets and devices have no place in an image.
    }
    let file = File::open(path)?;
    header.set_size(meta.len());
    // The size stands before the data; a file that grows is cut there, one that shrinks ends the build.
    let data = Exact { inner: file.take(meta.len()), left: meta.len() };
    tar.append_data(&mut header, name, data)
}

/// A reader that must give just so much.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left -= read as u64;
        match read {
            0 if self.left > 0 && !buffer.is_empty() => {
                Err(io::Error::other("it became shorter while it was read"))
            }
            read => Ok(read),
        }
    }
}

fn read_ignore(dir: &Path) -> Result<Ignore> {
    let path = dir.join(".dockerignore");
    match fs::read_to_string(&path) {
        Ok(text) => Ignore::parse(&text)
            .map_err(|e| Error::new(Exit::Failed, format!("{}: {}", path.display(), clean(&e)))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Ignore::default()),
        Err(e) => Err(of_file(&path, &e)),
    }
}

fn slashed(path: &Path) -> Option<String> {
    path.to_str().map(str::to_owned)
}

/// A path as a pattern for itself.
fn escaped(path: &str) -> String {
    path.chars().flat_map(|c| "*?[\\".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Whether these first bytes are those of an archive that the engine reads: tar, gzip, bzip2, xz, zstd.
pub(crate) fn is_archive(begin: &[u8]) -> bool {
    let magic: [&[u8]; 4] = [b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"];
    magic.iter().any(|m| begin.starts_with(m))
        || begin.get(257..262).is_some_and(|ustar| ustar == b"ustar")
}

/// The images that a Dockerfile begins from, whose registries the engine may have to ask. Names with
/// variables are left out unless `args` or the Dockerfile's own ARG say their values.
pub(crate) fn bases(dockerfile: &[u8], args: &[(String, String)]) -> Vec<String> {
    let text = String::from_utf8_lossy(dockerfile);
    let mut values: Vec<(String, String)> = args.to_vec();
    let mut bases = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        let mut found = match verb.as_str() {
            "ARG" => {
                values.extend(words.filter_map(|word| {
                    let (name, value) = word.split_once('=').filter(|_| word.len() <= MAX_NAME)?;
                    Some((name.to_owned(), value.trim_matches('"').to_owned()))
                }));
                continue;
            }
            "FROM" => words.find(|word| !word.starts_with("--")),
            "COPY" => words.find_map(|word| word.strip_prefix("--from=")),
            _ => None,
        }
        .unwrap_or_default()
        .to_owned();
        for (name, value) in &values {
            for variable in [format!("${{{name}}}"), format!("${name}")] {
                found = found.replace(&variable, value);
                // A value may hold others, and each of them several more.
                if found.len() > MAX_NAME {
                    found.clear();
                }
            }
        }
        if !found.is_empty() && !found.contains('$') {
            bases.push(found);
        }
    }
    bases
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(context: &Context) -> Vec<String> {
        let mut out = Vec::new();
        context.write(&mut out).unwrap();
        let mut archive = tar::Archive::new(out.as_slice());
        let entries = archive.entries().unwrap();
        entries.map(|e| e.unwrap().path().unwrap().to_str().unwrap().to_owned()).collect()
    }

    fn files(names: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_context_has_what_dockerignore_lets_through() {
        let long = "l".repeat(150);
        let dir = files(&[
            ("Dockerfile", "FROM scratch"),
            (".dockerignore", "*\n!src\nsrc/*.tmp\n!keep/me"),
            ("secret", "s"),
            ("src/a", "a"),
            ("src/b.tmp", "b"),
            (&format!("src/{long}"), "long"),
            ("keep/me", "m"),
            ("keep/not", "n"),
        ]);
        symlink("/etc/passwd", dir.path().join("src/link")).unwrap();
        let context = Context::of_dir(dir.path(), None).unwrap();
        assert_eq!(context.dockerfile, "Dockerfile");
        let long = format!("src/{long}");
        let want = [".dockerignore", "Dockerfile", "keep/me", "src/", "src/a", "src/link", &long];
        assert_eq!(names(&context), want);
    }

    #[test]
    fn a_dockerfile_from_elsewhere_is_sent_along() {
        let dir = files(&[("x", "x")]);
        let other = files(&[("My.Dockerfile", "FROM a")]);
        let context =
            Context::of_dir(dir.path(), Some(&other.path().join("My.Dockerfile"))).unwrap();
        assert_eq!(names(&context), ["x", SENT]);
        assert_eq!(context.dockerfile, SENT);
        assert_eq!(names(&Context::of_text(b"FROM a".to_vec(), None).unwrap()), [SENT]);
        let dir = files(&[("build/Dockerfile", "FROM a")]);
        let context = Context::of_dir(dir.path(), Some(&dir.path().join("build/Dockerfile")));
        assert_eq!(context.unwrap().dockerfile, "build/Dockerfile");
        assert!(Context::of_dir(dir.path(), None).is_err());
    }

    #[test]
    fn a_file_that_shrinks_is_no_good_archive() {
        let mut exact = Exact { inner: io::Cursor::new(b"ab"), left: 3 };
        assert!(exact.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn bases_are_found() {
        let text =
            b"ARG V=2\nFROM --platform=linux/amd64 reg/a:${V} AS x\nfrom $B\nCOPY --from=c:1 / /\n";
        let args = [("B".to_owned(), "b:1".to_owned())];
        assert_eq!(bases(text, &args), ["reg/a:2", "b:1", "c:1"]);
        assert_eq!(bases(b"FROM $X", &[]), Vec::<String>::new());

        // Names that would double with each line.
        let mut text: String =
            (0..60).map(|n| format!("ARG A{n}=${{A{0}}}${{A{0}}}\n", n + 1)).collect();
        text.push_str("FROM ${A0}\nFROM ok\nFROM ");
        text.push_str(&"$A0".repeat(2_000_000));
        assert_eq!(bases(text.as_bytes(), &[]), ["ok"]);
    }

    #[test]
    fn archives_are_known_by_their_begin() {
        let mut tar = Vec::new();
        Context::of_text(Vec::new(), None).unwrap().write(&mut tar).unwrap();
        assert!(is_archive(&tar[..512]) && is_archive(b"\x1f\x8b\x08\x00"));
        assert!(!is_archive(b"FROM scratch\n"));
    }
}
