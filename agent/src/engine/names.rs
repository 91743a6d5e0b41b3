//! Checks what users send before any of it reaches the engine's URLs. Pure.

use std::fmt::Write as _;

use dockctl_api::error::bad_field;
use prost_types::{Duration, Timestamp};
use tonic::Status;

/// Checks the name, id or id prefix of a container: 1 to 128 of Docker's own characters.
pub(crate) fn container<'a>(field: &str, text: &'a str) -> Result<&'a str, Status> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let good = (1..=128).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(inner);
    good.then_some(text).ok_or_else(|| {
        bad_field(
            field,
            "a container is named by 1 to 128 letters, digits, '_', '.' or '-', beginning with a \
             letter or digit",
        )
    })
}

/// Checks an image's name, id or id prefix: up to 512 of the characters that references are made of, and
/// no part of it empty or made of dots, which a URL's path would take for another place. Whether it is a
/// good reference is the engine's to say.
pub(super) fn image<'a>(field: &str, text: &'a str) -> Result<&'a str, Status> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-:/@+[]".contains(&b);
    let part = |part: &str| part.bytes().any(|b| b != b'.');
    let good = text.len() <= 512 && text.bytes().all(known) && text.split('/').all(part);
    good.then_some(text).ok_or_else(|| {
        bad_field(
            field,
            format!(
                "{text:?}: invalid reference format: an image is named as registry/name:tag, \
                 name@sha256:digest, or by its id"
            ),
        )
    })
}

/// Checks a volume's name: 1 to 255 of Docker's own characters.
pub(super) fn volume<'a>(field: &str, text: &'a str) -> Result<&'a str, Status> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let good = (1..=255).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(known);
    good.then_some(text).ok_or_else(|| {
        bad_field(
            field,
            format!(
                "{text:?} includes invalid characters for a local volume name, only \
                 \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
            ),
        )
    })
}

/// Checks a network's name or id. Docker takes nearly any text, so that only what would lead a URL's
/// path elsewhere is refused here; it is to be encoded.
pub(super) fn network<'a>(field: &str, text: &'a str) -> Result<&'a str, Status> {
    let good = (1..=255).contains(&text.len())
        && text.bytes().any(|b| b != b'.')
        && !text.contains('/')
        && !text.chars().any(char::is_control);
    good.then_some(text).ok_or_else(|| {
        bad_field(field, "a network's name has 1 to 255 bytes, no '/' and no control characters")
    })
}

/// An image's name as a URL's path has it: its slashes are the engine's own.
pub(super) fn image_path(name: &str) -> String {
    encode(name).replace("%2F", "/").replace("%3A", ":").replace("%40", "@")
}

/// Name and tag as the engine's queries take them: the digest or the tag of a reference, or `missing`.
pub(super) fn split_image<'a>(name: &'a str, missing: &'a str) -> (&'a str, &'a str) {
    let (name, digest) = match name.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (name, None),
    };
    // A colon before a slash belongs to a registry's port.
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, missing),
    };
    (name, digest.unwrap_or(tag))
}

/// Checks a signal: a name such as "SIGTERM" or "RTMIN+3", or a number; empty for the default.
pub(super) fn signal(text: &str) -> Result<&str, Status> {
    let good = text.len() <= 16
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-'));
    good.then_some(text)
        .ok_or_else(|| bad_field("signal", "a signal is a name such as SIGTERM, or a number"))
}

/// Checks a stop timeout: whole seconds up to a day, or -1 for ever; None for the container's own.
pub(super) fn grace(timeout: Option<&Duration>) -> Result<Option<i32>, Status> {
    let Some(Duration { seconds, nanos }) = timeout else { return Ok(None) };
    match i32::try_from(*seconds) {
        Ok(seconds @ -1..=86_400) if *nanos == 0 => Ok(Some(seconds)),
        _ => Err(bad_field("timeout", "a timeout is whole seconds, 0 to 86,400, or -1 for ever")),
    }
}

/// A time in the form that the engine's queries take: seconds and nanoseconds.
pub(super) fn time(field: &str, time: &Timestamp) -> Result<String, Status> {
    if time.seconds < 0 || !(0..1_000_000_000).contains(&time.nanos) {
        return Err(bad_field(
            field,
            "a time lies after 1970 and has 0 to 999,999,999 nanoseconds",
        ));
    }
    Ok(format!("{}.{:09}", time.seconds, time.nanos))
}

