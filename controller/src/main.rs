//! The controller's binary: flags, logs, signals, and the agent inside where it is asked for.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use dockctl_agent::{guard::Guard, join, settings, state::State};
use dockctl_controller::{
    edge::limits::Limits,
    run::{Controller, Options, UsersTls},
};
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

/// The controller of a fleet of Docker hosts.
#[derive(Parser)]
#[command(name = "dockctl-controller", version, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve users and agents.
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Where CA, keys and store are kept.
    #[arg(long, env = "DOCKCTL_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// The users' port: gRPC over TLS.
    #[arg(long, env = "DOCKCTL_LISTEN", default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    /// The agents' port: mutual TLS.
    #[arg(long, env = "DOCKCTL_AGENT_LISTEN", default_value = "127.0.0.1:7444")]
    agent_listen: SocketAddr,
    /// Metrics and health, plain HTTP; keep it on loopback.
    #[arg(long, env = "DOCKCTL_METRICS_LISTEN", default_value = "127.0.0.1:7445")]
    metrics_listen: SocketAddr,
    /// A further name or address for the controller's certificate; may be given several times.
    #[arg(long = "tls-name", env = "DOCKCTL_TLS_NAME", value_delimiter = ',', value_name = "NAME")]
    tls_names: Vec<String>,
    /// Time between two heartbeats, seconds; a dead link is noticed within 2.8 of it.
    #[arg(long, env = "DOCKCTL_HEARTBEAT", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    heartbeat: u64,
    /// How long agents' certificates are good for, minutes.
    #[arg(long, env = "DOCKCTL_CERTIFICATE_MINUTES", default_value_t = 24 * 60, value_parser = clap::value_parser!(u64).range(1..=525_600))]
    certificate_minutes: u64,
    /// Let strangers make users, who may do nothing to hosts until an admin grants it.
    #[arg(long, env = "DOCKCTL_ALLOW_SIGNUP")]
    allow_signup: bool,
    /// Logins a minute of each address and for each account; 0 is no limit, here and below.
    #[arg(long, env = "DOCKCTL_LIMIT_AUTH", default_value_t = Limits::default().auth, value_name = "N")]
    limit_auth: u32,
    /// Changes a minute of each user or API token; of each address ten times that.
    #[arg(long, env = "DOCKCTL_LIMIT_ACTION", default_value_t = Limits::default().action, value_name = "N")]
    limit_action: u32,
    /// Reads a minute of each user or API token; of each address ten times that.
    #[arg(long, env = "DOCKCTL_LIMIT_READ", default_value_t = Limits::default().read, value_name = "N")]
    limit_read: u32,
    /// Streams at once of each user or API token.
    #[arg(long, env = "DOCKCTL_LIMIT_STREAMS", default_value_t = Limits::default().streams, value_name = "N")]
    limit_streams: usize,
    /// A proxy whose X-Forwarded-For is believed, an address or a network; may be given several times.
    #[arg(long = "trusted-proxy", env = "DOCKCTL_TRUSTED_PROXY", value_delimiter = ',', value_name = "NETWORK", value_parser = network)]
    trusted_proxies: Vec<IpNet>,
    /// A certificate of an authority that browsers know, PEM, with its chain; dockctl goes on with the fleet's own.
    #[arg(long, env = "DOCKCTL_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM. Both files are read again when they change.
    #[arg(long, env = "DOCKCTL_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve users without TLS, on loopback only, for a proxy in front; agents keep theirs.
    #[arg(long, env = "DOCKCTL_PLAIN_HTTP", conflicts_with_all = ["tls_cert", "tls_key"])]
    plain_http: bool,
    /// An origin whose pages may ask, such as https://ops.example; may be given several times. Our own may.
    #[arg(
        long = "allow-origin",
        env = "DOCKCTL_ALLOW_ORIGIN",
        value_delimiter = ',',
        value_name = "ORIGIN", value_parser = origin)]
    allow_origins: Vec<String>,
    /// Run an agent for the local Docker engine inside this process.
    #[arg(long, env = "DOCKCTL_WITH_AGENT")]
    with_agent: bool,
    /// With --with-agent: the agent's name; the host's name unless given.
    #[arg(long, env = "DOCKCTL_NAME")]
    name: Option<String>,
    /// With --with-agent: the Docker engine.
    #[arg(long, env = "DOCKCTL_DOCKER", value_name = "URL")]
    docker: Option<String>,
    #[command(flatten)]
    guard: Guard,
    /// Print one line of JSON on stdout once ready.
    #[arg(long, env = "DOCKCTL_READY_JSON")]
    ready_json: bool,
    /// Log lines as JSON.
    #[arg(long, env = "DOCKCTL_LOG_JSON")]
    log_json: bool,
    /// A TOML file with the same flags.
    #[arg(long, env = "DOCKCTL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
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

