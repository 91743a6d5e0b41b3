//! Join tokens in SQLite.

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    super::KEEP_EXPIRED_MS, JoinTokenRecord, StoreError, failed, labels_from_json, labels_to_json,
    one,
};

pub(super) async fn create(
    c: &mut SqliteConnection,
    token: JoinTokenRecord,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM join_tokens WHERE expires_at < ?")
        .bind(token.created_at.saturating_sub(KEEP_EXPIRED_MS))
        .execute(&mut *c)
        .await
        .map_err(failed)?;
    sqlx::query(
        "INSERT INTO join_tokens (id, secret_hash, description, max_uses, uses, created_at, \
         expires_at, labels, created_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(token.id)
    .bind(token.secret_hash)
    .bind(token.description)
    .bind(token.max_uses)
    .bind(token.uses)
    .bind(token.created_at)
    .bind(token.expires_at)
    .bind(labels_to_json(&token.labels)?)
    .bind(token.created_by)
    .execute(c)
    .await
    .map_err(failed)?;
    Ok(())
}

pub(super) async fn list(
    c: &mut SqliteConnection,
    now: i64,
) -> Result<Vec<JoinTokenRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM join_tokens WHERE expires_at >= ? ORDER BY created_at DESC, rowid DESC",
    )
    .bind(now.saturating_sub(KEEP_EXPIRED_MS))
    .fetch_all(c)
    .await
    .map_err(failed)?;
    rows.iter().map(record).collect()
}

pub(super) async fn delete(c: &mut SqliteConnection, id: String) -> Result<(), StoreError> {
    one(sqlx::query("DELETE FROM join_tokens WHERE id = ?").bind(id).execute(c).await)
}

/// The join token with a secret.
pub(super) async fn by_secret(
    c: &mut SqliteConnection,
    secret_hash: &str,
) -> Result<Option<JoinTokenRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM join_tokens WHERE secret_hash = ?")
        .bind(secret_hash)
        .fetch_optional(c)
        .await
        .map_err(failed)?;
    row.as_ref().map(record).transpose()
}

/// Uses a join token up by one; false if there is no use left.
pub(super) async fn take_use(c: &mut SqliteConnection, id: &str) -> Result<bool, StoreError> {
    let done =
        sqlx::query("UPDATE join_tokens SET uses = uses + 1 WHERE id = ? AND uses < max_uses")
            .bind(id)
            .execute(c)
            .await
            .map_err(failed)?;
    Ok(done.rows_affected() == 1)
}

fn record(row: &SqliteRow) -> Result<JoinTokenRecord, StoreError> {
    Ok(JoinTokenRecord {
        id: row.try_get("id").map_err(failed)?,
        secret_hash: row.try_get("secret_hash").map_err(failed)?,
        description: row.try_get("description").map_err(failed)?,
        max_uses: row.try_get("max_uses").map_err(failed)?,
        uses: row.try_get("uses").map_err(failed)?,
        created_at: row.try_get("created_at").map_err(failed)?,
        expires_at: row.try_get("expires_at").map_err(failed)?,
        labels: labels_from_json(row.try_get("labels").map_err(failed)?)?,
        created_by: row.try_get("created_by").map_err(failed)?,
    })
}
