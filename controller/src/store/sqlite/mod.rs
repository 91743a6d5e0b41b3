//! The store in one SQLite file: for one controller on one machine, and for tests.
//!
//! Writes go through one task (`writer.rs`), reads through a small pool. Neither runs inside the
//! caller's future: a query that is dropped half-way can poison its connection (sqlx issue 4393).

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use dockctl_api::v1::Role;
use futures_util::future::BoxFuture;
use sqlx::{
    Connection as _, Row as _, SqliteConnection,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteQueryResult,
        SqliteRow, SqliteSynchronous,
    },
};

use super::{
    AgentRecord, AgentRefused, ApiTokenRecord, AuditEntry, AuditFilter, AuditRecord, Connection,
    EnrollRefused, Enrollment, GrantRecord, JoinTokenRecord, RefreshTokenRecord, Rotation, Store,
    StoreError, UserRecord, file::sync_directory,
};

mod agents;
mod api_tokens;
mod audit;
mod join_tokens;
mod refresh;
#[cfg(test)]
mod tests;
mod users;
mod writer;

use writer::Writer;

/// Longest that a caller waits for the database, waiting in line included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections for reads; each is a thread.
const READERS: u32 = 4;

/// A store in a SQLite file.
pub struct Sqlite {
    writer: Writer,
    readers: SqlitePool,
}

impl Sqlite {
    /// Opens the store in a file (mode 0600), makes it if need be, and brings its schema up to date.
    /// The directory must exist.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        make_private(path).map_err(StoreError::unavailable)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10))
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        sqlx::migrate!("src/store/sqlite/migrations")
            .run(&mut connection)
            .await
            .map_err(StoreError::unavailable)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options.clone().pragma("query_only", "on"));
        Ok(Self { writer: Writer::start(connection, options), readers })
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let pool = self.readers.clone();
        let task = tokio::spawn(async move {
            let mut connection = pool.acquire().await.map_err(failed)?;
            work(&mut connection).await
        });
        let begun = Instant::now();
        let asked = tokio::time::timeout(PATIENCE, task).await;
        metrics::histogram!("dockctl_store_seconds", "kind" => "read").record(begun.elapsed());
        match asked {
            Ok(Ok(result)) => result,
            Ok(Err(stopped)) => Err(StoreError::unavailable(stopped)),
            Err(_) => Err(StoreError::unavailable("the database did not answer in time")),
        }
    }
}

/// The file and its -wal and -shm, which take its mode, hold hashes of passwords.
fn make_private(path: &Path) -> io::Result<()> {
    let file =
        fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// What a failed query means.
fn failed(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::RowNotFound => StoreError::NotFound,
        sqlx::Error::Database(e) if e.is_unique_violation() => {
            // "UNIQUE constraint failed: agents.name"
            let what = match e.message().rsplit('.').next() {
                Some("name") => "name",
                Some("key_fingerprint") => "key",
                _ => "id",
            };
            StoreError::Conflict { what }
        }
        // The row that this one belongs to was deleted in the meantime.
        sqlx::Error::Database(e) if e.is_foreign_key_violation() => StoreError::NotFound,
        _ => StoreError::unavailable(error),
    }
}

/// The end of a write to one row, which must be there.
fn one(done: Result<SqliteQueryResult, sqlx::Error>) -> Result<(), StoreError> {
    match done.map_err(failed)?.rows_affected() {
        0 => Err(StoreError::NotFound),
        _ => Ok(()),
    }
}

/// The column `role`.
fn role(row: &SqliteRow) -> Result<Role, sqlx::Error> {
    let word: &str = row.try_get("role")?;
    let unknown = || sqlx::Error::Decode(format!("there is no role {word:?}").into());
    Role::from_word(word).ok_or_else(unknown)
}

fn labels_to_json(labels: &HashMap<String, String>) -> Result<String, StoreError> {
    serde_json::to_string(labels).map_err(StoreError::unavailable)
}

fn labels_from_json(json: &str) -> Result<HashMap<String, String>, StoreError> {
    serde_json::from_str(json).map_err(StoreError::unavailable)
}

