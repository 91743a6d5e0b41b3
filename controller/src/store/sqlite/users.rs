//! Users and their grants in SQLite.

use dockctl_api::v1::Role;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{GrantRecord, StoreError, UserRecord, failed, one, role};

pub(super) async fn create(c: &mut SqliteConnection, user: UserRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO users (id, name, password_hash, oidc_subject, role, created_at, login_version) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(user.id)
    .bind(user.name)
    .bind(user.password_hash)
    .bind(user.oidc_subject)
    .bind(user.role.word())
    .bind(user.created_at)
    .bind(user.login_version)
    .execute(c)
    .await
    .map_err(failed)?;
    Ok(())
}

pub(super) async fn by_name(
    c: &mut SqliteConnection,
    name: String,
) -> Result<UserRecord, StoreError> {
    the_one(c, "SELECT * FROM users WHERE name = ?", &name).await
}

pub(super) async fn by_oidc_subject(
    c: &mut SqliteConnection,
    subject: String,
) -> Result<UserRecord, StoreError> {
    the_one(c, "SELECT * FROM users WHERE oidc_subject = ?", &subject).await
}

pub(super) async fn by_id(c: &mut SqliteConnection, id: &str) -> Result<UserRecord, StoreError> {
    the_one(c, "SELECT * FROM users WHERE id = ?", id).await
}

async fn the_one(
    c: &mut SqliteConnection,
    query: &'static str,
    of: &str,
) -> Result<UserRecord, StoreError> {
    let row = sqlx::query(query).bind(of).fetch_one(&mut *c).await;
    let user = record(&row.map_err(failed)?)?;
    with_grants(c, user).await
}

pub(super) async fn any(c: &mut SqliteConnection) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM users LIMIT 1").fetch_optional(c).await.map_err(failed)?;
    Ok(row.is_some())
}

pub(super) async fn list(c: &mut SqliteConnection) -> Result<Vec<UserRecord>, StoreError> {
    let rows = sqlx::query("SELECT * FROM users ORDER BY name").fetch_all(&mut *c).await;
    let mut users = rows.map_err(failed)?.iter().map(record).collect::<Result<Vec<_>, _>>()?;
    let rows = sqlx::query("SELECT * FROM grants ORDER BY rowid").fetch_all(c).await;
    for row in rows.map_err(failed)? {
        let user_id: &str = row.try_get("user_id").map_err(failed)?;
        if let Some(user) = users.iter_mut().find(|user| user.id == user_id) {
            user.grants.push(grant(&row)?);
        }
    }
    Ok(users)
}

pub(super) async fn update_role(
    c: &mut SqliteConnection,
    id: String,
    role: Role,
) -> Result<UserRecord, StoreError> {
    if role != Role::Admin {
        keep_an_admin(c, &id).await?;
    }
    let done = sqlx::query("UPDATE users SET role = ? WHERE id = ?")
        .bind(role.word())
        .bind(&id)
        .execute(&mut *c)
        .await;
    one(done)?;
    by_id(c, &id).await
}

pub(super) async fn end_logins(
    c: &mut SqliteConnection,
    id: String,
    password_hash: Option<String>,
    version: Option<i64>,
) -> Result<UserRecord, StoreError> {
    let done = sqlx::query(
        "UPDATE users SET login_version = login_version + 1, \
         password_hash = coalesce(?, password_hash) \
         WHERE id = ? AND login_version = coalesce(?, login_version)",
    )
    .bind(password_hash)
    .bind(&id)
    .bind(version)
    .execute(&mut *c)
    .await;
    one(done)?;
    sqlx::query("DELETE FROM refresh_tokens WHERE user_id = ?")
        .bind(&id)
        .execute(&mut *c)
        .await
        .map_err(failed)?;
    by_id(c, &id).await
}

pub(super) async fn delete(c: &mut SqliteConnection, id: String) -> Result<(), StoreError> {
    keep_an_admin(c, &id).await?;
    one(sqlx::query("DELETE FROM users WHERE id = ?").bind(id).execute(c).await)
}

pub(super) async fn create_grant(
    c: &mut SqliteConnection,
    user_id: String,
    grant: GrantRecord,
) -> Result<UserRecord, StoreError> {
    let user = by_id(c, &user_id).await?;
    if user.grants.iter().any(|g| g.role == grant.role && g.selector == grant.selector) {
        return Ok(user);
    }
    sqlx::query(
        "INSERT INTO grants (id, user_id, role, selector, created_at, created_by) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(grant.id)
    .bind(&user_id)
    .bind(grant.role.word())
    .bind(grant.selector)
    .bind(grant.created_at)
    .bind(grant.created_by)
    .execute(&mut *c)
    .await
    .map_err(failed)?;
    by_id(c, &user_id).await
}

pub(super) async fn delete_grant(
    c: &mut SqliteConnection,
    user_id: String,
    id: String,
) -> Result<UserRecord, StoreError> {
    let done = sqlx::query("DELETE FROM grants WHERE id = ? AND user_id = ?")
        .bind(id)
        .bind(&user_id)
        .execute(&mut *c)
        .await;
    one(done)?;
    by_id(c, &user_id).await
}

/// Refuses what would leave the fleet without an admin.
async fn keep_an_admin(c: &mut SqliteConnection, without: &str) -> Result<(), StoreError> {
    let admins: Vec<String> =
        sqlx::query_scalar("SELECT id FROM users WHERE role = 'admin' LIMIT 2")
            .fetch_all(c)
            .await
            .map_err(failed)?;
    match admins.as_slice() {
        [last] if last == without => Err(StoreError::LastAdmin),
        _ => Ok(()),
    }
}

async fn with_grants(
    c: &mut SqliteConnection,
    mut user: UserRecord,
) -> Result<UserRecord, StoreError> {
    let rows = sqlx::query("SELECT * FROM grants WHERE user_id = ? ORDER BY rowid")
        .bind(&user.id)
        .fetch_all(c)
        .await
        .map_err(failed)?;
    user.grants = rows.iter().map(grant).collect::<Result<_, _>>()?;
    Ok(user)
}

fn record(row: &SqliteRow) -> Result<UserRecord, StoreError> {
    let read = || {
        Ok(UserRecord {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            password_hash: row.try_get("password_hash")?,
            oidc_subject: row.try_get("oidc_subject")?,
            role: role(row)?,
            created_at: row.try_get("created_at")?,
            login_version: row.try_get("login_version")?,
            grants: Vec::new(),
        })
    };
    read().map_err(failed)
}

fn grant(row: &SqliteRow) -> Result<GrantRecord, StoreError> {
    let read = || {
        Ok(GrantRecord {
            id: row.try_get("id")?,
            role: role(row)?,
            selector: row.try_get("selector")?,
            created_at: row.try_get("created_at")?,
            created_by: row.try_get("created_by")?,
        })
    };
    read().map_err(failed)
}
