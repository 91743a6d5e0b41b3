//! A request line in its one spelling. Everything is judged in this spelling and goes to the engine in
//! it, so that no other spelling can mean something else there.

use http::{Method, Uri};

/// The most parts that a path may have: an image's name has a few.
const MAX_PARTS: usize = 64;

/// Method, path and query of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// In capitals.
    pub(crate) method: String,
    /// The API version as the client wrote it, for example "v1.41"; empty for none.
    version: String,
    /// The path's parts below the version, decoded.
    pub(crate) parts: Vec<String>,
    /// As it came, without the question mark.
    query: String,
}

impl Line {
    /// Decodes percent signs once, as the engine does, then removes empty and `.` parts and resolves
    /// `..`.
    ///
    /// Errors: what cannot be brought into one spelling, with a word on why.
    pub(crate) fn new(method: &Method, uri: &Uri) -> Result<Self, &'static str> {
        let path = uri.path();
        if !path.starts_with('/') || *method == Method::CONNECT {
            return Err("it names no path");
        }
        let path = decode(path, false).ok_or("its path is no text")?;
        if path.chars().any(|c| c.is_control() || c == '\\') {
            return Err("its path has characters that no path has");
        }
        let mut parts = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop().ok_or("its path leads above the root")?),
                part => parts.push(part.to_owned()),
            }
        }
        if parts.len() > MAX_PARTS {
            return Err("its path has too many parts");
        }
        let version = match parts.first() {
            Some(first) if is_version(first) => parts.remove(0),
            _ => String::new(),
        };
        Ok(Self {
            method: method.as_str().to_ascii_uppercase(),
            version,
            parts,
            query: uri.query().unwrap_or_default().to_owned(),
        })
    }

    /// A GET below no version.
    pub(crate) fn get(path: &[&str], query: &[(&str, &str)]) -> Self {
        // A plus sign would be a space there.
        let value = |value: &str| encode(value).replace('+', "%2B");
        let query = query.iter().map(|(key, text)| format!("{key}={}", value(text)));
        Self {
            method: Method::GET.to_string(),
            version: String::new(),
            parts: path.iter().map(|part| (*part).to_owned()).collect(),
            query: query.collect::<Vec<_>>().join("&"),
        }
    }

    /// The path without version, for people and for the log.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.parts.join("/"))
    }

    /// What is sent to the engine.
    pub(crate) fn target(&self) -> String {
        let mut target = String::new();
        let version = (!self.version.is_empty()).then_some(&self.version);
        for part in version.into_iter().chain(&self.parts) {
            target.push('/');
            target.push_str(&encode(part));
        }
        if target.is_empty() {
            target.push('/');
        }
        if !self.query.is_empty() {
            target.push('?');
            target.push_str(&self.query);
        }
        target
    }

    /// The query's keys and values, decoded; None where the engine could read it in another way.
    pub(crate) fn query(&self) -> Option<Vec<(String, String)>> {
        // Engines that were built with Go before 1.17 take a semicolon as they do an ampersand.
        if self.query.contains(';') {
            return None;
        }
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((decode(key, true)?, decode(value, true)?))
            })
            .collect()
    }
}

/// As the engine's routes have it: `v`, then digits and dots.
fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|version| {
        !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    })
}

/// Text as a part of a path; all but a few characters are percent-encoded.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => encoded.push(byte.into()),
            b'-' | b'.' | b'_' | b'~' | b':' | b'@' | b'+' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Percent-decoded text; `plus` is a space in a query.
fn decode(text: &str, query: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' if query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Line, &'static str> {
        let (method, uri) = text.split_once(' ').unwrap();
        Line::new(&method.parse().unwrap(), &uri.parse().unwrap())
    }

    #[test]
    fn every_spelling_is_one() {
        for spelling in [
            "POST /containers/create",
            "post /containers/create",
            "POST /v1.41/containers/create",
            "POST /v9.99.9/containers/create",
            "POST //containers//create/",
            "POST /./containers/x/../create",
            "POST /v1.41/../containers/create",
            "POST /v1.41/./v1.40/../containers/create",
            "POST /%63ontainers/cre%61te",
            "POST /%76%31.41/containers/create",
            "POST /containers%2Fcreate",
            "POST /containers/x/%2e%2E/create",
            "POST /x%2f..%2fcontainers/create",
            "POST http://docker/v1.41/containers/create",
            "POST http://evil/containers/create?name=x",
        ] {
            let line = line(spelling).unwrap_or_else(|why| panic!("{spelling}: {why}"));
            assert_eq!(line.method, "POST", "{spelling}");
            assert_eq!(line.path(), "/containers/create", "{spelling}");
        }
    }

    #[test]
    fn what_cannot_be_spelt_is_refused() {
        for bad in [
            "GET /..",
            "GET /containers/../../etc",
            "GET /%2e%2e/x",
            "GET /%",
            "GET /%4",
            "GET /%zz",
            "GET /%+1",
            "GET /%00",
            "GET /a%0d%0ab",
            "GET /%ff",
            "GET /a%5Cb",
            "OPTIONS *",
            "CONNECT docker:80",
            "CONNECT /containers/create",
        ] {
            assert!(line(bad).is_err(), "{bad}");
        }
        assert!(line(&format!("GET {}", "/x".repeat(65))).is_err());
    }

    #[test]
    fn the_engine_gets_what_was_judged() {
        for (came, sent) in [
            ("GET /v1.41/containers/json?all=1&x=%7B", "/v1.41/containers/json?all=1&x=%7B"),
            ("GET /images/a%2Fb:c@sha256:0/json", "/images/a/b:c@sha256:0/json"),
            // What looks encoded after one decoding stays what it is.
            ("GET /volumes/%252e%252e", "/volumes/%252e%252e"),
            ("GET /volumes/a%3Fb%23c%20d%C3%A4", "/volumes/a%3Fb%23c%20d%C3%A4"),
            ("GET /v1.41/v1.40/x", "/v1.41/v1.40/x"),
            ("GET http://h", "/"),
        ] {
            let first = line(came).unwrap();
            assert_eq!(first.target(), sent);
            // Nothing more is decoded when it is read again.
            assert_eq!(line(&format!("{} {sent}", first.method)).unwrap(), first);
        }
    }

    #[test]
    fn what_is_asked_for_is_what_is_named() {
        let got = Line::get(&["volumes", "a/../b?c d+e"], &[("all", "1"), ("filters", "{+ &\"}")]);
        assert_eq!(got.target(), "/volumes/a%2F..%2Fb%3Fc%20d+e?all=1&filters=%7B%2B%20%26%22%7D");
    }

    #[test]
    fn queries() {
        let query = |query: &str| line(&format!("GET /x?{query}")).unwrap().query();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(query("a=b%3Bc+d&&e"), Some(vec![pair("a", "b;c d"), pair("e", "")]));
        for bad in ["a=1;networkmode=host", "a=%", "%ff=1"] {
            assert_eq!(query(bad), None, "{bad}");
        }
    }
}
