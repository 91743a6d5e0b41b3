//! `history`: the layers of an image, in docker's columns.

use dockctl_api::v1::{
    ImageLayer, ListImageHistoryRequest, image_service_client::ImageServiceClient,
};

use super::{Ctx, host};
use crate::{
    args::images::History,
    error::Result,
    format::{Row, Template},
    moment,
    output::{clean, human, table::Table},
};

/// `dockctl history IMAGE`.
pub(crate) async fn run(ctx: &Ctx, args: History) -> Result<()> {
    let template = Template::of_list(args.format.as_deref())?;
    let agent = host::agent(ctx, &args.on).await?;
    let request = ListImageHistoryRequest { agent: agent.clone(), image: args.image.clone() };
    let answer = host::ask(ctx, &agent, "asking for the history", |channel| {
        let request = request.clone();
        async move { ImageServiceClient::new(channel).list_image_history(request).await }
    });
    let layers = answer.await?.layers;
    let now = moment::now();
    if let Some(template) = template.filter(|_| !args.quiet) {
        let rows: Vec<Row> = layers.iter().map(|l| row(l, &args, now)).collect();
        return ctx.print_made(template.rows(&COLUMNS, &rows)?);
    }
    ctx.show_list("ImageLayer", &layers, || match args.quiet {
        true => layers.iter().map(|l| clean(id(l, args.no_trunc)) + "\n").collect(),
        false => table(&layers, &args, now).render(ctx.term.color()),
    })
}

const COLUMNS: [(&str, &str); 6] = [
    ("ID", "IMAGE"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// A layer under docker's names.
fn row(layer: &ImageLayer, args: &History, now: i64) -> Row {
    let fields = [
        ("ID", id(layer, args.no_trunc).to_owned()),
        ("CreatedAt", moment::seconds(layer.created_at.as_ref())),
        ("CreatedSince", human::ago(layer.created_at.as_ref(), now)),
        ("CreatedBy", made_by(layer, args.no_trunc)),
        ("Size", size(layer, args.human)),
        ("Comment", layer.comment.clone()),
    ];
    Row::new(fields, &Default::default())
}

fn size(layer: &ImageLayer, human: bool) -> String {
    if human { human::decimal_size(layer.size, 3) } else { layer.size.to_string() }
}

fn made_by(layer: &ImageLayer, whole: bool) -> String {
    let by = layer.created_by.replace('\t', " ");
    match by.char_indices().nth(45) {
        Some(_) if !whole => by.chars().take(44).chain(['…']).collect(),
        _ => by,
    }
}

fn id(layer: &ImageLayer, whole: bool) -> &str {
    if whole { &layer.id } else { human::short_id(&layer.id) }
}

fn table(layers: &[ImageLayer], args: &History, now: i64) -> Table {
    let created = if args.human { "CREATED" } else { "CREATED AT" };
    let mut table = Table::new(&["IMAGE", created, "CREATED BY", "SIZE", "COMMENT"]);
    for layer in layers {
        let at = match args.human {
            true => human::ago(layer.created_at.as_ref(), now),
            false => moment::seconds(layer.created_at.as_ref()),
        };
        table.row(vec![
            id(layer, args.no_trunc).into(),
            at.into(),
            made_by(layer, args.no_trunc).into(),
            size(layer, args.human).into(),
            layer.comment.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::images::On;

    #[test]
    fn columns_are_dockers() {
        let layer = ImageLayer {
            id: "sha256:0123456789abcdef".to_owned(),
            created_by: format!("/bin/sh -c {}", "x".repeat(60)),
            size: 5,
            ..ImageLayer::default()
        };
        let mut args = History {
            on: On { on: None },
            quiet: false,
            no_trunc: false,
            human: true,
            format: None,
            image: String::new(),
        };
        let exact = |args: &History| table(std::slice::from_ref(&layer), args, 0).render(false);
        let text = exact(&args);
        args.human = false;
        assert!(exact(&args).starts_with("IMAGE          CREATED AT "));
        assert!(text.starts_with("IMAGE          CREATED   CREATED BY "), "{text}");
        assert!(text.contains("0123456789ab ") && text.contains("xx…"), "{text}");
    }
}