/// A count or generation as a column. Those that dockctl makes never come near the limit; a forged
/// one is held at it.
fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[async_trait]
impl Store for Sqlite {
    async fn create_user(&self, user: UserRecord) -> Result<(), StoreError> {
        self.writer.write(move |c| Box::pin(users::create(c, user))).await
    }

    async fn user_by_name(&self, name: &str) -> Result<UserRecord, StoreError> {
        let name = name.to_owned();
        self.read(move |c| Box::pin(users::by_name(c, name))).await
    }

    async fn user_by_oidc_subject(&self, subject: &str) -> Result<UserRecord, StoreError> {
        let subject = subject.to_owned();
        self.read(move |c| Box::pin(users::by_oidc_subject(c, subject))).await
    }

    async fn user_by_id(&self, id: &str) -> Result<UserRecord, StoreError> {
        let id = id.to_owned();
        self.read(move |c| Box::pin(async move { users::by_id(c, &id).await })).await
    }

    async fn has_users(&self) -> Result<bool, StoreError> {
        self.read(|c| Box::pin(users::any(c))).await
    }

    async fn list_users(&self) -> Result<Vec<UserRecord>, StoreError> {
        self.read(|c| Box::pin(users::list(c))).await
    }

    async fn update_user_role(&self, id: &str, role: Role) -> Result<UserRecord, StoreError> {
        let id = id.to_owned();
        self.writer.write(move |c| Box::pin(users::update_role(c, id, role))).await
    }

    async fn end_logins(
        &self,
        id: &str,
        password_hash: Option<String>,
        version: Option<i64>,
    ) -> Result<UserRecord, StoreError> {
        let id = id.to_owned();
        self.writer.write(move |c| Box::pin(users::end_logins(c, id, password_hash, version))).await
    }

    async fn delete_user(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.writer.write(move |c| Box::pin(users::delete(c, id))).await
    }

    async fn create_grant(
        &self,
        user_id: &str,
        grant: GrantRecord,
    ) -> Result<UserRecord, StoreError> {
        let user_id = user_id.to_owned();
        self.writer.write(move |c| Box::pin(users::create_grant(c, user_id, grant))).await
    }

    async fn delete_grant(&self, user_id: &str, id: &str) -> Result<UserRecord, StoreError> {
        let (user_id, id) = (user_id.to_owned(), id.to_owned());
        self.writer.write(move |c| Box::pin(users::delete_grant(c, user_id, id))).await
    }

    async fn create_api_token(&self, token: ApiTokenRecord) -> Result<(), StoreError> {
        self.writer.write(move |c| Box::pin(api_tokens::create(c, token))).await
    }

    async fn api_token(&self, hash: &str) -> Result<ApiTokenRecord, StoreError> {
        let hash = hash.to_owned();
        self.read(move |c| Box::pin(api_tokens::by_hash(c, hash))).await
    }

    async fn list_api_tokens(
        &self,
        user_id: Option<&str>,
        now: i64,
    ) -> Result<Vec<ApiTokenRecord>, StoreError> {
        let user_id = user_id.map(str::to_owned);
        self.read(move |c| Box::pin(api_tokens::list(c, user_id, now))).await
    }

    async fn delete_api_token(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.writer.write(move |c| Box::pin(api_tokens::delete(c, id))).await
    }

