//! Calls on one host: which it is where `--on` is left out, and what a failure says of it.

use std::{future::Future, sync::Mutex, time::Duration};

use dockctl_api::v1::{PingRequest, system_service_client::SystemServiceClient};
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use serde_json::Value;
use tokio::sync::oneshot;
use tonic::{Response, Status, Streaming};

use super::Ctx;
use crate::{
    args::{Format, images::On},
    client::Channel,
    error::{Error, Exit, Result},
    format::Template,
    output, resolve,
    session::PATIENCE,
};

/// How long the engine may take to remove many things, or to look at all of its disk; with a little
/// more than the agent's own limit of ten minutes.
pub(super) const LONG: Duration = Duration::from_secs(630);

/// The agent that `--on` names, or the only one that is connected.
pub(super) async fn agent(ctx: &Ctx, on: &On) -> Result<String> {
    ctx.wait("looking for the agent", resolve::on(&ctx.session, on.on.as_deref())).await
}

/// Makes a unary call on an agent's host.
pub(super) async fn ask<T, F, Fut>(ctx: &Ctx, agent: &str, what: &str, run: F) -> Result<T>
where
    F: Fn(Channel) -> Fut,
    Fut: Future<Output = std::result::Result<Response<T>, Status>>,
{
    ask_within(ctx, agent, what, PATIENCE, run).await
}

/// As `ask`, for what usually takes longer.
pub(super) async fn ask_within<T, F, Fut>(
    ctx: &Ctx,
    agent: &str,
    what: &str,
    usual: Duration,
    run: F,
) -> Result<T>
where
    F: Fn(Channel) -> Fut,
    Fut: Future<Output = std::result::Result<Response<T>, Status>>,
{
    match ctx.wait(what, ctx.session.call(ctx.session.patience(usual), run)).await {
        Ok(answer) => Ok(answer),
        Err(error) => Err(told(ctx, agent, error).await),
    }
}

/// A failure with the host before it.
pub(super) async fn told(ctx: &Ctx, agent: &str, error: Error) -> Error {
    resolve::explain_agent(&ctx.session, agent, error).await
}

/// Asks the engine for a sign of life.
pub(super) async fn ping(ctx: &Ctx, agent: &str) -> Result<()> {
    let ping = ask(ctx, agent, "asking the engine", |channel| {
        let request = PingRequest { agent: agent.to_owned() };
        async move { SystemServiceClient::new(channel).ping(request).await }
    });
    ping.await.map(drop)
}

/// An upload; there is none for a second try.
pub(super) struct OneTry<Q>(Mutex<Option<BoxStream<'static, Q>>>);

impl<Q> OneTry<Q> {
    /// The upload, the first time.
    pub(super) fn take(&self) -> std::result::Result<BoxStream<'static, Q>, Status> {
        let upload = self.0.lock().ok().and_then(|mut upload| upload.take());
        upload.ok_or_else(|| Status::aborted("the login has ended meanwhile: try again"))
    }
}

/// An upload of pieces after a first message, and what it fails with: then it never ends, so that the host
/// never takes a part for the whole, and the call is to be given up.
pub(super) fn whole<Q: Send + 'static>(
    first: Q,
    pieces: impl Stream<Item = Result<Q>> + Send + 'static,
) -> (OneTry<Q>, impl Future<Output = Error>) {
    let (failed, failure) = oneshot::channel();
    let pieces = stream::unfold((pieces.boxed(), Some(failed)), |(mut pieces, failed)| async {
        match pieces.next().await? {
            Ok(message) => Some((message, (pieces, failed))),
            Err(error) => {
                // Nobody hears it only where the call is over already.
                let _ = failed.and_then(|failed| failed.send(error).err());
                std::future::pending().await
            }
        }
    });
    let failure = async {
        match failure.await {
            Ok(error) => error,
            Err(_) => std::future::pending().await,
        }
    };
    (OneTry(Mutex::new(Some(stream::iter([first]).chain(pieces).boxed()))), failure)
}

