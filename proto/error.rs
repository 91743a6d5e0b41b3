//! Errors as users see them: a gRPC code, a stable reason in a google.rpc.ErrorInfo of domain
//! `dockctl`, and a sentence for people. Clients branch on the reason, never on the sentence.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every ErrorInfo.
pub const DOMAIN: &str = "dockctl";

/// ErrorInfo metadata key of a failed forward: whether the call ran.
pub const RAN: &str = "ran";
/// `ran` value: the call never reached the agent, or never Docker; trying again is safe.
pub const NOT_SENT: &str = "NOT_SENT";
/// `ran` value: the call may have run on the host.
pub const MAYBE_RAN: &str = "MAYBE_RAN";

/// Stable reasons. Each is documented with the gRPC code it comes with.
pub mod reason {
    /// UNAUTHENTICATED: no or bad access token.
    pub const NOT_LOGGED_IN: &str = "NOT_LOGGED_IN";
    /// UNAUTHENTICATED: the access token (refresh it) or join token (make a new one) has run out.
    pub const TOKEN_EXPIRED: &str = "TOKEN_EXPIRED";
    /// UNAUTHENTICATED: wrong user name or password.
    pub const BAD_CREDENTIALS: &str = "BAD_CREDENTIALS";
    /// UNAUTHENTICATED: a refresh token was used twice; its family is dead.
    pub const REFRESH_REUSED: &str = "REFRESH_REUSED";
    /// UNAUTHENTICATED: an unknown or deleted join or refresh token.
    pub const TOKEN_INVALID: &str = "TOKEN_INVALID";
    /// UNAUTHENTICATED: a join token that all its uses are gone of.
    pub const TOKEN_USED_UP: &str = "TOKEN_USED_UP";
    /// UNAUTHENTICATED: the agent's certificate has run out; renew it.
    pub const CERTIFICATE_EXPIRED: &str = "CERTIFICATE_EXPIRED";
    /// PERMISSION_DENIED: the caller lacks the permission named in the metadata.
    pub const NOT_ALLOWED: &str = "NOT_ALLOWED";
    /// PERMISSION_DENIED: strangers may not make users here.
    pub const SIGNUP_OFF: &str = "SIGNUP_OFF";
    /// FAILED_PRECONDITION: there is no OpenID provider to log in with.
    pub const OIDC_OFF: &str = "OIDC_OFF";
    /// UNAUTHENTICATED: the OpenID provider does not vouch for the caller.
    pub const OIDC_REFUSED: &str = "OIDC_REFUSED";
    /// FAILED_PRECONDITION: who logs in with the OpenID provider has no password.
    pub const NO_PASSWORD: &str = "NO_PASSWORD";
    /// UNAVAILABLE: the OpenID provider cannot be reached or not be understood.
    pub const OIDC_UNAVAILABLE: &str = "OIDC_UNAVAILABLE";
    /// FAILED_PRECONDITION: the user's role comes from the OpenID provider's groups.
    pub const ROLE_OF_PROVIDER: &str = "ROLE_OF_PROVIDER";
    /// FAILED_PRECONDITION: nobody would be admin any more.
    pub const LAST_ADMIN: &str = "LAST_ADMIN";
    /// UNAVAILABLE: what the caller may see has changed while a stream ran; ask again.
    pub const RIGHTS_CHANGED: &str = "RIGHTS_CHANGED";
    /// PERMISSION_DENIED: the agent was revoked.
    pub const AGENT_REVOKED: &str = "AGENT_REVOKED";
    /// PERMISSION_DENIED: two machines live on the agent's identity.
    pub const IDENTITY_LOCKED: &str = "IDENTITY_LOCKED";
    /// RESOURCE_EXHAUSTED: too many tries or calls at once; wait.
    pub const TOO_MANY: &str = "TOO_MANY";
    /// RESOURCE_EXHAUSTED: a watcher did not read in time what happened; it may watch again.
    pub const LAGGED: &str = "LAGGED";
    /// INVALID_ARGUMENT: a field is malformed; metadata `field` names it.
    pub const BAD_FIELD: &str = "BAD_FIELD";
    /// INVALID_ARGUMENT: the call needs an agent.
    pub const AGENT_REQUIRED: &str = "AGENT_REQUIRED";
    /// NOT_FOUND: no such agent.
    pub const AGENT_NOT_FOUND: &str = "AGENT_NOT_FOUND";
    /// UNAVAILABLE: the agent has no link; metadata `cause` says why, `ran` whether the call ran.
    pub const AGENT_OFFLINE: &str = "AGENT_OFFLINE";
    /// UNAVAILABLE: the link broke while the call ran; metadata `ran`.
    pub const LINK_LOST: &str = "LINK_LOST";
    /// UNAVAILABLE: the controller is stopping; come back.
    pub const DRAINING: &str = "DRAINING";
    /// ALREADY_EXISTS: another agent, user or API token has the name.
    pub const NAME_TAKEN: &str = "NAME_TAKEN";
    /// NOT_FOUND: no such container on the agent's host.
    pub const CONTAINER_NOT_FOUND: &str = "CONTAINER_NOT_FOUND";
    /// FAILED_PRECONDITION: a name or prefix fits several containers.
    pub const AMBIGUOUS: &str = "AMBIGUOUS";
    /// NOT_FOUND: something else that was named does not exist.
    pub const NOT_FOUND: &str = "NOT_FOUND";
    /// UNAVAILABLE: the Docker engine does not answer; metadata `ran`.
    pub const DOCKER_DOWN: &str = "DOCKER_DOWN";
    /// PERMISSION_DENIED: the socket or its proxy refused the call; metadata `call` names it.
    pub const DOCKER_REFUSED: &str = "DOCKER_REFUSED";
    /// FAILED_PRECONDITION, INVALID_ARGUMENT or INTERNAL: the engine said no; the sentence is its own.
    pub const DOCKER_ERROR: &str = "DOCKER_ERROR";
    /// INVALID_ARGUMENT (an upload) or FAILED_PRECONDITION (a container's files): the archive holds what
    /// is not taken; metadata `entry` names it.
    pub const BAD_ARCHIVE: &str = "BAD_ARCHIVE";
    /// FAILED_PRECONDITION: the container has no address of its own that may be forwarded to.
    pub const NO_ADDRESS: &str = "NO_ADDRESS";
    /// FAILED_PRECONDITION: the container's port takes no connection; ABORTED: the connection broke.
    pub const PORT_CLOSED: &str = "PORT_CLOSED";
    /// FAILED_PRECONDITION: no common version of the link's protocol.
    pub const PROTOCOL_MISMATCH: &str = "PROTOCOL_MISMATCH";
    /// UNIMPLEMENTED: the agent is older than the call; update it. Metadata `call` names the rpc.
    pub const OLD_AGENT: &str = "OLD_AGENT";
    /// DEADLINE_EXCEEDED: the caller's time is over; metadata `ran`.
    pub const DEADLINE: &str = "DEADLINE";
    /// INTERNAL: a fault of dockctl; the log has more.
    pub const INTERNAL: &str = "INTERNAL";
}

