//! `pause`, `unpause`, `rm`, `rename`, `update`, `commit` and `container prune`: what changes containers
//! that are there. Each prints what docker prints.

use dockctl_api::v1::{
    CommitContainerRequest, PauseContainerRequest, PruneContainersRequest, RemoveContainerRequest,
    RenameContainerRequest, UnpauseContainerRequest, UpdateContainerRequest,
    container_service_client::ContainerServiceClient,
};

use super::{
    AT_ONCE, Ctx,
    act::{self, Verb},
    disk, host,
    host::LONG,
    image,
    run::spec,
    volumes,
};
use crate::{
    args::{
        Many,
        containers::{Commit, Rename, Rm, Update},
        images::Pruning,
    },
    error::{Error, Result},
    output::clean,
    resolve,
    watch::is_up,
};

const PAUSE: Verb =
    Verb { is_for: |c| is_up(c) && c.state != "paused", ..Verb::new("pause", "paused") };
const UNPAUSE: Verb = Verb { is_for: |c| c.state == "paused", ..Verb::new("unpause", "unpaused") };
const RM: Verb = Verb { otherwise: "-f removes those that run, too", ..Verb::new("rm", "removed") };
const UPDATE: Verb = Verb::new("update", "updated");

/// `dockctl pause REF...`.
pub(crate) async fn pause(ctx: &Ctx, many: Many) -> Result<()> {
    act::selected(ctx, &many, &PAUSE, |target| async move {
        let request = PauseContainerRequest { agent: target.agent, container: target.container };
        let call = ctx.session.ask(|channel| {
            let request = request.clone();
            async move { ContainerServiceClient::new(channel).pause_container(request).await }
        });
        call.await.map(drop)
    })
    .await
}

/// `dockctl unpause REF...`.
pub(crate) async fn unpause(ctx: &Ctx, many: Many) -> Result<()> {
    act::selected(ctx, &many, &UNPAUSE, |target| async move {
        let request = UnpauseContainerRequest { agent: target.agent, container: target.container };
        let call = ctx.session.ask(|channel| {
            let request = request.clone();
            async move { ContainerServiceClient::new(channel).unpause_container(request).await }
        });
        call.await.map(drop)
    })
    .await
}

/// `dockctl rm REF...`.
pub(crate) async fn rm(ctx: &Ctx, args: Rm) -> Result<()> {
    let Rm { force, volumes, many } = args;
    let verb = Verb { is_for: if force { |_| true } else { |c| !is_up(c) }, ..RM };
    act::selected(ctx, &many, &verb, |target| async move {
        let request = RemoveContainerRequest {
            agent: target.agent,
            container: target.container,
            force,
            volumes,
            link: false,
        };
        let call = ctx.session.call(ctx.session.patience(LONG), |channel| {
            let request = request.clone();
            async move { ContainerServiceClient::new(channel).remove_container(request).await }
        });
        call.await.map(drop)
    })
    .await
}

/// `dockctl rename REF NAME`.
pub(crate) async fn rename(ctx: &Ctx, args: Rename) -> Result<()> {
    let name = args.new_name.as_str();
    if name.trim().is_empty() {
        return Err(Error::usage("neither old nor new names may be empty"));
    }
    let rename = async |target: resolve::Target| {
        let request = RenameContainerRequest {
            agent: target.agent,
            container: target.container,
            name: name.to_owned(),
        };
        let call = ctx.session.ask(|channel| {
            let request = request.clone();
            async move { ContainerServiceClient::new(channel).rename_container(request).await }
        });
        call.await.map(drop)
    };
    ctx.wait("renaming", act::one(ctx, &args.container, &rename)).await
}

/// `dockctl update REF...`.
pub(crate) async fn update(ctx: &Ctx, args: Update) -> Result<()> {
    let about = || args.refs.containers.iter().map(ToString::to_string).collect::<Vec<_>>();
    let wrong = |why: String| Error::usage(clean(&why)).about(clean(&about().join(", ")));
    let json = spec::update(&args).map_err(wrong)?.to_string();
    let json = json.as_str();
    act::named(ctx, &args.refs.containers, AT_ONCE, &UPDATE, |target| async move {
        let host = target.agent.clone();
        let request = UpdateContainerRequest {
            agent: target.agent,
            container: target.container,
            json: json.to_owned(),
        };
        let call = ctx.session.ask(|channel| {
            let request = request.clone();
            async move { ContainerServiceClient::new(channel).update_container(request).await }
        });
        warn(ctx, &host, &call.await?.warnings);
        Ok(())
    })
    .await
}

/// `dockctl commit REF [IMAGE]`.
pub(crate) async fn commit(ctx: &Ctx, args: Commit) -> Result<()> {
    let commit = async |target: resolve::Target| {
        let request = CommitContainerRequest {
            agent: target.agent,
            container: target.container,
            image: args.image.clone(),
            comment: args.message.clone(),
            author: args.author.clone(),
            changes: args.change.clone(),
            no_pause: !args.pause,
        };
        let call = ctx.session.call(ctx.session.patience(LONG), |channel| {
            let request = request.clone();
            async move { ContainerServiceClient::new(channel).commit_container(request).await }
        });
        call.await
    };
    let made = ctx.wait("committing", act::one(ctx, &args.container, &commit)).await?;
    ctx.show("CommitContainerResponse", &made, || format!("{}\n", clean(&made.id)))
}

/// `dockctl container prune`.
pub(crate) async fn prune(ctx: &Ctx, args: Pruning) -> Result<()> {
    let agent = host::agent(ctx, &args.on).await?;
    let warning = format!("This will remove all stopped containers on {}.", clean(&agent));
    host::confirm_prune(ctx, args.force, &warning)?;
    let pruned =
        disk::prune_containers(ctx, PruneContainersRequest { agent, filters: args.filter }).await?;
    ctx.show("PruneContainersResponse", &pruned, || {
        volumes::deleted("Containers", &pruned.deleted) + &image::reclaimed(pruned.space_reclaimed)
    })
}

/// Tells what an engine warns of.
pub(super) fn warn(ctx: &Ctx, host: &str, warnings: &[String]) {
    for warning in warnings {
        ctx.term.notice(&format!("WARNING: {}: {}", clean(host), clean(warning)));
    }
}
