//! Logins with an OpenID provider (OpenID Connect Core 1.0): the authorization code flow with PKCE for pages, the
//! device flow for programs. Called by `Auth`, which makes users of the persons that are found here.
//!
//! Nothing is kept of a login between its start and its end: the page holds the code verifier, of whose
//! challenge the nonce is made, and the provider holds the rest.

use std::{borrow::Cow, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dockctl_api::{
    error::{bad_field, reason, status},
    sha256_hex,
    v1::Role,
};
use futures_util::future::BoxFuture;
use http::Uri;
use oauth2::{
    AuthType, AuthorizationCode, CsrfToken, ErrorResponse, HttpRequest, HttpResponse,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    StandardDeviceAuthorizationResponse, TokenResponse as _,
};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

use super::names;
use crate::https::{Https, NoAnswer, is_safe};

mod id_token;
mod provider;

use id_token::Claims;
use provider::{AGAIN, Answer, Discovery, FRESH, Provider};

/// Logins that ask the provider at once; more are sent away.
const AT_ONCE: usize = 64;
/// Longest that a login with a device may take, whatever the provider says.
const DEVICE: Duration = Duration::from_secs(3_600);
/// How often the provider is asked of a device at least and at most.
const POLL: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
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
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// The claim that names a user here.
    pub username_claim: String,
    /// The claim that holds groups.
    pub groups_claim: String,
    /// Who has none of these groups is not let in; everybody is where there are none.
    pub allow_groups: Vec<String>,
    /// Which group gives which role. Where there is none, roles are given here.
    pub roles: Vec<(String, Role)>,
    /// How long a login goes on at most.
    pub lifetime: Duration,
    /// Whether devices may log in.
    pub devices: bool,
}

/// Tells which pages a browser may be returned to.
pub type IsPage = Arc<dyn Fn(&Uri) -> bool + Send + Sync>;

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
    discovery: Arc<Discovery>,
    is_page: IsPage,
    places: Arc<Semaphore>,
}

/// A login with a device that has begun.
pub(super) struct Device {
    provider: Arc<Provider>,
    pub(super) prompt: StandardDeviceAuthorizationResponse,
}

impl Device {
    /// How long the prompt is good for.
    pub(super) fn expires_in(&self) -> Duration {
        self.prompt.expires_in().min(DEVICE)
    }
}

impl Oidc {
    /// A provider that is asked at the first login. Errors: settings that would send secrets in the clear.
    pub fn new(settings: Settings, is_page: IsPage) -> anyhow::Result<Self> {
        anyhow::ensure!(
            is_safe(&settings.issuer),
            "the issuer {} is no https URL (http is for loopback only)",
            settings.issuer
        );
        let settings = Arc::new(settings);
        let discovery = Arc::new(Discovery::new(settings.clone(), Https::new()?));
        Ok(Self { settings, discovery, is_page, places: Arc::new(Semaphore::new(AT_ONCE)) })
    }

    /// The issuer's URL.
    pub(super) fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Whether groups give roles.
    pub(super) fn gives_roles(&self) -> bool {
        !self.settings.roles.is_empty()
    }

    /// How long a login goes on at most.
    pub(super) fn lifetime(&self) -> Duration {
        self.settings.lifetime
    }

    /// Where a page sends its browser. Errors: BAD_FIELD, OIDC_UNAVAILABLE, TOO_MANY.
    pub(super) async fn authorization_url(
        &self,
        redirect_uri: &str,
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
        let redirect_uri = self.redirect(redirect_uri)?;
        let (provider, _place) = self.provider(FRESH).await?;
        let request = provider.client.authorize_url(|| CsrfToken::new(state));
        let request = request
            .set_redirect_uri(redirect_uri)
            .add_scopes(self.scopes())
            .add_extra_param("nonce", nonce(code_challenge))
            .add_extra_param("code_challenge", code_challenge)
            .add_extra_param("code_challenge_method", "S256");
        Ok(request.url().0.into())
    }

