//! The fields with which a container is made or changed, and which of their values a confined host
//! takes. Default deny: a field that is not known here must say nothing.

use super::{existing::Lean, json::Json};

/// How a namespace of another container is named.
pub(super) const OF_CONTAINER: &str = "container:";

/// What a container gets unless told otherwise; more is root's.
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Security options that take nothing away from a container's confinement.
const SECURITY: [&str; 6] = [
    "no-new-privileges",
    "no-new-privileges:true",
    "no-new-privileges=true",
    "apparmor=docker-default",
    "seccomp=builtin",
    "writable-cgroups=false",
];

/// Log drivers that stay on the host and write where the engine's owner said.
const LOG_DRIVERS: [&str; 5] = ["", "json-file", "local", "journald", "none"];

/// Checks a HostConfig, or the Resources that an update has. The error names the field.
pub(super) fn check(pairs: &[(String, Json)]) -> Result<(), String> {
    pairs.iter().try_for_each(|(key, value)| match takes(key, value) {
        true => Ok(()),
        false => Err(format!("HostConfig field {key:?}")),
    })
}

/// What is there already and that a HostConfig which [`check`] takes leans on: the containers whose
/// namespaces and mounts it shares, and the volumes that it names.
pub(super) fn leans(pairs: &[(String, Json)]) -> Vec<Lean> {
    let (mut containers, mut volumes) = (Vec::new(), Vec::new());
    for (key, value) in pairs {
        match key.as_str() {
            "networkmode" | "pidmode" | "ipcmode" => {
                containers.extend(value.text().and_then(|mode| mode.strip_prefix(OF_CONTAINER)));
            }
            "volumesfrom" => {
                containers.extend(value.texts().unwrap_or_default().into_iter().map(before_colon));
            }
            "binds" => {
                volumes.extend(value.texts().unwrap_or_default().into_iter().map(before_colon));
            }
            "mounts" => {
                let mounts = value.elements().unwrap_or_default().iter();
                let fields = mounts.flat_map(|mount| mount.pairs().unwrap_or_default());
                let sources = fields.filter(|(key, _)| key == "source");
                // An image's name may be none of a volume.
                volumes
                    .extend(sources.filter_map(|(_, source)| source.text()).filter(|s| is_name(s)));
            }
            _ => {}
        }
    }
    let containers = containers.into_iter().map(|name| Lean::Container(name.to_owned()));
    containers.chain(volumes.into_iter().map(|name| Lean::Volume(name.to_owned()))).collect()
}

fn before_colon(text: &str) -> &str {
    text.split_once(':').map_or(text, |(before, _)| before)
}

pub(super) fn takes(key: &str, value: &Json) -> bool {
    match key {
        // An empty list would unmask all, which null does not.
        "maskedpaths" | "readonlypaths" => *value == Json::Null,
        _ if value.is_empty() => true,
        "binds" => all(value, is_volume_bind),
        "volumesfrom" => all(value, |from| is_name(before_colon(from))),
        "mounts" => value.elements().is_some_and(|mounts| mounts.iter().all(is_mount)),
        "capadd" => all(value, is_capability),
        "securityopt" => all(value, |option| SECURITY.contains(&option)),
        "networkmode" => value.text().is_some_and(|mode| is_network(mode) || is_of_container(mode)),
        "pidmode" => value.text().is_some_and(is_of_container),
        "ipcmode" => value.text().is_some_and(|mode| {
            matches!(mode, "none" | "private" | "shareable") || is_of_container(mode)
        }),
        "cgroupnsmode" => value.text() == Some("private"),
        "runtime" => value.text() == Some("runc"),
        "volumedriver" => value.text() == Some("local"),
        "sysctls" => value.pairs().is_some_and(|all| all.iter().all(|(key, _)| is_sysctl(key))),
        "oomscoreadj" => matches!(value, Json::Number(n) if *n >= 0.0),
        "logconfig" => is_log_config(value),
        "annotations" | "cgroup" | "cgroupparent" | "devicecgrouprules" | "devicerequests"
        | "devices" | "privileged" | "usernsmode" | "utsmode" => false,
        key => INERT.contains(&key),
    }
}

