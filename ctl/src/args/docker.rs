//! `docker` and `docker-socket`.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr};

/// `docker`.
#[derive(Debug, clap::Args)]
pub(crate) struct Docker {
    /// The agent.
    pub(crate) agent: String,
    /// What docker gets, for example compose up -d.
    #[arg(required = true, trailing_var_arg = true, value_name = "-- DOCKER-ARGS")]
    pub(crate) words: Vec<OsString>,
}

/// `docker-socket`.
#[derive(Debug, clap::Args)]
pub(crate) struct DockerSocket {
    /// The agent.
    pub(crate) agent: String,
    /// Where to listen: unix:///path, or tcp://127.0.0.1:PORT, which every user of this machine can use.
    #[arg(long, value_name = "URL")]
    pub(crate) listen: Listen,
    /// Print "ready URL" on stderr once it is open, for scripts.
    #[arg(long)]
    pub(crate) ready: bool,
}

/// Where to listen for Docker clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    /// A socket that only its owner may use.
    Unix(PathBuf),
    /// A port on loopback.
    Tcp(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err("a socket's path is absolute: unix:///path".to_owned()),
            };
        }
        let address = text.strip_prefix("tcp://").map(|a| a.replace("localhost:", "127.0.0.1:"));
        match address.and_then(|a| a.parse::<SocketAddr>().ok()) {
            Some(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            Some(_) => {
                Err("whoever reached that address would be root on the host: only loopback \
                            can be listened on"
                    .to_owned())
            }
            None => Err("write unix:///path or tcp://127.0.0.1:PORT".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_listen() {
        let tcp = |text: &str| Ok(Listen::Tcp(text.parse().unwrap()));
        assert_eq!("unix:///run/x.sock".parse(), Ok(Listen::Unix("/run/x.sock".into())));
        assert_eq!("tcp://127.0.0.1:2375".parse(), tcp("127.0.0.1:2375"));
        assert_eq!("tcp://localhost:0".parse(), tcp("127.0.0.1:0"));
        assert_eq!("tcp://[::1]:2375".parse(), tcp("[::1]:2375"));
        for bad in ["", "/run/x.sock", "unix://x.sock", "tcp://web-1:2375", "tcp://127.0.0.1"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
        for open in ["tcp://0.0.0.0:2375", "tcp://[::]:2375", "tcp://10.0.0.1:2375"] {
            let error = open.parse::<Listen>().unwrap_err();
            assert!(error.contains("root on the host"), "{open}: {error}");
        }
    }
}
