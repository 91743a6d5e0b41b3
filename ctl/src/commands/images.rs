//! `images`: the images of the fleet or of one host, in docker's columns.

use dockctl_api::v1::{Image, ListImagesRequest, image_service_client::ImageServiceClient};

use super::{Ctx, ps::tell_stale};
use crate::{
    args,
    client::LARGEST_ANSWER,
    error::Result,
    moment,
    output::{
        human,
        table::{Cell, Style, Table},
    },
    resolve,
    select::{Hosts, On, label_fits},
};

/// `dockctl images`.
pub(crate) async fn run(ctx: &Ctx, args: args::Images) -> Result<()> {
    let agent = On::agent(args.on.as_ref());
    let request = ListImagesRequest {
        agent: agent.unwrap_or_default().to_owned(),
        ..ListImagesRequest::default()
    };
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
    let now = moment::now();
    ctx.show_list("Image", &listed.images, || table(&listed.images, now).show(ctx.term))?;
    tell_stale(ctx, &listed.views, "images", now);
    Ok(())
}

fn table(images: &[Image], now: i64) -> Table {
    let mut table = Table::new(&["HOST", "REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"])
        .giving_way(&[1, 2, 4]);
    for image in images {
        let untagged = [String::new()];
        let tags = if image.tags.is_empty() { &untagged[..] } else { &image.tags };
        for name in tags {
            let (repository, tag) = split_name(name);
            let cells = [
                image.agent.clone(),
                repository.to_owned(),
                tag.to_owned(),
                human::short_id(&image.id).to_owned(),
                human::ago(image.created_at.as_ref(), now),
                human::decimal_size(image.size, 3),
            ];
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
        let text = table(&[image, Image::default()], 0).render(false);
        assert_eq!(
            text,
            "HOST    REPOSITORY   TAG      IMAGE ID       CREATED   SIZE\n\
             web-1   a            1        0123456789ab             187MB\n\
             web-1   a            2        0123456789ab             187MB\n\
             \u{20}       <none>       <none>                            0B\n"
        );
    }
}