fn main() -> ExitCode {
    let result = settings::parse::<Cli>(std::env::args_os().collect()).and_then(|cli| {
        let Command::Serve(serve) = cli.command;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads())
            .enable_all()
            .build();
        runtime.context("cannot start")?.block_on(work(serve))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => settings::fail("dockctl-controller", error),
    }
}

/// Half of the processors. A forwarded call passes through many small tasks; with a thread for each
/// processor the threads wake each other more than they help (measured: a quarter fewer calls a second).
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}

async fn work(serve: Serve) -> anyhow::Result<()> {
    settings::start_logs(serve.log_json);
    let shutdown = settings::shutdown_on_signals()?;
    let controller = Controller::open(Options {
        data_dir: serve.data_dir.clone(),
        listen: serve.listen,
        agent_listen: serve.agent_listen,
        metrics_listen: serve.metrics_listen,
        names: serve.tls_names.clone(),
        heartbeat: Duration::from_secs(serve.heartbeat),
        certificate_lifetime: Duration::from_secs(serve.certificate_minutes * 60),
        admin_password: std::env::var("DOCKCTL_ADMIN_PASSWORD").ok(),
        allow_signup: serve.allow_signup,
        limits: Limits {
            auth: serve.limit_auth,
            action: serve.limit_action,
            read: serve.limit_read,
            streams: serve.limit_streams,
            trusted_proxies: serve.trusted_proxies.clone(),
        },
        allow_origins: serve.allow_origins.clone(),
        users_tls: match (&serve.tls_cert, &serve.tls_key) {
            (Some(chain), Some(key)) => UsersTls::Files(chain.clone(), key.clone()),
            _ if serve.plain_http => UsersTls::Plain,
            _ => UsersTls::Own,
        },
    })
    .await?;
    tracing::info!(api = %controller.api, agents = %controller.agents, metrics = %controller.metrics, "ready");
    match serve.log_json {
        true => tracing::info!(ca_fingerprint = controller.ca_fingerprint, "CA"),
        false => eprintln!("CA fingerprint (SHA-256): {}", controller.ca_fingerprint),
    }
    let agent = match serve.with_agent {
        true => Some(own_agent(&controller, &serve, shutdown.clone()).await?),
        false => None,
    };
    if serve.ready_json {
        let ready = serde_json::json!({
            "api": controller.api.to_string(),
            "agents": controller.agents.to_string(),
            "metrics": controller.metrics.to_string(),
            "ca_fingerprint": controller.ca_fingerprint,
        });
        println!("{ready}");
    }
    controller.run(shutdown.clone()).await?;
    match agent {
        Some(agent) => agent.await?,
        None => Ok(()),
    }
}

/// Starts the agent inside: enrolled with a token of its own, linked over the same port as all others.
async fn own_agent(
    controller: &Controller,
    serve: &Serve,
    shutdown: CancellationToken,
) -> anyhow::Result<tokio::task::JoinHandle<anyhow::Result<()>>> {
    let dir = serve.data_dir.join("agent");
    let state = tokio::task::spawn_blocking(move || State::open(&dir)).await??;
    let mut address = controller.agents;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let join = join::Join {
        controller: address.to_string(),
        // An enrolment that a crash cut short goes on with its own token.
        token: match state.pending_enrollment() {
            Some(pending) => pending.token,
            None => controller.own_join_token().await?,
        },
        name: match &serve.name {
            Some(name) => name.clone(),
            None => settings::host_name()?,
        },
        labels: Default::default(),
    };
    let docker = serve.docker.clone().or_else(|| std::env::var("DOCKER_HOST").ok());
    let guard = serve.guard.clone();
    let work = async move {
        let mut identity = match state.identity() {
            Some(identity) => identity,
            None => join::join(&state, join.clone(), &shutdown).await?,
        };
        identity.controller = join.controller; // The port may be another one at each start.
        let docker = docker.unwrap_or_default();
        dockctl_agent::run::run(state, identity, docker, guard, |_| {}, shutdown).await
    };
    Ok(tokio::spawn(async move {
        let ended = work.await;
        if let Err(error) = &ended {
            tracing::error!("the agent inside has ended: {error:#}");
        }
        ended
    }))
}
