//! References to containers as people write them: `host/container` or `container`. Parsing only; what a
//! reference stands for is found by `resolve.rs`.

use std::{fmt, str::FromStr};

use crate::select::is_glob;

/// A container as it was named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ref {
    /// The agent's name or id; absent when the container's name alone was given.
    pub(crate) host: Option<String>,
    /// The container's name, id, or a prefix of its id.
    pub(crate) container: String,
}

impl Ref {
    /// Whether it stands for many: it has a glob in it.
    pub(crate) fn is_glob(&self) -> bool {
        is_glob(&self.container) || self.host.as_deref().is_some_and(is_glob)
    }
}

/// The longest part of a reference, characters. Docker's names are shorter.
const LONGEST: usize = 255;

impl FromStr for Ref {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, container) = match text.split_once('/') {
            Some((host, container)) => (Some(host), container),
            None => (None, text),
        };
        if container.contains('/') {
            return Err("it has more than one '/'; write host/container or container".to_owned());
        }
        if let Some(host) = host {
            part("host", host)?;
        }
        part("container", container)?;
        Ok(Self { host: host.map(str::to_owned), container: container.to_owned() })
    }
}

fn part(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("the {what} is empty; write host/container or container"));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("the {what} has a space or a control character in it"));
    }
    if text.chars().count() > LONGEST {
        return Err(format!("the {what} has more than {LONGEST} characters"));
    }
    Ok(())
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{host}/{}", self.container),
            None => f.write_str(&self.container),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Ref, String> {
        text.parse()
    }

    #[test]
    fn with_and_without_a_host() {
        let full = parse("web-1/nginx").unwrap();
        assert_eq!(full.host.as_deref(), Some("web-1"));
        assert_eq!(full.container, "nginx");
        assert_eq!(full.to_string(), "web-1/nginx");
        let short = parse("nginx").unwrap();
        assert_eq!(short, Ref { host: None, container: "nginx".to_owned() });
        assert_eq!(short.to_string(), "nginx");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("", "the container is empty"),
            ("/nginx", "the host is empty"),
            ("web-1/", "the container is empty"),
            ("/", "the host is empty"),
            ("a/b/c", "more than one '/'"),
            ("a//b", "more than one '/'"),
            ("web 1/nginx", "the host has a space"),
            ("ngi\x1bnx", "the container has a space or a control character"),
            ("nginx\n", "control character"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        assert!(parse(&"x".repeat(256)).unwrap_err().contains("255"));
        assert!(parse(&"x".repeat(255)).is_ok());
    }
}
