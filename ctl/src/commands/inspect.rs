//! `inspect`: the engine's own JSON, one array of all that is named, as docker prints it, or what a template
//! makes of each. A name is looked for among containers, images, networks and volumes, in docker's order.

use dockctl_api::{
    error::reason,
    v1::{InspectContainerRequest, container_service_client::ContainerServiceClient},
};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use super::{AT_ONCE, Ctx, act, host, image, networks, volumes};
use crate::{
    args::inspect::{Inspect, Kind},
    client::LARGEST_ANSWER,
    error::{Error, Exit, Result},
    format::Template,
    output::clean,
    refs::Ref,
    resolve::{self, Target},
};

/// `dockctl inspect NAME...`. The array has what could be shown, in the order named.
pub(crate) async fn run(ctx: &Ctx, args: Inspect) -> Result<()> {
    let template = Template::of_one(args.format.as_deref())?;
    let looking = stream::iter(&args.names).map(|name| find(ctx, &args, name)).buffered(AT_ONCE);
    let results: Vec<_> = ctx.wait("inspecting", looking.collect()).await;
    let (mut shown, mut failures) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => shown.push(value),
            Err(error) => failures.push(error),
        }
    }
    host::show_inspected(ctx, template.as_ref(), shown)?;
    act::fail(ctx, failures)
}

/// What is there under a name.
async fn find(ctx: &Ctx, args: &Inspect, name: &str) -> Result<Value> {
    let is_missing = |error: &Error| {
        // What cannot be a name of one kind can be one of another.
        error.told().is_some_and(|f| matches!(f.exit, Exit::NotFound | Exit::Usage))
            && !error.has_reason(reason::AGENT_NOT_FOUND)
    };
    let mut missing = None;
    if args.kind.is_none_or(|kind| kind == Kind::Container) {
        let wanted = match &args.on {
            Some(on) => Ok(Ref { host: Some(on.clone()), container: name.to_owned() }),
            None => name.parse::<Ref>(),
        };
        let look = async |target: Target| inspect_sized(ctx, &target, args.size).await;
        match wanted {
            Ok(wanted) => match act::one(ctx, &wanted, &look).await {
                Err(error) if args.kind.is_none() && is_missing(&error) => missing = Some(error),
                done => return done,
            },
            // It may be an image's.
            Err(_) if args.kind.is_none() => {}
            Err(why) => {
                return Err(Error::usage(format!("{}: {why}", clean(name))));
            }
        }
    }
    let hints = missing.as_ref().and_then(Error::told).map(|f| f.hints.clone());
    let (agent, name) = match (&args.on, name.split_once('/'), missing) {
        (Some(on), ..) => (on.clone(), name),
        (None, Some((host, name)), _) => (host.to_owned(), name),
        // The whole fleet was asked for a container of that name.
        (None, None, Some(error)) => return Err(error),
        (None, None, None) => (resolve::on(&ctx.session, None).await?, name),
    };
    let agent = agent.as_str();
    for kind in [Kind::Image, Kind::Network, Kind::Volume] {
        if args.kind.is_some_and(|wanted| wanted != kind) {
            continue;
        }
        let json = match kind {
            Kind::Network => networks::inspect(ctx, agent, name).await,
            Kind::Volume => volumes::inspect(ctx, agent, name).await,
            _ => image::json_of(ctx, agent, name).await,
        };
        match json {
            Err(error) if args.kind.is_none() && is_missing(&error) => {}
            Err(error) => return Err(error),
            Ok(json) => return host::json(&json),
        }
    }
    let nothing = format!("No such object: {}", clean(name));
    let error = Error::new(Exit::NotFound, nothing).about(clean(agent));
    Err(hints.into_iter().flatten().fold(error, Error::hint))
}

/// All that the engine knows of a container.
pub(super) async fn inspect(ctx: &Ctx, target: &Target) -> Result<Value> {
    inspect_sized(ctx, target, false).await
}

async fn inspect_sized(ctx: &Ctx, target: &Target, size: bool) -> Result<Value> {
    let request = InspectContainerRequest {
        agent: target.agent.clone(),
        container: target.container.clone(),
        size,
    };
    let call = ctx.session.ask(|channel| {
        let request = request.clone();
        async move {
            ContainerServiceClient::new(channel)
                .max_decoding_message_size(LARGEST_ANSWER)
                .inspect_container(request)
                .await
        }
    });
    host::json(&call.await?.json)
}
