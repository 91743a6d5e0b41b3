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

/// Checks a signal: a name such as "SIGTERM" or "RTMIN+3", or a number; empty for the default.
pub(super) fn signal(text: &str) -> Result<&str, Status> {
    let good = text.len() <= 16
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-'));
    good.then_some(text)
        .ok_or_else(|| bad_field("signal", "a signal is a name such as SIGTERM, or a number"))
}

/// Checks a stop timeout: whole seconds up to a day; None for the container's own.
pub(super) fn grace(timeout: Option<&Duration>) -> Result<Option<u32>, Status> {
    let Some(Duration { seconds, nanos }) = timeout else { return Ok(None) };
    match u32::try_from(*seconds) {
        Ok(seconds @ 0..=86_400) if *nanos == 0 => Ok(Some(seconds)),
        _ => Err(bad_field("timeout", "a timeout is whole seconds, 0 to 86,400")),
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
        assert!(grace(Some(&Duration { seconds: -1, nanos: 0 })).is_err());
        assert_eq!(labels("a=b, c,").unwrap(), ["a=b", "c"]);
        assert!(labels("=b").is_err());
    }

    proptest! {
        #[test]
        fn encoded_values_hold_no_separators(value in ".*") {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~%".contains(&b);
            prop_assert!(encode(&value).bytes().all(plain));
        }
    }
}
