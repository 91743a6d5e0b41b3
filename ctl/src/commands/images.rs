//! `images`: the images of the fleet or of one host, in docker's columns.

use dockctl_api::v1::{Image, ListImagesRequest, image_service_client::ImageServiceClient};

use super::{
    Ctx,
    fleet_filter::{self, Filters},
    ps::tell_stale,
};
use crate::{
    args,
    client::LARGEST_ANSWER,
    error::{Error, Result},
    format::{self, Row, Template},
    moment,
    output::{
        clean, human,
        table::{Cell, Style, Table},
    },
    resolve,
    select::{Hosts, On, label_fits},
};

/// `dockctl images`.
pub(crate) async fn run(ctx: &Ctx, args: args::Images) -> Result<()> {
    let agent = On::agent(args.on.as_ref());
    let template = Template::of_list(args.format.as_deref())?;
    let reference = args.reference.iter().map(|r| format!("reference={r}"));
    let wanted: Vec<String> = args.filter.iter().cloned().chain(reference).collect();
    let mut request = ListImagesRequest {
        agent: agent.unwrap_or_default().to_owned(),
        ..ListImagesRequest::default()
    };
    let mut filters = None;
    if agent.is_some() {
        request.filters = wanted;
        request.all = args.all;
    } else {
        if args.all {
            return Err(Error::usage("--all needs --on HOST"));
        }
        filters = Some(Filters::read(&wanted, &fleet_filter::IMAGES)?);
    }
    let call = ctx.session.ask(|channel| {
        let request = request.clone();
        async move {
            ImageServiceClient::new(channel)
                .max_decoding_message_size(LARGEST_ANSWER)
                .list_images(request)
                .await
        }
    });
    let mut listed = match ctx.wait("listing images", call).await {
        Ok(listed) => listed,
        Err(error) => {
            return Err(match agent {
                Some(agent) => resolve::explain_agent(&ctx.session, agent, error).await,
                None => error,
            });
        }
    };
    if agent.is_none() {
        let hosts = ctx.wait("listing agents", Hosts::new(&ctx.session, args.on.as_ref())).await?;
        listed.images.retain(|image| hosts.fits(&image.agent));
        hosts.keep(&mut listed.views);
    }
    let wanted = args.label.iter().flat_map(|l| l.split(','));
    let wanted: Vec<&str> = wanted.map(str::trim).collect();
    listed.images.retain(|image| wanted.iter().all(|l| label_fits(l, &image.labels)));
    if let Some(filters) = filters {
        listed.images.retain(|image| fleet_filter::image(&filters, image));
    }
    let now = moment::now();
    let digests = args.digests || template.as_ref().is_some_and(|t| t.names(".Digest"));
    match template.filter(|_| !args.quiet) {
        Some(template) => {
            let rows: Vec<Row> = listed
                .images
                .iter()
                .flat_map(|i| names(i, digests).map(|name| row(i, name, args.no_trunc, now)))
                .collect();
            ctx.print_made(template.rows(&COLUMNS, &rows)?)?;
        }
        None => ctx.show_list("Image", &listed.images, || match args.quiet {
            true => ids(&listed.images, args.no_trunc),
            false => table(&listed.images, digests, args.no_trunc, now).show(ctx.term),
        })?,
    }
    tell_stale(ctx, &listed.views, "images", now);
    Ok(())
}

fn ids(images: &[Image], whole: bool) -> String {
    images.iter().map(|image| clean(id(image, whole)) + "\n").collect()
}

fn id(image: &Image, whole: bool) -> &str {
    if whole { &image.id } else { human::short_id(&image.id) }
}

