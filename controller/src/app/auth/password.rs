//! Hashes passwords (argon2id, 19 MiB, 2 passes) off the async threads, two at a time, with a short
//! line in front: a flood of logins costs neither memory nor the other callers' time. Called by
//! `Auth` only.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        self,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use dockctl_api::{
    error::{reason, status},
    random,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};

/// Hashes that run at once: 38 MiB.
const AT_ONCE: usize = 2;
/// Callers that wait for their turn; more are sent away.
const WAITING: usize = 32;

/// Hashes and verifies.
pub(super) struct Hasher {
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    /// A hash of nobody's password, for users that do not exist.
    nobody: Arc<str>,
}

impl Hasher {
    pub(super) async fn new() -> Result<Self, Status> {
        let hasher = Self {
            places: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            nobody: Arc::from(""),
        };
        let nobody = hasher.hash(hex::encode(random::<16>())).await?;
        Ok(Self { nobody: nobody.into(), ..hasher })
    }

    /// The PHC string of a password. Errors: RESOURCE_EXHAUSTED TOO_MANY; INTERNAL if there can be none.
    pub(super) async fn hash(&self, password: String) -> Result<String, Status> {
        let turn = self.turn().await?;
        let hash = move || {
            let _turn = turn;
            let (argon2, salt) = (Argon2::default(), Salt::new(&random::<16>())?);
            Ok(PasswordHash {
                algorithm: Algorithm::default().ident(),
                version: Some(Version::default().into()),
                params: ParamsString::try_from(argon2.params())?,
                salt: Some(salt),
                hash: Some(derive(&argon2, &password, &salt)?),
            })
        };
        let hashed = tokio::task::spawn_blocking(hash).await.map_err(|error| error.to_string());
        let hashed = hashed.and_then(|hash| {
            let hash: Result<PasswordHash, password_hash::Error> = hash;
            hash.map(|hash| hash.to_string()).map_err(|error| error.to_string())
        });
        hashed.map_err(|error| {
            tracing::error!(error, "a password could not be hashed");
            status(Code::Internal, reason::INTERNAL, "the password could not be stored", &[])
        })
    }

    /// Whether a password fits a hash; one of a user that does not exist never does, and takes as
    /// long. Errors: RESOURCE_EXHAUSTED TOO_MANY; INTERNAL if the hash is not one.
    pub(super) async fn verify(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, Status> {
        let turn = self.turn().await?;
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.as_ref().to_owned());
        let verify = move || {
            // Held until the work is done, even where the caller has hung up.
            let _turn = turn;
            fits(&password, &hash).map_err(|error| error.to_string())
        };
        let verified = tokio::task::spawn_blocking(verify).await;
        match verified.map_err(|error| error.to_string()).and_then(|result| result) {
            Ok(fits) => Ok(fits && exists),
            Err(error) => {
                tracing::error!(error, "a password could not be verified");
                let message = "the password could not be verified; the controller's log says why";
                Err(status(Code::Internal, reason::INTERNAL, message, &[]))
            }
        }
    }

    /// A turn to hash, and the place in line that led to it.
    async fn turn(&self) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), Status> {
        let too_many = || {
            let message = "too many logins at once; try again in a moment";
            status(Code::ResourceExhausted, reason::TOO_MANY, message, &[])
        };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| too_many())?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| too_many())?;
        Ok((place, turn))
    }
}

/// Whether a password fits a PHC string.
fn fits(password: &str, hash: &str) -> Result<bool, password_hash::Error> {
    let hash = PasswordHash::new(hash)?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from)?;
    let argon2 = Argon2::new(algorithm, version, Params::try_from(&hash)?);
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
        return Err(password_hash::Error::EncodingInvalid);
    };
    // `Output` is compared in constant time.
    Ok(derive(&argon2, password, salt)? == *expected)
}

/// The hash itself. Its memory is asked for in one piece that is larger than what glibc's allocator
/// ever keeps for itself (32 MiB), of which only what the parameters want is touched: so it goes back to the
/// system at once, and an idle controller does not hold what its last logins used.
fn derive(
    argon2: &Argon2<'_>,
    password: &str,
    salt: &Salt,
) -> Result<Output, password_hash::Error> {
    const NEVER_KEPT: usize = 33 * 1024 * 1024 / Block::SIZE;
    let blocks = argon2.params().block_count();
    let mut memory = Vec::with_capacity(blocks.max(NEVER_KEPT));
    memory.resize(blocks, Block::default());
    let mut out = [0; Output::MAX_LENGTH];
    let len = argon2.params().output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let out = out.get_mut(..len).ok_or(password_hash::Error::OutputSize)?;
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, out, &mut memory)?;
    Ok(Output::new(out)?)
}

#[cfg(test)]
mod tests {
    use dockctl_api::error::reason_of;
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn passwords_fit_their_own_hash_only() {
        let hasher = Hasher::new().await.unwrap();
        let hash = hasher.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(hasher.nobody.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "as dear as others");
        let verify = |password: &str, hash: Option<&String>| {
            hasher.verify(password.to_owned(), hash.cloned())
        };
        assert!(verify("correct horse", Some(&hash)).await.unwrap());
        assert!(!verify("battery staple", Some(&hash)).await.unwrap());
        assert!(!verify("correct horse", None).await.unwrap());
        let broken = verify("x", Some(&"not a hash".to_owned())).await.unwrap_err();
        assert_eq!(broken.code(), Code::Internal);
    }

    #[tokio::test]
    async fn a_flood_is_sent_away_and_leaves_the_line_in_order() {
        let hasher = Hasher::new().await.unwrap();
        let tries = (0..100).map(|_| hasher.verify("x".to_owned(), None));
        let results = join_all(tries).await;
        let hashed = results.iter().filter(|r| r.is_ok()).count();
        assert_eq!(hashed, AT_ONCE + WAITING);
        for refused in results.iter().filter_map(|r| r.as_ref().err()) {
            assert_eq!(reason_of(refused).as_deref(), Some("TOO_MANY"));
        }
        assert!(!hasher.verify("x".to_owned(), None).await.unwrap());
        assert_eq!(hasher.places.available_permits(), AT_ONCE + WAITING);
    }
}
