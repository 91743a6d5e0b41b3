//! `images VERB` on one host, with docker's own names, flags and words.

pub(crate) mod archive;
pub(crate) mod build;
pub(crate) mod history;
pub(crate) mod pull;
mod pulls;
mod transfer;

use dockctl_api::v1::{
    InspectImageRequest, Progress, PruneImagesRequest, RemoveImageRequest, TagImageRequest,
    image_service_client::ImageServiceClient,
};

use super::{Ctx, host, images};
use crate::{
    args::{
        Format,
        images::{ImageNames, ImageVerb, ImagesCommand, PruneAll, Rmi, Tag},
    },
    client::LARGEST_ANSWER,
    error::Result,
    output::{
        clean, human, json,
        printer::{Printer, To},
        progress::View,
    },
};

/// `dockctl images`.
pub(crate) async fn run(ctx: &Ctx, args: ImagesCommand) -> Result<()> {
    match args.verb {
        None => images::run(ctx, args.list).await,
        Some(ImageVerb::Ls(args)) => images::run(ctx, args).await,
        Some(ImageVerb::Pull(args)) => pull::pull(ctx, args).await,
        Some(ImageVerb::Push(args)) => pull::push(ctx, args).await,
        Some(ImageVerb::Tag(args)) => tag(ctx, args).await,
        Some(ImageVerb::Rm(args)) => remove(ctx, args).await,
        Some(ImageVerb::Inspect(args)) => inspect(ctx, args).await,
        Some(ImageVerb::History(args)) => history::run(ctx, args).await,
        Some(ImageVerb::Prune(args)) => prune(ctx, args).await,
        Some(ImageVerb::Save(args)) => archive::save(ctx, args).await,
        Some(ImageVerb::Load(args)) => archive::load(ctx, args).await,
        Some(ImageVerb::Import(args)) => archive::import(ctx, args).await,
        Some(ImageVerb::Transfer(args)) => transfer::run(ctx, args).await,
        Some(ImageVerb::Build(args)) => build::run(ctx, *args).await,
    }
}

/// `dockctl tag IMAGE NAME`.
pub(crate) async fn tag(ctx: &Ctx, args: Tag) -> Result<()> {
    let agent = host::agent(ctx, &args.on).await?;
    tag_on(ctx, &agent, &args.image, &args.name).await
}

async fn tag_on(ctx: &Ctx, agent: &str, image: &str, name: &str) -> Result<()> {
    let request =
        TagImageRequest { agent: agent.to_owned(), image: image.to_owned(), tag: name.to_owned() };
    let call = host::ask(ctx, agent, "tagging", |channel| {
        let request = request.clone();
        async move { ImageServiceClient::new(channel).tag_image(request).await }
    });
    call.await.map(drop)
}

/// `dockctl rmi IMAGE...`.
pub(crate) async fn remove(ctx: &Ctx, args: Rmi) -> Result<()> {
    let agent = host::agent(ctx, &args.on).await?;
    let one = async |image: &str| {
        let request = RemoveImageRequest {
            agent: agent.clone(),
            image: image.to_owned(),
            force: args.force,
            no_prune: args.no_prune,
        };
        let gone = host::ask_within(ctx, &agent, "removing", host::LONG, |channel| {
            let request = request.clone();
            async move { ImageServiceClient::new(channel).remove_image(request).await }
        });
        let gone = gone.await?;
        Ok(removed(&gone.untagged, &gone.deleted))
    };
    host::each(ctx, &args.images, one).await
}

fn removed(untagged: &[String], deleted: &[String]) -> String {
    let line = |what: &str, name: &String| format!("{what}: {}\n", clean(name));
    untagged
        .iter()
        .map(|name| line("Untagged", name))
        .chain(deleted.iter().map(|name| line("Deleted", name)))
        .collect()
}

async fn inspect(ctx: &Ctx, args: ImageNames) -> Result<()> {
    let agent = host::agent(ctx, &args.on).await?;
    let format = args.format.as_deref();
    host::inspect(ctx, &args.images, format, async |image: &str| json_of(ctx, &agent, image).await)
        .await
}