/// Streams pieces up, after a first message, and gives `show` each message of the answer. A source that
/// fails gives the call up.
pub(super) async fn send_up<Q, A, F, Fut>(
    ctx: &Ctx,
    agent: &str,
    first: Q,
    pieces: impl Stream<Item = Result<Q>> + Send + 'static,
    call: F,
    mut show: impl AsyncFnMut(A) -> Result<()>,
) -> Result<()>
where
    Q: Send + 'static,
    F: Fn(Channel, BoxStream<'static, Q>) -> Fut,
    Fut: Future<Output = std::result::Result<Response<Streaming<A>>, Status>>,
{
    // Its token is good and its engine there, before much is sent in vain.
    ping(ctx, agent).await?;
    let (upload, failure) = whole(first, pieces);
    let talk = async {
        let opened = ctx.session.call(None, |channel| {
            let call = upload.take().map(|upload| call(channel, upload));
            async { call?.await }
        });
        let mut answer = match opened.await {
            Ok(answer) => answer,
            Err(error) => return Err(told(ctx, agent, error).await),
        };
        loop {
            match answer.message().await {
                Ok(Some(message)) => show(message).await?,
                Ok(None) => return Ok(()),
                Err(status) => return Err(told(ctx, agent, status.into()).await),
            }
        }
    };
    tokio::select! {
        biased;
        error = failure => Err(error),
        result = talk => result,
    }
}

/// Prints what happened to each of several names as they are done, and fails with the worst failure.
pub(super) async fn each(
    ctx: &Ctx,
    names: &[String],
    mut run: impl AsyncFnMut(&str) -> Result<String>,
) -> Result<()> {
    let (mut lines, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        match run(name).await {
            Ok(line) if ctx.format == Format::Table => output::print(line.as_bytes())?,
            Ok(line) => lines.extend(line.lines().map(|line| Value::from(line.trim_end()))),
            Err(error) => failures.push(error),
        }
    }
    if ctx.format != Format::Table {
        ctx.print_document(&Value::Array(lines))?;
    }
    super::act::fail(ctx, failures)
}

/// Prints the engine's own JSON of several names as one array, or as `format` says, and fails with the
/// worst failure.
pub(super) async fn inspect(
    ctx: &Ctx,
    names: &[String],
    format: Option<&str>,
    mut run: impl AsyncFnMut(&str) -> Result<String>,
) -> Result<()> {
    let template = Template::of_one(format)?;
    let (mut shown, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        match run(name).await.and_then(|text| json(&text)) {
            Ok(value) => shown.push(value),
            Err(error) => failures.push(error),
        }
    }
    show_inspected(ctx, template.as_ref(), shown)?;
    super::act::fail(ctx, failures)
}

/// Prints what the engine knows of several things, one by one where there is a template.
pub(super) fn show_inspected(
    ctx: &Ctx,
    template: Option<&Template>,
    shown: Vec<Value>,
) -> Result<()> {
    let Some(template) = template else { return ctx.print_document(&Value::Array(shown)) };
    let made: Result<String> = shown.iter().map(|value| template.value(value)).collect();
    ctx.print_made(made?)
}

/// The engine's own JSON.
pub(super) fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|e| Error::new(Exit::Failed, format!("the engine's answer is no JSON: {e}")))
}

/// Asks before a prune, as docker does.
pub(super) fn confirm_prune(ctx: &Ctx, force: bool, warning: &str) -> Result<()> {
    if force {
        return Ok(());
    }
    if !ctx.term.input {
        return Err(Error::usage("this cannot be undone, and nobody is there to be asked")
            .hint("pass -f to do it without a question"));
    }
    ctx.confirm(false, &format!("WARNING! {warning}\nAre you sure you want to continue?"))
}

/// Pairs "k=v"; "k" alone has no value.
pub(super) fn pairs(texts: &[String]) -> std::collections::HashMap<String, String> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    texts.iter().map(pair).collect()
}
