//! `--confine`: refuses what would make a caller root on the host. Default deny: an endpoint, a query
//! key of a build or a field of a container that is not known must not be used. Its words are those of the
//! engine's API, since most callers speak that.

use super::{
    endpoints::{self, Check},
    existing::Lean,
    host_config,
    json::Json,
    line::Line,
    network,
};

/// Query keys of a build that say nothing about the host.
const BUILD: [&str; 24] = [
    "buildargs",
    "buildid",
    "cachefrom",
    "cpuperiod",
    "cpuquota",
    "cpusetcpus",
    "cpusetmems",
    "cpushares",
    "dockerfile",
    "extrahosts",
    "forcerm",
    "labels",
    "memory",
    "memswap",
    "nocache",
    "platform",
    "pull",
    "q",
    "rm",
    "shmsize",
    "squash",
    "t",
    "target",
    "ulimits",
];

/// Fields of a new container beside HostConfig.
const CONFIG: [&str; 26] = [
    "argsescaped",
    "attachstderr",
    "attachstdin",
    "attachstdout",
    "cmd",
    "domainname",
    "entrypoint",
    "env",
    "exposedports",
    "healthcheck",
    "hostname",
    "image",
    "labels",
    "macaddress",
    "networkdisabled",
    "onbuild",
    "openstdin",
    "platform",
    "shell",
    "stdinonce",
    "stopsignal",
    "stoptimeout",
    "tty",
    "user",
    "volumes",
    "workingdir",
];

/// Fields of an exec.
const EXEC: [&str; 12] = [
    "attachstderr",
    "attachstdin",
    "attachstdout",
    "cmd",
    "consolesize",
    "container",
    "detach",
    "detachkeys",
    "env",
    "tty",
    "user",
    "workingdir",
];

/// The longest body that is read, bytes. Twice what the largest of hand-written ones has.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// Whether the body must be there to judge the request.
pub(crate) fn reads_body(line: &Line) -> bool {
    use Check::{Connect, Create, Exec, Network, Start, Update, Volume};
    let check = endpoints::check(line);
    matches!(check, Some(Connect | Create | Exec | Network | Start | Update | Volume))
}

/// Judges a request; `body` is what [`reads_body`] asks for, and empty otherwise. What it gives is there
/// already, and must be judged too.
///
/// Errors: what a confined host does not allow, in a few words.
pub(crate) fn judge(line: &Line, body: &[u8]) -> Result<Vec<Lean>, String> {
    let check =
        endpoints::check(line).ok_or("it is none of the calls that a confined host knows")?;
    let named = || line.parts.get(1).cloned().unwrap_or_default();
    let leans = match check {
        Check::Create => return create(&object(body)?),
        Check::Container => return Ok(vec![Lean::Container(named())]),
        Check::OfExec => return Ok(vec![Lean::Exec(named())]),
        Check::Exec => {
            exec(&object(body)?)?;
            return Ok(vec![Lean::Container(named())]);
        }
        Check::Connect => {
            let container = network::joins(&object(body)?)?;
            return Ok(vec![Lean::Network(named()), Lean::Container(container)]);
        }
        Check::Nothing => Ok(()),
        Check::Update => host_config::check(&object(body)?),
        Check::Start => start(line, body),
        Check::Volume if body.is_empty() => Ok(()),
        Check::Volume => host_config::is_volume(&object(body)?),
        Check::Network => network::check(&object(body)?),
        Check::Build => build(line),
        Check::Pull => pull(line),
    };
    leans.map(|()| Vec::new())
}

fn object(body: &[u8]) -> Result<Vec<(String, Json)>, String> {
    match Json::parse(body) {
        Some(Json::Object(pairs)) => Ok(pairs),
        _ => Err("its body is no JSON object".to_owned()),
    }
}

fn create(pairs: &[(String, Json)]) -> Result<Vec<Lean>, String> {
    let mut leans = Vec::new();
    for pair in pairs {
        let fields = match pair {
            (key, value) if key == "hostconfig" => value.pairs().ok_or("HostConfig")?,
            (key, value) if key == "networkingconfig" => {
                networking(value)?;
                continue;
            }
            (key, _) if CONFIG.contains(&key.as_str()) => continue,
            // Engines read HostConfig's fields here too.
            _ => std::slice::from_ref(pair),
        };
        host_config::check(fields)?;
        leans.extend(host_config::leans(fields));
    }
    Ok(leans)
}

fn networking(value: &Json) -> Result<(), String> {
    for (key, value) in value.pairs().ok_or("NetworkingConfig")? {
        let networks = match key.as_str() {
            "endpointsconfig" => value.pairs().ok_or("EndpointsConfig")?,
            _ if value.is_empty() => &[],
            key => return Err(format!("NetworkingConfig field {key:?}")),
        };
        if let Some((name, _)) = networks.iter().find(|(name, _)| !host_config::is_network(name)) {
            return Err(format!("the network {name:?}"));
        }
    }
    Ok(())
}

fn exec(pairs: &[(String, Json)]) -> Result<(), String> {
    match pairs.iter().find(|(key, value)| !value.is_empty() && !EXEC.contains(&key.as_str())) {
        Some((key, _)) => Err(format!("an exec's field {key:?}")),
        None => Ok(()),
    }
}

fn query(line: &Line) -> Result<Vec<(String, String)>, String> {
    line.query().ok_or_else(|| "its query can be read in two ways".to_owned())
}

fn start(line: &Line, body: &[u8]) -> Result<(), String> {
    if let Some((key, _)) = query(line)?.iter().find(|(key, _)| key.starts_with("checkpoint")) {
        return Err(format!("{key:?}"));
    }
    match body.trim_ascii() {
        b"" | b"{}" | b"null" => Ok(()),
        _ => Err("a start with a body".to_owned()),
    }
}

fn build(line: &Line) -> Result<(), String> {
    let pairs = query(line)?;
    // Version 2 is BuildKit, which brings demands of its own over /session. It has other keys, too, of which
    // none tells what to do.
    if pairs.iter().any(|(key, value)| key == "version" && !matches!(value.as_str(), "" | "1")) {
        return Err("a build with BuildKit (set DOCKER_BUILDKIT=0)".to_owned());
    }
    for (key, value) in pairs {
        let good = match key.as_str() {
            "networkmode" => host_config::is_network(&value),
            "version" => true,
            key => value.is_empty() || BUILD.contains(&key),
        };
        if !good {
            return Err(format!("a build with {key:?}"));
        }
    }
    Ok(())
}

fn pull(line: &Line) -> Result<(), String> {
    let from_url =
        |(key, value): &(String, String)| key == "fromSrc" && !matches!(value.as_str(), "" | "-");
    match query(line)?.iter().any(from_url) {
        true => Err("an import from a URL".to_owned()),
        false => Ok(()),
    }
}

/// Whether a body could be read as part of the query, by its Content-Type. Engines read forms so.
pub(crate) fn is_form(content_type: &str) -> bool {
    content_type.to_ascii_lowercase().contains("form")
}

#[cfg(test)]
mod tests;
