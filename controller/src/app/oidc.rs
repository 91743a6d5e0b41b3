//! Logins with an OpenID provider (OpenID Connect Core 1.0): the authorization code flow with PKCE for pages, the
//! device flow for programs. Called by `Auth`, which makes users of the persons that are found here.
//!
//! Nothing is kept of a login between its start and its end: the page holds the code verifier, of whose
//! challenge the nonce is made, and the provider holds the rest.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dockctl_api::{
    error::{bad_field, reason, status},
    sha256_hex,
    v1::Role,
};
use futures_util::future::BoxFuture;
use http::{Request, header};
use jsonwebtoken::jwk::JwkSet;
use oauth2::{
    AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, DeviceAuthorizationUrl,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, ErrorResponse, ExtraTokenFields, HttpRequest,
    HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    StandardDeviceAuthorizationResponse, StandardRevocableToken, StandardTokenResponse,
    TokenResponse as _, TokenUrl,
    basic::{
        BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
        BasicTokenType,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tonic::{Code, Status};

use super::names;
use crate::https::{Https, NoAnswer, is_safe};

mod id_token;

use id_token::Claims;

/// How long what the provider says of itself is good for.
const FRESH: Duration = Duration::from_secs(300);
/// How soon it may be asked again for a key that is not there.
const AGAIN: Duration = Duration::from_secs(10);
/// Longest part of a request, bytes.
const MAX: usize = 4096;

/// Which provider, and what its claims mean here.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The issuer's URL, as its tokens spell it.
    pub issuer: String,
    /// What the provider calls this controller.
    pub client_id: String,
    /// What proves it; none for a public client.
    pub client_secret: Option<String>,
    /// The claim that names a user here.
    pub username_claim: String,
    /// The claim whose values give roles.
    pub roles_claim: String,
    /// Which value gives which role. Where there is none, roles are given here.
    pub roles: Vec<(String, Role)>,
}

/// Whom the provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    /// The issuer's URL, a space, and what it calls him for ever.
    pub(super) subject: String,
    /// What he is to be called here.
    pub(super) username: String,
    /// His role for the whole fleet, where the provider gives it.
    pub(super) role: Option<Role>,
}

/// A provider; cheap to clone.
#[derive(Clone)]
pub struct Oidc {
    settings: Arc<Settings>,
    https: Https,
    known: Arc<Mutex<Option<Known>>>,
}

/// When the provider told of itself what.
type Known = (Instant, Arc<Provider>);

/// What a provider says of itself, as far as it is used (OpenID Connect Discovery 1.0).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    jwks_uri: String,
}

struct Provider {
    client: OidcClient,
    keys: JwkSet,
    /// Where it tells what it has left out of its tokens.
    userinfo: Option<String>,
}

type OidcClient = Client<
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

type Answer = StandardTokenResponse<IdToken, BasicTokenType>;

/// What OpenID Connect adds to an answer of OAuth.
#[derive(Debug, Deserialize, Serialize)]
struct IdToken {
    id_token: String,
}

impl ExtraTokenFields for IdToken {}

/// A login with a device that has begun.
pub(super) struct Device {
    provider: Arc<Provider>,
    pub(super) prompt: StandardDeviceAuthorizationResponse,
}

