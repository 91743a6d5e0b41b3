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
        Some(row) => (row.get::<i64, _>("sequence"), row.get("hash")),
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

fn entry(row: &SqliteRow) -> AuditEntry {
    let number = |name: &str| row.get::<i64, _>(name).unsigned_abs();
    AuditEntry {
        sequence: number("sequence"),
        record: AuditRecord {
            at: row.get("at"),
            principal: row.get("principal"),
            address: row.get("address"),
            method: row.get("method"),
            agent: row.get("agent"),
            target: row.get("target"),
            outcome: row.get("outcome"),
            code: row.get("code"),
            reason: row.get("reason"),
            begun: number("begun"),
        },
        hash: row.get("hash"),
    }
}
