//! `--network` and the flags that belong to it, as docker's client reads them. Pure.

use serde_json::{Map, Value};

use super::values::{Parsed, csv};
use crate::args::run::Flags;

/// The network mode of a container, and how it is attached.
pub(crate) struct Networks {
    /// The engine's HostConfig.NetworkMode.
    pub(crate) mode: String,
    /// The engine's NetworkingConfig.EndpointsConfig.
    pub(crate) endpoints: Map<String, Value>,
}

#[derive(Default)]
struct Attachment {
    network: String,
    aliases: Vec<String>,
    links: Vec<String>,
    driver_options: Map<String, Value>,
    ip: Option<String>,
    ip6: Option<String>,
    link_local: Vec<String>,
    mac: Option<String>,
}

/// Reads the flags; the address, aliases and links of their own belong to the first network.
pub(crate) fn networks(flags: &Flags) -> Parsed<Networks> {
    let mut all = flags.network.iter().map(|n| attachment(n)).collect::<Parsed<Vec<_>>>()?;
    if all.is_empty() {
        all.push(Attachment { network: "default".to_owned(), ..Attachment::default() });
    }
    let mode = all[0].network.clone();
    let first = &mut all[0];
    first.aliases.extend(flags.network_alias.iter().cloned());
    first.ip = first.ip.take().or_else(|| flags.ip.clone());
    first.ip6 = first.ip6.take().or_else(|| flags.ip6.clone());
    first.link_local.extend(flags.link_local_ip.iter().cloned());
    first.mac = first.mac.take().or_else(|| flags.mac_address.clone());
    if is_user_defined(&mode) {
        first.links.extend(flags.link.iter().cloned());
    }
    let mut endpoints = Map::new();
    for attachment in all {
        if attachment.network.is_empty() {
            return Err("no name set for network".to_owned());
        }
        if !attachment.aliases.is_empty() && !is_user_defined(&attachment.network) {
            return Err(
                "network-scoped aliases are only supported for user-defined networks".to_owned()
            );
        }
        if let Some(mac) = &attachment.mac {
            check_mac(mac)?;
        }
        let (name, settings) = attachment.settings();
        if !settings.is_empty() || is_user_defined(&name) {
            endpoints.insert(name, settings.into());
        }
    }
    Ok(Networks { mode, endpoints })
}

fn is_user_defined(network: &str) -> bool {
    !matches!(network, "default" | "bridge" | "host" | "none") && !network.starts_with("container:")
}

/// A network by its name, or by keys: name=…,alias=…
fn attachment(text: &str) -> Parsed<Attachment> {
    let mut attachment = Attachment::default();
    if !text.contains('=') {
        text.clone_into(&mut attachment.network);
        return Ok(attachment);
    }
    let wrong = |why: String| format!("invalid argument \"{text}\" for \"--network\" flag: {why}");
    for field in csv(text).map_err(wrong)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(wrong(format!("invalid field {field}")));
        };
        let value = value.trim().to_owned();
        match key.trim().to_lowercase().as_str() {
            "name" => attachment.network = value,
            "alias" => attachment.aliases.push(value),
            "ip" => attachment.ip = Some(value),
            "ip6" => attachment.ip6 = Some(value),
            "link-local-ip" => attachment.link_local.push(value),
            "mac-address" => attachment.mac = Some(value),
            "driver-opt" => {
                let (key, value) = value.split_once('=').unwrap_or((&value, ""));
                attachment.driver_options.insert(key.to_owned(), value.into());
            }
            key => return Err(wrong(format!("invalid field key {key}"))),
        }
    }
    match attachment.network.is_empty() {
        true => Err(wrong("network name/id is not specified".to_owned())),
        false => Ok(attachment),
    }
}

impl Attachment {
    /// The network's name and the engine's EndpointSettings, with nothing in them that was not said.
    fn settings(self) -> (String, Map<String, Value>) {
        let mut ipam = Map::new();
        let text = |text: Option<String>| text.map_or(Value::Null, Value::from);
        set(&mut ipam, "IPv4Address", text(self.ip));
        set(&mut ipam, "IPv6Address", text(self.ip6));
        set(&mut ipam, "LinkLocalIPs", self.link_local.into());
        let mut settings = Map::new();
        set(&mut settings, "IPAMConfig", ipam.into());
        set(&mut settings, "Links", self.links.into());
        set(&mut settings, "Aliases", self.aliases.into());
        set(&mut settings, "MacAddress", text(self.mac));
        set(&mut settings, "DriverOpts", self.driver_options.into());
        (self.network, settings)
    }
}

/// Sets what was said.
fn set(map: &mut Map<String, Value>, key: &str, value: Value) {
    let empty = match &value {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    };
    if !empty {
        map.insert(key.to_owned(), value);
    }
}

fn check_mac(mac: &str) -> Parsed<()> {
    let parts: Vec<&str> = mac.split([':', '-']).collect();
    let good = parts.len() == 6
        && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
    if good { Ok(()) } else { Err(format!("{mac} is not a valid mac address")) }
}