impl Oidc {
    /// A provider that is asked at the first login. Errors: settings that would send secrets in the clear.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        anyhow::ensure!(
            is_safe(&settings.issuer),
            "the issuer {} is no https URL (http is for loopback only)",
            settings.issuer
        );
        let https = Https::new()?;
        Ok(Self { settings: Arc::new(settings), https, known: Arc::default() })
    }

    /// The issuer's URL.
    pub(super) fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Where a page sends its browser. Errors: BAD_FIELD, OIDC_UNAVAILABLE.
    pub(super) async fn authorization_url(
        &self,
        redirect_uri: String,
        state: String,
        code_challenge: &str,
    ) -> Result<String, Status> {
        if !(16..=128).contains(&state.len()) {
            return Err(bad_field("state", "a state has 16 to 128 characters"));
        }
        let is_sha256 = |text: &str| URL_SAFE_NO_PAD.decode(text).is_ok_and(|of| of.len() == 32);
        if !is_sha256(code_challenge) {
            return Err(bad_field("code_challenge", "this is no SHA-256 in base64url"));
        }
        let redirect_uri = redirect(redirect_uri)?;
        let provider = self.provider(FRESH).await?;
        let request = provider.client.authorize_url(|| CsrfToken::new(state));
        let request = request
            .set_redirect_uri(redirect_uri)
            .add_scopes(scopes())
            .add_extra_param("nonce", nonce(code_challenge))
            .add_extra_param("code_challenge", code_challenge)
            .add_extra_param("code_challenge_method", "S256");
        Ok(request.url().0.into())
    }

    /// Who came back to a page with a code. Errors: BAD_FIELD, OIDC_REFUSED, OIDC_UNAVAILABLE.
    pub(super) async fn by_code(
        &self,
        redirect_uri: String,
        code: String,
        code_verifier: String,
    ) -> Result<Person, Status> {
        if !(1..=MAX).contains(&code.len()) {
            return Err(bad_field("code", "this is no code"));
        }
        if !(43..=128).contains(&code_verifier.len()) {
            return Err(bad_field("code_verifier", "a code verifier has 43 to 128 characters"));
        }
        let redirect_uri = redirect(redirect_uri)?;
        let provider = self.provider(FRESH).await?;
        let verifier = PkceCodeVerifier::new(code_verifier);
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        let request = provider.client.exchange_code(AuthorizationCode::new(code));
        let request = request.set_redirect_uri(redirect_uri).set_pkce_verifier(verifier);
        let answer = request.request_async(&self.sender()).await.map_err(refused)?;
        self.person(provider, &answer, Some(nonce(challenge.as_str()))).await
    }

    /// Begins a login with a device. Errors: OIDC_OFF where the provider has none, OIDC_UNAVAILABLE.
    pub(super) async fn device(&self) -> Result<Device, Status> {
        let provider = self.provider(FRESH).await?;
        let request = provider.client.exchange_device_code().map_err(|_| {
            let message = "the OpenID provider has no login for devices (RFC 8628)";
            status(Code::FailedPrecondition, reason::OIDC_OFF, message, &[])
        })?;
        let request = request.add_scopes(scopes());
        let prompt = request.request_async(&self.sender()).await.map_err(refused)?;
        Ok(Device { prompt, provider })
    }

    /// Waits until somebody has said yes to a device, or the provider gives up. Errors: OIDC_REFUSED,
    /// OIDC_UNAVAILABLE.
    pub(super) async fn by_device(&self, device: &Device) -> Result<Person, Status> {
        let request = device.provider.client.exchange_device_access_token(&device.prompt);
        let answer = request.request_async(&self.sender(), tokio::time::sleep, None).await;
        self.person(device.provider.clone(), &answer.map_err(refused)?, None).await
    }

    async fn person(
        &self,
        provider: Arc<Provider>,
        answer: &Answer,
        nonce: Option<String>,
    ) -> Result<Person, Status> {
        let Settings { issuer, client_id, .. } = &*self.settings;
        let token = &answer.extra_fields().id_token;
        let read = |keys| id_token::read(token, keys, issuer, client_id, nonce.as_deref());
        let claims = match read(&provider.keys) {
            // The provider may have changed its keys.
            Err(id_token::Problem::UnknownKey) => read(&self.provider(AGAIN).await?.keys),
            read => read,
        };
        let mut claims = claims.map_err(|problem| refusal(&problem.to_string()))?;
        if let Some(url) = &provider.userinfo {
            let told = self.get(url, Some(answer.access_token().secret())).await;
            let told: Map<String, Value> = told.map_err(|why| unavailable(&why))?;
            if told.get("sub").and_then(Value::as_str) != Some(&claims.sub) {
                return Err(refusal("what it tells of him is of somebody else"));
            }
            claims.others.extend(told);
        }
        self.settings.person(&claims).map_err(|why| refusal(&why))
    }

    /// What the provider says of itself, no older than this.
    async fn provider(&self, age: Duration) -> Result<Arc<Provider>, Status> {
        let mut known = self.known.lock().await;
        if let Some((asked, provider)) = &*known
            && asked.elapsed() < age
        {
            return Ok(provider.clone());
        }
        let provider = Arc::new(self.discover().await.map_err(|why| unavailable(&why))?);
        *known = Some((Instant::now(), provider.clone()));
        Ok(provider)
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
        if let Some(bad) = endpoints.into_iter().chain(others).find(|url| !is_safe(url)) {
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
        Ok(Provider { client, keys, userinfo: found.userinfo_endpoint })
    }

    async fn get<T: DeserializeOwned>(&self, url: &str, bearer: Option<&str>) -> Result<T, String> {
        let mut request = Request::get(url).header(header::ACCEPT, "application/json");
        if let Some(token) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body("");
        let answer = self.https.send(request.map_err(|e| e.to_string())?).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("{url}: HTTP {}", answer.status()));
        }
        serde_json::from_slice(answer.body()).map_err(|error| format!("{url}: {error}"))
    }

    /// The way to the provider, as oauth2 wants it.
    fn sender(&self) -> impl Fn(HttpRequest) -> BoxFuture<'static, Result<HttpResponse, NoAnswer>> {
        let https = self.https.clone();
        move |request| {
            let https = https.clone();
            Box::pin(async move { Ok(https.send(request).await?.map(Into::into)) })
        }
    }
}

