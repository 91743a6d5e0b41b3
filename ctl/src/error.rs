//! What a failed command says and which exit code it ends with. Every module returns this [`Error`];
//! `main` prints it. Nothing here talks to the network: `resolve.rs` adds what needs another call.

use std::{fmt, io, time::Duration};

use dockctl_api::error::{self as api, reason};
use tonic::{Code, Status};

use crate::output::clean;

/// How `run`, `exec` and their like end for a failure of ours, since any other code may be the program's.
pub(crate) const NOT_RUN: u8 = 125;

/// The exit codes that scripts rely on; the worst of several failures is the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// The command was understood, tried and failed.
    Failed = 1,
    /// The command line makes no sense, or lacks something that nobody is there to be asked for.
    Usage = 2,
    /// No login, an expired one, or one that may not do this.
    NotAuthorised = 3,
    /// The thing that was named does not exist.
    NotFound = 4,
    /// The agent, or the controller itself, cannot be reached.
    Unreachable = 5,
}

/// A failure, ready to be shown.
#[derive(Debug)]
pub(crate) enum Error {
    /// Whoever read our output has gone. That is no failure: `dockctl ps | head -1`.
    BrokenPipe,
    /// A program on a host has ended with this code, which is ours. It has said itself what there is.
    Program(u8),
    /// Something to say.
    Told(Box<Failure>),
}

/// What is said of a failure.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// Another one, where the command has docker's.
    pub(crate) code: Option<u8>,
    /// The host and reference it is about, for example `web-1/nginx`.
    pub(crate) about: Option<String>,
    /// One sentence on what happened.
    pub(crate) message: String,
    /// How the command is used and where help is, in lines of our own; may be empty.
    pub(crate) usage: String,
    /// What to do next, a line each.
    pub(crate) hints: Vec<String>,
    /// The API's reason, where the failure came from it.
    pub(crate) reason: Option<String>,
    /// Whether waiting and trying again may help.
    pub(crate) transient: bool,
    /// Whether the API says that the call did not run.
    pub(crate) unsent: bool,
    /// How long the API asks to wait before the next try of a call that it did not take.
    pub(crate) wait: Option<Duration>,
}

/// A command's result.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure with a message and nothing else.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Told(Box::new(Failure {
            exit,
            code: None,
            about: None,
            message: message.into(),
            usage: String::new(),
            hints: Vec::new(),
            reason: None,
            transient: exit == Exit::Unreachable,
            unsent: false,
            wait: None,
        }))
    }

    /// The end of a program on a host; 0 is no error, but the command's end all the same.
    pub(crate) fn program(code: i32) -> Self {
        // As a shell has it.
        Self::Program((code & 0xff) as u8)
    }

    /// A mistake on the command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds how the command is used.
    pub(crate) fn used(mut self, usage: String) -> Self {
        if let Self::Told(failure) = &mut self {
            failure.usage = usage;
        }
        self
    }

    /// Adds a line that says what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Told(failure) = &mut self {
            failure.hints.push(hint.into());
        }
        self
    }

    /// Says which host and reference it is about, unless that is known already.
    pub(crate) fn about(mut self, about: impl Into<String>) -> Self {
        if let Self::Told(failure) = &mut self {
            failure.about.get_or_insert_with(|| about.into());
        }
        self
    }

    /// Ends the process with this code, unless another one is known already.
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        if let Self::Told(failure) = &mut self {
            failure.code.get_or_insert(code);
        }
        self
    }

    /// What is said, if anything is.
    pub(crate) fn told(&self) -> Option<&Failure> {
        match self {
            Self::Told(failure) => Some(failure),
            Self::BrokenPipe | Self::Program(_) => None,
        }
    }

    /// Whether waiting and trying again may help.
    pub(crate) fn is_transient(&self) -> bool {
        self.told().is_some_and(|f| f.transient)
    }

    /// Whether the API says that the call did not run.
    pub(crate) fn is_unsent(&self) -> bool {
        self.told().is_some_and(|f| f.unsent)
    }

    /// How long the API asks to wait before the next try of a call that it did not take.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.told().and_then(|f| f.wait)
    }

    /// Whether the API gave this reason.
    pub(crate) fn has_reason(&self, reason: &str) -> bool {
        self.told().is_some_and(|f| f.reason.as_deref() == Some(reason))
    }

    /// Whether it came from the API, which gives a reason.
    pub(crate) fn has_a_reason(&self) -> bool {
        self.told().is_some_and(|f| f.reason.is_some())
    }

    /// The exit code of the process.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Program(code) => *code,
            Self::Told(failure) => failure.code.unwrap_or(failure.exit as u8),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names of files and of what others made are in it, and a person may read it at a terminal.
        let begins = |about: &&String| self.message.starts_with(&format!("{about} "));
        if let Some(about) = self.about.as_ref().filter(|about| !begins(about)) {
            write!(f, "{}: ", clean(about))?;
        }
        f.write_str(&clean(&self.message))?;
        if !self.usage.is_empty() {
            let lines: Vec<String> = self.usage.lines().map(clean).collect();
            write!(f, "\n\n{}", lines.join("\n"))?;
        }
        let lines = self.hints.iter().flat_map(|hint| hint.lines());
        lines.map(clean).try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::new(Exit::Failed, error.to_string()),
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        from_status(&status)
    }
}

