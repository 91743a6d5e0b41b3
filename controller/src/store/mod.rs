//! What the controller must not forget: users, refresh tokens, join tokens and agents.
//!
//! Owns the [`Store`] trait, its records and its errors; every database sits behind it. Called by
//! `app` only. It has no clock (times are arguments), makes no decision that needs the network, and
//! never sees a secret, only hashes of secrets.
//!
//! A write that returned `Ok` survives `kill -9` and a power cut. A write that did not reach the disk
//! is an error. A caller that hangs up in the middle does not stop a write that has begun.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use dockctl_api::v1::Role;

mod audit;
mod error;
pub(crate) mod file;
mod sqlite;
#[cfg(test)]
mod suite;
mod time;

pub use audit::{AuditEntry, AuditRecord, GENESIS};
pub use error::{AgentRefused, EnrollRefused, StoreError};
pub use sqlite::Sqlite;
pub use time::{system_time, unix_ms};

/// A store that any task may use.
pub type Handle = Arc<dyn Store>;

/// SHA-256 of a secret or of a public key (SubjectPublicKeyInfo, DER): 64 lower-case hex digits.
pub type Hash = String;

/// The generation of the certificate that an enrolment gives, the first time and when it is repeated.
/// A repeated one is never newer: whoever repeats the enrolment of an agent that has renewed since is
/// found out by it.
pub const FIRST_GENERATION: u64 = 1;

/// How long an expired token stays listed, milliseconds.
pub const KEEP_EXPIRED_MS: i64 = 24 * 60 * 60 * 1000;

/// A person or a program with a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Never reused.
    pub id: String,
    /// Unique.
    pub name: String,
    /// PHC string, argon2id; empty for who has no password.
    pub password_hash: String,
    /// Who he is at the OpenID provider: issuer, a space, subject. Unique.
    pub oidc_subject: Option<String>,
    /// The role for the whole fleet.
    pub role: Role,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Counts up when all logins end: access tokens say which it was when they were made.
    pub login_version: i64,
    /// Oldest first.
    pub grants: Vec<GrantRecord>,
}

/// A role of a user's on some agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRecord {
    /// Never reused.
    pub id: String,
    /// What may be done there.
    pub role: Role,
    /// Which agents, as it was written.
    pub selector: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// The name of who made it.
    pub created_by: String,
}

/// A token that a script carries instead of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTokenRecord {
    /// Not secret, never reused.
    pub id: String,
    /// Of the token's secret.
    pub hash: Hash,
    /// Whose it is.
    pub user_id: String,
    /// The owner's name; not stored with the token.
    pub username: String,
    /// Unique among the owner's.
    pub name: String,
    /// What it may do at most.
    pub role: Role,
    /// On which agents, as it was written; empty for all.
    pub selector: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub expires_at: i64,
    /// Unix milliseconds; None where it never was.
    pub last_used_at: Option<i64>,
}

/// One refresh token. Those that were rotated out of one login are a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshTokenRecord {
    /// Of the token's secret.
    pub hash: Hash,
    /// The login that it belongs to.
    pub family: String,
    /// Whose it is.
    pub user_id: String,
    /// Unix milliseconds.
    pub expires_at: i64,
    /// When the login ends however often it is used, unix milliseconds.
    pub ends_at: Option<i64>,
}

/// What became of an attempt to rotate a refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// The old token is used up and the new one is stored.
    Rotated {
        /// Whose it is.
        user_id: String,
        /// The version of his logins.
        login_version: i64,
        /// The login that it belongs to.
        family: String,
        /// When the new token ends, unix milliseconds: as asked for, or before, with its login.
        expires_at: i64,
    },
    /// The old token was used before, so two parties hold it: its whole family is dead now.
    Reused {
        /// The dead family.
        family: String,
    },
    /// Never made, or its login has ended.
    Unknown,
    /// Its time is over.
    Expired,
}

/// A token that lets hosts enrol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenRecord {
    /// Not secret, never reused.
    pub id: String,
    /// Of the token's secret.
    pub secret_hash: Hash,
    /// What it is for.
    pub description: String,
    /// How many hosts may use it.
    pub max_uses: u32,
    /// How many hosts have used it.
    pub uses: u32,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub expires_at: i64,
    /// Labels that each host which uses it gets.
    pub labels: HashMap<String, String>,
    /// The name of the user who made it.
    pub created_by: String,
}

/// Whether an agent's identity is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Good.
    Active,
    /// Two machines were seen on it.
    Locked {
        /// A sentence for people.
        reason: String,
    },
    /// Revoked by an operator.
    Revoked {
        /// A sentence for people; may be empty.
        reason: String,
    },
}

