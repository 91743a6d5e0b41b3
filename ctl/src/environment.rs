//! Variables for a program, as docker's `-e` and `--env-file` name them: KEY=VALUE, or KEY for the value
//! that it has here.

use std::{fs, path::PathBuf};

use crate::error::{Error, Result};

/// All variables, those of the files first, so that the flags win.
pub(crate) fn collect(files: &[PathBuf], flags: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        let shown = file.display();
        let text = fs::read_to_string(file).map_err(|e| Error::usage(format!("{shown}: {e}")))?;
        for (line, text) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let text = text.trim_start();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let wrong = |why: String| Error::usage(format!("{shown}, line {}: {why}", line + 1));
            all.extend(variable(text).map_err(wrong)?);
        }
    }
    for flag in flags {
        all.extend(variable(flag).map_err(Error::usage)?);
    }
    Ok(all)
}

/// None for a KEY that is not set here.
fn variable(text: &str) -> std::result::Result<Option<String>, String> {
    let key = text.split('=').next().unwrap_or_default();
    if key.is_empty() {
        return Err(format!("invalid environment variable: {text}"));
    }
    if key.contains(char::is_whitespace) {
        return Err(format!("variable '{key}' contains whitespaces"));
    }
    match text.contains('=') {
        true => Ok(Some(text.to_owned())),
        false => Ok(std::env::var(key).ok().map(|value| format!("{key}={value}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn files_come_first_and_comments_are_none() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "# a comment\n\n  A=1 two # three\nCARGO_PKG_NAME\nNOT_SET_ANYWHERE")
            .unwrap();
        let all = collect(&[file.path().to_owned()], &["A=2".into(), "EMPTY=".into()]).unwrap();
        let name = std::env::var("CARGO_PKG_NAME").unwrap();
        assert_eq!(all, ["A=1 two # three", &format!("CARGO_PKG_NAME={name}"), "A=2", "EMPTY="]);
    }

    #[test]
    fn what_is_no_variable_is_named() {
        for bad in ["=x", "a b=c", ""] {
            assert_eq!(collect(&[], &[bad.to_owned()]).unwrap_err().code(), 2, "{bad}");
        }
        assert!(collect(&["/nonexistent".into()], &[]).is_err());
    }
}
