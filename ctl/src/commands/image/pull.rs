//! `pull` and `push`: between a host and a registry, with the user's own login for it.

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, Write as _},
};

use dockctl_api::v1::{
    Progress, PullImageRequest, PushImageRequest, image_service_client::ImageServiceClient,
};

use super::{Ctx, Show, host, pulls::Pulls};
use crate::{
    args::images::{Pull, Push},
    commands::many::{self, Verb},
    error::Result,
    output::{clean, progress::View},
    registry, resolve,
    select::{self, Hosts, On, Selection},
};

const PULL: Verb = Verb::new("pull", "pulled");

/// `dockctl pull IMAGE`.
pub(crate) async fn pull(ctx: &Ctx, args: Pull) -> Result<()> {
    if !args.label.is_empty() {
        return pull_selected(ctx, &args).await;
    }
    let one = On::agent(args.on.as_ref());
    if args.on.is_some() && one.is_none() {
        return pull_many(ctx, &args).await;
    }
    let agent = ctx.wait("looking for the agent", resolve::on(&ctx.session, one)).await?;
    let request = pull_request(&args).await?;
    let mut show = Show::start(ctx, args.quiet)?;
    let result = async {
        if !args.all_tags && named(&args.image) == Named::Nothing && !args.quiet {
            show.show(Some(default_tag())).await?;
        }
        pull_one(ctx, &agent, &request, async |progress| show.show(Some(progress)).await).await?;
        show.last(full_name(&args.image, args.all_tags)).await
    };
    let result = result.await;
    show.finish(result)
}

/// Pulls on all hosts that `--on` selects, and sums up.
async fn pull_many(ctx: &Ctx, args: &Pull) -> Result<()> {
    let looking = Hosts::names(&ctx.session, args.on.as_ref());
    let hosts = ctx.wait("looking for the agents", looking).await?;
    let (request, pulls) = (&pull_request(args).await?, &Pulls::new(args.quiet));
    many::on_hosts(ctx, &hosts, args.parallel.into(), &PULL, &|| pulls.lines(), |agent| {
        pull_told(ctx, pulls, agent, clean(agent), request)
    })
    .await
}

/// An image of a selected container.
struct Wanted {
    agent: String,
    image: String,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", clean(&self.agent), clean(&self.image))
    }
}

/// Pulls the images of the containers that are selected, each once on each host, and sums up.
async fn pull_selected(ctx: &Ctx, args: &Pull) -> Result<()> {
    let looking = async {
        let selection = Selection::new(&ctx.session, args.on.as_ref(), &args.label, &[]).await?;
        selection.list(&ctx.session, "").await
    };
    let found = ctx.wait("looking for the containers", looking).await?;
    if found.is_empty() {
        return Err(select::nothing(None));
    }
    let all: BTreeSet<_> = found.into_iter().map(|c| (c.agent, c.image)).collect();
    let all: Vec<_> = all.into_iter().map(|(agent, image)| Wanted { agent, image }).collect();
    let pulls = &Pulls::new(args.quiet);
    let at_once = args.parallel.into();
    many::on_hosts(ctx, &all, at_once, &PULL, &|| pulls.lines(), |wanted| async move {
        let request = PullImageRequest {
            image: wanted.image.clone(),
            platform: args.platform.clone(),
            login: registry::login(&wanted.image).await?,
            ..PullImageRequest::default()
        };
        pull_told(ctx, pulls, &wanted.agent, wanted.to_string(), &request).await
    })
    .await
}

/// Pulls an image on one of several hosts: says meanwhile in the line of `what` how far it is, and at last what came
/// of it.
async fn pull_told(
    ctx: &Ctx,
    pulls: &Pulls,
    agent: &str,
    what: String,
    request: &PullImageRequest,
) -> Result<()> {
    pulls.told(&what, &Progress::default());
    let pulled = pull_one(ctx, agent, request, async |progress| {
        if let Some(status) = progress.status.strip_prefix("Status: ").filter(|_| !pulls.quiet) {
            ctx.term.notice_over(&format!("{}: {}", clean(agent), clean(status)));
        }
        pulls.told(&what, &progress);
        Ok(())
    });
    let pulled = pulled.await;
    pulls.ended(&what);
    pulled.map_err(|error| error.about(clean(agent)))
}

/// What a pull asks for, for any agent, with the login that it needs.
pub(crate) async fn pull_request(args: &Pull) -> Result<PullImageRequest> {
    Ok(PullImageRequest {
        agent: String::new(),
        image: args.image.clone(),
        platform: args.platform.clone(),
        all_tags: args.all_tags,
        login: registry::login(&args.image).await?,
    })
}