/// One host of the fleet, as far as it outlives its link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    /// Never reused.
    pub id: String,
    /// Unique.
    pub name: String,
    /// Owned by the controller.
    pub labels: HashMap<String, String>,
    /// Whether the identity is good.
    pub standing: Standing,
    /// The join token that it enrolled with; the token itself may be gone.
    pub join_token_id: String,
    /// Of the public key of the newest certificate that was issued; unique.
    pub key_fingerprint: Hash,
    /// Generation of the newest certificate that was issued.
    pub generation_issued: u64,
    /// Highest generation that the agent has presented; 0 before its first link.
    pub generation_confirmed: u64,
    /// When the newest certificate ends, unix milliseconds.
    pub certificate_expires_at: i64,
    /// Unix milliseconds.
    pub enrolled_at: i64,
    /// Unix milliseconds; none before the first link.
    pub last_seen_at: Option<i64>,
    /// Number of the newest session; 0 before the first link. Grows over restarts too.
    pub epoch: u64,
    /// The agent program's version at its newest link.
    pub version: String,
    /// Operating system and architecture at its newest link.
    pub platform: String,
    /// Where it dialled from at its newest link, or enrolled from before that.
    pub address: String,
    /// Grows with each write to this record but those of `last_seen_at` alone, so that of two copies
    /// one can tell the newer.
    pub revision: u64,
}

/// What a host that enrols brings along.
#[derive(Debug, Clone)]
pub struct Enrollment {
    /// Of the join token's secret.
    pub secret_hash: Hash,
    /// Of the key in the host's request.
    pub key_fingerprint: Hash,
    /// The name that it wants.
    pub name: String,
    /// The labels that it wants; those of the token win.
    pub labels: HashMap<String, String>,
    /// Where it dialled from.
    pub address: String,
    /// The id that it gets if it is new.
    pub new_id: String,
    /// When the certificate that will be issued ends, unix milliseconds.
    pub certificate_expires_at: i64,
}

/// What an agent says of itself when it connects.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The generation in its certificate.
    pub generation: u64,
    /// The agent program's version.
    pub version: String,
    /// Operating system and architecture.
    pub platform: String,
    /// Where it dialled from.
    pub address: String,
}

/// Which entries of the audit log.
#[derive(Debug, Clone)]
pub struct AuditFilter {
    /// Only those before this sequence.
    pub before: u64,
    /// Only this user's; empty for all.
    pub principal: String,
    /// Only calls that named this agent so; empty for all.
    pub agent: String,
}

