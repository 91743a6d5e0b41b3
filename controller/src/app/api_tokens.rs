//! The tokens that scripts carry instead of a login: ApiTokenService. Owns how a token is spelt; the secret is
//! in the answer to CreateApiToken and nowhere else: the store has its hash.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dockctl_api::{
    error::{bad_field, reason, status},
    new_id, random, sha256_hex,
    v1::{
        ApiToken, CreateApiTokenRequest, CreateApiTokenResponse, DeleteApiTokenRequest,
        DeleteApiTokenResponse, ListApiTokensRequest, ListApiTokensResponse, Role,
        api_token_service_server::ApiTokenService,
    },
};
use tonic::{Code, Request, Response, Status};

use super::{
    auth::{Auth, principal},
    names::{self, Selector},
    users,
};
use crate::store::{self, ApiTokenRecord, system_time, unix_ms};

/// What each token begins with, so that it is known for one wherever it turns up.
pub(super) const PREFIX: &str = "dockctl_";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DEFAULT_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MIN_TTL: Duration = Duration::from_secs(60);
const MAX_TTL_DAYS: u32 = 3_650;
/// Most tokens of one user.
const MAX_TOKENS: usize = 200;

/// ApiTokenService.
pub struct ApiTokens {
    /// The store.
    pub store: store::Handle,
    /// Knows who uses which token.
    pub auth: Auth,
}

#[tonic::async_trait]
impl ApiTokenService for ApiTokens {
    async fn create_api_token(
        &self,
        request: Request<CreateApiTokenRequest>,
    ) -> Result<Response<CreateApiTokenResponse>, Status> {
        let principal = principal(&request)?;
        principal.in_person()?;
        let CreateApiTokenRequest { name, role, selector, ttl } = request.into_inner();
        names::agent_name(&name).map_err(|_| {
            let message = "a token's name has 1 to 63 of a-z, 0-9, '.', '_' and '-', begins with a \
                           letter or digit, and does not look like an id (20 hex digits)";
            bad_field("name", message)
        })?;
        let role = users::useful(role)?;
        Selector::parse(&selector)?;
        let ttl = match ttl {
            None => DEFAULT_TTL,
            Some(ttl) => Duration::try_from(ttl)
                .ok()
                .filter(|ttl| (MIN_TTL..=DAY * MAX_TTL_DAYS).contains(ttl))
                .ok_or_else(|| bad_field("ttl", "an API token lives 1 minute to 3,650 days"))?,
        };
        let now = SystemTime::now();
        let others = self.store.list_api_tokens(Some(&principal.user_id), unix_ms(now)).await?;
        if others.len() >= MAX_TOKENS {
            let message = format!("there are {MAX_TOKENS} tokens already; delete one first");
            return Err(status(Code::ResourceExhausted, reason::TOO_MANY, message, &[]));
        }
        let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random::<32>()));
        let record = ApiTokenRecord {
            id: new_id(),
            hash: sha256_hex(secret.as_bytes()),
            user_id: principal.user_id,
            username: principal.name,
            name,
            role,
            selector,
            created_at: unix_ms(now),
            expires_at: unix_ms(now + ttl),
            last_used_at: None,
        };
        let created = self.store.create_api_token(record.clone()).await;
        created.map_err(|error| error.or_taken("a token of yours", &record.name))?;
        let api_token = Some(message(record));
        Ok(Response::new(CreateApiTokenResponse { token: secret, api_token }))
    }

    async fn list_api_tokens(
        &self,
        request: Request<ListApiTokensRequest>,
    ) -> Result<Response<ListApiTokensResponse>, Status> {
        let principal = principal(&request)?;
        let all = request.get_ref().all;
        if all && !principal.authority.everywhere(Role::Admin) {
            let message = "only admins of the whole fleet see everybody's tokens";
            return Err(status(Code::PermissionDenied, reason::NOT_ALLOWED, message, &[]));
        }
        let owner = (!all).then_some(principal.user_id.as_str());
        let records = self.store.list_api_tokens(owner, unix_ms(SystemTime::now())).await?;
        let api_tokens = records.into_iter().map(message).collect();
        Ok(Response::new(ListApiTokensResponse { api_tokens }))
    }

    async fn delete_api_token(
        &self,
        request: Request<DeleteApiTokenRequest>,
    ) -> Result<Response<DeleteApiTokenResponse>, Status> {
        let principal = principal(&request)?;
        principal.in_person()?;
        let wanted = &request.get_ref().id;
        // An admin may mean anybody's, but a name means one's own.
        let owner = (!principal.authority.everywhere(Role::Admin)).then_some(&*principal.user_id);
        let tokens = self.store.list_api_tokens(owner, unix_ms(SystemTime::now())).await?;
        let is_meant = |token: &&ApiTokenRecord| {
            token.id == *wanted || (token.name == *wanted && token.user_id == principal.user_id)
        };
        let unknown = || {
            let message = format!("there is no API token {wanted:?}");
            status(Code::NotFound, reason::NOT_FOUND, message, &[("api_token", wanted)])
        };
        let id = &tokens.iter().find(is_meant).ok_or_else(unknown)?.id;
        let deleted = self.store.delete_api_token(id).await;
        deleted.map_err(|error| error.or_missing(unknown))?;
        self.auth.rights_changed();
        Ok(Response::new(DeleteApiTokenResponse {}))
    }
}

/// A token as its owner sees it.
pub(super) fn message(token: ApiTokenRecord) -> ApiToken {
    ApiToken {
        id: token.id,
        name: token.name,
        username: token.username,
        role: token.role.into(),
        selector: token.selector,
        created_at: Some(system_time(token.created_at).into()),
        expires_at: Some(system_time(token.expires_at).into()),
        last_used_at: token.last_used_at.map(|ms| system_time(ms).into()),
    }
}
