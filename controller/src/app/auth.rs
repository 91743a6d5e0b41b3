//! Who a person is: passwords in, tokens out.
//!
//! Owns the signing key (`jwt.key`), the first user and AuthService. The guard calls
//! [`Auth::authenticate`] for every request and puts the [`Principal`] where handlers find it. It
//! does not count failures of an account or address: that belongs to the limits in front of it; what
//! it bounds is how many passwords are hashed at once.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dockctl_api::{
    error::{bad_field, reason, status},
    new_id, random, sha256_hex,
    v1::{
        LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, RefreshRequest,
        RefreshResponse, Tokens, User, WhoAmIRequest, WhoAmIResponse,
        auth_service_server::AuthService,
    },
};
use tonic::{Code, Request, Response, Status};

use crate::store::{
    self, RefreshTokenRecord, Rotation, StoreError, UserRecord, file, system_time, unix_ms,
};

mod access;
mod password;
#[cfg(test)]
mod tests;

use access::AccessTokens;
use password::Hasher;

const REFRESH_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a look at the user's record is good for: a deleted user is out within this time, and a
/// busy one costs the store nothing in between.
const USER_FRESH: Duration = Duration::from_secs(5);
/// Most users that are remembered between looks.
const USERS_KEPT: usize = 1024;
const MIN_PASSWORD: usize = 8;
const MAX_PASSWORD: usize = 1024;
const MAX_USERNAME: usize = 64;
/// Longest refresh token that is looked at, bytes; a real one has 43.
const MAX_REFRESH: usize = 128;
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
    /// The user's name.
    pub name: String,
    /// The role: "admin".
    pub role: String,
    /// When the access token ends.
    pub expires_at: SystemTime,
}

impl Principal {
    /// Whether this caller has a permission of the policies, such as "containers.read". There is one
    /// role yet, and it has all of them; any other has none.
    pub fn allows(&self, permission: &str) -> bool {
        !permission.is_empty() && self.role == ADMIN
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
    /// Users by id, and when the store was last asked for them; none where it knew none.
    users: Mutex<HashMap<String, (Option<User>, SystemTime)>>,
}

impl Auth {
    /// Reads the signing key, or makes it; where there is no user yet, makes `admin` with
    /// `admin_password`, or with a random one that is written to `initial-admin-password`.
    pub async fn open(
        store: store::Handle,
        data_dir: &Path,
        admin_password: Option<String>,
        clock: Clock,
    ) -> Result<Self, AuthError> {
        let access = AccessTokens::new(&signing_key(&data_dir.join("jwt.key"))?);
        let hasher = Hasher::new().await.map_err(AuthError::Hash)?;
        let users = Mutex::default();
        let auth = Self { shared: Arc::new(Shared { store, clock, hasher, access, users }) };
        if !auth.shared.store.has_users().await? {
            auth.make_admin(&data_dir.join("initial-admin-password"), admin_password).await?;
        }
        Ok(auth)
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
        let password_hash = self.shared.hasher.hash(password).await.map_err(AuthError::Hash)?;
        let admin = UserRecord {
            id: new_id(),
            name: ADMIN.to_owned(),
            password_hash,
            role: ADMIN.to_owned(),
            created_at: unix_ms(self.now()),
        };
        self.shared.store.create_user(admin).await?;
        tracing::info!("made the user admin; {kept}");
        Ok(())
    }

    /// Finds out who sent an access token (without the word "Bearer").
    ///
    /// Errors, all UNAUTHENTICATED: TOKEN_EXPIRED if a refresh helps, else NOT_LOGGED_IN.
    pub async fn authenticate(&self, token: &str) -> Result<Principal, Status> {
        let access = self.shared.access.read(token, self.now())?;
        let user = self
            .user(&access.user_id)
            .await?
            .ok_or_else(|| not_logged_in("the user of this token does not exist any more"))?;
        Ok(Principal {
            user_id: user.id,
            name: user.name,
            role: user.role,
            expires_at: access.expires_at,
        })
    }