/// Splits a label selector, "k=v" or "k" with commas between; empty selects all.
pub(super) fn labels(selector: &str) -> Result<Vec<String>, Status> {
    let parts = selector.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| match part.split('=').next() {
            Some(key) if !key.trim().is_empty() && selector.len() <= 4096 => Ok(part.to_owned()),
            _ => Err(bad_field(
                "label_selector",
                "a selector is k=v or k, several with commas between",
            )),
        })
        .collect()
}

/// Percent-encodes a query value.
pub(super) fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use dockctl_api::error::metadata_of;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_would_change_the_url_are_refused() {
        for bad in
            ["", "../info", "a/b", "a?b", "a b", "-a", ".a", "a%2f", "a\n", "é", &"a".repeat(129)]
        {
            let error = container("container", bad).unwrap_err();
            assert_eq!(metadata_of(&error, "field").as_deref(), Some("container"), "{bad:?}");
        }
        for good in ["a", "web-1", "A_b.c", "0123abcdef", &"f".repeat(64)] {
            assert_eq!(container("container", good).unwrap(), good);
        }
    }

    #[test]
    fn times_signals_graces_and_labels() {
        let t = Timestamp { seconds: 5, nanos: 7 };
        assert_eq!(time("since", &t).unwrap(), "5.000000007");
        assert!(time("since", &Timestamp { seconds: -1, nanos: 0 }).is_err());
        assert!(time("since", &Timestamp { seconds: 1, nanos: -1 }).is_err());
        assert!(signal("SIGRTMIN+3").is_ok() && signal("").is_ok() && signal("9").is_ok());
        assert!(signal("A&t=1").is_err());
        assert_eq!(grace(Some(&Duration { seconds: 3, nanos: 0 })).unwrap(), Some(3));
        assert_eq!(grace(None).unwrap(), None);
        assert!(grace(Some(&Duration { seconds: 0, nanos: 5 })).is_err());
        assert_eq!(grace(Some(&Duration { seconds: -1, nanos: 0 })).unwrap(), Some(-1));
        assert!(grace(Some(&Duration { seconds: -2, nanos: 0 })).is_err());
        assert_eq!(labels("a=b, c,").unwrap(), ["a=b", "c"]);
        assert!(labels("=b").is_err());
    }

    #[test]
    fn image_names_that_would_change_the_url_are_refused() {
        for bad in [
            "",
            "/",
            "a//b",
            "../json",
            "a/../b",
            "a/./b",
            "a/..",
            "a?b",
            "a b",
            "a%2f",
            "a#b",
            "a\n",
            "é",
            "/a",
            "a/",
            &"a".repeat(513),
        ] {
            let error = image("image", bad).unwrap_err();
            assert_eq!(metadata_of(&error, "field").as_deref(), Some("image"), "{bad:?}");
        }
        for good in [
            "nginx",
            "nginx:1.29",
            "reg.example.com:5000/team/app:v1.2_x",
            "a@sha256:00ff",
            "0123ab",
            "sha256:00ff",
            "[::1]:5000/a",
        ] {
            assert_eq!(image("image", good).unwrap(), good);
        }
        assert_eq!(image_path("r:5000/t/a:1@sha256:0"), "r:5000/t/a:1@sha256:0");
        assert_eq!(image_path("[::1]/a"), "%5B::1%5D/a");
    }

    #[test]
    fn references_are_split_as_docker_does() {
        for (name, want) in [
            ("nginx", ("nginx", "latest")),
            ("nginx:1", ("nginx", "1")),
            ("r:5000/a/b", ("r:5000/a/b", "latest")),
            ("r:5000/a/b:2", ("r:5000/a/b", "2")),
            ("a:1@sha256:ff", ("a", "sha256:ff")),
        ] {
            assert_eq!(split_image(name, "latest"), want, "{name}");
        }
    }

    #[test]
    fn volumes_and_networks() {
        for bad in ["", "a/b", "..", "a b", "-a", &"a".repeat(256)] {
            assert!(volume("volume", bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a/b", ".", "..", "a\nb", &"a".repeat(256)] {
            assert!(network("network", bad).is_err(), "{bad:?}");
        }
        assert!(volume("volume", "web_data.1-x").is_ok() && network("network", "my net").is_ok());
    }

    proptest! {
        #[test]
        fn encoded_values_hold_no_separators(value in ".*") {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~%".contains(&b);
            prop_assert!(encode(&value).bytes().all(plain));
        }
    }
}