/// The engine's own JSON of one image.
pub(super) async fn json_of(ctx: &Ctx, agent: &str, image: &str) -> Result<String> {
    let request = InspectImageRequest { agent: agent.to_owned(), image: image.to_owned() };
    let answer = host::ask(ctx, agent, "inspecting", |channel| {
        let request = request.clone();
        async move {
            ImageServiceClient::new(channel)
                .max_decoding_message_size(LARGEST_ANSWER)
                .inspect_image(request)
                .await
        }
    });
    Ok(answer.await?.json)
}

async fn prune(ctx: &Ctx, args: PruneAll) -> Result<()> {
    let agent = host::agent(ctx, &args.prune.on).await?;
    let which = match args.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    host::confirm_prune(
        ctx,
        args.prune.force,
        &format!("This will remove {which} on {}.", clean(&agent)),
    )?;
    let request = PruneImagesRequest { agent, all: args.all, filters: args.prune.filter };
    let gone = prune_on(ctx, request).await?;
    ctx.show("PruneImagesResponse", &gone, || {
        let mut text = String::new();
        let lines = removed(&gone.untagged, &gone.deleted).to_lowercase();
        if !lines.is_empty() {
            text = format!("Deleted Images:\n{lines}\n");
        }
        text + &reclaimed(gone.space_reclaimed)
    })
}

/// Removes unused images.
pub(super) async fn prune_on(
    ctx: &Ctx,
    request: PruneImagesRequest,
) -> Result<dockctl_api::v1::PruneImagesResponse> {
    host::ask_within(ctx, &request.agent, "removing images", host::LONG, |channel| {
        let request = request.clone();
        async move {
            ImageServiceClient::new(channel)
                .max_decoding_message_size(LARGEST_ANSWER)
                .prune_images(request)
                .await
        }
    })
    .await
}

/// docker's last line of a prune.
pub(super) fn reclaimed(bytes: u64) -> String {
    format!("Total reclaimed space: {}\n", human::decimal_size(bytes, 4))
}

/// Shows the messages of long work on stdout, by the format that was asked for.
struct Show {
    format: Format,
    view: View,
    printer: Printer,
    quiet: bool,
    /// The last thing that the work has made or found.
    result: String,
}

impl Show {
    fn start(ctx: &Ctx, quiet: bool) -> Result<Self> {
        let printer = Printer::start(ctx.term, false)?;
        let view = View::new(ctx.term.out);
        Ok(Self { format: ctx.format, view, printer, quiet, result: String::new() })
    }

    async fn show(&mut self, progress: Option<Progress>) -> Result<()> {
        let Some(progress) = progress else { return Ok(()) };
        if !progress.result.is_empty() {
            self.result.clone_from(&progress.result);
        }
        if self.quiet {
            return Ok(());
        }
        let text = match self.format {
            Format::Table => self.view.text(&progress),
            format => json::item(format, &json::value("Progress", &progress)?)?,
        };
        match text.is_empty() {
            true => Ok(()),
            false if self.format == Format::Table => self.printer.send_own(To::Out, text).await,
            false => self.printer.send(To::Out, text.into()).await,
        }
    }

    /// Prints a last line of its own, where the work has gone well and a person or a `quiet` script reads.
    async fn last(&mut self, line: String) -> Result<()> {
        match self.format == Format::Table || self.quiet {
            true => self.printer.send_own(To::Out, clean(&line) + "\n").await,
            false => Ok(()),
        }
    }

    fn finish<T>(self, result: Result<T>) -> Result<T> {
        self.printer.finish(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_is_told_as_docker_tells_it() {
        let text = removed(&["a:1".to_owned()], &["sha256:\x1b[2J0".to_owned()]);
        assert_eq!(text, "Untagged: a:1\nDeleted: sha256:0\n");
        assert_eq!(reclaimed(1_234_567), "Total reclaimed space: 1.235MB\n");
    }
}
