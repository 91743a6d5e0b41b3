//! AuthService.

use dockctl_api::{
    error::{bad_field, reason, status},
    sha256_hex,
    v1::{
        ChangePasswordRequest, ChangePasswordResponse, CreateTicketRequest, CreateTicketResponse,
        FinishOidcLoginRequest, FinishOidcLoginResponse, GetLoginOptionsRequest,
        GetLoginOptionsResponse, LoginRequest, LoginResponse, LoginWithDeviceRequest,
        LoginWithDeviceResponse, LogoutEverywhereRequest, LogoutEverywhereResponse, LogoutRequest,
        LogoutResponse, RefreshRequest, RefreshResponse, Role, SignUpRequest, SignUpResponse,
        StartOidcLoginRequest, StartOidcLoginResponse, WhoAmIRequest, WhoAmIResponse,
        auth_service_server::AuthService,
    },
};
use tonic::{Code, Request, Response, Status, codegen::BoxStream};

use super::{
    Auth, Credential, LoginOptions, MAX_SECRET, MAX_USERNAME, REFRESH_LIFETIME, bad_credentials,
    external::External, not_logged_in, principal, refresh_secret,
};
use crate::{
    app::{api_tokens, audit::LoggedIn, names, users},
    store::{Rotation, unix_ms},
};

#[tonic::async_trait]
impl AuthService for Auth {
    async fn login(
        &self,
        request: Request<LoginRequest>,
    ) -> Result<Response<LoginResponse>, Status> {
        let LoginRequest { username, password } = request.into_inner();
        if !(1..=MAX_USERNAME).contains(&username.chars().count()) {
            return Err(bad_field("username", "a user name has 1 to 64 characters"));
        }
        let user = self.with_password(&username, password).await?;
        let tokens = self.begin(&user, None).await?;
        tracing::info!(user = user.name, "logged in");
        let user = users::message(user);
        let (who, what) = (user.name.clone(), String::new());
        Ok(logged_in(who, what, LoginResponse { tokens: Some(tokens), user: Some(user) }))
    }

    async fn refresh(
        &self,
        request: Request<RefreshRequest>,
    ) -> Result<Response<RefreshResponse>, Status> {
        let old = request.into_inner().refresh_token;
        let ended = || {
            let message = "this login has ended; log in again";
            status(Code::Unauthenticated, reason::TOKEN_INVALID, message, &[])
        };
        if old.is_empty() || old.len() > MAX_SECRET {
            return Err(ended());
        }
        let now = self.now();
        let (secret, hash) = refresh_secret();
        let expires_at = unix_ms(now + REFRESH_LIFETIME);
        let old = sha256_hex(old.as_bytes());
        match self.shared.store.rotate_refresh_token(&old, &hash, expires_at, unix_ms(now)).await? {
            Rotation::Rotated { user_id, login_version, family, expires_at } => {
                let tokens = self.tokens(&user_id, login_version, &family, secret, expires_at)?;
                Ok(Response::new(RefreshResponse { tokens: Some(tokens) }))
            }
            Rotation::Reused { family } => {
                tracing::warn!(family, "a refresh token was used twice: its login is ended");
                self.end(family);
                Err(status(
                    Code::Unauthenticated,
                    reason::REFRESH_REUSED,
                    "this login was used from two places and has been ended; log in again",
                    &[],
                ))
            }
            Rotation::Unknown | Rotation::Expired => Err(ended()),
        }
    }

    async fn logout(
        &self,
        request: Request<LogoutRequest>,
    ) -> Result<Response<LogoutResponse>, Status> {
        let principal = principal(&request)?;
        let token = request.into_inner().refresh_token;
        if token.len() <= MAX_SECRET {
            let hash = sha256_hex(token.as_bytes());
            let ended = self.shared.store.revoke_refresh_family(&hash, &principal.user_id).await?;
            if let Some(family) = ended {
                self.end(family);
            }
        }
        Ok(Response::new(LogoutResponse {}))
    }

