//! Who a person is: passwords in, tokens out.
//!
//! Owns the signing key (`jwt.key`), the first user and AuthService. The guard calls
//! [`Auth::authenticate`] for every request and puts the [`Principal`] where handlers find it. It
//! does not count failures of an account or address: that belongs to the limits in front of it; what
//! it bounds is how many passwords are hashed at once.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dockctl_api::{
    error::{bad_field, reason, status},
    new_id, random, sha256_hex,
    v1::{Role, Tokens},
};
use tokio::sync::watch;
use tonic::{Code, Request, Status};

use super::{access::Authority, api_tokens, oidc::Oidc};
use crate::store::{self, RefreshTokenRecord, StoreError, UserRecord, file, system_time, unix_ms};

mod access;
mod ended;
mod external;
mod known;
mod password;
mod service;
#[cfg(test)]
mod tests;
mod tickets;

use access::{Access, AccessTokens};
use ended::Ended;
use known::Known;
use password::Hasher;
use tickets::Tickets;

const REFRESH_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MIN_PASSWORD: usize = 8;
const MAX_PASSWORD: usize = 1024;
const MAX_USERNAME: usize = 64;
/// Longest refresh token or API token that is looked at, bytes; a real one has 43 or 51.
const MAX_SECRET: usize = 128;
const ADMIN: &str = "admin";

/// Tells the time; tests pass their own.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(SystemTime::now)
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user's id.
    pub user_id: String,
    /// What he is called: the user's name or, for an API token, "user/token".
    pub name: String,
    /// When what he sent as his token ends.
    pub expires_at: SystemTime,
    /// What he may do.
    pub authority: Arc<Authority>,
    /// By what he is known.
    credential: Credential,
}

/// What proves who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Credential {
    /// An access token: of which login, and the version of the user's logins that it was made for.
    Login { version: i64, family: String },
    /// An API token.
    ApiToken { hash: store::Hash },
}

impl Principal {
    /// When he is no longer who he is, whatever becomes of his rights; None for a login, which refreshes.
    pub fn ends_at(&self) -> Option<SystemTime> {
        match self.credential {
            Credential::Login { .. } => None,
            Credential::ApiToken { .. } => Some(self.expires_at),
        }
    }

    /// Refuses an API token what only its owner may do himself.
    pub fn in_person(&self) -> Result<(), Status> {
        match self.credential {
            Credential::Login { .. } => Ok(()),
            Credential::ApiToken { .. } => Err(status(
                Code::PermissionDenied,
                reason::NOT_ALLOWED,
                "no API token may do this; log in",
                &[],
            )),
        }
    }
}

