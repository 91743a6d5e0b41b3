//! A TCP connection to a container's own port. The address comes from the engine and from nowhere else: no name
//! is ever resolved, and an address that is the host's own, or means more than one container, is refused
//! however it is written. Called by `serve::forward`.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use dockctl_api::error::{bad_field, reason, status};
use serde::Deserialize;
use tokio::net::TcpStream;
use tonic::{Code, Status};

use super::{Engine, fault::Call, looking, names};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How many containers may share one network by naming each other.
const MAX_SHARED: usize = 8;

/// What is read of a container's JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Facts {
    state: State,
    host_config: HostConfig,
    network_settings: NetworkSettings,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    network_mode: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    networks: Option<BTreeMap<String, Option<Network>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    #[serde(rename = "IPAddress", default)]
    ip_address: String,
    #[serde(rename = "GlobalIPv6Address", default)]
    global_ipv6_address: String,
    #[serde(default)]
    gateway: String,
    #[serde(rename = "IPv6Gateway", default)]
    ipv6_gateway: String,
}

impl Engine {
    /// Connects to a container's port. Errors: NO_ADDRESS where the container has none of its own that may be
    /// forwarded to, PORT_CLOSED where nothing takes the connection.
    pub async fn connect(&self, container: &str, port: u32) -> Result<TcpStream, Status> {
        names::container("container", container)?;
        let port = u16::try_from(port).ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| bad_field("port", "a port is 1 to 65,535"))?;
        let address = SocketAddr::new(self.address(container).await?, port);
        let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
        let failed = |why: &str| {
            let message =
                format!("port {port} of {container} ({address}) takes no connection: {why}");
            status(
                Code::FailedPrecondition,
                reason::PORT_CLOSED,
                message,
                &[("container", container)],
            )
        };
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(failed("nothing listens there"));
            }
            Ok(Err(e)) => return Err(failed(&e.to_string())),
            Err(_) => return Err(failed("no answer within 10 s")),
        };
        stream.set_nodelay(true).map_err(|e| failed(&e.to_string()))?;
        Ok(stream)
    }

    async fn address(&self, container: &str) -> Result<IpAddr, Status> {
        let refuse = |why: &str| {
            let metadata = [("container", container)];
            Err(status(Code::FailedPrecondition, reason::NO_ADDRESS, why, &metadata))
        };
        let mut name = container.to_owned();
        for _ in 0..MAX_SHARED {
            let call = Call { container: &name, ..looking(container) };
            let facts: Facts = self.look_at(call, &format!("/containers/{name}/json")).await?;
            match facts.host_config.network_mode.split_once(':') {
                Some(("container", other)) if names::container("container", other).is_ok() => {
                    name = other.to_owned();
                    continue;
                }
                _ => {}
            }
            return facts.address(&is_own).or_else(|why| refuse(&format!("{container} {why}")));
        }
        refuse(&format!("{container} shares a network through too many containers"))
    }
}

impl Facts {
    /// The address to connect to, or what is said of the container that has none.
    fn address(&self, is_own: &dyn Fn(IpAddr) -> bool) -> Result<IpAddr, String> {
        let mode = self.host_config.network_mode.as_str();
        if mode == "host" {
            return Err(
                "is on the host's own network, where it has no address of its own".to_owned()
            );
        }
        if mode == "none" {
            return Err("has no network".to_owned());
        }
        if !self.state.running {
            return Err("is not running, so it has no address".to_owned());
        }
        let networks = self.network_settings.networks.iter().flatten();
        let networks = networks.filter_map(|(name, network)| Some((name, network.as_ref()?)));
        let (mut refused, mut found) = (None, Vec::new());
        for (name, network) in networks {
            let gateways = [&network.gateway, &network.ipv6_gateway];
            for text in [&network.ip_address, &network.global_ipv6_address] {
                let Ok(address) = text.parse::<IpAddr>() else { continue };
                if gateways.contains(&text) {
                    refused = Some("a gateway's");
                } else if let Some(why) = forbidden(address, is_own) {
                    refused = Some(why);
                } else {
                    // The network that it was started with comes first, and IPv4.
                    found.push((name != mode, address.is_ipv6(), name, address));
                }
            }
        }
        let why = refused.map_or_else(
            || "has no address on any network that this host reaches".to_owned(),
            |why| format!("has an address that is not forwarded to, since it is {why}"),
        );
        found.into_iter().min().map(|(.., address)| address).ok_or(why)
    }
}

