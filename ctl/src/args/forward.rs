//! `port-forward`.

use std::{net::IpAddr, str::FromStr};

use crate::refs::Ref;

/// `port-forward`.
#[derive(Debug, clap::Args)]
pub(crate) struct PortForward {
    /// Listen on this address of this machine; can be repeated.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) address: Vec<IpAddr>,
    /// host/container, or container where the name is unique.
    #[arg(value_name = "REF")]
    pub(crate) container: Ref,
    /// The port here and the container's; one alone is both. LOCAL 0 lets the system choose.
    #[arg(required = true, value_name = "[LOCAL:]PORT")]
    pub(crate) pairs: Vec<Pair>,
}

/// A port here and the container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Here; 0 for one that is free.
    pub(crate) local: u16,
    /// In the container.
    pub(crate) remote: u16,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().ok();
        // As kubectl: nothing before the colon lets the system choose.
        match (if local.is_empty() { Some(0) } else { port(local) }, port(remote)) {
            (Some(local), Some(remote @ 1..)) => Ok(Self { local, remote }),
            _ => Err("write PORT or LOCAL:PORT, each 1 to 65535 (LOCAL may be 0)".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        let pair = |text: &str| text.parse::<Pair>().map(|p| (p.local, p.remote));
        assert_eq!(pair("5432"), Ok((5432, 5432)));
        assert_eq!(pair("15432:5432"), Ok((15432, 5432)));
        assert_eq!(pair("0:80"), Ok((0, 80)));
        assert_eq!(pair(":80"), Ok((0, 80)));
        for bad in ["", "0", "80:0", "80:", "a", "1:2:3", "70000", "-1", "80:70000"] {
            assert!(pair(bad).is_err(), "{bad}");
        }
    }
}