/// Whether a status was made on this side because the connection broke, so that nothing is known of
/// the call's end.
fn is_transport(status: &Status) -> bool {
    use std::error::Error as _;
    status.source().is_some()
        || (status.code() == Code::Unknown && status.message().starts_with("grpc-status header"))
}

fn from_status(status: &Status) -> Error {
    let reason = api::reason_of(status);
    if reason.is_none() && (is_transport(status) || status.code() == Code::Unavailable) {
        return Error::new(Exit::Unreachable, "the connection to the controller was lost")
            .hint(format!("{}; see `dockctl ping`", clean(status.message())));
    }
    // The API names the method that it lacks; a port that knows none of its services says nothing.
    if reason.is_none() && status.code() == Code::Unimplemented && status.message().is_empty() {
        return Error::new(Exit::Failed, "what answers there is not the API").hint(
            "this seems to be the agents' port (7444 by default); the API's is 7443 by default",
        );
    }
    let name = reason.as_deref().unwrap_or_default();
    let exit = match (name, status.code()) {
        (reason::AGENT_OFFLINE | reason::LINK_LOST | reason::DRAINING, _) => Exit::Unreachable,
        (reason::BAD_FIELD, _) => Exit::Usage,
        (_, Code::Unauthenticated | Code::PermissionDenied) => Exit::NotAuthorised,
        (_, Code::NotFound) => Exit::NotFound,
        _ => Exit::Failed,
    };
    let message = match (name, clean(status.message())) {
        (_, message) if message.is_empty() => format!("the call failed: {:?}", status.code()),
        (_, message) => message,
    };
    let transient = matches!(
        name,
        reason::AGENT_OFFLINE
            | reason::LINK_LOST
            | reason::DRAINING
            | reason::DOCKER_DOWN
            | reason::LAGGED
            | reason::RIGHTS_CHANGED
    );
    let mut hints = Vec::new();
    if let Some(cause) = api::metadata_of(status, "cause").map(|c| clean(&c))
        && !cause.is_empty()
        && !message.contains(&cause)
    {
        hints.push(format!("cause: {cause}"));
    }
    hints.extend(next_step(name).map(str::to_owned));
    let ran = api::metadata_of(status, api::RAN);
    match ran.as_deref() {
        Some(api::NOT_SENT) => hints.push("nothing was changed: it is safe to try again".into()),
        Some(api::MAYBE_RAN) => {
            hints.push("the call may have run: check with `dockctl ps -a` before a new try".into());
        }
        _ => {}
    }
    let unsent = ran.as_deref() == Some(api::NOT_SENT);
    let (code, about) = (None, None);
    Error::Told(Box::new(Failure {
        exit,
        code,
        about,
        message,
        usage: String::new(),
        hints,
        reason,
        transient,
        unsent,
        wait: api::retry_after(status),
    }))
}