    /// Who came back to a page with a code. Errors: BAD_FIELD, OIDC_REFUSED, OIDC_UNAVAILABLE, TOO_MANY.
    pub(super) async fn by_code(
        &self,
        redirect_uri: &str,
        code: String,
        code_verifier: String,
    ) -> Result<Person, Status> {
        if !(1..=MAX).contains(&code.len()) {
            return Err(bad_field("code", "this is no code"));
        }
        if !(43..=128).contains(&code_verifier.len()) {
            return Err(bad_field("code_verifier", "a code verifier has 43 to 128 characters"));
        }
        let redirect_uri = self.redirect(redirect_uri)?;
        let (provider, _place) = self.provider(FRESH).await?;
        let verifier = PkceCodeVerifier::new(code_verifier);
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        let request = provider.client.exchange_code(AuthorizationCode::new(code));
        let request = request.set_redirect_uri(redirect_uri).set_pkce_verifier(verifier);
        let answer = request.request_async(&self.sender()).await.map_err(refused)?;
        self.person(&provider, &answer, Some(nonce(challenge.as_str()))).await
    }

    /// Begins a login with a device. Errors: OIDC_OFF where there is none, OIDC_UNAVAILABLE, TOO_MANY.
    pub(super) async fn device(&self) -> Result<Device, Status> {
        let off = |message| status(Code::FailedPrecondition, reason::OIDC_OFF, message, &[]);
        if !self.settings.devices {
            return Err(off("this controller lets no device log in; use a page, or a password"));
        }
        let (provider, _place) = self.provider(FRESH).await?;
        let request = provider.client.exchange_device_code();
        let request =
            request.map_err(|_| off("the OpenID provider has no login for devices (RFC 8628)"));
        let mut request = request?.add_scopes(self.scopes());
        let is_in_header = matches!(provider.client.auth_type(), AuthType::BasicAuth);
        if self.settings.client_secret.is_some() && is_in_header {
            // RFC 8628 wants it in the body; oauth2 has put it into the header only.
            request = request.add_extra_param("client_id", self.settings.client_id.clone());
        }
        let prompt: StandardDeviceAuthorizationResponse =
            request.request_async(&self.sender()).await.map_err(refused)?;
        if prompt.interval() > DEVICE {
            return Err(unavailable("it wants a device to ask too seldom"));
        }
        Ok(Device { prompt, provider })
    }

    /// Waits until somebody has said yes to a device, or the provider gives up. Errors: OIDC_REFUSED,
    /// OIDC_UNAVAILABLE.
    pub(super) async fn by_device(&self, device: &Device) -> Result<Person, Status> {
        let request = device.provider.client.exchange_device_access_token(&device.prompt);
        let pause = |wait: Duration| tokio::time::sleep(wait.clamp(POLL[0], POLL[1]));
        let answer = request.request_async(&self.sender(), pause, Some(device.expires_in())).await;
        self.person(&device.provider, &answer.map_err(refused)?, None).await
    }

    async fn person(
        &self,
        provider: &Provider,
        answer: &Answer,
        nonce: Option<String>,
    ) -> Result<Person, Status> {
        let Settings { issuer, client_id, .. } = &*self.settings;
        let token = &answer.extra_fields().id_token;
        let read = |keys| id_token::read(token, keys, issuer, client_id, nonce.as_deref());
        let claims = match read(&provider.keys) {
            // The provider may have changed its keys.
            Err(id_token::Problem::UnknownKey) => {
                let newer = self.discovery.provider(AGAIN).await;
                read(&newer.map_err(|why| unavailable(&why))?.keys)
            }
            read => read,
        };
        let mut claims = claims.map_err(|problem| refusal(&problem.to_string()))?;
        if let Some(url) = &provider.userinfo {
            let told = self.discovery.get(url, Some(answer.access_token().secret())).await;
            let told: Map<String, Value> = told.map_err(|why| unavailable(&why))?;
            if told.get("sub").and_then(Value::as_str) != Some(&claims.sub) {
                return Err(refusal("what it tells of him is of somebody else"));
            }
            claims.others.extend(told);
        }
        self.settings.person(&claims).map_err(|why| refusal(&why))
    }