/// Fields that cannot reach out of a container, whatever they say.
const INERT: [&str; 47] = [
    "autoremove",
    "blkiodevicereadbps",
    "blkiodevicereadiops",
    "blkiodevicewritebps",
    "blkiodevicewriteiops",
    "blkioweight",
    "blkioweightdevice",
    "capdrop",
    "consolesize",
    "containeridfile",
    "cpucount",
    "cpupercent",
    "cpuperiod",
    "cpuquota",
    "cpurealtimeperiod",
    "cpurealtimeruntime",
    "cpusetcpus",
    "cpusetmems",
    "cpushares",
    "dns",
    "dnsoptions",
    "dnssearch",
    "extrahosts",
    "groupadd",
    "init",
    "iomaximumbandwidth",
    "iomaximumiops",
    "isolation",
    "kernelmemory",
    "kernelmemorytcp",
    "links",
    "memory",
    "memoryreservation",
    "memoryswap",
    "memoryswappiness",
    "nanocpus",
    "oomkilldisable",
    "pidslimit",
    "portbindings",
    "publishallports",
    "readonlyrootfs",
    "restartpolicy",
    "shmsize",
    "storageopt",
    "tmpfs",
    "ulimits",
    "cpuset",
];

fn all(value: &Json, good: impl Fn(&str) -> bool) -> bool {
    value.texts().is_some_and(|texts| texts.into_iter().all(good))
}

/// A name as the engine's objects have it: no path, nothing hidden.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// `volume:/path[:options]`; a path of the host would begin with what no name begins with.
fn is_volume_bind(bind: &str) -> bool {
    // One letter would be a drive.
    bind.split_once(':').is_some_and(|(source, _)| source.len() > 1 && is_name(source))
}

fn is_mount(mount: &Json) -> bool {
    let Json::Object(pairs) = mount else { return false };
    let mut kinds = pairs.iter().filter(|(key, _)| key == "type").map(|(_, kind)| kind.text());
    let (kind, None) = (kinds.next().flatten(), kinds.next()) else { return false };
    matches!(kind, Some("volume" | "tmpfs" | "image"))
        && pairs.iter().all(|(key, value)| match key.as_str() {
            // An image's name has slashes; a path of the host begins with one.
            "source" => {
                value.is_empty()
                    || value.text().is_some_and(|source| match kind {
                        Some("image") => !source.starts_with(['/', '.']),
                        _ => is_name(source),
                    })
            }
            "bindoptions" => value.is_empty(),
            "volumeoptions" => value.pairs().is_some_and(|all| {
                all.iter().all(|(key, value)| key != "driverconfig" || is_local_driver(value))
            }),
            "type" | "target" | "readonly" | "consistency" | "tmpfsoptions" | "imageoptions" => {
                true
            }
            _ => value.is_empty(),
        })
}

/// The plain local driver, without options: those can name a directory or device of the host.
fn is_local_driver(value: &Json) -> bool {
    value.pairs().is_some_and(|all| {
        all.iter().all(|(key, value)| {
            value.is_empty() || (key == "name" && value.text() == Some("local"))
        })
    })
}

/// Also for what the engine calls a volume itself.
pub(super) fn is_volume(pairs: &[(String, Json)]) -> Result<(), String> {
    pairs.iter().try_for_each(|(key, value)| {
        let good = match key.as_str() {
            _ if value.is_empty() => true,
            "driver" => value.text() == Some("local"),
            "name" | "labels" => true,
            _ => false,
        };
        if good { Ok(()) } else { Err(format!("a volume's {key:?}")) }
    })
}

fn is_capability(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    CAPABILITIES.contains(&name.strip_prefix("CAP_").unwrap_or(&name))
}

/// A network by its name, or none. The host's own network has an id too, any beginning of which may stand
/// for it, and which cannot be told from others': so nothing that could be one.
pub(super) fn is_network(name: &str) -> bool {
    let is_id = name.bytes().all(|b| b.is_ascii_hexdigit());
    name.is_empty() || (is_name(name) && !is_id && !name.eq_ignore_ascii_case("host"))
}

fn is_of_container(mode: &str) -> bool {
    mode.strip_prefix(OF_CONTAINER).is_some_and(is_name)
}

fn is_sysctl(key: &str) -> bool {
    key.starts_with("net.") && !key.contains("..") && !key.contains('/')
}

fn is_log_config(value: &Json) -> bool {
    value.pairs().is_some_and(|all| {
        all.iter().all(|(key, value)| match key.as_str() {
            "type" => value.text().is_some_and(|kind| LOG_DRIVERS.contains(&kind)),
            "config" => true,
            _ => value.is_empty(),
        })
    })
}
