//! `start`, `stop`, `restart` and `kill`, of containers that are named or of a selection.

use std::time::Duration;

use dockctl_api::v1::{
    KillContainerRequest, RestartContainerRequest, StartContainerRequest, StopContainerRequest,
    container_service_client::ContainerServiceClient,
};

pub(super) use super::many::{Verb, each, fail, named, one, selected};
use super::{Ctx, attach};
use crate::{
    args::{Kill, Stop, containers::Start},
    error::{Error, Exit, Result},
    resolve::Target,
    session::PATIENCE,
    watch::is_up,
};

/// How long a stop may take whose container sets its own time, which only the engine knows.
const STOP_PATIENCE: Duration = Duration::from_secs(600);

/// As long as the agent takes "for ever" to be.
const FOR_EVER: Duration = Duration::from_secs(86_400);

const START: Verb = Verb { is_for: |c| !is_up(c), ..Verb::new("start", "started") };
const STOP: Verb = Verb { is_for: is_up, ..Verb::new("stop", "stopped") };
const RESTART: Verb = Verb { is_for: is_up, ..Verb::new("restart", "restarted") };
const KILL: Verb = Verb { is_for: is_up, ..Verb::new("kill", "killed") };

/// `dockctl start REF...`.
pub(crate) async fn start(ctx: &Ctx, args: Start) -> Result<()> {
    if !args.is_attached() {
        return selected(ctx, &args.many, &START, async |target| start_one(ctx, &target).await)
            .await;
    }
    match args.many.containers.as_slice() {
        [one] if !args.many.selects() => attach::start(ctx, one, &args).await,
        // Nothing has run that could have had this code.
        _ => {
            Err(Error::new(Exit::Failed, "you cannot start and attach multiple containers at once")
                .with_code(1))
        }
    }
}

/// `dockctl stop REF...`.
pub(crate) async fn stop(ctx: &Ctx, args: Stop) -> Result<()> {
    let (grace, signal) = (args.grace(), args.signal.as_str());
    let stop = async |target| stop_one(ctx, target, grace, signal).await;
    selected(ctx, &args.many, &STOP, stop).await
}

/// `dockctl restart REF...`.
pub(crate) async fn restart(ctx: &Ctx, args: Stop) -> Result<()> {
    let (timeout, patience) = stop_time(ctx, args.grace());
    let signal = args.signal.as_str();
    selected(ctx, &args.many, &RESTART, |target| async move {
        let request = RestartContainerRequest {
            agent: target.agent,
            container: target.container,
            timeout,
            signal: signal.to_owned(),
        };
        let call = ctx.session.call(patience, |channel| {
            let request = request.clone();
            async move { ContainerServiceClient::new(channel).restart_container(request).await }
        });
        call.await.map(drop)
    })
    .await
}

/// `dockctl kill REF...`.
pub(crate) async fn kill(ctx: &Ctx, args: Kill) -> Result<()> {
    let signal = args.signal.as_str();
    selected(ctx, &args.many, &KILL, async |target| kill_one(ctx, &target, signal).await).await
}

/// Starts a container.
pub(super) async fn start_one(ctx: &Ctx, target: &Target) -> Result<()> {
    let request =
        StartContainerRequest { agent: target.agent.clone(), container: target.container.clone() };
    let call = ctx.session.call(ctx.session.patience(PATIENCE * 2), |channel| {
        let request = request.clone();
        async move { ContainerServiceClient::new(channel).start_container(request).await }
    });
    call.await.map(drop)
}

/// Stops a container within `grace` seconds: -1 for ever, None for its own time.
pub(super) async fn stop_one(
    ctx: &Ctx,
    target: Target,
    grace: Option<i32>,
    signal: &str,
) -> Result<()> {
    let (timeout, patience) = stop_time(ctx, grace);
    let request = StopContainerRequest {
        agent: target.agent,
        container: target.container,
        timeout,
        signal: signal.to_owned(),
    };
    let call = ctx.session.call(patience, |channel| {
        let request = request.clone();
        async move { ContainerServiceClient::new(channel).stop_container(request).await }
    });
    call.await.map(drop)
}

/// Sends a signal to a container; the engine's SIGKILL for an empty one.
pub(super) async fn kill_one(ctx: &Ctx, target: &Target, signal: &str) -> Result<()> {
    let request = KillContainerRequest {
        agent: target.agent.clone(),
        container: target.container.clone(),
        signal: signal.to_owned(),
    };
    let call = ctx.session.ask(|channel| {
        let request = request.clone();
        async move { ContainerServiceClient::new(channel).kill_container(request).await }
    });
    call.await.map(drop)
}

/// The time to send, and the patience that it calls for.
fn stop_time(ctx: &Ctx, seconds: Option<i32>) -> (Option<prost_types::Duration>, Option<Duration>) {
    let usual = match seconds {
        None => STOP_PATIENCE,
        Some(seconds) => u64::try_from(seconds).map_or(FOR_EVER, Duration::from_secs) + PATIENCE,
    };
    let time = seconds.map(|s| prost_types::Duration { seconds: s.into(), nanos: 0 });
    (time, ctx.session.patience(usual))
}
