//! Join tokens: the strings that let hosts enrol.
//!
//! Called by the users' API. Owns how a token is spelt; `dockctl_agent::state::token` reads it. The
//! secret is in the answer to `create` and nowhere else: the store has its hash.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dockctl_api::{
    error::{bad_field, reason, status},
    new_id, random, sha256_hex,
    v1::{
        CreateJoinTokenRequest, CreateJoinTokenResponse, DeleteJoinTokenRequest,
        DeleteJoinTokenResponse, JoinToken, ListJoinTokensResponse,
    },
};
use tonic::{Code, Status};

use super::names;
use crate::store::{self, JoinTokenRecord, system_time, unix_ms};

const DEFAULT_TTL: Duration = Duration::from_secs(30 * 60);
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MAX_USES: u32 = 100_000;
const MAX_DESCRIPTION: usize = 200;

/// Makes, lists and deletes join tokens; clones share the store.
#[derive(Clone)]
pub struct JoinTokens {
    store: store::Handle,
    ca_fingerprint: String,
    agents_port: u16,
}

impl JoinTokens {
    /// Tokens for the fleet whose CA has this fingerprint (64 hex digits) and whose agents dial this
    /// port.
    pub fn new(store: store::Handle, ca_fingerprint: &str, agents_port: u16) -> Self {
        Self { store, ca_fingerprint: ca_fingerprint.to_owned(), agents_port }
    }

    /// Makes a join token. Errors: INVALID_ARGUMENT BAD_FIELD.
    pub async fn create(
        &self,
        request: CreateJoinTokenRequest,
        created_by: &str,
        now: SystemTime,
    ) -> Result<CreateJoinTokenResponse, Status> {
        names::text("description", &request.description, MAX_DESCRIPTION)?;
        names::labels(&request.labels)?;
        if request.max_uses > MAX_USES {
            return Err(bad_field("max_uses", format!("max_uses is at most {MAX_USES}")));
        }
        let ttl = match request.ttl {
            None => DEFAULT_TTL,
            Some(ttl) => Duration::try_from(ttl)
                .ok()
                .filter(|ttl| (MIN_TTL..=MAX_TTL).contains(ttl))
                .ok_or_else(|| bad_field("ttl", "a join token lives 1 second to 30 days"))?,
        };
        let secret = URL_SAFE_NO_PAD.encode(random::<16>());
        let created_at = unix_ms(now);
        let lifetime = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let record = JoinTokenRecord {
            id: new_id(),
            secret_hash: secret_hash(&secret),
            description: request.description,
            max_uses: request.max_uses.max(1),
            uses: 0,
            created_at,
            expires_at: created_at.saturating_add(lifetime),
            labels: request.labels,
            created_by: created_by.to_owned(),
        };
        self.store.create_join_token(record.clone()).await?;
        Ok(CreateJoinTokenResponse {
            token: spell(&secret, &self.ca_fingerprint)?,
            join_token: Some(message(record)),
            agents_port: self.agents_port.into(),
        })
    }

    /// The join tokens, newest first, without those that expired over a day ago.
    pub async fn list(&self, now: SystemTime) -> Result<ListJoinTokensResponse, Status> {
        let records = self.store.list_join_tokens(unix_ms(now)).await?;
        Ok(ListJoinTokensResponse { join_tokens: records.into_iter().map(message).collect() })
    }

    /// Deletes a join token. Errors: NOT_FOUND NOT_FOUND.
    pub async fn delete(
        &self,
        request: DeleteJoinTokenRequest,
    ) -> Result<DeleteJoinTokenResponse, Status> {
        let deleted = self.store.delete_join_token(&request.id).await;
        deleted.map_err(|error| {
            error.or_missing(|| {
                let message = "there is no such join token";
                let metadata = [("join_token", request.id.as_str())];
                status(Code::NotFound, reason::NOT_FOUND, message, &metadata)
            })
        })?;
        Ok(DeleteJoinTokenResponse {})
    }
}

/// What the store knows of a token's secret. The secret has 128 random bits, so a plain hash of it can
/// be neither reversed nor guessed.
pub(super) fn secret_hash(secret: &str) -> store::Hash {
    sha256_hex(secret.as_bytes())
}

/// `dockctl1.SECRET.FINGERPRINT`, both in base64url without padding: nothing that a shell, a URL or a
/// cloud-init file would have to quote.
fn spell(secret: &str, ca_fingerprint: &str) -> Result<String, Status> {
    let fingerprint = hex::decode(ca_fingerprint).map_err(|error| {
        tracing::error!(%error, "the CA's fingerprint is not one");
        status(Code::Internal, reason::INTERNAL, "the join token could not be made", &[])
    })?;
    Ok(format!("dockctl1.{secret}.{}", URL_SAFE_NO_PAD.encode(fingerprint)))
}

