//! The paths of this machine that a copy reads and writes, as docker's client looks at them.

use std::{fs, io, path::absolute};

use super::{
    failed,
    plan::{self, Destination, Source},
};
use crate::{
    error::{Error, Result},
    output::clean,
};

/// Links that are followed one after the other, as docker has it.
const MAX_LINKS: usize = 10;

/// A failure of this machine's own files.
pub(super) fn failure(error: io::Error) -> Error {
    failed(clean(&error.to_string()))
}

/// An absolute path that still says whether it must be a directory.
pub(super) fn path(text: &str) -> Result<String> {
    let path = absolute(text)?;
    let path = path.to_str().ok_or_else(|| Error::usage("the path is not UTF-8"))?;
    Ok(plan::keep_assertion(plan::clean(path), text))
}

/// docker's check of a place to write to.
pub(super) fn check_output(path: &str) -> Result<()> {
    let parent = plan::split(&plan::clean(path)).0;
    if fs::metadata(&parent).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        let why = format!("invalid output path: directory \"{}\" does not exist", clean(&parent));
        return Err(failed(why));
    }
    match fs::metadata(path) {
        Ok(meta) if !meta.is_dir() && !meta.is_file() => Err(failed(format!(
            "invalid output path: \"{}\" must be a directory or a regular file",
            clean(path)
        ))),
        _ => Ok(()),
    }
}

/// A path of this machine to copy from.
pub(super) fn source(path: &str, follow: bool) -> Result<Source> {
    let at = |what: &str, error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        };
        failed(format!("{what} {}: {why}", clean(path)))
    };
    let resolve = |path: &str| -> Result<String> {
        let resolved = fs::canonicalize(path).map_err(|e| at("lstat", e))?;
        let text = resolved.to_str().ok_or_else(|| failed("the path is not UTF-8"))?;
        Ok(text.to_owned())
    };
    let (resolved, rebase) = if follow {
        plan::followed(path, &resolve(path)?)
    } else {
        let (parent, last) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = resolve(&format!("{parent}/"))?;
        let resolved = format!("{}/{last}", parent.trim_end_matches('/'));
        let renamed = path.ends_with('/') && plan::base(path) != plan::base(&resolved);
        (resolved, renamed.then(|| plan::base(path).to_owned()))
    };
    let meta = fs::symlink_metadata(&resolved).map_err(|e| at("lstat", e))?;
    let size = meta.is_file().then_some(meta.len());
    Ok(Source { path: resolved, is_dir: meta.is_dir(), size, rebase })
}

/// A path of this machine to copy to; links there are followed.
pub(super) fn destination(path: &str) -> Result<Destination> {
    let mut at = path.to_owned();
    for _ in 0..=MAX_LINKS {
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_symlink() => {
                let target = fs::read_link(&at).map_err(failure)?;
                let target = target.to_str().ok_or_else(|| failed("a link is not UTF-8"))?;
                at = plan::target_of(&at, target);
            }
            Ok(meta) => return Ok(Destination { path: at, exists: true, is_dir: meta.is_dir() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !fs::metadata(plan::split(&at).0).map_err(failure)?.is_dir() {
                    return Err(failed("not a directory"));
                }
                return Ok(Destination { path: at, exists: false, is_dir: false });
            }
            Err(error) => return Err(failure(error)),
        }
    }
    Err(failed(format!("too many symlinks in {}", clean(path))))
}