impl Settings {
    /// Whom a token's claims are of. Errors: what is missing, and what helps.
    fn person(&self, claims: &Claims) -> Result<Person, String> {
        let named = claims.others.get(&self.username_claim).and_then(Value::as_str);
        let named = named.ok_or_else(|| {
            let claim = &self.username_claim;
            format!("the provider sends no claim {claim:?}; --oidc-username-claim names another")
        })?;
        let is_verified = claims.others.get("email_verified") != Some(&Value::Bool(false));
        if self.username_claim == "email" && !is_verified {
            return Err(format!("the provider has not verified that {named:?} is his address"));
        }
        let username = named.to_lowercase();
        names::user_name(&username).map_err(|_| format!("{named:?} is no name for a user here"))?;
        let values = match claims.others.get(&self.roles_claim) {
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        let has = |value: &str| values.iter().any(|of| of.as_str() == Some(value));
        let given = self.roles.iter().filter(|(value, _)| has(value)).map(|(_, role)| *role).max();
        let role = (!self.roles.is_empty()).then(|| given.unwrap_or(Role::None));
        Ok(Person { subject: format!("{} {}", self.issuer, claims.sub), username, role })
    }
}

/// What a login asks for; a provider passes over what it does not know.
fn scopes() -> impl Iterator<Item = Scope> {
    ["openid", "profile", "email"].into_iter().map(|scope| Scope::new(scope.to_owned()))
}

fn redirect(uri: String) -> Result<Cow<'static, RedirectUrl>, Status> {
    let good = if uri.len() <= MAX { RedirectUrl::new(uri).ok() } else { None };
    good.map(Cow::Owned).ok_or_else(|| bad_field("redirect_uri", "this is no URL"))
}

/// Ties a token to the login that it was asked for.
fn nonce(code_challenge: &str) -> String {
    sha256_hex(format!("dockctl nonce {code_challenge}").as_bytes())
}

fn refusal(why: &str) -> Status {
    tracing::warn!(why, "a login with the OpenID provider was refused");
    let message = format!("the OpenID provider does not vouch for this login: {why}");
    status(Code::Unauthenticated, reason::OIDC_REFUSED, message, &[])
}

fn unavailable(why: &str) -> Status {
    tracing::warn!(why, "the OpenID provider cannot be asked");
    let message = format!("the OpenID provider cannot be asked: {why}");
    status(Code::Unavailable, reason::OIDC_UNAVAILABLE, message, &[])
}