    /// A user by id, as the store had it at most [`USER_FRESH`] ago.
    async fn user(&self, id: &str) -> Result<Option<User>, Status> {
        let now = self.now();
        let kept = self.users().get(id).cloned();
        if let Some((user, looked_at)) = kept
            && now.duration_since(looked_at).is_ok_and(|age| age < USER_FRESH)
        {
            return Ok(user);
        }
        let user = match self.shared.store.user_by_id(id).await {
            Ok(record) => Some(message(record)),
            Err(StoreError::NotFound) => None,
            Err(error) => return Err(error.into()),
        };
        let mut users = self.users();
        if users.len() >= USERS_KEPT {
            users.clear();
        }
        users.insert(id.to_owned(), (user.clone(), now));
        Ok(user)
    }

    fn users(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Option<User>, SystemTime)>> {
        self.shared.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> SystemTime {
        (self.shared.clock)()
    }

    fn tokens(
        &self,
        user_id: &str,
        refresh_token: String,
        refresh_expires_at: i64,
    ) -> Result<Tokens, Status> {
        let (access_token, access_expires_at) = self.shared.access.make(user_id, self.now())?;
        Ok(Tokens {
            access_token,
            access_expires_at: Some(access_expires_at.into()),
            refresh_token,
            refresh_expires_at: Some(system_time(refresh_expires_at).into()),
        })
    }
}

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
        if !(1..=MAX_PASSWORD).contains(&password.len()) {
            return Err(bad_field("password", "a password has 1 to 1,024 bytes"));
        }
        let user = match self.shared.store.user_by_name(&username).await {
            Ok(user) => Some(user),
            Err(StoreError::NotFound) => None,
            Err(error) => return Err(error.into()),
        };
        // An unknown user costs the same hash, so that the time tells nothing.
        let hash = user.as_ref().map(|user| user.password_hash.clone());
        let matches = self.shared.hasher.verify(password, hash).await?;
        let Some(user) = user.filter(|_| matches) else {
            tracing::warn!("a login was refused: wrong user name or password");
            return Err(status(
                Code::Unauthenticated,
                reason::BAD_CREDENTIALS,
                "wrong user name or password",
                &[],
            ));
        };
        let now = self.now();
        let (secret, hash) = refresh_secret();
        let expires_at = unix_ms(now + REFRESH_LIFETIME);
        let record =
            RefreshTokenRecord { hash, family: new_id(), user_id: user.id.clone(), expires_at };
        self.shared.store.create_refresh_token(record, unix_ms(now)).await?;
        tracing::info!(user = user.name, "logged in");
        let tokens = self.tokens(&user.id, secret, expires_at)?;
        Ok(Response::new(LoginResponse { tokens: Some(tokens), user: Some(message(user)) }))
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
        if old.is_empty() || old.len() > MAX_REFRESH {
            return Err(ended());
        }
        let now = self.now();
        let (secret, hash) = refresh_secret();
        let expires_at = unix_ms(now + REFRESH_LIFETIME);
        let old = sha256_hex(old.as_bytes());
        match self.shared.store.rotate_refresh_token(&old, &hash, expires_at, unix_ms(now)).await? {
            Rotation::Rotated { user_id, .. } => {
                let tokens = self.tokens(&user_id, secret, expires_at)?;
                Ok(Response::new(RefreshResponse { tokens: Some(tokens) }))
            }
            Rotation::Reused { family } => {
                tracing::warn!(family, "a refresh token was used twice: its login is ended");
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
        if token.len() <= MAX_REFRESH {
            let hash = sha256_hex(token.as_bytes());
            self.shared.store.revoke_refresh_family(&hash, &principal.user_id).await?;
        }
        Ok(Response::new(LogoutResponse {}))
    }

    async fn who_am_i(
        &self,
        request: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIResponse>, Status> {
        let principal = principal(&request)?;
        Ok(Response::new(WhoAmIResponse {
            user: Some(User { id: principal.user_id, name: principal.name, role: principal.role }),
            access_expires_at: Some(principal.expires_at.into()),
        }))
    }
}

/// The caller, as the guard found him.
fn principal<T>(request: &Request<T>) -> Result<Principal, Status> {
    request.extensions().get().cloned().ok_or_else(|| not_logged_in("log in first"))
}

fn not_logged_in(message: &str) -> Status {
    status(Code::Unauthenticated, reason::NOT_LOGGED_IN, message, &[])
}

fn message(user: UserRecord) -> User {
    User { id: user.id, name: user.name, role: user.role }
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
