//! The endpoints of the Docker API up to v1.51 that a confined host knows, and what must be checked of
//! each. What is not in this table is refused.

use super::{line::Line, pattern};

/// What must be checked of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing: it cannot reach out of containers.
    Nothing,
    /// The body of `POST /containers/create`.
    Create,
    /// A start: no HostConfig, which old versions take, and no checkpoint from the host's disk.
    Start,
    /// The body of an update.
    Update,
    /// The body that makes an exec, and the container that it is made in.
    Exec,
    /// The exec that is there already.
    OfExec,
    /// The container: what reaches into it, or gives its name to another.
    Container,
    /// The body that makes a network.
    Network,
    /// The network, and the container that is joined to it.
    Connect,
    /// The body that makes a volume.
    Volume,
    /// The query of a build.
    Build,
    /// The query of a pull or import.
    Pull,
}

const TABLE: [(&str, &str, Check); 65] = {
    use Check::*;
    [
        ("GET", "/_ping", Nothing),
        ("HEAD", "/_ping", Nothing),
        ("GET", "/version", Nothing),
        ("GET", "/info", Nothing),
        ("GET", "/events", Nothing),
        ("GET", "/system/df", Nothing),
        ("POST", "/auth", Nothing),
        ("GET", "/containers/json", Nothing),
        ("POST", "/containers/create", Create),
        ("POST", "/containers/prune", Nothing),
        ("GET", "/containers/*/json", Nothing),
        ("GET", "/containers/*/top", Nothing),
        ("GET", "/containers/*/logs", Nothing),
        ("GET", "/containers/*/changes", Nothing),
        ("GET", "/containers/*/export", Nothing),
        ("GET", "/containers/*/stats", Nothing),
        ("GET", "/containers/*/attach/ws", Container),
        ("POST", "/containers/*/attach", Container),
        ("POST", "/containers/*/resize", Nothing),
        ("POST", "/containers/*/start", Start),
        ("POST", "/containers/*/stop", Nothing),
        ("POST", "/containers/*/restart", Nothing),
        ("POST", "/containers/*/kill", Nothing),
        ("POST", "/containers/*/update", Update),
        ("POST", "/containers/*/rename", Container),
        ("POST", "/containers/*/pause", Nothing),
        ("POST", "/containers/*/unpause", Nothing),
        ("POST", "/containers/*/wait", Nothing),
        ("DELETE", "/containers/*", Nothing),
        // What a file is like, not what is in it; and an answer to HEAD has no room for a sentence.
        ("HEAD", "/containers/*/archive", Nothing),
        ("GET", "/containers/*/archive", Container),
        ("PUT", "/containers/*/archive", Container),
        ("POST", "/containers/*/exec", Exec),
        ("POST", "/exec/*/start", OfExec),
        ("POST", "/exec/*/resize", Nothing),
        ("GET", "/exec/*/json", Nothing),
        ("GET", "/images/json", Nothing),
        ("GET", "/images/search", Nothing),
        ("GET", "/images/get", Nothing),
        ("GET", "/images/**/get", Nothing),
        ("GET", "/images/**/json", Nothing),
        ("GET", "/images/**/history", Nothing),
        ("POST", "/images/create", Pull),
        ("POST", "/images/load", Nothing),
        ("POST", "/images/prune", Nothing),
        ("POST", "/images/**/push", Nothing),
        ("POST", "/images/**/tag", Nothing),
        ("DELETE", "/images/**", Nothing),
        ("GET", "/distribution/**/json", Nothing),
        ("POST", "/commit", Nothing),
        ("POST", "/build", Build),
        ("POST", "/build/prune", Nothing),
        ("POST", "/build/cancel", Nothing),
        ("GET", "/networks", Nothing),
        ("GET", "/networks/*", Nothing),
        ("POST", "/networks/create", Network),
        ("POST", "/networks/prune", Nothing),
        ("POST", "/networks/*/connect", Connect),
        ("POST", "/networks/*/disconnect", Nothing),
        ("DELETE", "/networks/*", Nothing),
        ("GET", "/volumes", Nothing),
        ("GET", "/volumes/*", Nothing),
        ("POST", "/volumes/create", Volume),
        ("POST", "/volumes/prune", Nothing),
        ("DELETE", "/volumes/*", Nothing),
    ]
};

/// What must be checked of it; None for what is not known here.
pub(super) fn check(line: &Line) -> Option<Check> {
    let fits = |pattern: &str| {
        let parts: Vec<&str> = pattern.split('/').skip(1).collect();
        pattern::fits(&parts, &line.parts)
    };
    let mut table = TABLE.iter();
    table.find(|(method, path, _)| *method == line.method && fits(path)).map(|(.., check)| *check)
}
