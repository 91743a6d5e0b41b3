//! `start`, `stop`, `restart` and `kill`, of containers that are named or of a selection.

use std::time::Duration;

use dockctl_api::v1::{
    KillContainerRequest, RestartContainerRequest, StartContainerRequest, StopContainerRequest,
    container_service_client::ContainerServiceClient,
};

use super::Ctx;
pub(super) use super::many::{Verb, each, fail, named, one, selected};
use crate::{
    args::{Kill, Many, Stop},
    error::Result,
    session::PATIENCE,
    watch::is_up,
};

/// How long a stop may take whose container sets its own time, which only the engine knows.
const STOP_PATIENCE: Duration = Duration::from_secs(600);

const START: Verb = Verb { name: "start", past: "started", is_for: |c| !is_up(c) };
const STOP: Verb = Verb { name: "stop", past: "stopped", is_for: is_up };
const RESTART: Verb = Verb { name: "restart", past: "restarted", is_for: is_up };
const KILL: Verb = Verb { name: "kill", past: "killed", is_for: is_up };

/// `dockctl start REF...`.
pub(crate) async fn start(ctx: &Ctx, many: Many) -> Result<()> {
    selected(ctx, &many, &START, |target| async move {
        let request = StartContainerRequest {
            agent: target.agent.clone(),
            container: target.container.clone(),
        };
        let patience = ctx.session.patience(PATIENCE * 2);
        let call = ctx.session.call(patience, |channel| {
            let request = request.clone();
            async move { ContainerServiceClient::new(channel).start_container(request).await }
        });
        call.await.map(drop)
    })
    .await
}

/// `dockctl stop REF...`.
pub(crate) async fn stop(ctx: &Ctx, args: Stop) -> Result<()> {
    let (timeout, patience) = stop_time(ctx, args.time);
    let signal = args.signal.as_str();
    selected(ctx, &args.many, &STOP, |target| async move {
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
    })
    .await
}

/// `dockctl restart REF...`.
pub(crate) async fn restart(ctx: &Ctx, args: Stop) -> Result<()> {
    let (timeout, patience) = stop_time(ctx, args.time);
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
    selected(ctx, &args.many, &KILL, |target| async move {
        let request = KillContainerRequest {
            agent: target.agent,
            container: target.container,
            signal: signal.to_owned(),
        };
        let call = ctx.session.ask(|channel| {
            let request = request.clone();
            async move { ContainerServiceClient::new(channel).kill_container(request).await }
        });
        call.await.map(drop)
    })
    .await
}

/// The time to send, and the patience that it calls for.
fn stop_time(ctx: &Ctx, seconds: Option<u32>) -> (Option<prost_types::Duration>, Option<Duration>) {
    let usual = seconds.map_or(STOP_PATIENCE, |s| Duration::from_secs(s.into()) + PATIENCE);
    let time = seconds.map(|s| prost_types::Duration { seconds: s.into(), nanos: 0 });
    (time, ctx.session.patience(usual))
}
