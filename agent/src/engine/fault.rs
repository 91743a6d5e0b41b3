//! What can go wrong with a call to the engine, and what the user is told. The only place that turns
//! the engine's answers into gRPC codes, reasons and sentences.

use std::{fmt, io, time::Duration};

use dockctl_api::error::{MAYBE_RAN, NOT_SENT, RAN, reason, status};
use serde::Deserialize;
use tonic::{Code, Status};

use super::pass::REFUSED;

/// One kind of call, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// Method and path with placeholders, for example "POST /containers/{id}/start".
    pub(super) name: &'static str,
    /// The container it is about; empty for none.
    pub(super) container: &'a str,
}

impl<'a> Call<'a> {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, container: "" }
    }

    pub(super) fn on(name: &'static str, container: &'a str) -> Self {
        Self { name, container }
    }
}

/// A failed call.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is no connection; the call was not sent.
    Connect(io::Error),
    /// What must come before the call failed, for example the negotiation; the call was not sent.
    Unsent(Box<Fault>),
    /// No answer in time.
    Timeout(Duration),
    /// The connection broke after the call was sent.
    Lost(String),
    /// The answer has more bytes than these.
    TooLong(usize),
    /// What answers does not speak as Docker does.
    Garbage(String),
    /// No common API version.
    Version(String),
    /// The engine, or a proxy before it, answered with an HTTP error.
    Answer {
        /// The HTTP status.
        code: u16,
        /// What it says of it.
        message: String,
        /// Whether it says so in Docker's JSON; a proxy sends a page, a word or nothing.
        dockers: bool,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(e) => write!(f, "{e}"),
            Self::Unsent(before) => write!(f, "{before}"),
            Self::Timeout(limit) => write!(f, "no answer within {} s", limit.as_secs()),
            Self::TooLong(most) => write!(f, "the answer is longer than {} MiB", most >> 20),
            Self::Lost(e) | Self::Garbage(e) | Self::Version(e) => f.write_str(e),
            Self::Answer { code, message, .. } => write!(f, "HTTP {code}: {message}"),
        }
    }
}

// So that a fault travels through bollard's error type unharmed.
impl std::error::Error for Fault {}

#[derive(Deserialize)]
struct Message {
    message: String,
}

impl Fault {
    /// The fault of an HTTP error with this body: Docker's `{"message": …}` or a proxy's page.
    pub(super) fn answer(code: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<Message>(body) {
            Ok(Message { message }) => Self::Answer { code, message, dockers: true },
            Err(_) => {
                let message = String::from_utf8_lossy(body).trim().chars().take(300).collect();
                Self::Answer { code, message, dockers: false }
            }
        }
    }

    /// The fault of a call that has to wait for another one first, which failed with this.
    pub(super) fn unsent(self) -> Self {
        Self::Unsent(Box::new(self))
    }

    /// There is no connection at all.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            Self::Unsent(before) => before.is_unreachable(),
            _ => false,
        }
    }

    /// The engine does not serve the API version that was asked for: it was exchanged meanwhile.
    pub(super) fn is_version_refused(&self) -> bool {
        matches!(self, Self::Answer { code: 400, message, .. } if message.starts_with("client version "))
    }

    /// What the user is told. `host` is the engine's address.
    pub(super) fn status(&self, call: Call<'_>, host: &str) -> Status {
        self.told(call, host, MAYBE_RAN)
    }

    /// `ran` is what holds unless the fault itself proves that the call never reached Docker.
    fn told(&self, call: Call<'_>, host: &str, ran: &str) -> Status {
        match self {
            Self::Unsent(before) => before.told(call, host, NOT_SENT),
            Self::Connect(e) => down(unreachable(e, host), NOT_SENT),
            Self::Timeout(limit) => {
                let seconds = limit.as_secs();
                let name = call.name;
                down(format!("Docker at {host} did not answer {name} within {seconds} s"), ran)
            }
            Self::Lost(e) => {
                let name = call.name;
                down(format!("the connection to Docker at {host} broke during {name}: {e}"), ran)
            }
            Self::TooLong(most) => {
                let size = most >> 20;
                let sentence =
                    format!("Docker's answer to {} is longer than {size} MiB", call.name);
                // A read has done nothing; of what was changed only the answer is missing.
                let metadata = [("call", call.name), (RAN, ran)];
                let told = if call.name.starts_with("GET ") { &metadata[..1] } else { &metadata };
                status(Code::ResourceExhausted, reason::DOCKER_ERROR, sentence, told)
            }
            Self::Garbage(e) => status(
                Code::Internal,
                reason::DOCKER_ERROR,
                format!("what answers {} at {host} does not speak as Docker does: {e}", call.name),
                &[("call", call.name)],
            ),
            Self::Version(e) => {
                status(Code::FailedPrecondition, reason::DOCKER_ERROR, e.clone(), &[])
            }
            Self::Answer { code, message, dockers } => {
                answered(*code, message, *dockers, call, host)
            }
        }
    }
}

