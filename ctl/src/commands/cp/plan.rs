//! What a copy makes of its two paths, as docker does (its pkg/archive/copy.go): where the archive is unpacked
//! and under which name its top comes to lie. Pure; paths are Unix paths in text.

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// The path of what is read, after links.
    pub(super) path: String,
    /// Whether it is a directory.
    pub(super) is_dir: bool,
    /// A file's size, bytes.
    pub(super) size: Option<u64>,
    /// The name it was asked for by, where a link's target is read instead.
    pub(super) rebase: Option<String>,
}

/// Where it is copied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    /// The path, after links.
    pub(super) path: String,
    /// Whether anything is there.
    pub(super) exists: bool,
    /// Whether that is a directory.
    pub(super) is_dir: bool,
}

/// How the archive is unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The directory.
    pub(super) dir: String,
    /// The names in it.
    pub(super) rename: Rename,
}

/// The top of an archive gets another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rename {
    from: String,
    /// The new name.
    pub(super) to: String,
}

/// Decides; or says what docker says.
pub(super) fn plan(source: &Source, destination: &Destination) -> Result<Plan, &'static str> {
    let (dir, base) = split(&destination.path);
    let mut from = split(&source.path).1;
    if from == "/" {
        from = ".".to_owned(); // The agent gives the root's archive as that of "/.".
    }
    let own = source.rebase.clone().unwrap_or_else(|| from.clone());
    let (dir, to) = match destination {
        Destination { exists: true, is_dir: true, .. } => (destination.path.clone(), own),
        Destination { exists: true, .. } if source.is_dir => return Err("cannot copy directory"),
        Destination { exists: true, .. } => (dir, base),
        _ if !source.is_dir && asserts_directory(&destination.path) => {
            return Err("no such directory");
        }
        _ => (dir, base),
    };
    Ok(Plan { dir, rename: Rename { from, to } })
}

impl Rename {
    /// Whether every name stays as it is.
    pub(super) fn is_none(&self) -> bool {
        self.from == self.to
    }

    /// The new name of an entry, or of what a hard link leads to.
    pub(super) fn apply(&self, name: &[u8]) -> Vec<u8> {
        if self.is_none() {
            return name.to_vec();
        }
        let mut parts = name.splitn(2, |byte| *byte == b'/');
        if parts.next() != Some(self.from.as_bytes()) {
            return name.to_vec();
        }
        [self.to.as_bytes(), &name[self.from.len()..]].concat()
    }
}

/// Go's filepath.Clean.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".to_owned(),
        (false, path) => path,
    }
}

/// Go's filepath.Join for two.
pub(super) fn join(dir: &str, path: &str) -> String {
    if dir.is_empty() { clean(path) } else { clean(&format!("{dir}/{path}")) }
}

/// Go's filepath.Base.
pub(super) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed {
        "" if path.is_empty() => ".",
        "" => "/",
        path => path.rsplit('/').next().unwrap_or(path),
    }
}

/// Whether a path says that it is a directory: it ends with "/" or "/.".
pub(super) fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || base(path) == "."
}

/// A path's directory and its last part, which is "." where the path said so.
pub(super) fn split(path: &str) -> (String, String) {
    let mut cleaned = clean(path);
    if base(path) == "." {
        cleaned.push_str("/.");
    }
    let dir = cleaned.rfind('/').map_or("", |slash| &cleaned[..=slash]);
    (clean(dir), base(&cleaned).to_owned())
}

/// `cleaned` with what `original` said of being a directory.
pub(super) fn keep_assertion(cleaned: String, original: &str) -> String {
    let mut path = cleaned;
    if base(&path) != "." && base(original) == "." {
        path.push_str(if path.ends_with('/') { "." } else { "/." });
    }
    if !path.ends_with('/') && original.ends_with('/') {
        path.push('/');
    }
    path
}

/// The path of a link's target with what `path` said of being a directory, and the name to give it.
pub(super) fn followed(path: &str, target: &str) -> (String, Option<String>) {
    let mut resolved = target.to_owned();
    if base(path) == "." && base(&resolved) != "." {
        resolved.push_str("/.");
    }
    if path.ends_with('/') && !resolved.ends_with('/') {
        resolved.push('/');
    }
    let renamed = base(path) != base(&resolved);
    let name = renamed.then(|| base(path).to_owned());
    (resolved, name)
}