fn message(record: JoinTokenRecord) -> JoinToken {
    JoinToken {
        id: record.id,
        description: record.description,
        max_uses: record.max_uses,
        uses: record.uses,
        created_at: Some(system_time(record.created_at).into()),
        expires_at: Some(system_time(record.expires_at).into()),
        labels: record.labels,
        created_by: record.created_by,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use dockctl_api::error::{metadata_of, reason_of};

    use super::*;
    use crate::store::Sqlite;

    const FINGERPRINT: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    async fn tokens(directory: &tempfile::TempDir) -> JoinTokens {
        let store = Sqlite::open(&directory.path().join("dockctl.db")).await.unwrap();
        JoinTokens::new(Arc::new(store), FINGERPRINT, 41_002)
    }

    fn now() -> SystemTime {
        system_time(1_763_800_000_000)
    }

    fn ttl(seconds: i64, nanos: i32) -> CreateJoinTokenRequest {
        let ttl = prost_types::Duration { seconds, nanos };
        CreateJoinTokenRequest { ttl: Some(ttl), ..Default::default() }
    }

    /// The agent's `state/token.rs` reads the very same literal.
    #[test]
    fn the_spelling_is_the_one_that_agents_read() {
        assert_eq!(
            spell("AAECAwQFBgcICQoLDA0ODw", FINGERPRINT).unwrap(),
            "dockctl1.AAECAwQFBgcICQoLDA0ODw.ABEiM0RVZneImaq7zN3u_wARIjNEVWZ3iJmqu8zd7v8",
        );
    }

    #[tokio::test]
    async fn a_token_is_made_listed_and_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(&directory).await;
        let made = tokens.create(CreateJoinTokenRequest::default(), "ada", now()).await.unwrap();
        assert_eq!(made.agents_port, 41_002);
        let record = made.join_token.unwrap();
        assert_eq!((record.max_uses, record.uses, record.created_by.as_str()), (1, 0, "ada"));
        let (from, to) = (record.created_at.unwrap(), record.expires_at.unwrap());
        assert_eq!(to.seconds - from.seconds, 30 * 60);
        let charset = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        assert!(made.token.bytes().all(charset), "{}", made.token);

        let labels = HashMap::from([("env".to_owned(), "prod".to_owned())]);
        let request = CreateJoinTokenRequest {
            description: "rack 7".to_owned(),
            max_uses: 100_000,
            labels: labels.clone(),
            ..ttl(30 * 24 * 3600, 0)
        };
        let second = tokens.create(request, "ada", now()).await.unwrap();
        assert_ne!(second.token, made.token);
        let listed = tokens.list(now()).await.unwrap().join_tokens;
        assert_eq!(listed[0], second.join_token.unwrap());
        assert_eq!((listed[0].labels.clone(), listed.len()), (labels, 2));

        let delete = DeleteJoinTokenRequest { id: record.id };
        tokens.delete(delete.clone()).await.unwrap();
        let gone = tokens.delete(delete).await.unwrap_err();
        assert_eq!((gone.code(), reason_of(&gone).as_deref()), (Code::NotFound, Some("NOT_FOUND")));
    }

    #[tokio::test]
    async fn bad_fields_are_named_and_nothing_is_stored() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(&directory).await;
        let label = |key: &str, value: &str| CreateJoinTokenRequest {
            labels: HashMap::from([(key.to_owned(), value.to_owned())]),
            ..Default::default()
        };
        let described =
            |description: String| CreateJoinTokenRequest { description, ..Default::default() };
        for (field, request) in [
            ("ttl", ttl(0, 0)),
            ("ttl", ttl(0, 999_999_999)),
            ("ttl", ttl(-5, 0)),
            ("ttl", ttl(30 * 24 * 3600, 1)),
            ("ttl", ttl(i64::MAX, 0)),
            ("max_uses", CreateJoinTokenRequest { max_uses: 100_001, ..Default::default() }),
            ("description", described("ü".repeat(201))),
            ("description", described("a\u{1b}[31m".to_owned())),
            ("labels", label("Env", "prod")),
            ("labels", label("env", "a\nb")),
        ] {
            let refused = tokens.create(request, "ada", now()).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert_eq!(metadata_of(&refused, "field").as_deref(), Some(field));
        }
        assert!(tokens.list(now()).await.unwrap().join_tokens.is_empty());
    }
}
