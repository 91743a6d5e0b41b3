//! The one way out: requests to an OpenID provider or an ACME authority, whose certificates the system's own
//! roots vouch for (SSL_CERT_FILE names others), or Mozilla's where the system has none. Bounded in time and size;
//! redirects are not followed.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::crypto::aws_lc_rs;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer, bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// Why there was no answer; a sentence for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(String);

/// Makes requests; cheap to clone.
#[derive(Clone)]
pub struct Https(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Https {
    /// Reads the roots.
    pub fn new() -> anyhow::Result<Self> {
        let provider = aws_lc_rs::default_provider;
        let connector =
            match HttpsConnectorBuilder::new().with_provider_and_native_roots(provider()) {
                Ok(connector) => connector,
                // A small image has none.
                Err(_) => HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider())?,
            };
        let connector = connector.https_or_http().enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Sends one request and reads the whole answer.
    pub async fn send<B: Into<Bytes>>(
        &self,
        request: Request<B>,
    ) -> Result<Response<Bytes>, NoAnswer> {
        let whom = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let work = async {
            let request = request.map(|body| Full::new(body.into()));
            let (head, body) = self.0.request(request).await.map_err(|e| because(&e))?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| because(&*e))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let answer = tokio::time::timeout(PATIENCE, work).await;
        let answer = answer.unwrap_or_else(|_| Err("it did not answer in time".to_owned()));
        answer.map_err(|why| NoAnswer(format!("{whom}: {why}")))
    }
}

/// Whether what is sent there crosses no network in the clear.
pub fn is_safe(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_loopback,
        _ => false,
    }
}

/// An error with what is behind it: hyper's own says "client error (Connect)".
fn because(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_may_be_spoken_to_in_the_clear() {
        for safe in
            ["https://id.example/a", "http://localhost:80", "http://127.0.0.9:1/x", "http://[::1]/"]
        {
            assert!(is_safe(safe), "{safe}");
        }
        for unsafe_ in [
            "http://id.example",
            "http://10.0.0.1",
            "ftp://localhost",
            "id.example",
            "https://",
            "",
        ] {
            assert!(!is_safe(unsafe_), "{unsafe_}");
        }
    }
}