/// Repository, tag and digest of each of an image's rows, as docker pairs them.
fn names(image: &Image, digests: bool) -> impl Iterator<Item = [String; 3]> {
    let named = image.tags.iter().map(|name| split_name(name));
    let mut rows: Vec<[String; 3]> = Vec::new();
    let digest_of = |repository: &str| {
        let all = image.digests.iter().filter_map(|d| d.split_once('@'));
        all.filter(|(r, _)| *r == repository).map(|(_, d)| d.to_owned()).collect::<Vec<_>>()
    };
    let none = || "<none>".to_owned();
    for (repository, tag) in named {
        let known = if digests { digest_of(repository) } else { Vec::new() };
        let known = if known.is_empty() { vec![none()] } else { known };
        let row = |digest| [repository.to_owned(), tag.to_owned(), digest];
        rows.extend(known.into_iter().map(row));
    }
    if rows.is_empty() && digests {
        let all = image.digests.iter().filter_map(|d| d.split_once('@'));
        rows.extend(all.map(|(repository, d)| [repository.to_owned(), none(), d.to_owned()]));
    }
    if rows.is_empty() {
        rows.push([none(), none(), none()]);
    }
    rows.into_iter()
}

const COLUMNS: [(&str, &str); 12] = [
    ("Agent", "HOST"),
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

/// An image under docker's names.
fn row(image: &Image, [repository, tag, digest]: [String; 3], whole: bool, now: i64) -> Row {
    let unknown = || "N/A".to_owned();
    let fields = [
        ("Agent", image.agent.clone()),
        ("ID", id(image, whole).to_owned()),
        ("Repository", repository),
        ("Tag", tag),
        ("Digest", digest),
        ("CreatedSince", human::ago(image.created_at.as_ref(), now)),
        ("CreatedAt", format::time(image.created_at.as_ref())),
        ("Size", human::decimal_size(image.size, 3)),
        ("Containers", unknown()),
        ("VirtualSize", human::decimal_size(image.size, 4)),
        ("SharedSize", unknown()),
        ("UniqueSize", unknown()),
    ];
    Row::new(fields, &image.labels)
}

fn table(images: &[Image], digests: bool, whole: bool, now: i64) -> Table {
    let mut columns = vec!["HOST", "REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    let mut giving_way = vec![1, 2, 4];
    if digests {
        columns.insert(3, "DIGEST");
        giving_way = vec![1, 2, 3, 5];
    }
    let mut table = Table::new(&columns).giving_way(&giving_way);
    for image in images {
        for [repository, tag, digest] in names(image, digests) {
            let mut cells = vec![image.agent.clone(), repository, tag];
            cells.extend(digests.then_some(digest));
            cells.extend([
                id(image, whole).to_owned(),
                human::ago(image.created_at.as_ref(), now),
                human::decimal_size(image.size, 3),
            ]);
            let style = if image.stale { Style::Dim } else { Style::Plain };
            table.styled_row(cells.into_iter().map(Cell::from).collect(), style);
        }
    }
    table
}

/// Repository and tag; a colon before a slash belongs to a registry's port.
pub(super) fn split_name(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        _ if name.is_empty() => ("<none>", "<none>"),
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "<none>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_as_docker_does() {
        assert_eq!(split_name("nginx:1.29"), ("nginx", "1.29"));
        assert_eq!(split_name("registry:5000/team/app"), ("registry:5000/team/app", "<none>"));
        assert_eq!(split_name("registry:5000/team/app:2"), ("registry:5000/team/app", "2"));
        assert_eq!(split_name(""), ("<none>", "<none>"));
    }

    #[test]
    fn each_name_is_a_row() {
        let image = Image {
            agent: "web-1".to_owned(),
            id: "sha256:0123456789abcdef".to_owned(),
            tags: vec!["a:1".to_owned(), "a:2".to_owned()],
            size: 187_432_109,
            ..Image::default()
        };
        let text = table(&[image, Image::default()], false, false, 0).render(false);
        assert_eq!(
            text,
            "HOST    REPOSITORY   TAG      IMAGE ID       CREATED   SIZE\n\
             web-1   a            1        0123456789ab             187MB\n\
             web-1   a            2        0123456789ab             187MB\n\
             \u{20}       <none>       <none>                            0B\n"
        );
    }
}
