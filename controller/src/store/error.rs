//! How the store says no, and the one mapping of that to what users see.

use std::sync::Arc;

use dockctl_api::error::{bad_field, reason, status};
use tonic::{Code, Status};

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// What was named does not exist.
    #[error("there is no such record")]
    NotFound,
    /// Something that must be unique exists already.
    #[error("another record has the same {what}")]
    Conflict {
        /// What is taken: "name", "key" or "id".
        what: &'static str,
    },
    /// Nobody would be admin any more.
    #[error("this is the last admin")]
    LastAdmin,
    /// The database did not answer or could not write. The source is for the log.
    #[error("the database is not available")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// What a caller is told, who shall know what is missing.
    pub fn or_missing(self, missing: impl FnOnce() -> Status) -> Status {
        match self {
            Self::NotFound => missing(),
            other => other.into(),
        }
    }

    /// The status of a name that is taken; every other error's is its own.
    pub fn or_taken(self, noun: &str, name: &str) -> Status {
        match self {
            Self::Conflict { .. } => {
                let message = format!("there is {noun} called {name:?} already");
                status(Code::AlreadyExists, reason::NAME_TAKEN, message, &[("name", name)])
            }
            other => other.into(),
        }
    }

    /// What was looked up, where it need not be there.
    pub fn optional<T>(looked: Result<T, Self>) -> Result<Option<T>, Self> {
        match looked {
            Ok(found) => Ok(Some(found)),
            Err(Self::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An [`StoreError::Unavailable`] with a source.
    pub(crate) fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(source.into()))
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => {
                status(Code::NotFound, reason::NOT_FOUND, "there is no such thing", &[])
            }
            StoreError::Conflict { what } => status(
                Code::AlreadyExists,
                reason::NAME_TAKEN,
                format!("another one has the same {what}"),
                &[("what", what)],
            ),
            StoreError::LastAdmin => status(
                Code::FailedPrecondition,
                reason::LAST_ADMIN,
                "this is the last admin; make another one first",
                &[],
            ),
            StoreError::Unavailable(source) => {
                tracing::error!(error = %source, "the database is not available");
                status(
                    Code::Internal,
                    reason::INTERNAL,
                    "the controller cannot use its database (is its disk full?); its log says why",
                    &[],
                )
            }
        }
    }
}

/// Why a host was not let into the fleet.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EnrollRefused {
    /// No such join token, or it was deleted.
    #[error("the join token is unknown or was deleted")]
    TokenInvalid,
    /// The join token's time is over.
    #[error("the join token has expired")]
    TokenExpired,
    /// The join token has no use left.
    #[error("the join token has been used up")]
    TokenUsedUp,
    /// Another agent has the name.
    #[error("another agent has this name")]
    NameTaken,
    /// Another agent has the key.
    #[error("another agent has this key")]
    KeyTaken,
    /// The agent with this token and key was revoked.
    #[error("the agent was revoked")]
    Revoked {
        /// A sentence for people; may be empty.
        reason: String,
    },
    /// The agent with this token and key is locked.
    #[error("the agent's identity is locked")]
    Locked {
        /// A sentence for people.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<EnrollRefused> for Status {
    fn from(refused: EnrollRefused) -> Self {
        let no = |code, reason, message: &str| status(code, reason, message, &[]);
        match refused {
            EnrollRefused::TokenInvalid => no(
                Code::Unauthenticated,
                reason::TOKEN_INVALID,
                "the join token is unknown or was deleted",
            ),
            EnrollRefused::TokenExpired => {
                no(Code::Unauthenticated, reason::TOKEN_EXPIRED, "the join token has expired")
            }
            EnrollRefused::TokenUsedUp => {
                no(Code::Unauthenticated, reason::TOKEN_USED_UP, "the join token has been used up")
            }
            EnrollRefused::NameTaken => {
                no(Code::AlreadyExists, reason::NAME_TAKEN, "another agent has this name")
            }
            EnrollRefused::KeyTaken => key_taken(),
            EnrollRefused::Revoked { reason } => revoked(&reason),
            EnrollRefused::Locked { reason } => locked(&reason),
            EnrollRefused::Store(error) => error.into(),
        }
    }
}

fn key_taken() -> Status {
    bad_field("csr", "another agent has this key; make a new one")
}

fn revoked(why: &str) -> Status {
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    let message = format!("the agent was revoked{why}");
    status(Code::PermissionDenied, reason::AGENT_REVOKED, message, &[])
}

fn locked(why: &str) -> Status {
    let message = format!("the agent's identity is locked: {why}; delete the agent and join anew");
    status(Code::PermissionDenied, reason::IDENTITY_LOCKED, message, &[])
}

/// Why an agent was not let in or not given a certificate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AgentRefused {
    /// It was deleted.
    #[error("the agent was deleted")]
    Unknown,
    /// It was revoked.
    #[error("the agent was revoked")]
    Revoked {
        /// A sentence for people; may be empty.
        reason: String,
    },
    /// Two machines live on its identity: noticed before or just now.
    #[error("the agent's identity is locked")]
    Locked {
        /// A sentence for people.
        reason: String,
        /// True where this very call was what showed it: tell an operator, end the other session.
        newly: bool,
    },
    /// Another agent has the key that it wants a certificate for.
    #[error("another agent has this key")]
    KeyTaken,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AgentRefused> for Status {
    fn from(refused: AgentRefused) -> Self {
        match refused {
            AgentRefused::Unknown => revoked("it was deleted"),
            AgentRefused::Revoked { reason } => revoked(&reason),
            AgentRefused::Locked { reason, .. } => locked(&reason),
            AgentRefused::KeyTaken => key_taken(),
            AgentRefused::Store(error) => error.into(),
        }
    }
}