/// Why nobody could be let in at all.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file in the data directory cannot be read or written.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why; no `source`, which `{:#}` would say a second time.
        problem: io::Error,
    },
    /// The signing key is not what was written.
    #[error(
        "{0} is damaged; remove it to make a new one (everybody stays logged in but for a refresh)"
    )]
    Key(PathBuf),
    /// The first user's password is not good enough.
    #[error("DOCKCTL_ADMIN_PASSWORD must have {MIN_PASSWORD} to {MAX_PASSWORD} bytes")]
    Password,
    /// A password could not be hashed.
    #[error("a password could not be hashed: {0}")]
    Hash(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn unhashed(status: Status) -> AuthError {
    AuthError::Hash(status.message().to_owned())
}

/// How one may come in, beside with a password.
#[derive(Clone, Default)]
pub struct LoginOptions {
    /// Whether strangers may make users, who may do nothing until it is granted.
    pub allow_signup: bool,
    /// An OpenID provider that vouches for people.
    pub oidc: Option<Oidc>,
}

/// Logins and tokens; clones share everything.
#[derive(Clone)]
pub struct Auth {
    shared: Arc<Shared>,
}

struct Shared {
    store: store::Handle,
    clock: Clock,
    hasher: Hasher,
    access: AccessTokens,
    known: Known,
    ended: Ended,
    tickets: Tickets,
    options: LoginOptions,
    /// The file that may hold the first user's first password.
    first_password: PathBuf,
}

impl Auth {
    /// Reads the signing key, or makes it; where there is no user yet, makes `admin` with
    /// `admin_password`, or with a random one that is written to `initial-admin-password`.
    pub async fn open(
        store: store::Handle,
        data_dir: &Path,
        admin_password: Option<String>,
        options: LoginOptions,
        clock: Clock,
    ) -> Result<Self, AuthError> {
        let access = AccessTokens::new(&signing_key(&data_dir.join("jwt.key"))?);
        let hasher = Hasher::new().await.map_err(unhashed)?;
        let known = Known::new(store.clone());
        let tickets = Tickets::default();
        let ended = Ended::default();
        let first_password = data_dir.join("initial-admin-password");
        let shared =
            Shared { store, clock, hasher, access, known, ended, tickets, options, first_password };
        let auth = Self { shared: Arc::new(shared) };
        if !auth.shared.store.has_users().await? {
            auth.make_admin(&auth.shared.first_password, admin_password).await?;
        } else if admin_password.is_some() {
            tracing::info!("there are users already, so DOCKCTL_ADMIN_PASSWORD counts for nothing");
        }
        Ok(auth)
    }

    /// Gives the user `admin` a random password, his role and an end of all his logins; makes him where he is gone.
    pub async fn reset_admin(&self) -> Result<String, AuthError> {
        let password = URL_SAFE_NO_PAD.encode(random::<15>());
        let hash = self.shared.hasher.hash(password.clone()).await.map_err(unhashed)?;
        let store = &self.shared.store;
        match StoreError::optional(store.user_by_name(ADMIN).await)? {
            Some(admin) => {
                store.end_logins(&admin.id, Some(hash), None).await?;
                store.update_user_role(&admin.id, Role::Admin).await?;
            }
            None => store.create_user(self.new_user(ADMIN, hash, Role::Admin)).await?,
        }
        self.has_new_password(ADMIN);
        Ok(password)
    }

    /// Whether the OpenID provider's groups give its people their roles.
    pub(super) fn provider_gives_roles(&self) -> bool {
        self.shared.options.oidc.as_ref().is_some_and(Oidc::gives_roles)
    }

    /// The file is on the disk before the user is in the store, and a password that is in the file is
    /// taken again: wherever a crash comes, the next start ends with a user whose password is known.
    async fn make_admin(&self, path: &Path, given: Option<String>) -> Result<(), AuthError> {
        let failed = |problem| AuthError::File { path: path.to_owned(), problem };
        let written = file::read_optional(path).map_err(failed)?;
        let mut kept = format!("its password is in {}", path.display());
        let password = match (given, written) {
            (Some(given), written) => {
                if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&given.len()) {
                    return Err(AuthError::Password);
                }
                if written.is_some() {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                "its password is that of DOCKCTL_ADMIN_PASSWORD".clone_into(&mut kept);
                given
            }
            (None, Some(written)) if written.len() > MIN_PASSWORD => {
                String::from_utf8_lossy(&written).trim_end().to_owned()
            }
            (None, _) => {
                let password = URL_SAFE_NO_PAD.encode(random::<15>());
                let line = format!("{password}\n");
                file::write(path, line.as_bytes(), file::PRIVATE).map_err(failed)?;
                password
            }
        };
        let password_hash = self.shared.hasher.hash(password).await.map_err(unhashed)?;
        let admin = self.new_user(ADMIN, password_hash, Role::Admin);
        self.shared.store.create_user(admin).await?;
        tracing::info!("made the user admin; {kept}");
        Ok(())
    }

    /// Finds out who sent a token (without the word "Bearer"): an access token or an API token.
    ///
    /// Errors, all UNAUTHENTICATED: TOKEN_EXPIRED if a refresh or a new API token helps, else
    /// NOT_LOGGED_IN.
    pub async fn authenticate(&self, token: &str) -> Result<Principal, Status> {
        if token.starts_with(api_tokens::PREFIX) && token.len() <= MAX_SECRET {
            let hash = sha256_hex(token.as_bytes());
            let (principal, token) = self.by_api_token(&hash).await?;
            self.shared.known.used(&token, self.now());
            return Ok(principal);
        }
        self.by_login(self.shared.access.read(token, self.now())?).await
    }

    /// The same caller as he is now. Errors: as [`Auth::authenticate`].
    pub async fn again(&self, principal: &Principal) -> Result<Principal, Status> {
        match &principal.credential {
            Credential::Login { version, family } => {
                let access = Access {
                    user_id: principal.user_id.clone(),
                    login_version: *version,
                    family: family.clone(),
                    expires_at: principal.expires_at,
                };
                self.by_login(access).await
            }
            Credential::ApiToken { hash } => Ok(self.by_api_token(hash).await?.0),
        }
    }

    /// What the maker of a ticket sent as his `authorization`, once.
    pub fn redeem(&self, ticket: &str) -> Option<String> {
        self.shared.tickets.redeem(ticket, self.now())
    }

    /// Sees each change of anybody's rights.
    pub fn rights(&self) -> watch::Receiver<u64> {
        self.shared.known.changes()
    }

    /// What anybody may do has changed: whoever asks is looked up anew, and streams that may no longer be
    /// seen end.
    pub fn rights_changed(&self) {
        self.shared.known.forget();
    }

    async fn by_login(&self, access: Access) -> Result<Principal, Status> {
        let Access { user_id, login_version: version, family, expires_at } = access;
        let user = self.shared.known.user(&user_id, self.now()).await?;
        let user =
            user.ok_or_else(|| not_logged_in("the user of this token does not exist any more"))?;
        if user.record.login_version != version || self.shared.ended.has(&family) {
            return Err(not_logged_in("this login has ended; log in again"));
        }
        Ok(Principal {
            user_id: user.record.id.clone(),
            name: user.record.name.clone(),
            expires_at,
            authority: user.authority.clone(),
            credential: Credential::Login { version, family },
        })
    }

    async fn by_api_token(
        &self,
        hash: &str,
    ) -> Result<(Principal, Arc<known::KnownToken>), Status> {
        let unknown = || not_logged_in("the API token is not valid, or was deleted");
        let known = &self.shared.known;
        let token = known.token(hash, self.now()).await?.ok_or_else(unknown)?;
        let expires_at = system_time(token.record.expires_at);
        if expires_at <= self.now() {
            let message = "the API token has run out; make a new one";
            return Err(status(Code::Unauthenticated, reason::TOKEN_EXPIRED, message, &[]));
        }
        let user = known.user(&token.record.user_id, self.now()).await?.ok_or_else(unknown)?;
        let authority = Authority::clone(&user.authority).of_token(&token.record);
        let principal = Principal {
            user_id: user.record.id.clone(),
            name: format!("{}/{}", user.record.name, token.record.name),
            expires_at,
            authority: Arc::new(authority),
            credential: Credential::ApiToken { hash: hash.to_owned() },
        };
        Ok((principal, token))
    }

    /// Hashes a password that somebody is to have. Errors: BAD_FIELD on `field`.
    pub(super) async fn hash(&self, field: &str, password: String) -> Result<String, Status> {
        if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&password.len()) {
            return Err(bad_field(field, "a password has 8 to 1,024 bytes"));
        }
        self.shared.hasher.hash(password).await
    }

    /// A record of a new user.
    pub(super) fn new_user(&self, name: &str, password_hash: String, role: Role) -> UserRecord {
        UserRecord {
            id: new_id(),
            name: name.to_owned(),
            password_hash,
            oidc_subject: None,
            role,
            created_at: unix_ms(self.now()),
            login_version: 1,
            grants: Vec::new(),
        }
    }

    /// Begins a login, which goes on for as long as it is used or, where that is said, until it has lasted so long.
    async fn begin(&self, user: &UserRecord, lifetime: Option<Duration>) -> Result<Tokens, Status> {
        let now = self.now();
        let (secret, hash) = refresh_secret();
        let ends_at = lifetime.map(|lifetime| unix_ms(now + lifetime));
        let expires_at = unix_ms(now + REFRESH_LIFETIME).min(ends_at.unwrap_or(i64::MAX));
        let family = new_id();
        let record = RefreshTokenRecord {
            hash,
            family: family.clone(),
            user_id: user.id.clone(),
            expires_at,
            ends_at,
        };
        let created =
            self.shared.store.create_refresh_token(record, user.login_version, unix_ms(now)).await;
        // Deleted, or his password changed, since he was looked up.
        created.map_err(|error| error.or_missing(bad_credentials))?;
        self.tokens(&user.id, user.login_version, &family, secret, expires_at)
    }

    /// Ends what goes on of a login whose refresh tokens are gone: its access tokens and streams.
    fn end(&self, family: String) {
        self.shared.ended.add(family, self.now());
        self.rights_changed();
    }

    /// The user of a name whose password this is.
    async fn with_password(&self, username: &str, password: String) -> Result<UserRecord, Status> {
        if !(1..=MAX_PASSWORD).contains(&password.len()) {
            return Err(bad_field("password", "a password has 1 to 1,024 bytes"));
        }
        let user = StoreError::optional(self.shared.store.user_by_name(username).await)?;
        // An unknown user, and one without a password, costs the same hash, so that the time tells nothing.
        let hash = user.as_ref().map(|user| user.password_hash.clone());
        let hash = hash.filter(|hash| !hash.is_empty());
        let matches = self.shared.hasher.verify(password, hash).await?;
        user.filter(|_| matches).ok_or_else(|| {
            tracing::warn!("a login was refused: wrong user name or password");
            bad_credentials()
        })
    }

    /// Removes the file with the first user's first password once that is no more.
    pub(super) fn has_new_password(&self, username: &str) {
        if username == ADMIN
            && let Err(error) = std::fs::remove_file(&self.shared.first_password)
            && error.kind() != io::ErrorKind::NotFound
        {
            let path = self.shared.first_password.display();
            tracing::warn!(%error, "cannot remove {path}, whose password is no more");
        }
    }

    fn now(&self) -> SystemTime {
        (self.shared.clock)()
    }

    fn tokens(
        &self,
        user_id: &str,
        login_version: i64,
        family: &str,
        refresh_token: String,
        refresh_expires_at: i64,
    ) -> Result<Tokens, Status> {
        let (access_token, access_expires_at) =
            self.shared.access.make(user_id, login_version, family, self.now())?;
        Ok(Tokens {
            access_token,
            access_expires_at: Some(access_expires_at.into()),
            refresh_token,
            refresh_expires_at: Some(system_time(refresh_expires_at).into()),
        })
    }
}

/// The caller, as the guard found him.
pub(super) fn principal<T>(request: &Request<T>) -> Result<Principal, Status> {
    request.extensions().get().cloned().ok_or_else(|| not_logged_in("log in first"))
}

fn not_logged_in(message: &str) -> Status {
    status(Code::Unauthenticated, reason::NOT_LOGGED_IN, message, &[])
}

fn bad_credentials() -> Status {
    let message = "wrong user name or password";
    status(Code::Unauthenticated, reason::BAD_CREDENTIALS, message, &[])
}

/// A new refresh token and its hash.
fn refresh_secret() -> (String, store::Hash) {
    let secret = URL_SAFE_NO_PAD.encode(random::<32>());
    let hash = sha256_hex(secret.as_bytes());
    (secret, hash)
}

fn signing_key(path: &Path) -> Result<[u8; 32], AuthError> {
    let failed = |problem| AuthError::File { path: path.to_owned(), problem };
    if let Some(key) = file::read_optional(path).map_err(failed)? {
        return key.try_into().map_err(|_| AuthError::Key(path.to_owned()));
    }
    let key = random::<32>();
    file::write(path, &key, file::PRIVATE).map_err(failed)?;
    Ok(key)
}