fn down(message: String, ran: &str) -> Status {
    status(Code::Unavailable, reason::DOCKER_DOWN, message, &[(RAN, ran)])
}

fn unreachable(error: &io::Error, host: &str) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "the agent's user may not use Docker's socket {host}: add the user to the group docker \
             (usermod -aG docker USER) and restart the agent, or give it a socket proxy with --docker"
        ),
        io::ErrorKind::NotFound => format!(
            "there is no Docker socket at {host}: is Docker installed and dockerd running \
             (systemctl status docker)?"
        ),
        io::ErrorKind::ConnectionRefused => {
            format!("nothing answers at {host}: is dockerd running (systemctl status docker)?")
        }
        _ => format!("Docker at {host} cannot be reached: {error}"),
    }
}

fn answered(code: u16, message: &str, dockers: bool, call: Call<'_>, host: &str) -> Status {
    let lower = message.to_lowercase();
    let sentence = if message.is_empty() {
        format!("Docker answered {} with HTTP status {code} and no message", call.name)
    } else {
        message.to_owned()
    };
    let error = |code| status(code, reason::DOCKER_ERROR, sentence.clone(), &[("call", call.name)]);
    match code {
        // Our own guard's word, see `pass`.
        403 if message.starts_with(REFUSED) => {
            let message = message.strip_prefix("dockctl: ").unwrap_or(message);
            status(Code::PermissionDenied, reason::DOCKER_REFUSED, message, &[("call", call.name)])
        }
        // Docker itself forbids some of what is asked of a network, such as to remove one in use.
        403 if call.name.contains(" /networks") && dockers => error(Code::FailedPrecondition),
        403 => status(
            Code::PermissionDenied,
            reason::DOCKER_REFUSED,
            format!(
                "the Docker socket proxy at {host} refused {}: allow this call in the proxy's \
                 configuration, or give the agent the engine's own socket",
                call.name
            ),
            &[("call", call.name)],
        ),
        _ if !call.container.is_empty() && lower.contains("multiple ids found") => {
            ambiguous(call.container)
        }
        404 if !call.container.is_empty() && lower.contains("no such container") => {
            not_found(call.container)
        }
        404 => status(Code::NotFound, reason::NOT_FOUND, sentence, &[("call", call.name)]),
        400 => error(Code::InvalidArgument),
        409 | 501 | 503 => error(Code::FailedPrecondition),
        // Docker says so of what cannot be done just now, such as to unpause what runs.
        500 if !message.is_empty() => error(Code::FailedPrecondition),
        _ => error(Code::Internal),
    }
}

/// The status for a container that the engine does not know.
pub(super) fn not_found(container: &str) -> Status {
    status(
        Code::NotFound,
        reason::CONTAINER_NOT_FOUND,
        format!("no container here is called {container:?}, nor has an id that begins so"),
        &[("container", container)],
    )
}

/// The status for an id prefix that fits several containers.
pub(super) fn ambiguous(container: &str) -> Status {
    status(
        Code::FailedPrecondition,
        reason::AMBIGUOUS,
        format!("{container:?} fits several containers: give more of the id"),
        &[("container", container)],
    )
}

#[cfg(test)]
mod tests {
    use dockctl_api::error::{metadata_of, reason_of};

    use super::*;

    fn told(fault: Fault) -> (Code, String, String) {
        let call = Call::on("POST /containers/{id}/start", "web");
        let s = fault.status(call, "unix:///s");
        (s.code(), reason_of(&s).unwrap(), s.message().to_owned())
    }