/// Where a link at `path` leads.
pub(super) fn target_of(path: &str, target: &str) -> String {
    if target.starts_with('/') { target.to_owned() } else { join(&split(path).0, target) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart_as_go_does() {
        for (path, want) in [
            ("", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("a/../b", "b"),
            ("/..", "/"),
            ("../a", "../a"),
            ("a/..", "."),
            ("./a/.", "a"),
            ("../../a/..", "../.."),
        ] {
            assert_eq!(clean(path), want, "{path}");
        }
        for (path, dir, last) in [
            ("/a/b", "/a", "b"),
            ("/a/b/", "/a", "b"),
            ("/a/b/.", "/a/b", "."),
            ("/", "/", "/"),
            ("/.", "/", "."),
            ("a", ".", "a"),
            (".", ".", "."),
            ("/a", "/", "a"),
        ] {
            assert_eq!(split(path), (dir.to_owned(), last.to_owned()), "{path}");
        }
        assert_eq!(keep_assertion("/w/a".into(), "a/."), "/w/a/.");
        assert_eq!(keep_assertion("/w/a".into(), "a/"), "/w/a/");
        assert_eq!(keep_assertion("/w".into(), "."), "/w/.");
        assert_eq!(keep_assertion("/".into(), "/."), "/.");
        assert_eq!(followed("/a/link", "/b/file"), ("/b/file".into(), Some("link".into())));
        assert_eq!(followed("/a/link/.", "/b/dir"), ("/b/dir/.".into(), None));
        assert_eq!(target_of("/a/link", "../x"), "/x");
        assert_eq!(target_of("/a/link", "/x/y"), "/x/y");
    }

    #[test]
    fn every_case_of_docker_cp() {
        let run = |from: &str, is_dir: bool, to: &str, there: Option<bool>| {
            let source = Source { path: from.to_owned(), is_dir, size: None, rebase: None };
            let (exists, dir) = (there.is_some(), there == Some(true));
            let destination = Destination { path: to.to_owned(), exists, is_dir: dir };
            plan(&source, &destination).map(|plan| (plan.dir, plan.rename.to))
        };
        let ok = |dir: &str, name: &str| Ok((dir.to_owned(), name.to_owned()));
        assert_eq!(run("/s/f", false, "/d/g", None), ok("/d", "g"));
        assert_eq!(run("/s/f", false, "/d/g/", None), Err("no such directory"));
        assert_eq!(run("/s/f", false, "/d/g", Some(false)), ok("/d", "g"));
        assert_eq!(run("/s/f", false, "/d", Some(true)), ok("/d", "f"));
        assert_eq!(run("/s/dir", true, "/d/new", None), ok("/d", "new"));
        assert_eq!(run("/s/dir/.", true, "/d/new", None), ok("/d", "new"));
        assert_eq!(run("/s/dir", true, "/d/f", Some(false)), Err("cannot copy directory"));
        assert_eq!(run("/s/dir", true, "/d", Some(true)), ok("/d", "dir"));
        assert_eq!(run("/s/dir/.", true, "/d", Some(true)), ok("/d", "."));
        assert_eq!(run("/", true, "/d", Some(true)), ok("/d", "."));
        assert_eq!(run("/", true, "/d/new", None), ok("/d", "new"));
    }

    #[test]
    fn only_the_top_is_renamed() {
        let rename = |from: &str, to: &str| Rename { from: from.into(), to: to.into() };
        let etc = rename("etc", "new");
        assert_eq!(etc.apply(b"etc/"), b"new/");
        assert_eq!(etc.apply(b"etc/etc/x"), b"new/etc/x");
        assert_eq!(etc.apply(b"etcetera"), b"etcetera");
        assert_eq!(rename(".", "new").apply(b"./a/b"), b"new/a/b");
        assert_eq!(rename(".", "new").apply(b"./"), b"new/");
        assert_eq!(rename(".", ".").apply(b"./a"), b"./a");
    }
}
