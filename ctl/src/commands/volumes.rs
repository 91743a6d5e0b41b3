//! `volumes` on one host, in docker's columns and words.

use dockctl_api::v1::{
    CreateVolumeRequest, InspectVolumeRequest, ListVolumesRequest, PruneVolumesRequest,
    PruneVolumesResponse, RemoveVolumeRequest, Volume, volume_service_client::VolumeServiceClient,
};

use super::{Ctx, host, image::reclaimed};
use crate::{
    args::{
        Output,
        images::PruneAll,
        stores::{List, Volumes},
    },
    client::LARGEST_ANSWER,
    error::Result,
    format::{Row, Template},
    output::{clean, table::Table},
};

/// `dockctl volumes`.
pub(crate) async fn run(ctx: &Ctx, args: Volumes) -> Result<()> {
    match args {
        Volumes::Ls(args) => list(ctx, args).await,
        Volumes::Create { on, driver, options, labels, name } => {
            let agent = host::agent(ctx, &on).await?;
            let (options, labels) = (host::pairs(&Output::texts(&options)), host::pairs(&labels));
            create(ctx, CreateVolumeRequest { agent, name, driver, options, labels }).await
        }
        Volumes::Inspect { on, format, volumes } => {
            let agent = host::agent(ctx, &on).await?;
            let one = async |volume: &str| inspect(ctx, &agent, volume).await;
            host::inspect(ctx, &volumes, format.as_deref(), one).await
        }
        Volumes::Rm { on, force, volumes } => {
            let agent = host::agent(ctx, &on).await?;
            host::each(ctx, &volumes, async |volume| remove(ctx, &agent, volume, force).await).await
        }
        Volumes::Prune(args) => prune(ctx, args).await,
    }
}

const COLUMNS: [(&str, &str); 11] = [
    ("Agent", "HOST"),
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

/// A volume under docker's names.
fn row(volume: &Volume) -> Row {
    let unknown = || "N/A".to_owned();
    let fields = [
        ("Agent", volume.agent.clone()),
        ("Name", volume.name.clone()),
        ("Driver", volume.driver.clone()),
        ("Scope", volume.scope.clone()),
        ("Mountpoint", volume.mountpoint.clone()),
        ("Labels", super::labels(&volume.labels)),
        ("Links", unknown()),
        ("Size", unknown()),
        ("Availability", unknown()),
        ("Group", unknown()),
        ("Status", unknown()),
    ];
    Row::new(fields, &volume.labels)
}

async fn list(ctx: &Ctx, args: List) -> Result<()> {
    let template = Template::of_list(args.format.as_deref())?;
    let agent = host::agent(ctx, &args.on).await?;
    let request = ListVolumesRequest { agent: agent.clone(), filters: args.filter };
    let answer = host::ask(ctx, &agent, "listing volumes", |channel| {
        let request = request.clone();
        async move {
            VolumeServiceClient::new(channel)
                .max_decoding_message_size(LARGEST_ANSWER)
                .list_volumes(request)
                .await
        }
    });
    let answer = answer.await?;
    for warning in &answer.warnings {
        ctx.term.notice(&format!("{}: {}", clean(&agent), clean(warning)));
    }
    if let Some(template) = template.filter(|_| !args.quiet) {
        let rows: Vec<Row> = answer.volumes.iter().map(row).collect();
        return ctx.print_made(template.rows(&COLUMNS, &rows)?);
    }
    ctx.show_list("Volume", &answer.volumes, || match args.quiet {
        true => answer.volumes.iter().map(|v| clean(&v.name) + "\n").collect(),
        false => table(&answer.volumes).render(ctx.term.color()),
    })
}

fn table(volumes: &[Volume]) -> Table {
    let mut table = Table::new(&["DRIVER", "VOLUME NAME"]);
    for volume in volumes {
        table.row(vec![volume.driver.as_str().into(), volume.name.as_str().into()]);
    }
    table
}

async fn create(ctx: &Ctx, request: CreateVolumeRequest) -> Result<()> {
    let made = host::ask(ctx, &request.agent, "making the volume", |channel| {
        let request = request.clone();
        async move { VolumeServiceClient::new(channel).create_volume(request).await }
    });
    let volume = made.await?.volume.unwrap_or_default();
    ctx.show("Volume", &volume, || clean(&volume.name) + "\n")
}

pub(super) async fn inspect(ctx: &Ctx, agent: &str, volume: &str) -> Result<String> {
    let request = InspectVolumeRequest { agent: agent.to_owned(), volume: volume.to_owned() };
    let answer = host::ask(ctx, agent, "inspecting", |channel| {
        let request = request.clone();
        async move { VolumeServiceClient::new(channel).inspect_volume(request).await }
    });
    Ok(answer.await?.json)
}

async fn remove(ctx: &Ctx, agent: &str, volume: &str, force: bool) -> Result<String> {
    let request = RemoveVolumeRequest { agent: agent.to_owned(), volume: volume.to_owned(), force };
    let call = host::ask_within(ctx, agent, "removing", host::LONG, |channel| {
        let request = request.clone();
        async move { VolumeServiceClient::new(channel).remove_volume(request).await }
    });
    call.await?;
    Ok(clean(volume) + "\n")
}

async fn prune(ctx: &Ctx, args: PruneAll) -> Result<()> {
    let agent = host::agent(ctx, &args.prune.on).await?;
    let which = if args.all { "all" } else { "anonymous" };
    let warning = format!(
        "This will remove {which} local volumes not used by at least one container on {}.",
        clean(&agent)
    );
    host::confirm_prune(ctx, args.prune.force, &warning)?;
    let request = PruneVolumesRequest { agent, all: args.all, filters: args.prune.filter };
    let gone = prune_on(ctx, request).await?;
    ctx.show("PruneVolumesResponse", &gone, || {
        deleted("Volumes", &gone.deleted) + &reclaimed(gone.space_reclaimed)
    })
}

/// Removes unused volumes.
pub(super) async fn prune_on(
    ctx: &Ctx,
    request: PruneVolumesRequest,
) -> Result<PruneVolumesResponse> {
    host::ask_within(ctx, &request.agent, "removing volumes", host::LONG, |channel| {
        let request = request.clone();
        async move {
            VolumeServiceClient::new(channel)
                .max_decoding_message_size(LARGEST_ANSWER)
                .prune_volumes(request)
                .await
        }
    })
    .await
}

/// What a prune has removed, as docker lists it; nothing for nothing.
pub(super) fn deleted(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let names: String = names.iter().map(|name| clean(name) + "\n").collect();
    format!("Deleted {what}:\n{names}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_dockers() {
        let volume =
            Volume { name: "v".to_owned(), driver: "local".to_owned(), ..Volume::default() };
        assert_eq!(table(&[volume]).render(false), "DRIVER   VOLUME NAME\nlocal    v\n");
        assert_eq!(deleted("Volumes", &["a".to_owned()]), "Deleted Volumes:\na\n\n");
        assert_eq!(deleted("Volumes", &[]), "");
    }
}
