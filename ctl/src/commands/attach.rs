//! `attach`: one's own terminal on a container's main process; and the session that `run` holds with the
//! container that it has made.

use dockctl_api::v1::{
    AttachRequest, AttachStart, KillContainerRequest, attach_request,
    container_service_client::ContainerServiceClient, exec_service_client::ExecServiceClient,
};

use super::{Ctx, inspect::inspect};
use crate::{
    args::exec::Attach,
    client::LARGEST_ANSWER,
    error::{Error, Result},
    resolve::{self, Target},
    talk::{self, Manner},
};

/// `dockctl attach REF`.
pub(crate) async fn run(ctx: &Ctx, args: Attach) -> Result<()> {
    let resolving = resolve::resolve(&ctx.session, &args.container);
    let target = ctx.wait("looking for the container", resolving).await?;
    let attached = async {
        let (tty, open) = terminal_of(ctx, &target).await?;
        let manner = Manner { tty, interactive: open && !args.no_stdin, sig_proxy: args.sig_proxy };
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
    let kill = async |signal| {
        let request = KillContainerRequest {
            agent: target.agent.clone(),
            container: target.container.clone(),
            signal,
        };
        let call = ctx.session.ask(|channel| {
            let request = request.clone();
            async move { ContainerServiceClient::new(channel).kill_container(request).await }
        });
        call.await.is_ok()
    };
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
