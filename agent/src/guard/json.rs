//! JSON as an engine written in Go reads it: a key may come twice, and upper and lower case are one.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A value with all that was written, also what came twice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Any number.
    Number(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// Keys, folded to lower case, and values.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads one document and nothing behind it.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Whether it says nothing: Go's zero values.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Null | Self::Bool(false) => true,
            Self::Bool(true) => false,
            Self::Number(n) => *n == 0.0,
            Self::Text(text) => text.is_empty(),
            Self::List(list) => list.is_empty(),
            Self::Object(pairs) => pairs.is_empty(),
        }
    }

    /// The text, unless it is something else.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The pairs of an object, none of `null`.
    pub(crate) fn pairs(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(pairs) => Some(pairs),
            Self::Null => Some(&[]),
            _ => None,
        }
    }

    /// The elements of a list; where the engine takes a lone text for a list, so does this.
    pub(crate) fn elements(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            Self::Text(_) => Some(std::slice::from_ref(self)),
            Self::Null => Some(&[]),
            _ => None,
        }
    }

    /// The elements of a list of text.
    pub(crate) fn texts(&self) -> Option<Vec<&str>> {
        self.elements()?.iter().map(Self::text).collect()
    }

    /// The value of a key of an object that the engine itself wrote.
    pub(crate) fn get(&self, key: &str) -> &Self {
        let pairs = self.pairs().unwrap_or_default();
        pairs.iter().find(|(name, _)| name == key).map_or(&Self::Null, |(_, value)| value)
    }
}

/// A key as Go compares it: besides ASCII, two foreign letters fold to k and s.
pub(super) fn fold(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\u{212a}' => 'k',
            '\u{17f}' => 's',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut pairs = Vec::new();
        while let Some(key) = access.next_key::<Cow<'_, str>>()? {
            pairs.push((fold(&key), access.next_value()?));
        }
        Ok(Json::Object(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_folded_and_doubles_are_kept() {
        let json =
            Json::parse("{\"A\":1,\"a\":[true,null,\"x\"],\"\u{212a}\u{17f}\":{}}".as_bytes());
        let list = vec![Json::Bool(true), Json::Null, Json::Text("x".to_owned())];
        let object = Json::Object(vec![
            ("a".to_owned(), Json::Number(1.0)),
            ("a".to_owned(), Json::List(list)),
            ("ks".to_owned(), Json::Object(Vec::new())),
        ]);
        assert_eq!(json, Some(object));
    }

    #[test]
    fn what_is_no_json_is_none() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for bad in [&b""[..], b"{", b"{} {}", b"{}x", b"{a:1}", b"\"\xff\"", br#""\ud800""#] {
            assert_eq!(Json::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Json::parse(deep.as_bytes()), None);
    }
}
