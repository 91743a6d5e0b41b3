//! The records of the audit log and the chain of their hashes. Pure.

use dockctl_api::sha256_hex;

use super::Hash;

/// The hash before the first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What an entry says. `AuditEntry` of audit.proto describes the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditRecord {
    /// Unix milliseconds.
    pub at: i64,
    /// Who.
    pub principal: String,
    /// Where from.
    pub address: String,
    /// The rpc's path.
    pub method: String,
    /// The agent as the call named it.
    pub agent: String,
    /// What else it named.
    pub target: String,
    /// `AuditOutcome`.
    pub outcome: i32,
    /// A gRPC status code.
    pub code: i32,
    /// The reason of a failure.
    pub reason: String,
    /// For a call's end, the sequence of its beginning.
    pub begun: u64,
}

/// A record in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// 1 for the first, without gaps.
    pub sequence: u64,
    /// What it says.
    pub record: AuditRecord,
    /// Covers it and the entry before.
    pub hash: Hash,
}

impl AuditEntry {
    /// The entry behind one with the hash `previous`.
    pub fn new(previous: &str, sequence: u64, record: AuditRecord) -> Self {
        let hash = hash(previous, sequence, &record);
        Self { sequence, record, hash }
    }

    /// Whether it is as it was written, behind one with the hash `previous`.
    pub fn follows(&self, previous: &str) -> bool {
        self.hash == hash(previous, self.sequence, &self.record)
    }
}

fn hash(previous: &str, sequence: u64, record: &AuditRecord) -> Hash {
    let AuditRecord { at, principal, address, method, agent, target, outcome, code, reason, begun } =
        record;
    let numbers = [sequence.to_string(), at.to_string(), outcome.to_string(), code.to_string()];
    let [sequence, at, outcome, code] = numbers.each_ref().map(String::as_str);
    let begun = begun.to_string();
    let fields = [
        previous, sequence, at, principal, address, method, agent, target, outcome, code, reason,
        &begun,
    ];
    // Netstrings, since no two lists of fields have the same.
    let text: String = fields.iter().map(|field| format!("{}:{field},", field.len())).collect();
    sha256_hex(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_that_the_proto_describes() {
        let record = AuditRecord { at: 7, principal: "ada".into(), ..Default::default() };
        let entry = AuditEntry::new(GENESIS, 1, record);
        let text = format!("64:{GENESIS},1:1,1:7,3:ada,0:,0:,0:,0:,1:0,1:0,0:,1:0,");
        assert_eq!(entry.hash, sha256_hex(text.as_bytes()));
        assert!(entry.follows(GENESIS));
        assert!(!entry.follows(&entry.hash));
    }

    #[test]
    fn no_field_can_pass_for_another() {
        let record = |agent: &str, target: &str| AuditRecord {
            agent: agent.into(),
            target: target.into(),
            ..Default::default()
        };
        let one = AuditEntry::new(GENESIS, 1, record("a", "0:,"));
        let other = AuditEntry::new(GENESIS, 1, record("a,0:", ""));
        assert_ne!(one.hash, other.hash);
    }
}
