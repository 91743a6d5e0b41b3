//! What an OpenID provider says of itself (OpenID Connect Discovery 1.0), remembered for a while; the way to it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, header};
use jsonwebtoken::jwk::JwkSet;
use oauth2::{
    AuthType, AuthUrl, Client, ClientId, ClientSecret, DeviceAuthorizationUrl, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, ExtraTokenFields, StandardRevocableToken, StandardTokenResponse,
    TokenUrl,
    basic::{
        BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
        BasicTokenType,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use super::Settings;
use crate::https::{Https, is_safe};

/// How long what the provider says of itself is good for.
pub(super) const FRESH: Duration = Duration::from_secs(300);
/// How soon it is asked again after it failed, or for a key that is not there.
pub(super) const AGAIN: Duration = Duration::from_secs(10);
/// How long it may take to tell of itself.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) type OidcClient = Client<
    BasicErrorResponse,
    Answer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointMaybeSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// What the provider answers to who proves himself.
pub(super) type Answer = StandardTokenResponse<IdToken, BasicTokenType>;

/// What OpenID Connect adds to an answer of OAuth.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct IdToken {
    pub(super) id_token: String,
}

impl ExtraTokenFields for IdToken {}

/// A provider as it is known.
pub(super) struct Provider {
    pub(super) client: OidcClient,
    pub(super) keys: JwkSet,
    /// Where it tells what it has left out of its tokens.
    pub(super) userinfo: Option<String>,
}

/// What the provider says of itself, as far as it is used.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// Asks a provider, and remembers what it said.
pub(super) struct Discovery {
    settings: Arc<Settings>,
    pub(super) https: Https,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The last that was good.
    provider: Option<Arc<Provider>>,
    /// When it was asked last, and why it failed.
    asked: Option<(Instant, Option<String>)>,
}

impl Discovery {
    pub(super) fn new(settings: Arc<Settings>, https: Https) -> Self {
        Self { settings, https, known: Mutex::default() }
    }

    /// The provider as it was at most so long ago, or before where it does not answer now. One caller asks it, and
    /// the others wait for that one.
    pub(super) async fn provider(&self, age: Duration) -> Result<Arc<Provider>, String> {
        let mut known = self.known.lock().await;
        let age =
            if known.asked.as_ref().is_some_and(|(_, why)| why.is_some()) { AGAIN } else { age };
        if known.asked.as_ref().is_none_or(|(at, _)| at.elapsed() >= age) {
            let found = tokio::time::timeout(PATIENCE, self.discover()).await;
            let found = found.unwrap_or_else(|_| Err("it did not answer in time".to_owned()));
            let failed = match found {
                Ok(provider) => {
                    known.provider = Some(Arc::new(provider));
                    None
                }
                Err(why) => {
                    tracing::warn!(why, "the OpenID provider does not tell of itself");
                    Some(why)
                }
            };
            known.asked = Some((Instant::now(), failed));
        }
        let why = || known.asked.as_ref().and_then(|(_, why)| why.clone()).unwrap_or_default();
        known.provider.clone().ok_or_else(why)
    }

    async fn discover(&self) -> Result<Provider, String> {
        let Settings { issuer, client_id, client_secret, .. } = &*self.settings;
        let at = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let found: Metadata = self.get(&at, None).await?;
        if found.issuer != *issuer {
            return Err(format!("it calls itself {:?}, not {issuer:?}", found.issuer));
        }
        let device = found.device_authorization_endpoint;
        let endpoints = [&found.authorization_endpoint, &found.token_endpoint, &found.jwks_uri];
        let others = device.iter().chain(&found.userinfo_endpoint);
        // One that is asked by TLS leads nowhere else.
        let is_good =
            |url: &str| is_safe(url) && (url.starts_with("https:") || issuer.starts_with("http:"));
        if let Some(bad) = endpoints.into_iter().chain(others).find(|url| !is_good(url)) {
            return Err(format!("{bad:?} is no https URL"));
        }
        let keys = self.get(&found.jwks_uri, None).await?;
        let bad = |error: oauth2::url::ParseError| error.to_string();
        let mut client = Client::new(ClientId::new(client_id.clone()))
            .set_auth_uri(AuthUrl::new(found.authorization_endpoint).map_err(bad)?)
            .set_token_uri(TokenUrl::new(found.token_endpoint).map_err(bad)?)
            .set_device_authorization_url_option(
                device.map(DeviceAuthorizationUrl::new).transpose().map_err(bad)?,
            );
        if let Some(secret) = client_secret {
            client = client.set_client_secret(ClientSecret::new(secret.clone()));
        }
        let methods = &found.token_endpoint_auth_methods_supported;
        let takes = |method: &str| methods.iter().any(|of| of == method);
        if takes("client_secret_post") && !takes("client_secret_basic") {
            client = client.set_auth_type(AuthType::RequestBody);
        }
        Ok(Provider { client, keys, userinfo: found.userinfo_endpoint })
    }

    /// Reads JSON that the provider has at a URL.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        url: &str,
        bearer: Option<&str>,
    ) -> Result<T, String> {
        let mut request = Request::get(url).header(header::ACCEPT, "application/json");
        if let Some(token) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = self.https.send(request.body("").map_err(|e| e.to_string())?).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("{url}: HTTP {}", answer.status()));
        }
        serde_json::from_slice(answer.body()).map_err(|error| format!("{url}: {error}"))
    }
}
