//! Agents in SQLite.

use std::collections::HashMap;

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    super::{FIRST_GENERATION, Standing},
    AgentRecord, AgentRefused, Connection, EnrollRefused, Enrollment, StoreError, column, failed,
    join_tokens, labels_from_json, labels_to_json,
};

pub(super) async fn enroll(
    c: &mut SqliteConnection,
    e: Enrollment,
    now: i64,
) -> Result<Result<AgentRecord, EnrollRefused>, StoreError> {
    let owner = sqlx::query("SELECT * FROM agents WHERE key_fingerprint = ?")
        .bind(&e.key_fingerprint)
        .fetch_optional(&mut *c)
        .await
        .map_err(failed)?;
    if let Some(row) = &owner
        && row.try_get::<&str, _>("join_secret_hash").map_err(failed)? == e.secret_hash
    {
        return again(c, record(row)?, e.certificate_expires_at).await;
    }

    let Some(token) = join_tokens::by_secret(c, &e.secret_hash).await? else {
        return Ok(Err(EnrollRefused::TokenInvalid));
    };
    if token.expires_at <= now {
        return Ok(Err(EnrollRefused::TokenExpired));
    }
    if token.uses >= token.max_uses {
        return Ok(Err(EnrollRefused::TokenUsedUp));
    }
    // Only a good token may learn which keys and names there are.
    if owner.is_some() {
        return Ok(Err(EnrollRefused::KeyTaken));
    }
    let taken = sqlx::query("SELECT 1 FROM agents WHERE name = ?")
        .bind(&e.name)
        .fetch_optional(&mut *c)
        .await
        .map_err(failed)?;
    if taken.is_some() {
        return Ok(Err(EnrollRefused::NameTaken));
    }
    if !join_tokens::take_use(c, &token.id).await? {
        return Ok(Err(EnrollRefused::TokenUsedUp));
    }
    let mut labels = e.labels;
    labels.extend(token.labels);
    sqlx::query(
        "INSERT INTO agents (id, name, labels, standing, standing_reason, join_token_id, \
         join_secret_hash, key_fingerprint, generation_issued, generation_confirmed, \
         certificate_expires_at, enrolled_at, epoch, version, platform, address, revision) \
         VALUES (?, ?, ?, 'active', '', ?, ?, ?, ?, 0, ?, ?, 0, '', '', ?, 1)",
    )
    .bind(&e.new_id)
    .bind(e.name)
    .bind(labels_to_json(&labels)?)
    .bind(token.id)
    .bind(e.secret_hash)
    .bind(e.key_fingerprint)
    .bind(column(FIRST_GENERATION))
    .bind(e.certificate_expires_at)
    .bind(now)
    .bind(e.address)
    .execute(&mut *c)
    .await
    .map_err(failed)?;
    by_id(c, &e.new_id).await.map(Ok)
}

/// The host lost the answer to its enrolment and asks again.
async fn again(
    c: &mut SqliteConnection,
    agent: AgentRecord,
    certificate_expires_at: i64,
) -> Result<Result<AgentRecord, EnrollRefused>, StoreError> {
    match agent.standing {
        Standing::Revoked { reason } => Ok(Err(EnrollRefused::Revoked { reason })),
        Standing::Locked { reason } => Ok(Err(EnrollRefused::Locked { reason })),
        Standing::Active => {
            sqlx::query(
                "UPDATE agents SET revision = revision + 1, \
                 certificate_expires_at = max(certificate_expires_at, ?) WHERE id = ?",
            )
            .bind(certificate_expires_at)
            .bind(&agent.id)
            .execute(&mut *c)
            .await
            .map_err(failed)?;
            by_id(c, &agent.id).await.map(Ok)
        }
    }
}

