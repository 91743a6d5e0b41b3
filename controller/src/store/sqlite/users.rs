//! Users in SQLite.

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{StoreError, UserRecord, failed};

pub(super) async fn create(c: &mut SqliteConnection, user: UserRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO users (id, name, password_hash, role, created_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(user.id)
    .bind(user.name)
    .bind(user.password_hash)
    .bind(user.role)
    .bind(user.created_at)
    .execute(c)
    .await
    .map_err(failed)?;
    Ok(())
}

pub(super) async fn by_name(
    c: &mut SqliteConnection,
    name: String,
) -> Result<UserRecord, StoreError> {
    let row = sqlx::query("SELECT * FROM users WHERE name = ?").bind(name).fetch_one(c).await;
    record(&row.map_err(failed)?).map_err(failed)
}

pub(super) async fn by_id(c: &mut SqliteConnection, id: String) -> Result<UserRecord, StoreError> {
    let row = sqlx::query("SELECT * FROM users WHERE id = ?").bind(id).fetch_one(c).await;
    record(&row.map_err(failed)?).map_err(failed)
}

pub(super) async fn any(c: &mut SqliteConnection) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM users LIMIT 1").fetch_optional(c).await.map_err(failed)?;
    Ok(row.is_some())
}

pub(super) async fn delete(c: &mut SqliteConnection, id: String) -> Result<(), StoreError> {
    let done = sqlx::query("DELETE FROM users WHERE id = ?").bind(id).execute(c).await;
    match done.map_err(failed)?.rows_affected() {
        0 => Err(StoreError::NotFound),
        _ => Ok(()),
    }
}

fn record(row: &SqliteRow) -> Result<UserRecord, sqlx::Error> {
    Ok(UserRecord {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        password_hash: row.try_get("password_hash")?,
        role: row.try_get("role")?,
        created_at: row.try_get("created_at")?,
    })
}
