//! `start`, `stop`, `restart`, `kill`, and working on many references at once: each that is done is
//! printed on stdout as docker does, failures come at the end on stderr, and the worst decides the
//! exit code.

use std::{future::Future, time::Duration};

use dockctl_api::v1::{
    KillContainerRequest, RestartContainerRequest, StartContainerRequest, StopContainerRequest,
    container_service_client::ContainerServiceClient,
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{AT_ONCE, Ctx};
use crate::{
    args::{Format, Kill, Refs, Stop},
    error::{Error, Result},
    output,
    refs::Ref,
    resolve::{self, Target},
    session::PATIENCE,
};

/// How long a stop may take whose container sets its own time, which only the engine knows.
const STOP_PATIENCE: Duration = Duration::from_secs(600);

/// `dockctl start REF...`.
pub(crate) async fn start(ctx: &Ctx, refs: Refs) -> Result<()> {
    all(ctx, &refs.containers, "start", |target| async move {
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
    all(ctx, &args.refs.containers, "stop", |target| async move {
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
    all(ctx, &args.refs.containers, "restart", |target| async move {
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
    all(ctx, &args.refs.containers, "kill", |target| async move {
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

/// Runs an action on all references and prints how it went.
pub(super) async fn all<F, Fut>(ctx: &Ctx, refs: &[Ref], action: &str, run: F) -> Result<()>
where
    F: Fn(Target) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let table = ctx.format == Format::Table;
    // A reader that went away must not keep the other containers from being stopped.
    let mut printed = Ok(());
    let done = |wanted: &Ref, result: &Result<()>| {
        if table && result.is_ok() && printed.is_ok() {
            printed = output::print(format!("{wanted}\n").as_bytes());
        }
    };
    let results = each(ctx, refs, run, done).await;
    if !table {
        let told: Vec<Value> = refs.iter().zip(&results).map(|(r, x)| told(action, r, x)).collect();
        ctx.print_document(&Value::Array(told))?;
    }
    fail(ctx, results.into_iter().filter_map(Result::err).collect())?;
    Ok(printed?)
}

fn told(action: &str, wanted: &Ref, result: &Result<()>) -> Value {
    let error = result.as_ref().err().and_then(Error::told);
    json!({
        "ref": wanted.to_string(),
        "action": action,
        "done": error.is_none(),
        "error": error.map(|f| f.message.clone()),
        "reason": error.and_then(|f| f.reason.clone()),
    })
}

/// Resolves and runs many references, some at a time. `done` is told each result as it comes; the
/// results are in the order of `refs`, failures explained.
pub(super) async fn each<T, F, Fut>(
    ctx: &Ctx,
    refs: &[Ref],
    run: F,
    mut done: impl FnMut(&Ref, &Result<T>),
) -> Vec<Result<T>>
where
    F: Fn(Target) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let run = &run;
    let one = |(index, wanted)| async move { (index, one(ctx, wanted, run).await) };
    let mut running = stream::iter(refs.iter().enumerate().map(one)).buffer_unordered(AT_ONCE);
    let mut results: Vec<Option<Result<T>>> = refs.iter().map(|_| None).collect();
    let what = match refs {
        [one] => format!("waiting for {one}"),
        many => format!("waiting for {} containers", many.len()),
    };
    while let Some((index, result)) = ctx.wait(&what, running.next()).await {
        done(&refs[index], &result);
        results[index] = Some(result);
    }
    results.into_iter().flatten().collect()
}

/// Resolves and runs one reference.
pub(super) async fn one<T, F, Fut>(ctx: &Ctx, wanted: &Ref, run: &F) -> Result<T>
where
    F: Fn(Target) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let target = match resolve::resolve(&ctx.session, wanted).await {
        Err(error) => return Err(error.about(wanted.to_string())),
        Ok(target) => target,
    };
    match run(target.clone()).await {
        Err(error) => Err(resolve::explain(&ctx.session, &target, error).await),
        done => done,
    }
}

/// Tells all failures but the worst, and returns that one.
pub(super) fn fail(ctx: &Ctx, mut failures: Vec<Error>) -> Result<()> {
    failures.sort_by_key(Error::code);
    let Some(worst) = failures.pop() else { return Ok(()) };
    for failure in failures.iter().filter_map(Error::told) {
        ctx.term.notice(&format!("dockctl: {failure}"));
    }
    Err(worst)
}