/// Builds a status with an ErrorInfo.
///
/// ```
/// use dockctl_api::error::{reason, status};
/// let s = status(tonic::Code::NotFound, reason::AGENT_NOT_FOUND, "no agent is called web-9", &[("agent", "web-9")]);
/// assert_eq!(dockctl_api::error::reason_of(&s).as_deref(), Some("AGENT_NOT_FOUND"));
/// ```
pub fn status(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    metadata: &[(&str, &str)],
) -> Status {
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, message, details)
}

/// The INVALID_ARGUMENT status for a malformed field.
pub fn bad_field(field: &str, message: impl Into<String>) -> Status {
    status(Code::InvalidArgument, reason::BAD_FIELD, message, &[("field", field)])
}

/// The RESOURCE_EXHAUSTED status for a caller who is to wait; with a google.rpc.RetryInfo.
pub fn too_many(message: impl Into<String>, wait: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason::TOO_MANY, DOMAIN, HashMap::new());
    details.set_retry_info(Some(wait));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// How long the caller is to wait before he tries again, if a status says so.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// The reason in a status, if it has an ErrorInfo of our domain.
pub fn reason_of(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then_some(info.reason)
}

/// A metadata value in a status's ErrorInfo.
pub fn metadata_of(status: &Status, key: &str) -> Option<String> {
    status.get_details_error_info()?.metadata.remove(key)
}