pub(super) async fn renew(
    c: &mut SqliteConnection,
    id: String,
    presented: u64,
    key_fingerprint: String,
    certificate_expires_at: i64,
    now: i64,
) -> Result<Result<AgentRecord, AgentRefused>, StoreError> {
    if let Err(refused) = admit(c, &id, presented).await? {
        return Ok(Err(refused));
    }
    let renewed = sqlx::query(
        "UPDATE agents SET revision = revision + 1, generation_issued = max(generation_issued, ?) + 1, key_fingerprint = ?, \
         certificate_expires_at = ?, last_seen_at = ? WHERE id = ?",
    )
    .bind(column(presented))
    .bind(key_fingerprint)
    .bind(certificate_expires_at)
    .bind(now)
    .bind(&id)
    .execute(&mut *c)
    .await
    .map_err(failed);
    match renewed {
        Err(StoreError::Conflict { .. }) => Ok(Err(AgentRefused::KeyTaken)),
        Err(error) => Err(error),
        Ok(_) => by_id(c, &id).await.map(Ok),
    }
}

pub(super) async fn connect(
    c: &mut SqliteConnection,
    id: String,
    connection: Connection,
    now: i64,
) -> Result<Result<AgentRecord, AgentRefused>, StoreError> {
    if let Err(refused) = admit(c, &id, connection.generation).await? {
        return Ok(Err(refused));
    }
    sqlx::query(
        "UPDATE agents SET revision = revision + 1, epoch = epoch + 1, last_seen_at = ?, version = ?, platform = ?, \
         address = ? WHERE id = ?",
    )
    .bind(now)
    .bind(connection.version)
    .bind(connection.platform)
    .bind(connection.address)
    .bind(&id)
    .execute(&mut *c)
    .await
    .map_err(failed)?;
    by_id(c, &id).await.map(Ok)
}

/// Checks an agent's standing and the generation that it presents, and remembers that generation.
///
/// A host keeps a new certificate before it uses it and never goes back to an older one. One that
/// presents a generation below what the agent has shown before is therefore a second machine that
/// lives on a copy of the identity; which of the two is the right one nobody can tell, so both are
/// kept out. A generation between the confirmed and the issued one only says that the answers to later
/// renewals were lost. One above the issued one was signed before the database was put back to an
/// older state.
async fn admit(
    c: &mut SqliteConnection,
    id: &str,
    presented: u64,
) -> Result<Result<(), AgentRefused>, StoreError> {
    let agent = match by_id(c, id).await {
        Err(StoreError::NotFound) => return Ok(Err(AgentRefused::Unknown)),
        found => found?,
    };
    match agent.standing {
        Standing::Revoked { reason } => return Ok(Err(AgentRefused::Revoked { reason })),
        Standing::Locked { reason } => {
            return Ok(Err(AgentRefused::Locked { reason, newly: false }));
        }
        Standing::Active => {}
    }
    if presented < agent.generation_confirmed {
        let reason = format!(
            "certificate {presented} was presented after certificate {}: two machines live on \
             this identity",
            agent.generation_confirmed
        );
        lock(c, id.to_owned(), reason.clone()).await?;
        return Ok(Err(AgentRefused::Locked { reason, newly: true }));
    }
    if presented > agent.generation_confirmed {
        sqlx::query(
            "UPDATE agents SET revision = revision + 1, generation_confirmed = ?1, \
             generation_issued = max(generation_issued, ?1) WHERE id = ?2",
        )
        .bind(column(presented))
        .bind(id)
        .execute(c)
        .await
        .map_err(failed)?;
    }
    Ok(Ok(()))
}

pub(super) async fn revoke(
    c: &mut SqliteConnection,
    id: String,
    reason: String,
) -> Result<AgentRecord, StoreError> {
    sqlx::query("UPDATE agents SET revision = revision + 1, standing = 'revoked', standing_reason = ? WHERE id = ?")
        .bind(reason)
        .bind(&id)
        .execute(&mut *c)
        .await
        .map_err(failed)?;
    by_id(c, &id).await
}

pub(super) async fn lock(
    c: &mut SqliteConnection,
    id: String,
    reason: String,
) -> Result<AgentRecord, StoreError> {
    sqlx::query(
        "UPDATE agents SET revision = revision + 1, standing = 'locked', standing_reason = ? \
         WHERE id = ? AND standing = 'active'",
    )
    .bind(reason)
    .bind(&id)
    .execute(&mut *c)
    .await
    .map_err(failed)?;
    by_id(c, &id).await
}