/// What a person can do about a reason, where it does not depend on what was called.
fn next_step(name: &str) -> Option<&'static str> {
    Some(match name {
        reason::NOT_LOGGED_IN | reason::TOKEN_INVALID | reason::REFRESH_REUSED => {
            "log in: dockctl login URL --username USER"
        }
        reason::TOKEN_EXPIRED => {
            "log in again: dockctl login URL --username USER, or renew DOCKCTL_TOKEN"
        }
        reason::BAD_CREDENTIALS => "check the user name and the password, then log in again",
        reason::NOT_ALLOWED => {
            "ask an admin for the role; see yours with `dockctl whoami`, and `dockctl roles`"
        }
        reason::LAST_ADMIN => "give another user the role admin first: dockctl users grant",
        reason::AGENT_REVOKED => "a revoked agent stays out; join its host anew with a fresh token",
        reason::IDENTITY_LOCKED => {
            "delete it (`dockctl agents rm`) and join each of the machines with a token of its own"
        }
        reason::AGENT_NOT_FOUND => "see which agents there are: dockctl agents ls",
        reason::AGENT_OFFLINE => "see its state: dockctl agents ls",
        reason::DRAINING => "the controller is restarting: try again in a few seconds",
        reason::TOO_MANY => "wait a moment, then try again",
        reason::DOCKER_DOWN => "the agent is there, its Docker engine is not: start Docker there",
        reason::DOCKER_REFUSED => "let the agent's user or socket proxy make this call",
        reason::DEADLINE => "give it more time with --timeout, for example --timeout 2m",
        reason::OLD_AGENT => {
            "update the agent on that host: see its version in `dockctl agents ls`"
        }
        reason::PROTOCOL_MISMATCH => "bring both sides to the same version: see `dockctl version`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: Code, reason: &str) -> u8 {
        Error::from(api::status(code, reason, "no", &[])).code()
    }

    #[test]
    fn reasons_have_their_exit_codes() {
        assert_eq!(exit(Code::Internal, reason::INTERNAL), 1);
        assert_eq!(exit(Code::InvalidArgument, reason::BAD_FIELD), 2);
        assert_eq!(exit(Code::Unauthenticated, reason::NOT_LOGGED_IN), 3);
        assert_eq!(exit(Code::PermissionDenied, reason::NOT_ALLOWED), 3);
        assert_eq!(exit(Code::NotFound, reason::CONTAINER_NOT_FOUND), 4);
        assert_eq!(exit(Code::NotFound, reason::AGENT_NOT_FOUND), 4);
        assert_eq!(exit(Code::Unavailable, reason::AGENT_OFFLINE), 5);
        assert_eq!(exit(Code::Unavailable, reason::LINK_LOST), 5);
        assert_eq!(exit(Code::Unavailable, reason::DOCKER_DOWN), 1);
        assert_eq!(exit(Code::FailedPrecondition, reason::AMBIGUOUS), 1);
        assert_eq!(Error::from(Status::unavailable("gone")).code(), 5);
        assert_eq!(Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).code(), 0);
    }

    #[test]
    fn a_failed_forward_says_whether_it_ran() {
        let told = |ran| {
            let status =
                api::status(Code::Unavailable, reason::LINK_LOST, "link lost", &[(api::RAN, ran)]);
            Error::from(status).told().unwrap().to_string()
        };
        assert!(told(api::NOT_SENT).contains("safe to try again"));
        assert!(told(api::MAYBE_RAN).contains("may have run"));
    }

    #[test]
    fn hostile_sentences_are_cleaned() {
        let status = api::status(Code::Internal, reason::INTERNAL, "a\x1b]0;x\x07b\n", &[]);
        assert_eq!(Error::from(status).told().unwrap().to_string(), "ab");
        let name = "\x1b]0;x\x07name";
        let error = Error::new(Exit::Failed, format!("{name}: no such file"))
            .about(name)
            .hint(format!("{name}\n  and \u{9b}2Jmore"));
        let text = error.told().unwrap().to_string();
        assert_eq!(text, "name: name: no such file\n  name\n    and more");
    }
}
