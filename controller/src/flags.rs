//! The flags of `serve`, and what the controller makes of them.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use dockctl_agent::guard::Guard;
use dockctl_controller::{
    edge::limits::Limits,
    run::{Options, UsersTls},
};
use ipnet::IpNet;

mod acme;
mod oidc;

use acme::AcmeFlags;
use oidc::OidcFlags;

/// Flags of `serve`.
#[derive(Args)]
pub(crate) struct Serve {
    /// Where CA, keys and store are kept.
    #[arg(long, env = "DOCKCTL_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The users' port: gRPC over TLS.
    #[arg(long, env = "DOCKCTL_LISTEN", default_value = "127.0.0.1:7443")]
    pub(crate) listen: SocketAddr,
    /// The agents' port: mutual TLS.
    #[arg(long, env = "DOCKCTL_AGENT_LISTEN", default_value = "127.0.0.1:7444")]
    pub(crate) agent_listen: SocketAddr,
    /// Metrics and health, plain HTTP; keep it on loopback.
    #[arg(long, env = "DOCKCTL_METRICS_LISTEN", default_value = "127.0.0.1:7445")]
    pub(crate) metrics_listen: SocketAddr,
    /// A further name or address for the controller's certificate; may be given several times.
    #[arg(long = "tls-name", env = "DOCKCTL_TLS_NAME", value_delimiter = ',', value_name = "NAME")]
    pub(crate) tls_names: Vec<String>,
    /// Time between two heartbeats, seconds; a dead link is noticed within 2.8 of it.
    #[arg(long, env = "DOCKCTL_HEARTBEAT", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) heartbeat: u64,
    /// How long agents' certificates are good for, minutes.
    #[arg(long, env = "DOCKCTL_CERTIFICATE_MINUTES", default_value_t = 24 * 60, value_parser = clap::value_parser!(u64).range(1..=525_600))]
    pub(crate) certificate_minutes: u64,
    /// Let strangers make users, who may do nothing to hosts until an admin grants it.
    #[arg(long, env = "DOCKCTL_ALLOW_SIGNUP")]
    pub(crate) allow_signup: bool,
    #[command(flatten)]
    oidc: OidcFlags,
    /// Logins a minute of each address and for each account, at most: some at once, then one at a time; 0 is no limit,
    /// here and below.
    #[arg(long, env = "DOCKCTL_LIMIT_AUTH", default_value_t = Limits::default().auth, value_name = "N")]
    pub(crate) limit_auth: u32,
    /// Changes a minute of each user or API token; of each address ten times that.
    #[arg(long, env = "DOCKCTL_LIMIT_ACTION", default_value_t = Limits::default().action, value_name = "N")]
    pub(crate) limit_action: u32,
    /// Reads a minute of each user or API token; of each address ten times that.
    #[arg(long, env = "DOCKCTL_LIMIT_READ", default_value_t = Limits::default().read, value_name = "N")]
    pub(crate) limit_read: u32,
    /// Streams at once of each user or API token.
    #[arg(long, env = "DOCKCTL_LIMIT_STREAMS", default_value_t = Limits::default().streams, value_name = "N")]
    pub(crate) limit_streams: usize,
    /// A proxy whose X-Forwarded-For is believed, an address or a network; may be given several times.
    #[arg(long = "trusted-proxy", env = "DOCKCTL_TRUSTED_PROXY", value_delimiter = ',', value_name = "NETWORK", value_parser = network)]
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// A certificate of an authority that browsers know, PEM, with its chain; dockctl goes on with the fleet's own.
    #[arg(long, env = "DOCKCTL_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its key, PEM. Both files are read again when they change.
    #[arg(long, env = "DOCKCTL_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    #[command(flatten)]
    acme: AcmeFlags,
    /// Serve users without TLS, on loopback only, for a proxy in front; agents keep theirs.
    #[arg(long, env = "DOCKCTL_PLAIN_HTTP", conflicts_with_all = ["tls_cert", "tls_key"])]
    pub(crate) plain_http: bool,
    /// An origin whose pages may ask, such as https://ops.example; may be given several times. Our own may.
    #[arg(
        long = "allow-origin",
        env = "DOCKCTL_ALLOW_ORIGIN",
        value_delimiter = ',',
        value_name = "ORIGIN", value_parser = origin)]
    pub(crate) allow_origins: Vec<String>,
    /// Run an agent for the local Docker engine inside this process.
    #[arg(long, env = "DOCKCTL_WITH_AGENT")]
    pub(crate) with_agent: bool,
    /// With --with-agent: the agent's name; the host's name unless given.
    #[arg(long, env = "DOCKCTL_NAME")]
    pub(crate) name: Option<String>,
    /// With --with-agent: the Docker engine.
    #[arg(long, env = "DOCKCTL_DOCKER", value_name = "URL")]
    pub(crate) docker: Option<String>,
    #[command(flatten)]
    pub(crate) guard: Guard,
    /// Print one line of JSON on stdout once ready.
    #[arg(long, env = "DOCKCTL_READY_JSON")]
    pub(crate) ready_json: bool,
    /// Log lines as JSON.
    #[arg(long, env = "DOCKCTL_LOG_JSON")]
    pub(crate) log_json: bool,
    /// A TOML file with the same flags.
    #[arg(long, env = "DOCKCTL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// An address or a network.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse().map(|address: std::net::IpAddr| address.into());
    address
        .or_else(|_| text.parse())
        .map_err(|_| "this is no address and no network such as 10.0.0.0/8".to_owned())
}

/// An origin as browsers spell it.
fn origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = host.map(|host| host.trim_end_matches('/'));
    match host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' '])) {
        true => Ok(text.to_owned()),
        false => Err("an origin is https://HOST or https://HOST:PORT".to_owned()),
    }
}

impl Serve {
    /// What the library takes. Errors: files that cannot be read.
    pub(crate) fn options(&self) -> anyhow::Result<Options> {
        Ok(Options {
            data_dir: self.data_dir.clone(),
            listen: self.listen,
            agent_listen: self.agent_listen,
            metrics_listen: self.metrics_listen,
            names: self.tls_names.clone(),
            heartbeat: Duration::from_secs(self.heartbeat),
            certificate_lifetime: Duration::from_secs(self.certificate_minutes * 60),
            admin_password: std::env::var("DOCKCTL_ADMIN_PASSWORD").ok(),
            allow_signup: self.allow_signup,
            oidc: self.oidc.settings()?,
            limits: Limits {
                auth: self.limit_auth,
                action: self.limit_action,
                read: self.limit_read,
                streams: self.limit_streams,
                trusted_proxies: self.trusted_proxies.clone(),
            },
            allow_origins: self.allow_origins.clone(),
            users_tls: match (&self.tls_cert, &self.tls_key) {
                (Some(chain), Some(key)) => UsersTls::Files(chain.clone(), key.clone()),
                _ if self.plain_http => UsersTls::Plain,
                _ => self.acme.settings().map_or(UsersTls::Own, UsersTls::Acme),
            },
        })
    }
}
