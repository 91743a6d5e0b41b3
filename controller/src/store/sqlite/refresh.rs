//! Refresh tokens in SQLite.

use sqlx::{Row as _, SqliteConnection};

use super::{super::KEEP_EXPIRED_MS, RefreshTokenRecord, Rotation, StoreError, failed};

pub(super) async fn create(
    c: &mut SqliteConnection,
    token: RefreshTokenRecord,
    login_version: i64,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query("SELECT 1 FROM users WHERE id = ? AND login_version = ?")
        .bind(&token.user_id)
        .bind(login_version)
        .fetch_one(&mut *c)
        .await
        .map_err(failed)?;
    sqlx::query("DELETE FROM refresh_tokens WHERE expires_at < ?")
        .bind(now.saturating_sub(KEEP_EXPIRED_MS))
        .execute(&mut *c)
        .await
        .map_err(failed)?;
    insert(c, token).await
}

async fn insert(c: &mut SqliteConnection, token: RefreshTokenRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO refresh_tokens (hash, family, user_id, expires_at, ends_at) \
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(token.hash)
    .bind(token.family)
    .bind(token.user_id)
    .bind(token.expires_at)
    .bind(token.ends_at)
    .execute(c)
    .await
    .map_err(failed)?;
    Ok(())
}

pub(super) async fn rotate(
    c: &mut SqliteConnection,
    old: String,
    new: String,
    expires_at: i64,
    now: i64,
) -> Result<Rotation, StoreError> {
    let query = "SELECT t.*, u.login_version FROM refresh_tokens t JOIN users u ON u.id = t.user_id \
                 WHERE t.hash = ?";
    let Some(row) = sqlx::query(query).bind(&old).fetch_optional(&mut *c).await.map_err(failed)?
    else {
        return Ok(Rotation::Unknown);
    };
    let family: String = row.try_get("family").map_err(failed)?;
    let user_id: String = row.try_get("user_id").map_err(failed)?;
    let login_version = row.try_get("login_version").map_err(failed)?;
    let used: Option<i64> = row.try_get("used_at").map_err(failed)?;
    let revoked: Option<i64> = row.try_get("revoked_at").map_err(failed)?;
    let old_expires_at: i64 = row.try_get("expires_at").map_err(failed)?;
    let ends_at: Option<i64> = row.try_get("ends_at").map_err(failed)?;
    let expires_at = expires_at.min(ends_at.unwrap_or(i64::MAX));

    if used.is_some() || revoked.is_some() {
        sqlx::query(
            "UPDATE refresh_tokens SET revoked_at = ? WHERE family = ? AND revoked_at IS NULL",
        )
        .bind(now)
        .bind(&family)
        .execute(c)
        .await
        .map_err(failed)?;
        return Ok(Rotation::Reused { family });
    }
    if old_expires_at <= now {
        return Ok(Rotation::Expired);
    }
    sqlx::query("UPDATE refresh_tokens SET used_at = ? WHERE hash = ?")
        .bind(now)
        .bind(&old)
        .execute(&mut *c)
        .await
        .map_err(failed)?;
    let token = RefreshTokenRecord {
        hash: new,
        family: family.clone(),
        user_id: user_id.clone(),
        expires_at,
        ends_at,
    };
    insert(c, token).await?;
    Ok(Rotation::Rotated { user_id, login_version, family, expires_at })
}

pub(super) async fn end_family(
    c: &mut SqliteConnection,
    hash: String,
    user_id: String,
) -> Result<Option<String>, StoreError> {
    sqlx::query_scalar(
        "DELETE FROM refresh_tokens WHERE family IN \
         (SELECT family FROM refresh_tokens WHERE hash = ? AND user_id = ?) RETURNING family",
    )
    .bind(hash)
    .bind(user_id)
    .fetch_all(c)
    .await
    .map(|ended: Vec<String>| ended.into_iter().next())
    .map_err(failed)
}
