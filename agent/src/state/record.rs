//! The one record that the agent keeps, and how its copies are written: JSON with a checksum of its
//! own, so that a copy is either good or known to be bad.

use dockctl_api::sha256_hex;
use serde::{Deserialize, Serialize};

use super::{Identity, PendingEnrollment, StateError};

/// Everything that the agent must not forget.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Grows with each write; the copy with the highest is the newest.
    pub(super) revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pending_enrollment: Option<PendingEnrollment>,
    /// The key of a renewal that was begun, PKCS#8 DER.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_base64_bytes")]
    pub(super) pending_renewal: Option<Vec<u8>>,
}

/// What was found where a copy should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No copy was ever made here.
    Nothing,
    /// Something that is no copy.
    Broken,
    /// A copy.
    Good(Box<Record>),
}

/// A copy. The record is text inside of it, so that the checksum is of the very bytes that were
/// written, whatever a later version does with the fields.
#[derive(Serialize, Deserialize)]
struct Copy {
    sha256: String,
    record: String,
}

impl Record {
    pub(super) fn encode(&self) -> Result<Vec<u8>, StateError> {
        let failed = |_| StateError::OutOfOrder("the agent's state cannot be written as JSON");
        let record = serde_json::to_string(self).map_err(failed)?;
        let copy = Copy { sha256: sha256_hex(record.as_bytes()), record };
        serde_json::to_vec(&copy).map_err(failed)
    }

    pub(super) fn decode(bytes: &[u8]) -> Found {
        let good = || {
            let copy: Copy = serde_json::from_slice(bytes).ok()?;
            if copy.sha256 != sha256_hex(copy.record.as_bytes()) {
                return None;
            }
            serde_json::from_str(&copy.record).ok().map(Box::new)
        };
        good().map_or(Found::Broken, Found::Good)
    }
}

/// For the fuzzer: what is read of a copy is written and read again as the same, also where the
/// checksum is right.
#[cfg(fuzzing)]
pub fn fuzz_record(bytes: &[u8]) {
    let _ = Record::decode(bytes);
    let Ok(record) = std::str::from_utf8(bytes) else { return };
    let copy = Copy { sha256: sha256_hex(bytes), record: record.to_owned() };
    let Ok(copy) = serde_json::to_vec(&copy) else { return };
    if let Found::Good(record) = Record::decode(&copy) {
        let again = record.encode().map(|bytes| Record::decode(&bytes));
        assert_eq!(again.ok(), Some(Found::Good(record)));
    }
}

/// Bytes as base64 in JSON.
pub(super) mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(in super::super) fn serialize<S: Serializer>(
        bytes: &[u8],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// The same where there may be none.
mod optional_base64_bytes {
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => super::base64_bytes::serialize(bytes, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        super::base64_bytes::deserialize(from).map(Some)
    }
}