    async fn who_am_i(
        &self,
        request: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIResponse>, Status> {
        let principal = principal(&request)?;
        let user = self.shared.store.user_by_id(&principal.user_id).await?;
        let api_token = match &principal.credential {
            Credential::Login { .. } => None,
            Credential::ApiToken { hash } => {
                Some(api_tokens::message(self.shared.store.api_token(hash).await?))
            }
        };
        Ok(Response::new(WhoAmIResponse {
            user: Some(users::message(user)),
            access_expires_at: Some(principal.expires_at.into()),
            api_token,
        }))
    }

    async fn create_ticket(
        &self,
        request: Request<CreateTicketRequest>,
    ) -> Result<Response<CreateTicketResponse>, Status> {
        let bearer = request.metadata().get("authorization").and_then(|v| v.to_str().ok());
        let bearer = bearer.ok_or_else(|| not_logged_in("log in first"))?;
        let (ticket, ends) = self.shared.tickets.create(bearer, self.now());
        Ok(Response::new(CreateTicketResponse { ticket, expires_at: Some(ends.into()) }))
    }

    async fn logout_everywhere(
        &self,
        request: Request<LogoutEverywhereRequest>,
    ) -> Result<Response<LogoutEverywhereResponse>, Status> {
        let principal = principal(&request)?;
        principal.in_person()?;
        self.shared.store.end_logins(&principal.user_id, None, None).await?;
        self.rights_changed();
        Ok(Response::new(LogoutEverywhereResponse {}))
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let principal = principal(&request)?;
        principal.in_person()?;
        let ChangePasswordRequest { old_password, new_password } = request.into_inner();
        if self.shared.store.user_by_id(&principal.user_id).await?.oidc_subject.is_some() {
            let message = "you log in with the OpenID provider and have no password here";
            return Err(status(Code::FailedPrecondition, reason::NO_PASSWORD, message, &[]));
        }
        let user = self.with_password(&principal.name, old_password).await;
        let user = user.map_err(|error| match error.code() {
            Code::Unauthenticated => {
                let message = "the old password is wrong; nothing was changed";
                status(Code::Unauthenticated, reason::BAD_CREDENTIALS, message, &[])
            }
            _ => error,
        })?;
        let hash = self.hash("new_password", new_password).await?;
        // An admin may have given him another one meanwhile, which then stands.
        let version = Some(user.login_version);
        let ended = self.shared.store.end_logins(&user.id, Some(hash), version).await;
        let user = ended.map_err(|error| error.or_missing(bad_credentials))?;
        self.rights_changed();
        self.has_new_password(&user.name);
        let tokens = Some(self.begin(&user, None).await?);
        Ok(Response::new(ChangePasswordResponse { tokens }))
    }

    async fn get_login_options(
        &self,
        _: Request<GetLoginOptionsRequest>,
    ) -> Result<Response<GetLoginOptionsResponse>, Status> {
        let LoginOptions { allow_signup, oidc } = &self.shared.options;
        let oidc_issuer = oidc.as_ref().map(|oidc| oidc.issuer().to_owned()).unwrap_or_default();
        Ok(Response::new(GetLoginOptionsResponse { signup: *allow_signup, oidc_issuer }))
    }

    async fn start_oidc_login(
        &self,
        request: Request<StartOidcLoginRequest>,
    ) -> Result<Response<StartOidcLoginResponse>, Status> {
        let StartOidcLoginRequest { redirect_uri, state, code_challenge } = request.into_inner();
        let url = self.oidc()?.authorization_url(&redirect_uri, state, &code_challenge).await?;
        Ok(Response::new(StartOidcLoginResponse { authorization_url: url }))
    }

    async fn finish_oidc_login(
        &self,
        request: Request<FinishOidcLoginRequest>,
    ) -> Result<Response<FinishOidcLoginResponse>, Status> {
        let FinishOidcLoginRequest { redirect_uri, code, code_verifier } = request.into_inner();
        let oidc = self.oidc()?;
        let person = oidc.by_code(&redirect_uri, code, code_verifier).await?;
        let External { tokens, user, what } = self.by_person(person, oidc.lifetime()).await?;
        let who = user.name.clone();
        let answer = FinishOidcLoginResponse { tokens: Some(tokens), user: Some(user) };
        Ok(logged_in(who, what, answer))
    }

    async fn login_with_device(
        &self,
        _: Request<LoginWithDeviceRequest>,
    ) -> Result<Response<BoxStream<LoginWithDeviceResponse>>, Status> {
        self.with_device().await
    }

    async fn sign_up(
        &self,
        request: Request<SignUpRequest>,
    ) -> Result<Response<SignUpResponse>, Status> {
        if !self.shared.options.allow_signup {
            return Err(status(
                Code::PermissionDenied,
                reason::SIGNUP_OFF,
                "nobody may sign up here; ask an admin for a user",
                &[],
            ));
        }
        let SignUpRequest { username, password } = request.into_inner();
        names::user_name(&username)?;
        let user = self.new_user(&username, self.hash("password", password).await?, Role::None);
        let created = self.shared.store.create_user(user.clone()).await;
        created.map_err(|error| error.or_taken("a user", &user.name))?;
        tracing::info!(user = user.name, "signed up");
        let tokens = Some(self.begin(&user, None).await?);
        let user = users::message(user);
        let (who, what) = (user.name.clone(), String::new());
        Ok(logged_in(who, what, SignUpResponse { tokens, user: Some(user) }))
    }
}

/// The answer to who has just logged in.
fn logged_in<T>(who: String, what: String, answer: T) -> Response<T> {
    let (mut response, login) = (Response::new(answer), LoggedIn::default());
    login.tell(who, what);
    response.extensions_mut().insert(login);
    response
}
