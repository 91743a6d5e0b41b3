//! What is there already and that a request of a confined host leans on: a container that it reaches into
//! or whose namespaces and mounts it shares, a volume that it mounts. The host's owner may have made those
//! with all that a confined host refuses, so they are judged by what the engine says of them.

use std::{collections::HashMap, fmt};

use serde_json::{Map, Value};

use super::{
    host_config::{self, OF_CONTAINER},
    json::{Json, fold},
    line::Line,
};

/// One of those, as the request names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Lean {
    /// A container by its name, its id or the beginning of one.
    Container(String),
    /// An exec by its id.
    Exec(String),
    /// A network by its name, its id or the beginning of one.
    Network(String),
    /// A volume by its name; it need not be there.
    Volume(String),
}

impl fmt::Display for Lean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, name) = match self {
            Self::Container(name) => ("container", name),
            Self::Exec(name) => ("exec", name),
            Self::Network(name) => ("network", name),
            Self::Volume(name) => ("volume", name),
        };
        write!(f, "the {what} {name:?}")
    }
}

/// The ids of what requests name.
pub(crate) type Ids = HashMap<Lean, String>;

/// Of what is masked and read-only in each container: what would otherwise give the host away.
const MASKED: [&str; 1] = ["/proc/kcore"];
const READONLY: [&str; 2] = ["/proc/sys", "/proc/sysrq-trigger"];

/// File systems that are not the host's.
const REMOTE: [&str; 4] = ["cifs", "nfs", "nfs4", "tmpfs"];

/// Judges a container by `GET /containers/{id}/json`: as if it were made now, but for what gives nothing
/// to those in it. Gives what it leans on itself.
///
/// Errors: what gives the host away to whoever is in it.
pub(crate) fn container(json: &Json) -> Result<Vec<Lean>, String> {
    let Json::Object(config) = json.get("hostconfig") else {
        return Err("the engine does not tell how it was made".to_owned());
    };
    if let Some((key, _)) = config.iter().find(|(key, value)| !holds(key, value)) {
        return Err(format!("HostConfig field {key:?}"));
    }
    // The network's mode may be any name of it.
    let networks = json.get("networksettings").get("networks").pairs().unwrap_or_default();
    if networks.iter().any(|(name, _)| name == "host") {
        return Err("the host's network".to_owned());
    }
    let modes = config.iter().filter_map(|(_, mode)| mode.text()?.strip_prefix(OF_CONTAINER));
    let mut leans: Vec<Lean> = modes.map(|name| Lean::Container(name.to_owned())).collect();
    for mount in json.get("mounts").elements().unwrap_or_default() {
        match (mount.get("type").text(), mount.get("name").text()) {
            (Some("volume"), Some(name)) => leans.push(Lean::Volume(name.to_owned())),
            (Some("tmpfs" | "image"), _) => {}
            // It may be another container's, from which this one has it.
            _ => return Err(format!("the mount {:?}", mount.get("source").text().unwrap_or("?"))),
        }
    }
    Ok(leans)
}

/// Whether a field of an existing container keeps those in it from the host.
fn holds(key: &str, value: &Json) -> bool {
    let has = |wanted: &[&str]| {
        let paths = value.texts().unwrap_or_default();
        *value == Json::Null || wanted.iter().all(|path| paths.contains(path))
    };
    match key {
        "maskedpaths" => has(&MASKED),
        "readonlypaths" => has(&READONLY),
        // Any of the owner's networks, by name or id, but for the host's.
        "networkmode" => value.text().is_some_and(|mode| mode != "host"),
        // What the engine or its owner decides where a container does not.
        "annotations" | "cgroupnsmode" | "cgroupparent" | "logconfig" | "oomscoreadj"
        | "runtime" | "sysctls" | "volumedriver" => true,
        // What it has of them is among its mounts.
        "volumesfrom" => true,
        key => host_config::takes(key, value),
    }
}

/// Judges an exec by `GET /exec/{id}/json`, and gives the container that it is in.
///
/// Errors: what gives the host away to whoever talks to it.
pub(crate) fn exec(json: &Json) -> Result<Lean, String> {
    if !json.get("processconfig").get("privileged").is_empty() {
        return Err("it is privileged".to_owned());
    }
    let container = json.get("containerid").text();
    container.map(|id| Lean::Container(id.to_owned())).ok_or_else(|| "it is in none".to_owned())
}

/// Judges a network by `GET /networks/{id}`.
///
/// Errors: what gives the host away to whoever joins it.
pub(crate) fn network(json: &Json) -> Result<(), String> {
    let hosts = ["name", "driver"].into_iter().any(|key| json.get(key).text() == Some("host"));
    if hosts { Err("it is the host's".to_owned()) } else { Ok(()) }
}

/// Judges a volume by `GET /volumes/{name}`.
///
/// Errors: what gives the host away to whoever mounts it.
pub(crate) fn volume(json: &Json) -> Result<(), String> {
    if json.get("driver").text() != Some("local") {
        return Err("its driver is not the local one".to_owned());
    }
    let option = |key| json.get("options").get(key).text().unwrap_or_default();
    let binds = option("o").split(',').any(|o| o.trim().ends_with("bind"));
    let remote = REMOTE.contains(&option("type")) && !binds;
    match option("device") {
        "" => Ok(()),
        _ if remote => Ok(()),
        device => Err(format!("it is {device:?} of the host")),
    }
}

/// Whether a container, by its JSON, may write to a volume.
pub(crate) fn writes(json: &Json, volume: &str) -> bool {
    let mounts = json.get("mounts").elements().unwrap_or_default();
    mounts.iter().any(|mount| {
        mount.get("name").text() == Some(volume) && *mount.get("rw") != Json::Bool(false)
    })
}

/// The line with the id of what it names, so that the name cannot come to be another's meanwhile.
pub(crate) fn line_by_id(line: &Line, ids: &Ids) -> Line {
    let mut line = line.clone();
    if let [kind, name, _, ..] = line.parts.as_mut_slice() {
        let lean = match kind.as_str() {
            "containers" => Lean::Container(name.clone()),
            _ => Lean::Network(name.clone()),
        };
        if let Some(id) = ids.get(&lean) {
            name.clone_from(id);
        }
    }
    line
}

/// The body of a create or connect with the ids of the containers that it names; None if it names none.
pub(crate) fn body_by_id(body: &[u8], ids: &Ids) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let named = ids.keys().any(|lean| matches!(lean, Lean::Container(_)));
    put_ids(value.as_object_mut().filter(|_| named)?, ids);
    serde_json::to_vec(&value).ok()
}

fn put_ids(fields: &mut Map<String, Value>, ids: &Ids) {
    let id = |name: &str| ids.get(&Lean::Container(name.to_owned()));
    for (key, value) in fields {
        match (fold(key).as_str(), value) {
            ("hostconfig", Value::Object(fields)) => put_ids(fields, ids),
            ("networkmode" | "pidmode" | "ipcmode", Value::String(mode)) => {
                if let Some(id) = mode.strip_prefix(OF_CONTAINER).and_then(id) {
                    *mode = format!("{OF_CONTAINER}{id}");
                }
            }
            ("volumesfrom", Value::Array(all)) => {
                for from in all {
                    let Value::String(from) = from else { continue };
                    let end = from.find(':').unwrap_or(from.len());
                    if let Some(id) = id(&from[..end]) {
                        from.replace_range(..end, id);
                    }
                }
            }
            ("container", Value::String(name)) => {
                if let Some(id) = id(name) {
                    name.clone_from(id);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