/// The controller's memory. Times are unix milliseconds.
///
/// Every method may fail with [`StoreError::Unavailable`] (alone or inside a refusal), which says that
/// the database did not answer or could not write; such a write has not been acknowledged, and may or
/// may not have happened.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Adds a user. [`StoreError::Conflict`] if the name or id is taken.
    async fn create_user(&self, user: UserRecord) -> Result<(), StoreError>;
    /// The user with a name. [`StoreError::NotFound`] if there is none.
    async fn user_by_name(&self, name: &str) -> Result<UserRecord, StoreError>;
    /// The user who is this at the OpenID provider. [`StoreError::NotFound`] if there is none.
    async fn user_by_oidc_subject(&self, subject: &str) -> Result<UserRecord, StoreError>;
    /// The user with an id. [`StoreError::NotFound`] if there is none.
    async fn user_by_id(&self, id: &str) -> Result<UserRecord, StoreError>;
    /// Whether there is any user.
    async fn has_users(&self) -> Result<bool, StoreError>;
    /// All users, ordered by name.
    async fn list_users(&self) -> Result<Vec<UserRecord>, StoreError>;
    /// Gives a user another role. [`StoreError::NotFound`], or [`StoreError::LastAdmin`] if there would be
    /// no admin any more.
    async fn update_user_role(&self, id: &str, role: Role) -> Result<UserRecord, StoreError>;
    /// Ends all logins of a user and gives him another password where there is one.
    /// [`StoreError::NotFound`] if there is no such user, or his logins have another version than the one named.
    async fn end_logins(
        &self,
        id: &str,
        password_hash: Option<String>,
        version: Option<i64>,
    ) -> Result<UserRecord, StoreError>;
    /// Removes a user, his logins, grants and API tokens. [`StoreError::NotFound`] if there is none,
    /// [`StoreError::LastAdmin`] for the last admin.
    async fn delete_user(&self, id: &str) -> Result<(), StoreError>;
    /// Adds a grant; one of the same role and selector that he has already stays as it is.
    /// [`StoreError::NotFound`] if there is no such user.
    async fn create_grant(
        &self,
        user_id: &str,
        grant: GrantRecord,
    ) -> Result<UserRecord, StoreError>;
    /// Removes a grant of a user's. [`StoreError::NotFound`] if he has no such grant.
    async fn delete_grant(&self, user_id: &str, id: &str) -> Result<UserRecord, StoreError>;

    /// Stores an API token, and forgets those that expired over a day ago. [`StoreError::Conflict`] if its
    /// owner has one of that name.
    async fn create_api_token(&self, token: ApiTokenRecord) -> Result<(), StoreError>;
    /// The API token with a secret of this hash. [`StoreError::NotFound`] if there is none.
    async fn api_token(&self, hash: &str) -> Result<ApiTokenRecord, StoreError>;
    /// The API tokens of one user or, with none named, of all, ordered by owner and name, without those
    /// that expired over a day ago.
    async fn list_api_tokens(
        &self,
        user_id: Option<&str>,
        now: i64,
    ) -> Result<Vec<ApiTokenRecord>, StoreError>;
    /// Removes the API token with an id. [`StoreError::NotFound`] if there is none.
    async fn delete_api_token(&self, id: &str) -> Result<(), StoreError>;
    /// Moves `last_used_at` of an API token forward; an unknown one is no error.
    async fn touch_api_token(&self, id: &str, at: i64) -> Result<(), StoreError>;

    /// Stores the first refresh token of a login, and forgets tokens that expired over a day ago.
    /// [`StoreError::NotFound`] if the user's logins have ended since his record with this `login_version`
    /// was read, or he is no more.
    async fn create_refresh_token(
        &self,
        token: RefreshTokenRecord,
        login_version: i64,
        now: i64,
    ) -> Result<(), StoreError>;
    /// Uses up `old` and stores `new` in its family; a second use of `old` kills the family instead,
    /// all in one transaction.
    async fn rotate_refresh_token(
        &self,
        old: &str,
        new: &str,
        expires_at: i64,
        now: i64,
    ) -> Result<Rotation, StoreError>;
    /// Ends the login that a refresh token of this user belongs to, and names it; None for an unknown one.
    async fn revoke_refresh_family(
        &self,
        hash: &str,
        user_id: &str,
    ) -> Result<Option<String>, StoreError>;

    /// Stores a join token, and forgets those that expired over a day ago.
    async fn create_join_token(&self, token: JoinTokenRecord) -> Result<(), StoreError>;
    /// The join tokens, newest first, without those that expired over a day ago.
    async fn list_join_tokens(&self, now: i64) -> Result<Vec<JoinTokenRecord>, StoreError>;
    /// Removes a join token. [`StoreError::NotFound`] if there is none.
    async fn delete_join_token(&self, id: &str) -> Result<(), StoreError>;

    /// Makes an agent for a use of a join token, in one transaction. With the token and key of an
    /// agent that is there already it returns that agent and uses nothing up, even where the token
    /// has ended since: the host lost the first answer.
    async fn enroll_agent(
        &self,
        enrollment: Enrollment,
        now: i64,
    ) -> Result<AgentRecord, EnrollRefused>;
    /// Counts up `generation_issued` for a new certificate and returns the agent with it.
    ///
    /// `presented` is the generation of the certificate that asks. One that is older than what the
    /// agent has shown before comes from a second machine: the identity is locked in the same
    /// transaction, and so it is in [`Store::connect_agent`].
    async fn renew_agent(
        &self,
        id: &str,
        presented: u64,
        key_fingerprint: &str,
        certificate_expires_at: i64,
        now: i64,
    ) -> Result<AgentRecord, AgentRefused>;
    /// Counts up `epoch` for a new session and returns the agent with it.
    async fn connect_agent(
        &self,
        id: &str,
        connection: Connection,
        now: i64,
    ) -> Result<AgentRecord, AgentRefused>;
    /// Keeps an identity out for good. [`StoreError::NotFound`] if there is none.
    async fn revoke_agent(&self, id: &str, reason: &str) -> Result<AgentRecord, StoreError>;
    /// Locks an identity; a revoked one stays revoked. [`StoreError::NotFound`] if there is none.
    async fn lock_agent(&self, id: &str, reason: &str) -> Result<AgentRecord, StoreError>;
    /// Removes an agent and returns the last that was known. [`StoreError::NotFound`] if there is none.
    async fn delete_agent(&self, id: &str) -> Result<AgentRecord, StoreError>;
    /// Sets, then removes labels. [`StoreError::NotFound`] if there is no such agent.
    async fn update_agent_labels(
        &self,
        id: &str,
        set: &HashMap<String, String>,
        remove: &[String],
    ) -> Result<AgentRecord, StoreError>;
    /// All agents, ordered by name.
    async fn list_agents(&self) -> Result<Vec<AgentRecord>, StoreError>;
    /// The agent with an id or else a name. [`StoreError::NotFound`] if there is none.
    async fn agent(&self, id_or_name: &str) -> Result<AgentRecord, StoreError>;
    /// Moves `last_seen_at` of agents forward, never back; unknown ids are no error.
    async fn touch_agents(&self, seen: Vec<(String, i64)>) -> Result<(), StoreError>;
    /// Adds an entry to the audit log, behind the newest one, and returns its sequence. No entry is ever
    /// changed or removed.
    async fn append_audit(&self, record: AuditRecord) -> Result<u64, StoreError>;
    /// The first `limit` entries after a sequence, in their order.
    async fn audit_after(&self, sequence: u64, limit: u32) -> Result<Vec<AuditEntry>, StoreError>;
    /// The last `limit` entries of those that a filter lets through, newest first.
    async fn audit_before(
        &self,
        filter: AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError>;
    /// How many writes wait in line.
    fn writes_waiting(&self) -> usize;
    /// Ends the store's work: waits for writes that have begun and lets go of the files.
    async fn close(&self);
}
