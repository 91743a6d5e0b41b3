//! Which names, labels and selectors there may be: the one place that says so. Called by whatever in
//! `app` takes one from outside. The characters are few, so that no name needs quoting in a shell
//! script, a URL, a log line or a terminal.

use std::collections::HashMap;

use dockctl_api::error::bad_field;
use tonic::Status;

/// Most labels that an agent or a token may have.
const MAX_LABELS: usize = 64;
/// Longest selector, bytes.
const MAX_SELECTOR: usize = 1024;

/// Checks an agent's name: 1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit, and
/// not 20 hexadecimal digits, which is what an id looks like.
pub fn agent_name(name: &str) -> Result<(), Status> {
    let good = (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(is_plain);
    if !good {
        return Err(bad_field(
            "name",
            "an agent's name has 1 to 63 of a-z, 0-9, '.', '_' and '-' and begins with a letter or digit",
        ));
    }
    if name.len() == 20 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad_field("name", "an agent's name must not look like an id (20 hex digits)"));
    }
    Ok(())
}

/// Checks a user's name: 1 to 64 of a-z, 0-9, '.', '_', '-', '@' and '+', beginning with a letter or digit.
pub fn user_name(name: &str) -> Result<(), Status> {
    let good = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| is_plain(c) || matches!(c, '@' | '+'));
    good.then_some(()).ok_or_else(|| {
        bad_field(
            "username",
            "a user's name has 1 to 64 of a-z, 0-9, '.', '_', '-', '@' and '+' and begins with a letter or digit",
        )
    })
}

/// Checks a label's key: 1 to 63 of a-z, 0-9, '.', '_', '-', '/'.
pub fn label_key(key: &str) -> Result<(), Status> {
    let good = (1..=63).contains(&key.len()) && key.chars().all(|c| is_plain(c) || c == '/');
    good.then_some(()).ok_or_else(|| {
        bad_field("labels", "a label's key has 1 to 63 of a-z, 0-9, '.', '_', '-' and '/'")
    })
}

/// Checks a label's value: up to 255 characters, none of them a control character or a comma (which
/// separates the parts of a selector).
pub fn label_value(value: &str) -> Result<(), Status> {
    let good = value.chars().count() <= 255 && !value.chars().any(|c| c.is_control() || c == ',');
    good.then_some(()).ok_or_else(|| {
        bad_field(
            "labels",
            "a label's value has up to 255 characters, no control characters and no commas",
        )
    })
}

/// Checks a whole set of labels: at most 64 good ones.
pub fn labels(labels: &HashMap<String, String>) -> Result<(), Status> {
    if labels.len() > MAX_LABELS {
        return Err(bad_field("labels", format!("there may be at most {MAX_LABELS} labels")));
    }
    labels.iter().try_for_each(|(key, value)| label_key(key).and_then(|()| label_value(value)))
}

/// Checks a free text of a user, such as a description or a reason: up to `max` characters, no
/// control characters.
pub fn text(field: &str, text: &str, max: usize) -> Result<(), Status> {
    let good = text.chars().count() <= max && !text.chars().any(char::is_control);
    good.then_some(()).ok_or_else(|| {
        bad_field(field, format!("{field} has up to {max} characters and no control characters"))
    })
}

fn is_plain(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
}

/// A label selector: every part must match. Empty matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    parts: Vec<(String, Option<String>)>,
    /// Of each of these one must match as well.
    within: Vec<Vec<Selector>>,
}

