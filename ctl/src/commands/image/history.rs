//! `history`: the layers of an image, in docker's columns.

use dockctl_api::v1::{
    ImageLayer, ListImageHistoryRequest, image_service_client::ImageServiceClient,
};

use super::{Ctx, host};
use crate::{
    args::images::History,
    error::Result,
    moment,
    output::{clean, human, table::Table},
};

/// `dockctl history IMAGE`.
pub(crate) async fn run(ctx: &Ctx, args: History) -> Result<()> {
    let agent = host::agent(ctx, &args.on).await?;
    let request = ListImageHistoryRequest { agent: agent.clone(), image: args.image.clone() };
    let answer = host::ask(ctx, &agent, "asking for the history", |channel| {
        let request = request.clone();
        async move { ImageServiceClient::new(channel).list_image_history(request).await }
    });
    let layers = answer.await?.layers;
    ctx.show_list("ImageLayer", &layers, || match args.quiet {
        true => layers.iter().map(|l| clean(id(l, args.no_trunc)) + "\n").collect(),
        false => table(&layers, args.no_trunc, moment::now()).render(ctx.term.color()),
    })
}

fn id(layer: &ImageLayer, whole: bool) -> &str {
    if whole { &layer.id } else { human::short_id(&layer.id) }
}

fn table(layers: &[ImageLayer], whole: bool, now: i64) -> Table {
    let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    for layer in layers {
        let by = layer.created_by.replace('\t', " ");
        let by = match by.char_indices().nth(45) {
            Some(_) if !whole => by.chars().take(44).chain(['…']).collect(),
            _ => by,
        };
        table.row(vec![
            id(layer, whole).into(),
            human::ago(layer.created_at.as_ref(), now).into(),
            by.into(),
            human::decimal_size(layer.size, 3).into(),
            layer.comment.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_dockers() {
        let layer = ImageLayer {
            id: "sha256:0123456789abcdef".to_owned(),
            created_by: format!("/bin/sh -c {}", "x".repeat(60)),
            size: 5,
            ..ImageLayer::default()
        };
        let text = table(&[layer], false, 0).render(false);
        assert!(text.starts_with("IMAGE          CREATED   CREATED BY "), "{text}");
        assert!(text.contains("0123456789ab ") && text.contains("xx…"), "{text}");
    }
}
