//! What the users' port serves that is no call: health, version, the API's description and a page to try it. None
//! of it needs a login, and none of it tells of the fleet.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use dockctl_api::policy::{self, Policies, PolicyError};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use prost_reflect::DescriptorPool;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::{json, openapi};
use crate::store;

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// Scripts and styles of our own only, and nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The pages; cheap to clone.
#[derive(Clone)]
pub struct Pages {
    /// Asked whether it answers.
    store: store::Handle,
    /// Cancelled when the controller stops.
    draining: CancellationToken,
    pool: &'static DescriptorPool,
    policies: Arc<Policies>,
    /// Made when it is first asked for.
    openapi: Arc<OnceLock<Bytes>>,
}

impl Pages {
    /// Pages of a controller that stops when `draining` is cancelled.
    pub fn new(
        store: store::Handle,
        draining: CancellationToken,
        policies: Arc<Policies>,
    ) -> Result<Self, PolicyError> {
        Ok(Self { store, draining, pool: policy::pool()?, policies, openapi: Arc::default() })
    }

    /// The page at a path.
    pub(super) async fn get(&self, path: &str) -> Option<Response<Body>> {
        let (code, kind, text) = match path {
            "/healthz" => (StatusCode::OK, TEXT, Bytes::from_static(b"ok\n")),
            "/readyz" => {
                let (code, text) = self.ready().await;
                (code, TEXT, text.into())
            }
            "/version" => {
                let version = serde_json::json!({ "version": dockctl_api::VERSION });
                (StatusCode::OK, json::JSON, version.to_string().into())
            }
            "/openapi.json" => {
                let made = || openapi::document(self.pool, &self.policies).to_string().into();
                (StatusCode::OK, json::JSON, self.openapi.get_or_init(made).clone())
            }
            "/docs" | "/" => (StatusCode::OK, HTML, include_str!("docs/docs.html").into()),
            "/docs/docs.js" => {
                (StatusCode::OK, "text/javascript", include_str!("docs/docs.js").into())
            }
            "/docs/docs.css" => (StatusCode::OK, "text/css", include_str!("docs/docs.css").into()),
            _ => return None,
        };
        let mut response = json::answer(code, kind, Full::from(text));
        let policy = HeaderValue::from_static(POLICY);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        Some(response)
    }

    /// Whether calls are answered, and if not, what is missing.
    pub async fn ready(&self) -> (StatusCode, String) {
        if self.draining.is_cancelled() {
            return (StatusCode::SERVICE_UNAVAILABLE, "the controller is stopping\n".to_owned());
        }
        match self.store.has_users().await {
            Ok(_) => (StatusCode::OK, "ready\n".to_owned()),
            Err(error) => {
                tracing::warn!(%error, "the store does not answer");
                (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n".to_owned())
            }
        }
    }
}
