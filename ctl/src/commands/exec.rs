//! `exec`: runs a command in a container, with this terminal and these pipes as its own.

use dockctl_api::v1::{
    ExecRequest, ExecStart, exec_request, exec_service_client::ExecServiceClient,
};

use super::{Ctx, run::env::variables};
use crate::{
    args::exec::Exec,
    client::LARGEST_ANSWER,
    error::{Error, Result},
    output::clean,
    resolve::{self, Target},
    talk::{self, Manner},
};

/// `dockctl exec REF CMD...`.
pub(crate) async fn run(ctx: &Ctx, args: Exec) -> Result<()> {
    let manner = Manner::new(args.tty, args.interactive && !args.detach, true);
    manner.check()?;
    let local = |name: &str| std::env::var(name).ok();
    let env = variables(&args.env_file, &args.env, local)
        .map_err(|why| Error::usage(clean(&why)).about(clean(&args.container.to_string())))?;
    let target = ctx.find(&args.container).await?;
    let start = ExecStart {
        command: args.command,
        tty: args.tty,
        interactive: manner.interactive,
        size: manner.size(),
        env,
        user: args.user,
        working_dir: args.workdir,
        privileged: args.privileged,
        detach_keys: args.detach_keys,
        detach: args.detach,
    };
    match session(ctx, &target, start, manner).await {
        Ok(Some(code)) => Err(Error::program(code)),
        Ok(None) if args.detach => Ok(()),
        Ok(None) => {
            ctx.term.notice("read escape sequence");
            Err(Error::program(1)) // As docker does.
        }
        Err(error) => Err(resolve::explain(&ctx.session, &target, error).await),
    }
}

async fn session(
    ctx: &Ctx,
    target: &Target,
    start: ExecStart,
    manner: Manner,
) -> Result<Option<i32>> {
    let first = ExecRequest {
        agent: target.agent.clone(),
        container: target.container.clone(),
        input: Some(exec_request::Input::Start(start)),
    };
    let opening = talk::open(ctx, first, |channel, requests| async move {
        ExecServiceClient::new(channel)
            .max_decoding_message_size(LARGEST_ANSWER)
            .exec(requests)
            .await
    });
    let call = ctx.wait("starting the command", opening).await?;
    // A command whose caller goes is ended, whatever the signal.
    let held = talk::hold(ctx.term, call, manner, async |_| false).await;
    held.map_err(|error| talk::broken(error, "the agent ends the command whose caller is gone"))
}
