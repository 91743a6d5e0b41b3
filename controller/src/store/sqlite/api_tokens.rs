//! API tokens in SQLite.

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{super::KEEP_EXPIRED_MS, ApiTokenRecord, StoreError, failed, one, role};

/// Every token with its owner's name.
const TOKENS: &str =
    "SELECT t.*, u.name AS username FROM api_tokens t JOIN users u ON u.id = t.user_id";

pub(super) async fn create(
    c: &mut SqliteConnection,
    token: ApiTokenRecord,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM api_tokens WHERE expires_at < ?")
        .bind(token.created_at.saturating_sub(KEEP_EXPIRED_MS))
        .execute(&mut *c)
        .await
        .map_err(failed)?;
    sqlx::query(
        "INSERT INTO api_tokens (id, hash, user_id, name, role, selector, created_at, expires_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(token.id)
    .bind(token.hash)
    .bind(token.user_id)
    .bind(token.name)
    .bind(token.role.word())
    .bind(token.selector)
    .bind(token.created_at)
    .bind(token.expires_at)
    .execute(c)
    .await
    .map_err(failed)?;
    Ok(())
}

pub(super) async fn by_hash(
    c: &mut SqliteConnection,
    hash: String,
) -> Result<ApiTokenRecord, StoreError> {
    let query = format!("{TOKENS} WHERE t.hash = ?");
    let row = sqlx::query(sqlx::AssertSqlSafe(query)).bind(hash).fetch_one(c).await;
    record(&row.map_err(failed)?).map_err(failed)
}

pub(super) async fn list(
    c: &mut SqliteConnection,
    user_id: Option<String>,
    now: i64,
) -> Result<Vec<ApiTokenRecord>, StoreError> {
    let query = format!(
        "{TOKENS} WHERE t.expires_at >= ? AND (? IS NULL OR t.user_id = ?) ORDER BY u.name, t.name"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(now.saturating_sub(KEEP_EXPIRED_MS))
        .bind(&user_id)
        .bind(&user_id)
        .fetch_all(c)
        .await
        .map_err(failed)?;
    rows.iter().map(record).collect::<Result<_, _>>().map_err(failed)
}

pub(super) async fn delete(c: &mut SqliteConnection, id: String) -> Result<(), StoreError> {
    one(sqlx::query("DELETE FROM api_tokens WHERE id = ?").bind(id).execute(c).await)
}

pub(super) async fn touch(c: &mut SqliteConnection, id: String, at: i64) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE api_tokens SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE id = ?",
    )
    .bind(at)
    .bind(id)
    .execute(c)
    .await
    .map_err(failed)?;
    Ok(())
}

fn record(row: &SqliteRow) -> Result<ApiTokenRecord, sqlx::Error> {
    Ok(ApiTokenRecord {
        id: row.try_get("id")?,
        hash: row.try_get("hash")?,
        user_id: row.try_get("user_id")?,
        username: row.try_get("username")?,
        name: row.try_get("name")?,
        role: role(row)?,
        selector: row.try_get("selector")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        last_used_at: row.try_get("last_used_at")?,
    })
}
