//! What an ACME authority shall find: a text by plain HTTP (http-01, RFC 8555 §8.3), or a certificate of a
//! handshake for `acme-tls/1` (tls-alpn-01, RFC 8737).

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dockctl_link::controller::listener::Peer;
use http::{Request, Response, StatusCode};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::PrivateKeyDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tonic::body::Body;

/// The protocol of such handshakes.
pub const ACME_TLS: &[u8] = b"acme-tls/1";
/// How long a connection may go on that has asked once.
const LONG_ENOUGH: Duration = Duration::from_secs(5);
/// Where such texts are.
const PATH: &str = "/.well-known/acme-challenge/";

/// What is shown at the moment.
#[derive(Debug, Default)]
pub struct Challenges {
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    /// By token.
    texts: HashMap<String, String>,
    /// By name.
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

impl Challenges {
    /// Shows a text under a token.
    pub(super) fn show_text(&self, token: &str, text: &str) {
        self.shown().texts.insert(token.to_owned(), text.to_owned());
    }

    /// Shows a certificate for a name that carries this SHA-256.
    pub(super) fn show_certificate(&self, name: &str, sha256: &[u8]) -> anyhow::Result<()> {
        anyhow::ensure!(sha256.len() == 32, "the authority's digest is no SHA-256");
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(sha256)];
        let certificate = params.self_signed(&key)?.der().clone();
        let signer = any_supported_type(&PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate], signer));
        self.shown().certificates.insert(name.to_owned(), certified);
        Ok(())
    }

    /// Shows nothing any more.
    pub(super) fn clear(&self) {
        *self.shown() = Shown::default();
    }

    /// Answers a request of the authority's, which has its connection for a short while only.
    pub async fn serve<B>(
        self: Arc<Self>,
        request: Request<B>,
    ) -> Result<Response<Body>, Infallible> {
        if let Some(peer) = request.extensions().get::<Arc<Peer>>().cloned() {
            tokio::spawn(async move {
                tokio::time::sleep(LONG_ENOUGH).await;
                peer.cut.cancel();
            });
        }
        let token = request.uri().path().strip_prefix(PATH);
        let text = token.and_then(|token| self.shown().texts.get(token).cloned());
        let mut response = Response::new(Body::empty());
        match text {
            Some(text) => *response.body_mut() = Body::new(http_body_util::Full::from(text)),
            None => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        Ok(response)
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows the authority what it looks for, and everybody else what else there is.
#[derive(Debug)]
pub struct WithChallenges {
    /// What the authority looks for.
    pub challenges: Arc<Challenges>,
    /// What everybody else gets.
    pub others: Arc<dyn ResolvesServerCert>,
}

impl ResolvesServerCert for WithChallenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.alpn().is_none_or(|offered| offered.ne([ACME_TLS])) {
            return self.others.resolve(hello);
        }
        self.challenges.shown().certificates.get(hello.server_name()?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_text_is_shown_until_it_is_cleared() {
        let challenges = Arc::new(Challenges::default());
        let get = async |path: &str| {
            let request = Request::get(path).body(()).unwrap();
            let (head, body) = challenges.clone().serve(request).await.unwrap().into_parts();
            (head.status.as_u16(), body.collect().await.unwrap().to_bytes())
        };
        challenges.show_text("t", "t.proof");
        assert_eq!(get("/.well-known/acme-challenge/t").await, (200, "t.proof".into()));
        for other in ["/.well-known/acme-challenge/u", "/.well-known/acme-challenge/", "/", "/t"] {
            assert_eq!(get(other).await.0, 404, "{other}");
        }
        challenges.clear();
        assert_eq!(get("/.well-known/acme-challenge/t").await.0, 404);
    }
}