    /// The provider as it was at most so long ago, and a place among those who ask it.
    async fn provider(
        &self,
        age: Duration,
    ) -> Result<(Arc<Provider>, OwnedSemaphorePermit), Status> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            let message = "too many logins at once; try again in a moment";
            status(Code::ResourceExhausted, reason::TOO_MANY, message, &[])
        })?;
        let provider = self.discovery.provider(age).await.map_err(|why| unavailable(&why))?;
        Ok((provider, place))
    }

    /// What a login asks for.
    fn scopes(&self) -> impl Iterator<Item = Scope> {
        let others = self.settings.scopes.iter().cloned();
        std::iter::once("openid".to_owned()).chain(others).map(Scope::new)
    }

    /// A page that a browser may be returned to. Errors: BAD_FIELD.
    fn redirect(&self, uri: &str) -> Result<Cow<'static, RedirectUrl>, Status> {
        let is_page = uri.len() <= MAX
            && is_safe(uri)
            && uri.parse::<Uri>().is_ok_and(|uri| (self.is_page)(&uri));
        let url = is_page.then(|| RedirectUrl::new(uri.to_owned()).ok()).flatten();
        url.map(Cow::Owned).ok_or_else(|| {
            let message = "this is no page of ours, nor of an origin that --allow-origin allows";
            bad_field("redirect_uri", message)
        })
    }

    /// The way to the provider, as oauth2 wants it.
    fn sender(&self) -> impl Fn(HttpRequest) -> BoxFuture<'static, Result<HttpResponse, NoAnswer>> {
        let https = self.discovery.https.clone();
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
        let is_verified = match claims.others.get("email_verified") {
            None | Some(Value::Bool(true)) => true,
            Some(Value::String(text)) => text == "true",
            Some(_) => false,
        };
        if self.username_claim == "email" && !is_verified {
            return Err(format!("the provider has not verified that {named:?} is his address"));
        }
        let username = named.to_lowercase();
        names::user_name(&username).map_err(|error| {
            let rule = error.message();
            format!("{named:?} cannot be a name here ({rule}); --oidc-username-claim names another claim")
        })?;
        let groups = match claims.others.get(&self.groups_claim) {
            Some(Value::Array(groups)) => groups.as_slice(),
            Some(group) => std::slice::from_ref(group),
            None => &[],
        };
        let has = |group: &String| groups.iter().any(|of| of.as_str() == Some(group));
        if !self.allow_groups.is_empty() && !self.allow_groups.iter().any(has) {
            return Err(format!("{named:?} is in none of the groups that are let in"));
        }
        let given = self.roles.iter().filter(|(group, _)| has(group)).map(|(_, role)| *role).max();
        let role = (!self.roles.is_empty()).then(|| given.unwrap_or(Role::None));
        Ok(Person { subject: format!("{} {}", self.issuer, claims.sub), username, role })
    }
}

/// Ties a token to the login that it was asked for.
fn nonce(code_challenge: &str) -> String {
    sha256_hex(format!("dockctl nonce {code_challenge}").as_bytes())
}

fn refusal(why: &str) -> Status {
    tracing::warn!(why, "a login with the OpenID provider was refused");
    let message = format!("the login with the OpenID provider failed: {why}");
    status(Code::Unauthenticated, reason::OIDC_REFUSED, message, &[])
}

fn unavailable(why: &str) -> Status {
    let message = format!("the controller cannot ask the OpenID provider: {why}");
    status(Code::Unavailable, reason::OIDC_UNAVAILABLE, message, &[])
}