pub(super) async fn delete(
    c: &mut SqliteConnection,
    id: String,
) -> Result<AgentRecord, StoreError> {
    let agent = by_id(c, &id).await?;
    sqlx::query("DELETE FROM agents WHERE id = ?").bind(&id).execute(c).await.map_err(failed)?;
    Ok(agent)
}

pub(super) async fn update_labels(
    c: &mut SqliteConnection,
    id: String,
    set: HashMap<String, String>,
    remove: Vec<String>,
) -> Result<AgentRecord, StoreError> {
    let mut labels = by_id(c, &id).await?.labels;
    labels.extend(set);
    labels.retain(|key, _| !remove.contains(key));
    sqlx::query("UPDATE agents SET revision = revision + 1, labels = ? WHERE id = ?")
        .bind(labels_to_json(&labels)?)
        .bind(&id)
        .execute(&mut *c)
        .await
        .map_err(failed)?;
    by_id(c, &id).await
}

pub(super) async fn list(c: &mut SqliteConnection) -> Result<Vec<AgentRecord>, StoreError> {
    let rows =
        sqlx::query("SELECT * FROM agents ORDER BY name").fetch_all(c).await.map_err(failed)?;
    rows.iter().map(record).collect()
}

pub(super) async fn get(
    c: &mut SqliteConnection,
    id_or_name: String,
) -> Result<AgentRecord, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM agents WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC LIMIT 1",
    )
    .bind(id_or_name)
    .fetch_one(c)
    .await
    .map_err(failed)?;
    record(&row)
}

pub(super) async fn touch(
    c: &mut SqliteConnection,
    seen: Vec<(String, i64)>,
) -> Result<(), StoreError> {
    for (id, at) in seen {
        sqlx::query(
            "UPDATE agents SET last_seen_at = ?1 \
             WHERE id = ?2 AND (last_seen_at IS NULL OR last_seen_at < ?1)",
        )
        .bind(at)
        .bind(id)
        .execute(&mut *c)
        .await
        .map_err(failed)?;
    }
    Ok(())
}

async fn by_id(c: &mut SqliteConnection, id: &str) -> Result<AgentRecord, StoreError> {
    let row = sqlx::query("SELECT * FROM agents WHERE id = ?")
        .bind(id)
        .fetch_one(c)
        .await
        .map_err(failed)?;
    record(&row)
}

fn record(row: &SqliteRow) -> Result<AgentRecord, StoreError> {
    let reason: String = row.try_get("standing_reason").map_err(failed)?;
    let standing = match row.try_get("standing").map_err(failed)? {
        "active" => Standing::Active,
        "locked" => Standing::Locked { reason },
        _ => Standing::Revoked { reason },
    };
    let count = |name| -> Result<u64, StoreError> {
        let value: i64 = row.try_get(name).map_err(failed)?;
        u64::try_from(value).map_err(StoreError::unavailable)
    };
    Ok(AgentRecord {
        id: row.try_get("id").map_err(failed)?,
        name: row.try_get("name").map_err(failed)?,
        labels: labels_from_json(row.try_get("labels").map_err(failed)?)?,
        standing,
        join_token_id: row.try_get("join_token_id").map_err(failed)?,
        key_fingerprint: row.try_get("key_fingerprint").map_err(failed)?,
        generation_issued: count("generation_issued")?,
        generation_confirmed: count("generation_confirmed")?,
        certificate_expires_at: row.try_get("certificate_expires_at").map_err(failed)?,
        enrolled_at: row.try_get("enrolled_at").map_err(failed)?,
        last_seen_at: row.try_get("last_seen_at").map_err(failed)?,
        epoch: count("epoch")?,
        version: row.try_get("version").map_err(failed)?,
        platform: row.try_get("platform").map_err(failed)?,
        address: row.try_get("address").map_err(failed)?,
        revision: count("revision")?,
    })
}
