//! Variables and labels from flags and files, by docker's rules for both.

use std::fs;

use super::values::Parsed;

/// Reads `-e` after the files of `--env-file`; `local` knows the variables here.
pub(crate) fn variables(
    files: &[String],
    flags: &[String],
    local: impl Fn(&str) -> Option<String>,
) -> Parsed<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(lines(file, &read(file)?, &local)?);
    }
    for flag in flags {
        let key = flag.split('=').next().unwrap_or_default();
        if key.is_empty() {
            return Err(format!(
                "invalid argument \"{flag}\" for \"-e, --env\" flag: invalid environment variable: {flag}"
            ));
        }
        all.push(match local(flag).filter(|_| !flag.contains('=')) {
            Some(value) => format!("{flag}={value}"),
            // A name without a value takes the image's variable away.
            None => flag.clone(),
        });
    }
    Ok(all)
}

/// Reads `--label` after the files of `--label-file`.
pub(crate) fn labels(files: &[String], flags: &[String]) -> Parsed<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(lines(file, &read(file)?, |_| None)?);
    }
    for flag in flags {
        if flag.is_empty() || flag.starts_with('=') {
            return Err(format!(
                "invalid argument \"{flag}\" for \"-l, --label\" flag: invalid label '{flag}': empty name"
            ));
        }
        all.push(flag.clone());
    }
    Ok(all)
}

fn read(file: &str) -> Parsed<String> {
    let bytes = fs::read(file).map_err(|e| format!("open {file}: {}", cause(&e)))?;
    String::from_utf8(bytes)
        .map_err(|_| format!("invalid env file ({file}): it contains invalid utf8 bytes"))
}

/// What the system says, without Rust's number behind it.
pub(crate) fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// The variables of a file: k=v, or k for the one here; # begins a comment line.
fn lines(file: &str, text: &str, local: impl Fn(&str) -> Option<String>) -> Parsed<Vec<String>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut all = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: String| Err(format!("invalid env file ({file}): {what}"));
        let key = line.split('=').next().unwrap_or_default();
        if key.contains(char::is_whitespace) {
            return wrong(format!("variable '{key}' contains whitespaces"));
        }
        if key.is_empty() {
            return wrong(format!("no variable name on line '{line}'"));
        }
        match (line.contains('='), local(key)) {
            (true, _) => all.push(line.to_owned()),
            (false, Some(value)) => all.push(format!("{key}={value}")),
            (false, None) => {}
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    fn owned(all: &[&str]) -> Vec<String> {
        all.iter().map(|s| (*s).to_owned()).collect()
    }

    // What docker 28.2 sends for the same file.
    #[test]
    fn files_are_read_as_docker_reads_them() {
        let text = "\u{feff}# c\n\nA=1\n  B= x y \nHOME\nNOPE\nC=\"q\"\r\nD=\n";
        let read = |local: fn(&str) -> Option<String>| lines("f", text, local).unwrap();
        assert_eq!(read(local), ["A=1", "B= x y ", "HOME=/root", "C=\"q\"", "D="]);
        assert_eq!(read(|_| None), ["A=1", "B= x y ", "C=\"q\"", "D="]);
        for (text, says) in [
            ("A B=1", "invalid env file (f): variable 'A B' contains whitespaces"),
            ("=x", "invalid env file (f): no variable name on line '=x'"),
        ] {
            assert_eq!(lines("f", text, local).unwrap_err(), says);
        }
        assert_eq!(
            variables(&owned(&["/nonexistent"]), &[], local).unwrap_err(),
            "open /nonexistent: no such file or directory"
        );
    }

    #[test]
    fn flags_take_the_value_here_or_stay_bare() {
        let flags = owned(&["A=1", "HOME", "NOPE", "HOME="]);
        assert_eq!(variables(&[], &flags, local).unwrap(), ["A=1", "HOME=/root", "NOPE", "HOME="]);
        assert_eq!(
            variables(&[], &owned(&["=x"]), local).unwrap_err(),
            "invalid argument \"=x\" for \"-e, --env\" flag: invalid environment variable: =x"
        );
        assert!(
            labels(&[], &owned(&["=x"])).unwrap_err().ends_with("invalid label '=x': empty name")
        );
    }
}