/// What a failed request to the provider means.
fn refused<E: ErrorResponse>(error: RequestTokenError<NoAnswer, E>) -> Status {
    match error {
        RequestTokenError::ServerResponse(answer) => refusal(&answer.to_string()),
        RequestTokenError::Request(no_answer) => unavailable(&no_answer.to_string()),
        other => unavailable(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use dockctl_api::error::reason_of;
    use serde_json::json;

    use super::*;

    fn settings() -> Settings {
        Settings {
            issuer: "https://id.example".to_owned(),
            client_id: "dockctl".to_owned(),
            client_secret: None,
            username_claim: "preferred_username".to_owned(),
            roles_claim: "groups".to_owned(),
            roles: vec![("ops".to_owned(), Role::Operator), ("root".to_owned(), Role::Admin)],
        }
    }

    fn claims(others: Value) -> Claims {
        let mut all = json!({"sub": "7"});
        all.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn claims_name_a_user_and_his_role() {
        let person = |others| settings().person(&claims(others)).unwrap();
        let ada = person(json!({"preferred_username": "Ada", "groups": ["x", "root", "ops", 7]}));
        let subject = "https://id.example 7".to_owned();
        assert_eq!(ada, Person { subject, username: "ada".to_owned(), role: Some(Role::Admin) });
        let role =
            |groups: Value| person(json!({"preferred_username": "a", "groups": groups})).role;
        assert_eq!(role(json!("ops")), Some(Role::Operator));
        for nothing in [json!([]), json!("opsroot"), json!({"ops": true}), Value::Null] {
            assert_eq!(role(nothing.clone()), Some(Role::None), "{nothing}");
        }
        let own = Settings { roles: Vec::new(), ..settings() };
        let claims = claims(json!({"preferred_username": "a", "groups": ["root"]}));
        assert_eq!(own.person(&claims).unwrap().role, None, "roles are given here");
    }

    #[test]
    fn claims_that_name_nobody_are_refused_with_what_helps() {
        let refused = |others| settings().person(&claims(others)).unwrap_err();
        assert!(refused(json!({"email": "a@x"})).contains("--oidc-username-claim"));
        assert!(refused(json!({"preferred_username": 7})).contains("--oidc-username-claim"));
        assert!(refused(json!({"preferred_username": "a b"})).contains("no name"));
        let email = Settings { username_claim: "email".to_owned(), ..settings() };
        let of = |others| email.person(&claims(others));
        assert!(of(json!({"email": "a@x", "email_verified": false})).is_err());
        assert_eq!(of(json!({"email": "a@x"})).unwrap().username, "a@x");
    }

    #[test]
    fn a_provider_in_the_clear_is_refused_at_the_start() {
        let issuer = "http://id.example".to_owned();
        assert!(Oidc::new(Settings { issuer, ..settings() }).is_err());
    }

    #[tokio::test]
    async fn bad_requests_are_refused_before_the_provider_is_asked() {
        let oidc = Oidc::new(Settings { issuer: "https://localhost:1".to_owned(), ..settings() });
        let oidc = oidc.unwrap();
        let (page, state) = ("https://c/docs", "s".repeat(16));
        let challenge = URL_SAFE_NO_PAD.encode([7; 32]);
        let start = async |page: &str, state: &str, challenge: &str| {
            let url = oidc.authorization_url(page.to_owned(), state.to_owned(), challenge).await;
            reason_of(&url.unwrap_err()).unwrap()
        };
        assert_eq!(start(page, "short", &challenge).await, "BAD_FIELD");
        assert_eq!(start(page, &state, "plain").await, "BAD_FIELD");
        assert_eq!(start(page, &state, &challenge).await, "OIDC_UNAVAILABLE", "nobody is there");
        let finish = async |code: &str, verifier: &str| {
            let person = oidc.by_code(page.to_owned(), code.to_owned(), verifier.to_owned()).await;
            reason_of(&person.unwrap_err()).unwrap()
        };
        assert_eq!(finish("", &"v".repeat(43)).await, "BAD_FIELD");
        assert_eq!(finish(&"c".repeat(MAX + 1), &"v".repeat(43)).await, "BAD_FIELD");
        assert_eq!(finish("c", "short").await, "BAD_FIELD");
    }
}