/// What an address is that no connection may go to.
fn forbidden(address: IpAddr, is_own: &dyn Fn(IpAddr) -> bool) -> Option<&'static str> {
    if let IpAddr::V6(v6) = address
        && let Some(inner) = embedded(v6)
    {
        return forbidden(inner.into(), is_own);
    }
    let (link_local, reserved) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast() || v4.octets()[0] == 0),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), false),
    };
    match address {
        _ if address.is_unspecified() || reserved => Some("no single host's"),
        _ if address.is_loopback() => Some("the host's loopback"),
        _ if address.is_multicast() => Some("a group's"),
        // Among them 169.254.169.254, where clouds give out a host's credentials.
        _ if link_local => Some("link-local"),
        IpAddr::V6(v6) if v6 == AWS_METADATA => Some("the cloud's metadata service"),
        _ if is_own(address) => Some("the host's own"),
        _ => None,
    }
}

/// AWS's metadata service on IPv6.
const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 or 6to4.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0] if g != 0 => Some(v4(g, h)),
        [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => {
            Some(v4(g, h))
        }
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Whether an address is one of this host's. The system sends from an address to itself from that very
/// address; nothing is sent to ask it.
fn is_own(address: IpAddr) -> bool {
    let from: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let chosen = UdpSocket::bind((from, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    // Where there is no way there, there is nothing to protect either: the connection says so itself.
    chosen.is_ok_and(|chosen| chosen.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        forbidden(text.parse().unwrap(), &|_| false).is_some()
    }

    #[test]
    fn every_form_of_a_forbidden_address_is_refused() {
        let v4 = [
            "127.0.0.1",
            "127.255.3.4",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
        ];
        for address in v4 {
            assert!(refused(address), "{address}");
            let [a, b, c, d] = address.parse::<Ipv4Addr>().unwrap().octets();
            let hex = format!("{a:02x}{b:02x}:{c:02x}{d:02x}");
            for form in [
                format!("::ffff:{address}"),
                format!("::ffff:{hex}"),
                format!("::ffff:0:{hex}"),
                format!("64:ff9b::{hex}"),
                format!("2002:{hex}::1"),
            ] {
                assert!(refused(&form), "{form}");
            }
        }
        for address in ["::", "::1", "fe80::1", "febf::1", "ff02::1", "::7f00:1", "fd00:ec2::254"] {
            assert!(refused(address), "{address}");
        }
        for address in
            ["172.17.0.2", "10.0.0.2", "192.168.1.9", "fd00::2", "2001:db8::2", "128.0.0.1"]
        {
            assert!(!refused(address), "{address}");
            assert!(forbidden(address.parse().unwrap(), &|_| true).is_some(), "{address} as own");
        }
        assert!(forbidden("::ffff:10.0.0.2".parse().unwrap(), &|a| a.is_ipv4()).is_some());
    }

    #[test]
    fn the_hosts_own_addresses_are_known() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(!is_own("203.0.113.77".parse().unwrap()));
        // The one that this host would send from, where it has a way out.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("203.0.113.77:9").is_ok() {
            assert!(is_own(socket.local_addr().unwrap().ip()));
        }
    }

    fn facts(mode: &str, running: bool, networks: serde_json::Value) -> Result<IpAddr, String> {
        let facts = serde_json::json!({
            "State": { "Running": running },
            "HostConfig": { "NetworkMode": mode },
            "NetworkSettings": { "Networks": networks },
        });
        serde_json::from_value::<Facts>(facts).unwrap().address(&|_| false)
    }

    #[test]
    fn the_address_is_the_containers_own_on_the_network_it_was_started_with() {
        let net = |v4: &str, v6: &str| serde_json::json!({ "IPAddress": v4, "GlobalIPv6Address": v6, "Gateway": "10.0.0.1" });
        let two = serde_json::json!({ "a": net("10.0.0.2", ""), "b": net("10.1.0.2", "fd00::2") });
        assert_eq!(facts("b", true, two.clone()).unwrap().to_string(), "10.1.0.2");
        assert_eq!(facts("default", true, two).unwrap().to_string(), "10.0.0.2");
        let six = serde_json::json!({ "a": net("", "fd00::2") });
        assert_eq!(facts("a", true, six).unwrap().to_string(), "fd00::2");
        let one = || serde_json::json!({ "a": net("10.0.0.2", "") });
        for (mode, running, networks, says) in [
            ("host", true, one(), "host's own network"),
            ("none", true, one(), "no network"),
            ("a", false, one(), "not running"),
            ("a", true, serde_json::json!(null), "no address"),
            ("a", true, serde_json::json!({ "a": null }), "no address"),
            ("a", true, serde_json::json!({ "a": net("", "") }), "no address"),
            ("a", true, serde_json::json!({ "a": net("metadata.internal", "") }), "no address"),
            ("a", true, serde_json::json!({ "a": net("10.0.0.1", "") }), "gateway"),
            ("a", true, serde_json::json!({ "a": net("169.254.169.254", "") }), "link-local"),
            ("a", true, serde_json::json!({ "a": net("", "::ffff:127.0.0.1") }), "loopback"),
        ] {
            let why = facts(mode, running, networks).unwrap_err();
            assert!(why.contains(says), "{mode}: {why}");
        }
    }
}