/// Pulls an image on one agent's host; `show` gets what the engine tells as it comes.
pub(crate) async fn pull_one(
    ctx: &Ctx,
    agent: &str,
    request: &PullImageRequest,
    mut show: impl AsyncFnMut(Progress) -> Result<()>,
) -> Result<()> {
    let request = PullImageRequest { agent: agent.to_owned(), ..request.clone() };
    let opened = ctx.session.call(None, |channel| {
        let request = request.clone();
        async move { ImageServiceClient::new(channel).pull_image(request).await }
    });
    let mut answer = match opened.await {
        Ok(answer) => answer,
        Err(error) => return Err(host::told(ctx, agent, error).await),
    };
    loop {
        match answer.message().await {
            Ok(Some(message)) => {
                if let Some(progress) = message.progress {
                    show(progress).await?;
                }
            }
            Ok(None) => return Ok(()),
            Err(status) => return Err(host::told(ctx, agent, status.into()).await),
        }
    }
}

/// Pulls the image of a container that is to be made. How far it is goes to stderr, since stdout is the
/// container's.
pub(crate) async fn bring(
    ctx: &Ctx,
    agent: &str,
    image: &str,
    platform: &str,
    quiet: bool,
) -> Result<()> {
    let request = PullImageRequest {
        image: image.to_owned(),
        platform: platform.to_owned(),
        login: registry::login(image).await?,
        ..PullImageRequest::default()
    };
    let mut view = View::new(ctx.term.err);
    pull_one(ctx, agent, &request, async |progress| {
        if quiet {
            return Ok(());
        }
        Ok(io::stderr().write_all(view.text(&progress).as_bytes())?)
    })
    .await
}

/// `dockctl push IMAGE`.
pub(crate) async fn push(ctx: &Ctx, args: Push) -> Result<()> {
    let agent = host::agent(ctx, &args.on).await?;
    let login = registry::login(&args.image).await?;
    let request = PushImageRequest {
        agent: agent.clone(),
        image: args.image.clone(),
        login,
        all_tags: args.all_tags,
    };
    let mut show = Show::start(ctx, args.quiet)?;
    let result = async {
        if named(&args.image) == Named::Nothing && !args.quiet && !args.all_tags {
            show.show(Some(default_tag())).await?;
        }
        let opened = ctx.session.call(None, |channel| {
            let request = request.clone();
            async move { ImageServiceClient::new(channel).push_image(request).await }
        });
        let mut answer = opened.await?;
        while let Some(message) = answer.message().await? {
            show.show(message.progress).await?;
        }
        if args.quiet {
            show.last(full_name(&args.image, args.all_tags)).await?;
        }
        Ok(())
    };
    let result = match result.await {
        Err(error) => Err(host::told(ctx, &agent, error).await),
        done => done,
    };
    show.finish(result)
}

#[derive(Debug, PartialEq, Eq)]
enum Named {
    Nothing,
    Tag,
    Digest,
}

/// What a reference names besides the repository.
fn named(image: &str) -> Named {
    match image.rsplit_once(':') {
        _ if image.contains('@') => Named::Digest,
        Some((_, tag)) if !tag.contains('/') => Named::Tag,
        _ => Named::Nothing,
    }
}

/// docker says so before it asks for a tag that nobody has named.
fn default_tag() -> Progress {
    Progress { status: "Using default tag: latest".to_owned(), ..Progress::default() }
}

/// A reference as docker writes it in full.
fn full_name(image: &str, all_tags: bool) -> String {
    let domain = match image.split_once('/') {
        _ if registry::registry_of(image) != registry::HUB => "",
        Some(("docker.io", _)) => "",
        Some(_) => "docker.io/",
        None => "docker.io/library/",
    };
    let tag = if named(image) == Named::Nothing && !all_tags { ":latest" } else { "" };
    format!("{domain}{image}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_in_full() {
        for (image, want) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("team/app:1", "docker.io/team/app:1"),
            ("docker.io/team/app", "docker.io/team/app:latest"),
            ("reg:5000/app", "reg:5000/app:latest"),
            ("reg:5000/app@sha256:0", "reg:5000/app@sha256:0"),
        ] {
            assert_eq!(full_name(image, false), want);
        }
        assert_eq!(full_name("reg:5000/app", true), "reg:5000/app");
    }
}
