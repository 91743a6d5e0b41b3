//! The agent's binary: flags, logs, signals.

use std::{collections::BTreeMap, net::SocketAddrV6, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use dockctl_agent::{
    engine::{Engine, EngineOptions},
    guard::Guard,
    join, run, settings,
    state::State,
};
use dockctl_link::agent::Status;

/// The agent beside a Docker engine: it dials the controller and keeps the link open.
#[derive(Parser)]
#[command(name = "dockctl-agent", version, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Enrol this host with a controller, then run.
    Join(JoinArgs),
    /// Run an enrolled agent: what systemd starts at boot.
    Run(RunArgs),
}

#[derive(Args)]
struct RunArgs {
    /// Where the agent keeps its identity; only this agent may use it.
    #[arg(long, env = "DOCKCTL_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// The Docker engine: unix:///path, tcp://host:port (a socket proxy), https://host:port.
    #[arg(long, env = "DOCKCTL_DOCKER", value_name = "URL")]
    docker: Option<String>,
    #[command(flatten)]
    guard: Guard,
    /// Print one line of JSON on stdout once connected.
    #[arg(long, env = "DOCKCTL_READY_JSON")]
    ready_json: bool,
    /// Log lines as JSON.
    #[arg(long, env = "DOCKCTL_LOG_JSON")]
    log_json: bool,
    /// A TOML file with the same flags.
    #[arg(long, env = "DOCKCTL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct JoinArgs {
    /// The controller's agent port.
    #[arg(value_name = "HOST:PORT", env = "DOCKCTL_CONTROLLER", value_parser = address)]
    controller: String,
    /// The join token, from `dockctl agents token create`.
    #[arg(long, env = "DOCKCTL_TOKEN", hide_env_values = true)]
    token: String,
    /// The agent's name; the host's name unless given.
    #[arg(long, env = "DOCKCTL_NAME")]
    name: Option<String>,
    /// A label, k=v; may be given several times.
    #[arg(long = "label", env = "DOCKCTL_LABEL", value_delimiter = ',', value_parser = label, value_name = "K=V")]
    labels: Vec<(String, String)>,
    /// Enrol and exit.
    #[arg(long, env = "DOCKCTL_ONLY_JOIN")]
    only_join: bool,
    #[command(flatten)]
    run: RunArgs,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is written key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Host and port, as they are dialled.
fn address(text: &str) -> Result<String, String> {
    let wrong = || Err("write HOST:PORT, for example controller.example:7444".to_owned());
    let Some((host, port)) = text.rsplit_once(':') else { return wrong() };
    let is_host = match host.starts_with('[') {
        true => text.parse::<SocketAddrV6>().is_ok(),
        false => !host.is_empty() && !host.contains([':', '/', '@', ']', ' ']),
    };
    match port.parse::<u16>() {
        Ok(1..) if is_host => Ok(text.to_owned()),
        _ => wrong(),
    }
}

fn main() -> ExitCode {
    let result = settings::parse(std::env::args_os().collect()).and_then(|cli| {
        // One thread: an agent waits for Docker and the network, and a call that need not wake another
        // thread is answered sooner.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
        runtime.block_on(work(cli))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => settings::fail("dockctl-agent", error),
    }
}

/// The engine's URL: the flag, `DOCKER_HOST`, or what the flag said last.
fn docker(options: &RunArgs) -> String {
    let kept = || std::fs::read_to_string(options.data_dir.join("docker")).ok();
    let named = || std::env::var("DOCKER_HOST").ok();
    options.docker.clone().or_else(named).or_else(kept).unwrap_or_default()
}

/// The engine's URL, refused before anything is done with it: an enrolment would use up the token.
fn good_docker(options: &RunArgs) -> anyhow::Result<String> {
    let url = docker(options);
    match Engine::new(EngineOptions { host: url.clone() }) {
        Ok(_) => Ok(url),
        Err(error) => Err(Cli::command()
            .error(ErrorKind::ValueValidation, format!("--docker: {error}"))
            .into()),
    }
}

/// Keeps what `--docker` says, so that an agent that joined with it needs no flag at boot.
fn keep_docker(options: &RunArgs) -> anyhow::Result<()> {
    let Some(url) = &options.docker else { return Ok(()) };
    let kept = options.data_dir.join("docker");
    if std::fs::read_to_string(&kept).is_ok_and(|same| same == *url) {
        return Ok(());
    }
    // A full disk must leave the old one, not an empty one.
    let staged = kept.with_extension("new");
    let write = std::fs::write(&staged, url).and_then(|()| std::fs::rename(&staged, &kept));
    write.with_context(|| format!("cannot write {}", kept.display()))
}

async fn work(cli: Cli) -> anyhow::Result<()> {
    let shutdown = settings::shutdown_on_signals()?;
    let (options, join) = match cli.command {
        Command::Run(run) => (run, None),
        Command::Join(JoinArgs { controller, token, name, labels, only_join, run }) => {
            (run, Some((controller, token, name, labels, only_join)))
        }
    };
    settings::start_logs(options.log_json);
    settings::count_tasks_on_signal()?;
    let docker = good_docker(&options)?;
    let dir = options.data_dir.clone();
    let state = tokio::task::spawn_blocking(move || State::open(&dir)).await??;
    let identity = match join {
        Some((controller, token, name, labels, only_join)) => {
            let labels: BTreeMap<_, _> = labels.into_iter().collect();
            for difference in join::differences(&state, name.as_deref(), &labels) {
                if only_join {
                    anyhow::bail!("{difference}"); // Nothing of what was asked would be done.
                }
                tracing::warn!("{difference}");
            }
            let name = match name {
                Some(name) => name,
                None => settings::host_name()?,
            };
            let join = join::Join { controller, token, name, labels };
            let identity = join::join(&state, join, &shutdown).await?;
            if only_join {
                return keep_docker(&options);
            }
            identity
        }
        None => match (state.identity(), state.pending_enrollment()) {
            (Some(identity), _) => identity,
            // A crash came between asking and storing the answer: ask again, as the same agent.
            (None, Some(pending)) => {
                let join = join::Join {
                    controller: pending.controller,
                    token: pending.token,
                    name: pending.name,
                    labels: pending.labels,
                };
                join::join(&state, join, &shutdown).await?
            }
            (None, None) => anyhow::bail!(
                "{} holds no identity; join first: dockctl-agent join HOST:PORT --token TOKEN --data-dir {0}",
                options.data_dir.display()
            ),
        },
    };
    if let Err(error) = keep_docker(&options) {
        tracing::warn!("{error:#}; the next start needs --docker again");
    }
    let ready = |mut status: tokio::sync::watch::Receiver<Status>| {
        if options.ready_json {
            tokio::spawn(async move {
                let connected = status.wait_for(|s| matches!(s, Status::Connected { .. })).await;
                if let Ok(Status::Connected { agent_id, name }) = connected.as_deref() {
                    println!("{}", serde_json::json!({ "agent": name, "id": agent_id }));
                }
            });
        }
    };
    run::run(state, identity, docker, options.guard.clone(), ready, shutdown).await
}