    async fn touch_api_token(&self, id: &str, at: i64) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.writer.write(move |c| Box::pin(api_tokens::touch(c, id, at))).await
    }

    async fn create_refresh_token(
        &self,
        token: RefreshTokenRecord,
        login_version: i64,
        now: i64,
    ) -> Result<(), StoreError> {
        self.writer.write(move |c| Box::pin(refresh::create(c, token, login_version, now))).await
    }

    async fn rotate_refresh_token(
        &self,
        old: &str,
        new: &str,
        expires_at: i64,
        now: i64,
    ) -> Result<Rotation, StoreError> {
        let (old, new) = (old.to_owned(), new.to_owned());
        self.writer.write(move |c| Box::pin(refresh::rotate(c, old, new, expires_at, now))).await
    }

    async fn revoke_refresh_family(
        &self,
        hash: &str,
        user_id: &str,
    ) -> Result<Option<String>, StoreError> {
        let (hash, user_id) = (hash.to_owned(), user_id.to_owned());
        self.writer.write(move |c| Box::pin(refresh::end_family(c, hash, user_id))).await
    }

    async fn create_join_token(&self, token: JoinTokenRecord) -> Result<(), StoreError> {
        self.writer.write(move |c| Box::pin(join_tokens::create(c, token))).await
    }

    async fn list_join_tokens(&self, now: i64) -> Result<Vec<JoinTokenRecord>, StoreError> {
        self.read(move |c| Box::pin(join_tokens::list(c, now))).await
    }

    async fn delete_join_token(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.writer.write(move |c| Box::pin(join_tokens::delete(c, id))).await
    }

    async fn enroll_agent(
        &self,
        enrollment: Enrollment,
        now: i64,
    ) -> Result<AgentRecord, EnrollRefused> {
        self.writer.write(move |c| Box::pin(agents::enroll(c, enrollment, now))).await?
    }

    async fn renew_agent(
        &self,
        id: &str,
        presented: u64,
        key_fingerprint: &str,
        certificate_expires_at: i64,
        now: i64,
    ) -> Result<AgentRecord, AgentRefused> {
        let (id, key) = (id.to_owned(), key_fingerprint.to_owned());
        self.writer
            .write(move |c| {
                Box::pin(agents::renew(c, id, presented, key, certificate_expires_at, now))
            })
            .await?
    }

    async fn connect_agent(
        &self,
        id: &str,
        connection: Connection,
        now: i64,
    ) -> Result<AgentRecord, AgentRefused> {
        let id = id.to_owned();
        self.writer.write(move |c| Box::pin(agents::connect(c, id, connection, now))).await?
    }

    async fn revoke_agent(&self, id: &str, reason: &str) -> Result<AgentRecord, StoreError> {
        let (id, reason) = (id.to_owned(), reason.to_owned());
        self.writer.write(move |c| Box::pin(agents::revoke(c, id, reason))).await
    }

    async fn lock_agent(&self, id: &str, reason: &str) -> Result<AgentRecord, StoreError> {
        let (id, reason) = (id.to_owned(), reason.to_owned());
        self.writer.write(move |c| Box::pin(agents::lock(c, id, reason))).await
    }

    async fn delete_agent(&self, id: &str) -> Result<AgentRecord, StoreError> {
        let id = id.to_owned();
        self.writer.write(move |c| Box::pin(agents::delete(c, id))).await
    }

    async fn update_agent_labels(
        &self,
        id: &str,
        set: &HashMap<String, String>,
        remove: &[String],
    ) -> Result<AgentRecord, StoreError> {
        let (id, set, remove) = (id.to_owned(), set.clone(), remove.to_vec());
        self.writer.write(move |c| Box::pin(agents::update_labels(c, id, set, remove))).await
    }

    async fn list_agents(&self) -> Result<Vec<AgentRecord>, StoreError> {
        self.read(|c| Box::pin(agents::list(c))).await
    }

    async fn agent(&self, id_or_name: &str) -> Result<AgentRecord, StoreError> {
        let id_or_name = id_or_name.to_owned();
        self.read(move |c| Box::pin(agents::get(c, id_or_name))).await
    }

    async fn touch_agents(&self, seen: Vec<(String, i64)>) -> Result<(), StoreError> {
        self.writer.write(move |c| Box::pin(agents::touch(c, seen))).await
    }

    async fn append_audit(&self, record: AuditRecord) -> Result<u64, StoreError> {
        self.writer.write(move |c| Box::pin(audit::append(c, record))).await
    }

    async fn audit_after(&self, sequence: u64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(move |c| Box::pin(audit::after(c, sequence, limit))).await
    }

    async fn audit_before(
        &self,
        filter: AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(move |c| Box::pin(audit::before(c, filter, limit))).await
    }

    fn writes_waiting(&self) -> usize {
        self.writer.waiting()
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
