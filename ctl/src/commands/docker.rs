//! `docker` and `docker-socket`: a host's Docker API for the docker client and for everything else that
//! speaks to an engine.

use std::{io, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use dockctl_api::error::reason;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use super::{Ctx, host};
use crate::{
    args::{self, Listen},
    error::{Error, Exit, Result},
    output::clean,
    tunnel::{Clients, Tunnel},
};

/// What would lead docker's client to another engine than ours, or make it speak TLS to ours.
const OTHERS: [&str; 4] = ["DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"];

/// `dockctl docker AGENT -- WORDS`. It ends as an error with docker's own exit code.
pub(crate) async fn run(ctx: &Ctx, args: args::Docker) -> Result<()> {
    // Only its owner may enter.
    let dir = tempfile::Builder::new()
        .prefix("dockctl-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .tempdir()?;
    let tunnel = Tunnel::bind(&Listen::Unix(dir.path().join("docker.sock"))).await?;
    let mut command = Command::new("docker");
    command.args(args.words).env("DOCKER_HOST", &tunnel.url);
    for name in OTHERS {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::new(
            Exit::Failed,
            "there is no docker client on this machine",
        )
        .hint(
            "install one: apt-get install docker.io (Debian 12) or docker-cli (Debian 13), or see \
                 https://docs.docker.com/engine/install",
        ),
        _ => Error::new(Exit::Failed, format!("docker cannot be started: {error}")),
    })?;
    let status = tokio::select! {
        ended = ended(&mut child, ctx.term.input) => ended?,
        failed = tunnel.serve(&ctx.session, ctx.term, &args.agent, Clients::Here) => return failed,
    };
    Err(Error::program(code(status)))
}

/// The shell's number for an end.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Waits for docker's end and passes signals on. One from the keyboard of a terminal goes to docker by
/// itself.
async fn ended(child: &mut Child, terminal: bool) -> Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    loop {
        let came = tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupt.recv() => (!terminal).then_some(Signal::INT),
            _ = terminate.recv() => Some(Signal::TERM),
            _ = hangup.recv() => Some(Signal::HUP),
        };
        if let (Some(pid), Some(signal)) = (pid, came) {
            // It has not been waited for, so the number is still its own.
            let _ = kill_process(pid, signal);
        }
    }
}

/// `dockctl docker-socket AGENT --listen URL`.
pub(crate) async fn socket(ctx: &Ctx, args: args::DockerSocket) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let tunnel = Tunnel::bind(&args.listen).await?;
    let agent = clean(&args.agent);
    if matches!(args.listen, Listen::Tcp(_)) {
        ctx.term.notice(&format!(
            "warning: every user and program of this machine can now be root on {agent} through {}",
            tunnel.url
        ));
    }
    // One that is away may be back later; until then its clients are told as well.
    match host::ping(ctx, &args.agent).await {
        Err(error) if error.has_reason(reason::AGENT_NOT_FOUND) => return Err(error),
        Err(error) => {
            if let Some(failure) = error.told() {
                ctx.term.notice(&format!("warning: {failure}"));
            }
        }
        Ok(_) => {}
    }
    ctx.term.notice(&match args.ready {
        true => format!("ready {}", tunnel.url),
        false => {
            format!("{agent}'s Docker API is open until Ctrl-C: export DOCKER_HOST={}", tunnel.url)
        }
    });
    tokio::select! {
        failed = tunnel.serve(&ctx.session, ctx.term, &args.agent, Clients::Elsewhere) => failed,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
    }
}