    #[test]
    fn each_answer_has_its_code_and_reason() {
        let cases = [
            (403, "<html>no</html>", Code::PermissionDenied, reason::DOCKER_REFUSED),
            (
                404,
                r#"{"message":"No such container: web"}"#,
                Code::NotFound,
                reason::CONTAINER_NOT_FOUND,
            ),
            (404, r#"{"message":"network x not found"}"#, Code::NotFound, reason::NOT_FOUND),
            (400, r#"{"message":"bad"}"#, Code::InvalidArgument, reason::DOCKER_ERROR),
            (409, r#"{"message":"paused"}"#, Code::FailedPrecondition, reason::DOCKER_ERROR),
            (501, r#"{"message":"no reading"}"#, Code::FailedPrecondition, reason::DOCKER_ERROR),
            (500, r#"{"message":"port is taken"}"#, Code::FailedPrecondition, reason::DOCKER_ERROR),
            (502, "", Code::Internal, reason::DOCKER_ERROR),
            (
                500,
                r#"{"message":"Multiple IDs found with provided prefix: ab"}"#,
                Code::FailedPrecondition,
                reason::AMBIGUOUS,
            ),
        ];
        for (http, body, code, reason) in cases {
            let (got, why, _) = told(Fault::answer(http, body.as_bytes()));
            assert_eq!((got, why.as_str()), (code, reason), "{http} {body}");
        }
        assert_eq!(told(Fault::answer(500, br#"{"message":"port is taken"}"#)).2, "port is taken");
    }

    #[test]
    fn what_docker_forbids_of_a_network_is_no_proxys_refusal() {
        let reason = |body: &str| {
            let call = Call::new("DELETE /networks/{id}");
            reason_of(&Fault::answer(403, body.as_bytes()).status(call, "unix:///s")).unwrap()
        };
        let busy = r#"{"message":"error while removing network: n has active endpoints"}"#;
        assert_eq!(reason(busy), reason::DOCKER_ERROR);
        for page in ["", "<html><body>403 Forbidden", "Forbidden", "this proxy allows no DELETE"] {
            assert_eq!(reason(page), reason::DOCKER_REFUSED, "{page}");
        }
    }

    #[test]
    fn a_refusal_names_the_call() {
        let s = Fault::answer(403, b"")
            .status(Call::on("POST /containers/{id}/stop", "web"), "tcp://p");
        assert_eq!(metadata_of(&s, "call").as_deref(), Some("POST /containers/{id}/stop"));
        assert!(s.message().contains("POST /containers/{id}/stop"));
    }

    #[test]
    fn a_down_engine_says_what_to_do() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(told(Fault::Connect(refused)).2.contains("systemctl status docker"));
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(told(Fault::Connect(denied)).2.contains("group docker"));
    }

    #[test]
    fn a_down_engine_says_whether_the_call_ran() {
        let connect = || Fault::Connect(io::ErrorKind::ConnectionRefused.into());
        let lost = || Fault::Lost("eof".into());
        let late = || Fault::Timeout(Duration::from_secs(30));
        for (fault, ran) in [
            (connect(), NOT_SENT),
            (lost(), MAYBE_RAN),
            (late(), MAYBE_RAN),
            // The negotiation or the look before a stop failed: the call itself was never sent.
            (connect().unsent(), NOT_SENT),
            (lost().unsent(), NOT_SENT),
            (late().unsent().unsent(), NOT_SENT),
        ] {
            for call in [Call::on("POST /containers/{id}/stop", "web"), Call::new("GET /info")] {
                let s = fault.status(call, "unix:///s");
                assert_eq!(s.code(), Code::Unavailable);
                assert_eq!(reason_of(&s).as_deref(), Some(reason::DOCKER_DOWN));
                assert_eq!(metadata_of(&s, RAN).as_deref(), Some(ran), "{fault:?} {}", call.name);
            }
        }
        // Docker's own answer to what came before stays what it is.
        let s = Fault::answer(403, b"").unsent().status(Call::new("GET /info"), "tcp://p");
        assert_eq!(reason_of(&s).as_deref(), Some(reason::DOCKER_REFUSED));
    }
}
