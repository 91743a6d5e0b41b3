//! The controller's binary: flags, logs, signals, and the agent inside where it is asked for.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use dockctl_agent::{join, settings, state::State};
use dockctl_controller::run::{Controller, reset_admin};
use tokio_util::sync::CancellationToken;

mod flags;

use flags::Serve;

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
    Serve(Box<Serve>),
    /// Give the user admin a new password and his role again, and print it; the controller must be stopped.
    ResetAdmin {
        /// Where CA, keys and store are kept.
        #[arg(long, env = "DOCKCTL_DATA_DIR", value_name = "DIR")]
        data_dir: PathBuf,
    },
}

fn main() -> ExitCode {
    keep_freed_memory();
    let result = settings::parse::<Cli>(std::env::args_os().collect()).and_then(|cli| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads())
            .enable_all()
            .build();
        let runtime = runtime.context("cannot start")?;
        match cli.command {
            Command::Serve(serve) => runtime.block_on(work(*serve)),
            Command::ResetAdmin { data_dir } => {
                println!("{}", runtime.block_on(reset_admin(&data_dir))?);
                Ok(())
            }
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => settings::fail("dockctl-controller", error),
    }
}

/// What one piece of a large answer frees the next one needs. glibc gives a heap's free end back to the system
/// whenever that is 128 KiB, unless a larger block was once mapped alone and freed: from then on it keeps twice as
/// much (mallopt(3)), here 1 MiB for each thread. An eighth of the controller's time in a copy went into that.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(512 << 10)));
}

/// Half of the processors. A forwarded call passes through many small tasks; with a thread for each
/// processor the threads wake each other more than they help (measured: a quarter fewer calls a second).
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}

async fn work(serve: Serve) -> anyhow::Result<()> {
    settings::start_logs(serve.log_json);
    let shutdown = settings::shutdown_on_signals()?;
    let controller = Controller::open(serve.options()?).await?;
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
