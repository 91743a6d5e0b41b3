//! `system df`, `system info`, `system prune` and `builder prune`: the disk of one host.

use dockctl_api::v1::{
    GetDiskUsageRequest, PruneBuildCacheRequest, PruneBuildCacheResponse, PruneContainersRequest,
    PruneContainersResponse, PruneImagesRequest, PruneNetworksRequest, PruneVolumesRequest,
    container_service_client::ContainerServiceClient, system_service_client::SystemServiceClient,
};
use serde_json::{Value, json};

use super::{Ctx, df, host, image, networks, volumes};
use crate::{
    args::{
        Format,
        images::Pruning,
        stores::{Builder, System},
    },
    client::LARGEST_ANSWER,
    error::Result,
    format::Template,
    output::{self, clean, json},
};

/// `dockctl system`.
pub(crate) async fn system(ctx: &Ctx, args: System) -> Result<()> {
    match args {
        System::Info(args) => super::system::info(ctx, args).await,
        System::Events(args) => super::events::run(ctx, args).await,
        System::Df { on, verbose, format } => {
            let template = Template::of_list(format.as_deref())?;
            let agent = host::agent(ctx, &on).await?;
            let usage = host::json(&usage(ctx, &agent).await?)?;
            if let Some(template) = template {
                return ctx.print_made(template.rows(&df::COLUMNS, &df::rows(&usage))?);
            }
            ctx.show_value(
                || Ok(usage.clone()),
                || match verbose {
                    true => df::verbose(&usage),
                    false => df::summary(&usage),
                },
            )
        }
        System::Prune { all, volumes, prune } => prune_system(ctx, all, volumes, prune).await,
    }
}

async fn usage(ctx: &Ctx, agent: &str) -> Result<String> {
    let answer =
        host::ask_within(ctx, agent, "the engine measures its disk", host::LONG, |channel| {
            let request = GetDiskUsageRequest { agent: agent.to_owned() };
            async move {
                SystemServiceClient::new(channel)
                    .max_decoding_message_size(LARGEST_ANSWER)
                    .get_disk_usage(request)
                    .await
            }
        });
    Ok(answer.await?.json)
}

/// `dockctl builder`.
pub(crate) async fn builder(ctx: &Ctx, args: Builder) -> Result<()> {
    let Builder::Prune { args, keep_storage } = args;
    let agent = host::agent(ctx, &args.prune.on).await?;
    let which = if args.all { "all build cache" } else { "all dangling build cache" };
    let warning = format!("This will remove {which} on {}.", clean(&agent));
    host::confirm_prune(ctx, args.prune.force, &warning)?;
    let request = PruneBuildCacheRequest {
        agent,
        all: args.all,
        filters: args.prune.filter,
        keep_storage: keep_storage.unwrap_or(0),
    };
    let gone = prune_cache(ctx, request).await?;
    ctx.show("PruneBuildCacheResponse", &gone, || {
        volumes::deleted("build cache objects", &gone.deleted)
            + &image::reclaimed(gone.space_reclaimed)
    })
}

async fn prune_cache(
    ctx: &Ctx,
    request: PruneBuildCacheRequest,
) -> Result<PruneBuildCacheResponse> {
    host::ask_within(ctx, &request.agent, "removing the cache", host::LONG, |channel| {
        let request = request.clone();
        async move { SystemServiceClient::new(channel).prune_build_cache(request).await }
    })
    .await
}

pub(super) async fn prune_containers(
    ctx: &Ctx,
    request: PruneContainersRequest,
) -> Result<PruneContainersResponse> {
    host::ask_within(ctx, &request.agent, "removing containers", host::LONG, |channel| {
        let request = request.clone();
        async move { ContainerServiceClient::new(channel).prune_containers(request).await }
    })
    .await
}

/// In docker's order, since what a removed container used is unused after it.
async fn prune_system(ctx: &Ctx, all: bool, with_volumes: bool, args: Pruning) -> Result<()> {
    let agent = host::agent(ctx, &args.on).await?;
    host::confirm_prune(ctx, args.force, &warning(&agent, all, with_volumes, &args.filter))?;
    let filters = args.filter;
    let (mut told, mut space) = (Vec::new(), 0);
    let table = ctx.format == Format::Table;
    let print = |text: String| if table { output::print(text.as_bytes()) } else { Ok(()) };

    let request = PruneContainersRequest { agent: agent.clone(), filters: filters.clone() };
    let gone = prune_containers(ctx, request).await?;
    space += gone.space_reclaimed;
    print(volumes::deleted("Containers", &gone.deleted))?;
    told.push(("containers", json::value("PruneContainersResponse", &gone)?));

    let request = PruneNetworksRequest { agent: agent.clone(), filters: filters.clone() };
    let gone = networks::prune_on(ctx, request).await?;
    print(volumes::deleted("Networks", &gone.deleted))?;
    told.push(("networks", json::value("PruneNetworksResponse", &gone)?));

    if with_volumes {
        // "until" means nothing to volumes, and the engine refuses it.
        let filters = filters.iter().filter(|f| !f.starts_with("until=")).cloned().collect();
        let request = PruneVolumesRequest { agent: agent.clone(), all: false, filters };
        let gone = volumes::prune_on(ctx, request).await?;
        space += gone.space_reclaimed;
        print(volumes::deleted("Volumes", &gone.deleted))?;
        told.push(("volumes", json::value("PruneVolumesResponse", &gone)?));
    }

    let request = PruneImagesRequest { agent: agent.clone(), all, filters: filters.clone() };
    let gone = image::prune_on(ctx, request).await?;
    space += gone.space_reclaimed;
    print(volumes::deleted("Images", &[&gone.untagged[..], &gone.deleted[..]].concat()))?;
    told.push(("images", json::value("PruneImagesResponse", &gone)?));

    // The cache has no labels.
    let filters = filters.into_iter().filter(|f| f.starts_with("until=")).collect();
    let request = PruneBuildCacheRequest { agent, all, filters, keep_storage: 0 };
    let gone = prune_cache(ctx, request).await?;
    space += gone.space_reclaimed;
    print(volumes::deleted("build cache objects", &gone.deleted))?;
    told.push(("build_cache", json::value("PruneBuildCacheResponse", &gone)?));

    let mut value: Value = told.into_iter().collect();
    value["space_reclaimed"] = json!(space);
    ctx.show_value(|| Ok(value), || image::reclaimed(space))
}

fn warning(agent: &str, all: bool, with_volumes: bool, filters: &[String]) -> String {
    let mut lines =
        vec!["all stopped containers", "all networks not used by at least one container"];
    if with_volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(match all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    });
    lines.push(if all { "all build cache" } else { "unused build cache" });
    let mut text = format!("This will remove on {}:", clean(agent));
    for line in lines {
        text.push_str(&format!("\n  - {line}"));
    }
    if !filters.is_empty() {
        text.push_str("\n\n  Items to be pruned will be filtered with:");
        for filter in filters {
            text.push_str(&format!("\n  - {}", clean(filter)));
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prune_says_what_it_will_remove() {
        let text = warning("web-1", false, true, &["label=a".to_owned()]);
        assert_eq!(
            text,
            "This will remove on web-1:\n  - all stopped containers\n  - all networks not used by at \
             least one container\n  - all anonymous volumes not used by at least one container\n  - \
             all dangling images\n  - unused build cache\n\n  Items to be pruned will be filtered \
             with:\n  - label=a\n"
        );
    }
}