/// What a failed request to the provider means.
fn refused<E: ErrorResponse>(error: RequestTokenError<NoAnswer, E>) -> Status {
    match error {
        RequestTokenError::ServerResponse(answer) => match answer.to_string() {
            why if why.starts_with("invalid_client") => refusal(&format!(
                "{why}; are the controller's --oidc-client-id and its secret those of the provider?"
            )),
            why => refusal(&why),
        },
        RequestTokenError::Request(no_answer) => unavailable(&no_answer.to_string()),
        other => unavailable(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use dockctl_api::error::reason_of;
    use serde_json::json;

    use super::*;
    use crate::edge::origin::Origins;

    fn settings() -> Settings {
        Settings {
            issuer: "https://id.example".to_owned(),
            client_id: "dockctl".to_owned(),
            client_secret: None,
            scopes: Vec::new(),
            username_claim: "preferred_username".to_owned(),
            groups_claim: "groups".to_owned(),
            allow_groups: Vec::new(),
            lifetime: Duration::from_secs(60),
            devices: true,
            roles: vec![("ops".to_owned(), Role::Operator), ("root".to_owned(), Role::Admin)],
        }
    }

    fn provider(settings: Settings) -> anyhow::Result<Oidc> {
        let allowed = ["https://Ops.example:8443/".to_owned()];
        let origins = Origins::new(allowed, ["c".to_owned(), "::1".to_owned()]);
        Oidc::new(settings, Arc::new(move |page| origins.has_page(page)))
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
        assert!(refused(json!({"preferred_username": "a b"})).contains("cannot be a name"));
        let email = Settings { username_claim: "email".to_owned(), ..settings() };
        let of = |others| email.person(&claims(others));
        for not in [json!(false), json!("false"), json!(1), Value::Null] {
            assert!(of(json!({"email": "a@x", "email_verified": not})).is_err());
        }
        assert_eq!(of(json!({"email": "a@x"})).unwrap().username, "a@x");
    }

    #[test]
    fn who_is_in_none_of_the_groups_stays_outside() {
        let only = Settings { allow_groups: vec!["ops".to_owned()], ..settings() };
        let of =
            |groups| only.person(&claims(json!({"preferred_username": "a", "groups": groups})));
        assert!(of(json!(["x", "ops"])).is_ok());
        for outside in [json!(["x"]), json!([]), Value::Null, json!("root")] {
            assert!(of(outside).unwrap_err().contains("none of the groups"));
        }
    }

    #[test]
    fn only_our_pages_and_allowed_ones_are_returned_to() {
        let oidc = provider(settings()).unwrap();
        for good in [
            "https://c/docs",
            "https://C:7443/docs",
            "https://ops.example:8443/x",
            "https://[::1]:1/",
        ] {
            oidc.redirect(good).unwrap();
        }
        let long = format!("https://c/{}", "x".repeat(MAX));
        for bad in [
            "https://ops.example/x",
            "https://evil.example/docs",
            "https://c.evil.example/docs",
            "http://c/docs",
            "https://c@evil.example/",
            "javascript:alert(1)",
            "/docs",
            "",
            &long,
        ] {
            assert!(oidc.redirect(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_provider_in_the_clear_is_refused_at_the_start() {
        let issuer = "http://id.example".to_owned();
        assert!(provider(Settings { issuer, ..settings() }).is_err());
    }

    #[tokio::test]
    async fn bad_requests_are_refused_before_the_provider_is_asked() {
        let oidc = provider(Settings { issuer: "https://localhost:1".to_owned(), ..settings() });
        let oidc = oidc.unwrap();
        let (page, state) = ("https://c/docs", "s".repeat(16));
        let challenge = URL_SAFE_NO_PAD.encode([7; 32]);
        let start = async |page: &str, state: &str, challenge: &str| {
            let url = oidc.authorization_url(page, state.to_owned(), challenge).await;
            reason_of(&url.unwrap_err()).unwrap()
        };
        assert_eq!(start(page, "short", &challenge).await, "BAD_FIELD");
        assert_eq!(start(page, &state, "plain").await, "BAD_FIELD");
        assert_eq!(start(page, &state, &challenge).await, "OIDC_UNAVAILABLE", "nobody is there");
        let finish = async |code: &str, verifier: &str| {
            let person = oidc.by_code(page, code.to_owned(), verifier.to_owned()).await;
            reason_of(&person.unwrap_err()).unwrap()
        };
        assert_eq!(finish("", &"v".repeat(43)).await, "BAD_FIELD");
        assert_eq!(finish(&"c".repeat(MAX + 1), &"v".repeat(43)).await, "BAD_FIELD");
        assert_eq!(finish("c", "short").await, "BAD_FIELD");
    }
}