impl Selector {
    /// Reads "k=v" (the label has this value) and "k" (the label is there), separated by commas;
    /// blanks around the parts do not count. Errors: BAD_FIELD on `selector`.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let bad = || {
            bad_field(
                "selector",
                "a selector is \"key=value\" or \"key\", several separated by commas",
            )
        };
        if text.len() > MAX_SELECTOR {
            return Err(bad());
        }
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let parts = text
            .split(',')
            .map(|part| {
                let (key, value) = match part.split_once('=') {
                    Some((key, value)) => (key.trim(), Some(value.trim())),
                    None => (part.trim(), None),
                };
                label_key(key).map_err(|_| bad())?;
                value.map_or(Ok(()), label_value).map_err(|_| bad())?;
                Ok((key.to_owned(), value.map(str::to_owned)))
            })
            .collect::<Result<_, Status>>()?;
        Ok(Self { parts, within: Vec::new() })
    }

    /// This selector narrowed to what one of others selects; none of them select nothing.
    pub fn and_any_of(mut self, others: Vec<Self>) -> Self {
        if !others.iter().any(Self::is_empty) {
            self.within.push(others);
        }
        self
    }

    /// Whether these labels are selected.
    pub fn matches(&self, labels: &HashMap<String, String>) -> bool {
        let has = |(key, wanted): &(String, Option<String>)| match (labels.get(key), wanted) {
            (Some(has), Some(wanted)) => has.trim() == wanted,
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.parts.iter().all(has)
            && self.within.iter().all(|any| any.iter().any(|one| one.matches(labels)))
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.within.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use dockctl_api::error::{metadata_of, reason_of};
    use proptest::prelude::*;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn agent_names() {
        for good in ["a", "0", "web-1", "db.eu_west-1", &"x".repeat(63), "0123456789abcdef012"] {
            agent_name(good).unwrap();
        }
        for bad in [
            "",
            "-a",
            ".a",
            "_a",
            "A",
            "web 1",
            "web/1",
            "ä",
            "a\n",
            "$(id)",
            "a'b",
            "a%0d%0a",
            &"x".repeat(64),
            "0123456789abcdef0123",
        ] {
            let err = agent_name(bad).unwrap_err();
            assert_eq!(reason_of(&err).as_deref(), Some("BAD_FIELD"), "{bad:?}");
            assert_eq!(metadata_of(&err, "field").as_deref(), Some("name"));
        }
    }

    #[test]
    fn user_names() {
        for good in ["a", "ada", "7", "ada.l@example.com", "ci+web_1-x", &"x".repeat(64)] {
            user_name(good).unwrap();
        }
        for bad in ["", "-a", "@a", "Ada", "a b", "a/b", "ä", "a\n", "\u{1b}[1m", &"x".repeat(65)]
        {
            let err = user_name(bad).unwrap_err();
            assert_eq!(metadata_of(&err, "field").as_deref(), Some("username"), "{bad:?}");
        }
    }

    #[test]
    fn label_sets() {
        labels(&map(&[("env", "prod"), ("a.b/c-d_e", "Größe = 1; ok"), ("empty", "")])).unwrap();
        labels(&map(&[("k", &"ü".repeat(255))])).unwrap();
        for (key, value) in
            [("", "v"), ("Env", "v"), ("a b", "v"), ("k", "a\nb"), ("k", "a,b"), ("k", "\u{9b}1m")]
        {
            assert!(labels(&map(&[(key, value)])).is_err(), "{key:?}={value:?}");
        }
        assert!(labels(&map(&[("k", &"x".repeat(256))])).is_err());
        let many: HashMap<_, _> = (0..65).map(|i| (format!("k{i}"), String::new())).collect();
        assert!(labels(&many).is_err());
    }

    #[test]
    fn selectors() {
        let web = map(&[("env", "prod"), ("role", "web"), ("note", "")]);
        for (text, selects) in [
            ("", true),
            ("  ", true),
            ("env=prod", true),
            ("env = prod , role", true),
            ("env=prod,role=db", false),
            ("role", true),
            ("zone", false),
            ("zone=", false),
            ("note=", true),
            ("env=", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&web), selects, "{text:?}");
        }
        for bad in [",", "env=prod,", "=x", "ENV", "a b", &"a".repeat(2000)] {
            assert!(Selector::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_let_in_needs_no_quoting(name in ".{0,80}") {
            if agent_name(&name).is_ok() {
                let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
                prop_assert!(plain && !name.starts_with('-'));
            }
        }

        #[test]
        fn a_labels_own_selector_selects_it(key in "[a-z0-9._/-]{1,63}", value in "[ -+\\--~]{0,40}") {
            let labels = map(&[(&key, &value)]);
            let both = format!("{key}={value}");
            prop_assert!(Selector::parse(&both).unwrap().matches(&labels));
            prop_assert!(Selector::parse(&key).unwrap().matches(&labels));
        }
    }
}
