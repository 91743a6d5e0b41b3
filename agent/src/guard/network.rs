//! What makes a network, and what joins one. Allowed are bridges of the engine's own with private
//! addresses: other drivers and options reach the host's interfaces, and a network takes its addresses'
//! traffic from the host itself, so that a container could answer as the cloud's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{host_config::is_name, json::Json};

/// Drivers that touch nothing of the host but a bridge of their own.
const DRIVERS: [&str; 3] = ["bridge", "null", "none"];

/// Options of those that say nothing about the host. Not the bridge's name: it may be there already, with
/// the host's own interface in it.
const OPTIONS: [&str; 6] = [
    "com.docker.network.bridge.enable_icc",
    "com.docker.network.bridge.enable_ip_masquerade",
    "com.docker.network.bridge.host_binding_ipv4",
    "com.docker.network.container_iface_prefix",
    "com.docker.network.driver.mtu",
    "com.docker.network.enable_ipv6",
];

/// Blocks of private addresses, by address and prefix.
const PRIVATE_V4: [(Ipv4Addr, u32); 3] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];
const PRIVATE_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7);

/// Checks the body of `POST /networks/create`. The error names the field.
pub(super) fn check(pairs: &[(String, Json)]) -> Result<(), String> {
    let bad = pairs.iter().find(|(key, value)| !match key.as_str() {
        _ if value.is_empty() => true,
        "name" => value.text().is_some_and(|name| !name.eq_ignore_ascii_case("host")),
        "driver" => value.text().is_some_and(|driver| DRIVERS.contains(&driver)),
        "scope" => value.text() == Some("local"),
        "options" => value.pairs().is_some_and(|all| all.iter().all(|(key, _)| is_option(key))),
        "ipam" => value.pairs().is_some_and(|all| all.iter().all(is_ipam)),
        "attachable" | "checkduplicate" | "enableipv4" | "enableipv6" | "internal" | "labels" => {
            true
        }
        _ => false,
    });
    match bad {
        Some((key, value)) => {
            let value = value.text().map(|text| format!(" {text:?}")).unwrap_or_default();
            Err(format!("a network's {key:?}{value}"))
        }
        None => Ok(()),
    }
}

fn is_option(key: &str) -> bool {
    OPTIONS.contains(&key)
}

fn is_ipam((key, value): &(String, Json)) -> bool {
    match key.as_str() {
        _ if value.is_empty() => true,
        "driver" => value.text() == Some("default"),
        "config" => value.elements().is_some_and(|all| all.iter().all(is_subnet)),
        _ => false,
    }
}

fn is_subnet(config: &Json) -> bool {
    config.pairs().is_some_and(|all| {
        all.iter().all(|(key, value)| match key.as_str() {
            _ if value.is_empty() => true,
            "subnet" | "iprange" | "gateway" => value.text().is_some_and(is_private),
            "auxiliaryaddresses" | "auxaddress" => value.pairs().is_some_and(|all| {
                all.iter().all(|(_, value)| value.text().is_some_and(is_private))
            }),
            _ => false,
        })
    })
}

/// Whether all of a block, or the one address, is private.
fn is_private(block: &str) -> bool {
    let (address, prefix) = match block.split_once('/') {
        Some((address, prefix)) => (address, prefix.parse().ok()),
        None => (block, Some(128)),
    };
    let (Ok(address), Some(prefix)) = (address.parse::<IpAddr>(), prefix) else { return false };
    match address {
        IpAddr::V4(v4) => PRIVATE_V4.iter().any(|(net, length)| {
            prefix >= *length && (v4.to_bits() ^ net.to_bits()) >> (32 - length) == 0
        }),
        IpAddr::V6(v6) => {
            let (net, length) = PRIVATE_V6;
            prefix >= length && (v6.to_bits() ^ net.to_bits()) >> (128 - length) == 0
        }
    }
}

