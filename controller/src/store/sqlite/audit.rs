//! The audit log in SQLite.

use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    super::audit::{AuditEntry, AuditRecord, GENESIS},
    AuditFilter, StoreError, column, failed,
};

/// Runs in the writing task, so that no two entries follow the same one.
pub(super) async fn append(
    c: &mut SqliteConnection,
    record: AuditRecord,
) -> Result<u64, StoreError> {
    let last = sqlx::query("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
        .fetch_optional(&mut *c)
        .await
        .map_err(failed)?;
    let (last, hash) = match &last {
        Some(row) => (
            row.try_get::<i64, _>("sequence").map_err(failed)?,
            row.try_get("hash").unwrap_or_default(),
        ),
        None => (0, GENESIS.to_owned()),
    };
    let AuditEntry { sequence, record, hash } =
        AuditEntry::new(&hash, last.unsigned_abs() + 1, record);
    sqlx::query(
        "INSERT INTO audit (sequence, at, principal, address, method, agent, target, outcome, code, \
         reason, begun, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(column(sequence))
    .bind(record.at)
    .bind(record.principal)
    .bind(record.address)
    .bind(record.method)
    .bind(record.agent)
    .bind(record.target)
    .bind(record.outcome)
    .bind(record.code)
    .bind(record.reason)
    .bind(column(record.begun))
    .bind(hash)
    .execute(c)
    .await
    .map_err(failed)?;
    Ok(sequence)
}

pub(super) async fn after(
    c: &mut SqliteConnection,
    after: u64,
    limit: u32,
) -> Result<Vec<AuditEntry>, StoreError> {
    let query = sqlx::query("SELECT * FROM audit WHERE sequence > ? ORDER BY sequence LIMIT ?")
        .bind(column(after))
        .bind(limit);
    Ok(query.fetch_all(c).await.map_err(failed)?.iter().map(entry).collect())
}

pub(super) async fn before(
    c: &mut SqliteConnection,
    filter: AuditFilter,
    limit: u32,
) -> Result<Vec<AuditEntry>, StoreError> {
    let query = sqlx::query(
        "SELECT * FROM audit WHERE sequence < ? AND ? IN ('', principal) AND ? IN ('', agent) \
         ORDER BY sequence DESC LIMIT ?",
    )
    .bind(column(filter.before))
    .bind(filter.principal)
    .bind(filter.agent)
    .bind(limit);
    Ok(query.fetch_all(c).await.map_err(failed)?.iter().map(entry).collect())
}

/// A damaged row reads as one whose hash is wrong, so that it is named and not taken for a failing disk.
fn entry(row: &SqliteRow) -> AuditEntry {
    let number = |name: &str| row.try_get::<i64, _>(name).unwrap_or_default().unsigned_abs();
    let small = |name: &str| row.try_get::<i32, _>(name).unwrap_or_default();
    let text = |name: &str| row.try_get::<String, _>(name).unwrap_or_default();
    AuditEntry {
        sequence: number("sequence"),
        record: AuditRecord {
            at: row.try_get("at").unwrap_or_default(),
            principal: text("principal"),
            address: text("address"),
            method: text("method"),
            agent: text("agent"),
            target: text("target"),
            outcome: small("outcome"),
            code: small("code"),
            reason: text("reason"),
            begun: number("begun"),
        },
        hash: text("hash"),
    }
}
