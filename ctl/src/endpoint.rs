//! The controller's address: parsing a URL into host and port, and its one spelling.

use std::net::IpAddr;

use http::Uri;

use crate::error::{Error, Result};

/// The port of the API when the URL has none.
const PORT: u16 = 7443;

/// Where a controller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Whether to speak TLS. Plain HTTP is for this machine only.
    pub(crate) secure: bool,
    /// Host name or address, without brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
}

impl Endpoint {
    /// Parses `https://host:port`, `host:port`, `host`, or `http://` with a loopback address.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::usage(format!("\"{text}\" is no controller's URL: {why}"))
                .hint("write for example https://controller.example:7443")
        };
        let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: Uri = full.parse().map_err(|_| wrong("it cannot be understood"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let secure = uri.scheme_str() == Some("https");
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(wrong("a user name does not belong into it"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("it has a path"));
        }
        if !secure && uri.scheme_str() != Some("http") {
            return Err(wrong("it must begin with https://"));
        }
        if !secure && !is_loopback(&host) {
            return Err(wrong("http:// is allowed to this machine only, since it hides nothing"));
        }
        Ok(Self { secure, host, port: uri.port_u16().unwrap_or(PORT) })
    }

    /// Host and port as in a URL.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The URL in its one spelling.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_one_spelling() {
        for (text, want) in [
            ("controller", "https://controller:7443"),
            ("controller:1", "https://controller:1"),
            ("https://controller", "https://controller:7443"),
            ("https://controller:7443/", "https://controller:7443"),
            ("[::1]:5", "https://[::1]:5"),
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("http://localhost", "http://localhost:7443"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().url(), want, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("http://example.com", "this machine only"),
            ("https://c/path", "path"),
            ("ftp://c", "https://"),
            ("https://u@c", "user name"),
            ("https://", "understood"),
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert_eq!(error.code(), 2);
            let told = error.told().unwrap().to_string();
            assert!(told.contains(says), "{text}: {told}");
        }
    }
}