/// The container that the body of `POST /networks/{id}/connect` joins to a network.
pub(super) fn joins(pairs: &[(String, Json)]) -> Result<String, String> {
    let mut container = None;
    for (key, value) in pairs {
        match key.as_str() {
            "container" if container.is_none() => {
                container = value.text().filter(|name| is_name(name)).map(str::to_owned);
            }
            "endpointconfig" => {}
            _ if value.is_empty() => {}
            key => return Err(format!("the field {key:?}")),
        }
    }
    container.ok_or_else(|| "it names no container".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(body: &str) -> Result<(), String> {
        check(Json::parse(body.as_bytes()).unwrap().pairs().unwrap())
    }

    #[test]
    fn networks_that_reach_the_host_are_not_made() {
        for field in [
            r#""Driver":"host""#,
            r#""Driver":"macvlan","Options":{"parent":"eth0"}"#,
            r#""Driver":"ipvlan""#,
            r#""Driver":"overlay""#,
            r#""Driver":"Bridge""#,
            r#""Driver":"evil/plugin:latest""#,
            r#""driver":"bridge","DRIVER":"macvlan""#,
            r#""Driver":["macvlan"]"#,
            r#""Options":{"parent":"eth0"}"#,
            r#""Options":{"com.docker.network.bridge.name":"br0"}"#,
            r#""Options":{"com.docker.network.bridge.gateway_mode_ipv4":"nat-unprotected"}"#,
            r#""Options":["parent"]"#,
            r#""Scope":"swarm""#,
            r#""Ingress":true"#,
            r#""ConfigOnly":true"#,
            r#""ConfigFrom":{"Network":"other"}"#,
            r#""Unheard":1"#,
            r#""IPAM":{"Driver":"evil"}"#,
            r#""IPAM":{"Options":{"a":"b"}}"#,
            r#""IPAM":{"Config":[{"Subnet":"169.254.169.0/24"}]}"#,
            r#""IPAM":{"Config":[{"Subnet":"10.9.0.0/16"},{"Subnet":"8.8.8.0/24"}]}"#,
            r#""IPAM":{"Config":[{"Subnet":"10.0.0.0/7"}]}"#,
            r#""IPAM":{"Config":[{"Subnet":"172.32.0.0/16"}]}"#,
            r#""IPAM":{"Config":[{"Subnet":"0.0.0.0/0"}]}"#,
            r#""IPAM":{"Config":[{"Subnet":"2001:db8::/64"}]}"#,
            r#""IPAM":{"Config":[{"Subnet":"::ffff:8.8.8.0/120"}]}"#,
            r#""IPAM":{"Config":[{"Subnet":"fe80::/64"}]}"#,
            r#""IPAM":{"Config":[{"Subnet":"10.9.0.0/16","Gateway":"169.254.169.254"}]}"#,
            r#""IPAM":{"Config":[{"AuxiliaryAddresses":{"a":"169.254.169.254"}}]}"#,
            r#""IPAM":{"Config":[{"Subnet":"x"}]}"#,
            r#""IPAM":{"Config":[{"Unheard":"x"}]}"#,
        ] {
            assert!(judged(&format!(r#"{{"Name":"n",{field}}}"#)).is_err(), "{field}");
        }
        assert!(judged(r#"{"Name":"host"}"#).is_err());
    }

    #[test]
    fn bridges_with_private_addresses_are() {
        for body in [
            r#"{"Name":"n"}"#,
            // As docker's client sends it, and as docker compose does.
            r#"{"Name":"n","CheckDuplicate":true,"Driver":"bridge","Scope":"","EnableIPv6":false,
                "IPAM":{"Driver":"default","Options":{},"Config":[]},"Internal":false,
                "Attachable":false,"Ingress":false,"ConfigOnly":false,"ConfigFrom":null,
                "Options":{},"Labels":{"a":"b"}}"#,
            r#"{"Name":"n","Driver":"bridge","Internal":true,"EnableIPv6":true,
                "IPAM":{"Config":[{"Subnet":"172.28.0.0/16","IPRange":"172.28.5.0/24",
                "Gateway":"172.28.5.254","AuxiliaryAddresses":{"x":"172.28.1.5"}},
                {"Subnet":"fd00:1::/64"},{"Subnet":"192.168.0.0/16"}]},
                "Options":{"com.docker.network.driver.mtu":"1400",
                "com.docker.network.bridge.enable_icc":"false"}}"#,
        ] {
            assert_eq!(judged(body), Ok(()), "{body}");
        }
    }

    #[test]
    fn what_joins_a_network_is_one_container() {
        let joins = |body: &str| joins(Json::parse(body.as_bytes()).unwrap().pairs().unwrap());
        let good = r#"{"Container":"web","EndpointConfig":{"Aliases":["a"]}}"#;
        assert_eq!(joins(good), Ok("web".to_owned()));
        for bad in [
            "{}",
            r#"{"Container":""}"#,
            r#"{"Container":"a/b"}"#,
            r#"{"Container":"a","container":"b"}"#,
            r#"{"Container":"a","Unheard":1}"#,
        ] {
            assert!(joins(bad).is_err(), "{bad}");
        }
    }
}
