//! `-p` and `--expose`: ports, ranges of them, addresses and protocols, as docker's client reads them.
//! Pure.

use std::{collections::BTreeMap, net::IpAddr, ops::RangeInclusive};

use serde_json::{Map, Value, json};

use super::values::Parsed;

/// Which ports of a container are exposed, and where they are published.
#[derive(Default)]
pub(crate) struct Ports(BTreeMap<String, Vec<Value>>);

impl Ports {
    /// Adds what `-p` says: [[IP:]HOST:]CONTAINER[/PROTOCOL], or target=…,published=…,protocol=….
    pub(crate) fn publish(&mut self, text: &str) -> Parsed<()> {
        let text = standard(text)?;
        let (ip, host, container) = match text.split(':').collect::<Vec<_>>()[..] {
            [container] => (String::new(), "", container),
            [host, container] => (String::new(), host, container),
            [ref ip @ .., host, container] => (ip.join(":"), host, container),
            [] => (String::new(), "", ""),
        };
        let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(&ip);
        if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
            return Err(format!("invalid IP address: {bare}"));
        }
        let (container, protocol) = split_protocol(container);
        if container.is_empty() {
            return Err(format!("no port specified: {text}<empty>"));
        }
        let inside = range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
        let outside = match host {
            "" => None,
            host => Some(range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
        };
        let single = inside.len() == 1;
        if outside.as_ref().is_some_and(|o| !single && o.len() != inside.len()) {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {container} and {host}"
            ));
        }
        check_protocol(&protocol)?;
        for (n, port) in inside.enumerate() {
            let host = match &outside {
                None => String::new(),
                // The engine takes a free one of them.
                Some(range) if single && range.len() > 1 => {
                    format!("{}-{}", range.start(), range.end())
                }
                Some(range) => (usize::from(*range.start()) + n).to_string(),
            };
            let binding = json!({"HostIp": bare, "HostPort": host});
            self.0.entry(format!("{port}/{protocol}")).or_default().push(binding);
        }
        Ok(())
    }

    /// Adds what `--expose` says.
    pub(crate) fn expose(&mut self, text: &str) -> Parsed<()> {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let (port, protocol) = split_protocol(text);
        let ports = range(port)
            .map_err(|why| format!("invalid range format for --expose: {text}, error: {why}"))?;
        check_protocol(&protocol)?;
        for port in ports {
            self.0.entry(format!("{port}/{protocol}")).or_default();
        }
        Ok(())
    }

    /// The engine's ExposedPorts.
    pub(crate) fn exposed(&self) -> Map<String, Value> {
        self.0.keys().map(|port| (port.clone(), json!({}))).collect()
    }

    /// The engine's PortBindings.
    pub(crate) fn bindings(&self) -> Map<String, Value> {
        let published = self.0.iter().filter(|(_, bindings)| !bindings.is_empty());
        published.map(|(port, bindings)| (port.clone(), json!(bindings))).collect()
    }
}

/// A port by keys, in its short form.
fn standard(text: &str) -> Parsed<String> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("target", value)) => target = value,
            Some(("published", value)) => published = value,
            Some(("protocol", value)) => protocol = value,
            Some((key, _)) if !key.is_empty() => {}
            _ => {
                return Err(format!(
                    "invalid publish opts format (should be name=value but got '{field}')"
                ));
            }
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// A port and its protocol, tcp if none is given.
fn split_protocol(text: &str) -> (&str, String) {
    match text.split_once('/') {
        Some((port, "")) => (port, "tcp".to_owned()),
        Some((port, protocol)) => (port, protocol.to_lowercase()),
        None => (text, "tcp".to_owned()),
    }
}

fn check_protocol(protocol: &str) -> Parsed<()> {
    match protocol {
        "tcp" | "udp" | "sctp" => Ok(()),
        _ => Err(format!("invalid proto: {protocol}")),
    }
}

fn range(text: &str) -> Parsed<RangeInclusive<u16>> {
    let port = |text: &str| {
        text.parse::<u16>()
            .map_err(|_| format!("strconv.ParseUint: parsing \"{text}\": invalid syntax"))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if last < first {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok(first..=last)
}
