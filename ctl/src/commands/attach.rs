//! `attach`: one's own terminal on a container's main process; and the session that `run` holds with the
//! container that it has made.

use dockctl_api::v1::{
    AttachRequest, AttachStart, attach_request, exec_service_client::ExecServiceClient,
};

use super::{Ctx, act, inspect::inspect};
use crate::{
    args::{containers::Start, exec::Attach},
    client::LARGEST_ANSWER,
    error::{Error, Result},
    refs::Ref,
    resolve::{self, Target},
    talk::{self, Manner},
};

/// `dockctl attach REF`.
pub(crate) async fn run(ctx: &Ctx, args: Attach) -> Result<()> {
    let target = ctx.find(&args.container).await?;
    let attached = async {
        let (tty, open) = terminal_of(ctx, &target).await?;
        let manner = Manner::new(tty, open && !args.no_stdin, args.sig_proxy);
        let start = AttachStart { detach_keys: args.detach_keys, ..AttachStart::default() };
        hold(ctx, &target, start, manner, async || Ok(())).await
    };
    match attached.await {
        Ok(Some(code)) => Err(Error::program(code)),
        Ok(None) => {
            ctx.term.notice("read escape sequence");
            Err(Error::program(1)) // As docker does.
        }
        Err(error) => Err(resolve::explain(&ctx.session, &target, error).await),
    }
}

/// `dockctl start -a REF`: attaches first, so that nothing of its output is missed.
pub(crate) async fn start(ctx: &Ctx, wanted: &Ref, args: &Start) -> Result<()> {
    let target = ctx.find(wanted).await?;
    let attached = async {
        let (tty, open) = terminal_of(ctx, &target).await?;
        let manner = Manner::new(tty, open && args.interactive, true);
        let detach_keys = args.detach_keys.clone();
        let start = AttachStart { detach_keys, starting: true, ..AttachStart::default() };
        hold(ctx, &target, start, manner, async || act::start_one(ctx, &target).await).await
    };
    match attached.await {
        Ok(Some(code)) => Err(Error::program(code)),
        // It runs on, as docker tells it.
        Ok(None) => Ok(()),
        Err(error) => Err(resolve::explain(&ctx.session, &target, error).await),
    }
}

/// Attaches to a container, does `then` once that is done (starts it, where it does not run yet), and
/// holds the session to its end; the exit code, or None where it was detached.
pub(super) async fn hold(
    ctx: &Ctx,
    target: &Target,
    start: AttachStart,
    manner: Manner,
    then: impl AsyncFnOnce() -> Result<()>,
) -> Result<Option<i32>> {
    manner.check()?;
    let start = AttachStart { interactive: manner.interactive, size: manner.size(), ..start };
    let first = AttachRequest {
        agent: target.agent.clone(),
        container: target.container.clone(),
        input: Some(attach_request::Input::Start(start)),
    };
    let opening = talk::open(ctx, first, |channel, requests| async move {
        ExecServiceClient::new(channel)
            .max_decoding_message_size(LARGEST_ANSWER)
            .attach(requests)
            .await
    });
    let call = ctx.wait("attaching", opening).await?;
    then().await?;
    let kill = async |signal: String| act::kill_one(ctx, target, &signal).await.is_ok();
    let held = talk::hold(ctx.term, call, manner, kill).await;
    held.map_err(|error| {
        let again = format!("the container runs on: dockctl attach {}", target.shown());
        talk::broken(error, &again)
    })
}

/// Whether a container has a terminal, and whether its standard input is open.
async fn terminal_of(ctx: &Ctx, target: &Target) -> Result<(bool, bool)> {
    let all = ctx.wait("looking at the container", inspect(ctx, target)).await?;
    let is = |name: &str| all["Config"][name].as_bool().unwrap_or_default();
    Ok((is("Tty"), is("OpenStdin")))
}
