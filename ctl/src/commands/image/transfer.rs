//! `images transfer`: what one host saves is what the others load, one after the other, through this machine and
//! with no registry. Some MiB are under way at most, however large the image.

use dockctl_api::error::reason;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{Ctx, archive, host, json_of, tag_on};
use crate::{
    args::{Format, images::Transfer},
    error::{Error, Exit, Result},
    output::{self, clean, human, progress::Meter},
    select::{Hosts, On},
};

/// What is known of an image on one host.
struct Known {
    id: String,
    size: u64,
    tags: Vec<String>,
}

/// `dockctl images transfer FROM TO IMAGE...`.
pub(crate) async fn run(ctx: &Ctx, args: Transfer) -> Result<()> {
    let mut hosts = match On::agent(Some(&args.to)) {
        Some(one) => vec![one.to_owned()],
        None => {
            let looking = Hosts::names(&ctx.session, Some(&args.to));
            ctx.wait("looking for the agents", looking).await?
        }
    };
    hosts.retain(|host| *host != args.from);
    if hosts.is_empty() {
        return Err(Error::usage("FROM and TO are the same agent"));
    }
    let (mut told, mut failures) = (Vec::new(), Vec::new());
    for (image, to) in args.images.iter().flat_map(|i| hosts.iter().map(move |to| (i, to))) {
        match one(ctx, &args.from, to, image).await {
            Ok(arrived) if ctx.format == Format::Table => {
                output::print(arrived.line(to).as_bytes())?;
            }
            Ok(arrived) => told.push(arrived.value(to)),
            Err(error) => failures.push(error),
        }
    }
    if ctx.format != Format::Table {
        ctx.print_document(&Value::Array(told))?;
    }
    super::super::act::fail(ctx, failures)
}

/// What came of one image.
struct Arrived {
    image: String,
    id: String,
    /// The archive's bytes; None where nothing had to move.
    bytes: Option<u64>,
}

impl Arrived {
    fn line(&self, to: &str) -> String {
        let (to, image, id) = (clean(to), clean(&self.image), human::short_id(&self.id));
        let id = clean(id);
        match self.bytes {
            Some(bytes) => {
                let bytes = human::decimal_size(bytes, 4);
                format!("{to}: {image} has arrived as {id} ({bytes})\n")
            }
            None => format!("{to}: {image} is there already as {id}\n"),
        }
    }

    fn value(&self, to: &str) -> Value {
        json!({
            "agent": to,
            "image": self.image,
            "id": self.id,
            "moved": self.bytes.is_some(),
            "bytes": self.bytes.unwrap_or(0),
        })
    }
}

async fn one(ctx: &Ctx, from: &str, to: &str, image: &str) -> Result<Arrived> {
    let wanted = known(ctx, from, image).await?.ok_or_else(|| {
        Error::new(Exit::NotFound, format!("No such image: {}", clean(image))).about(from)
    })?;
    // A name goes along; an id brings no names, as with docker save.
    let name = wanted.tags.iter().find(|tag| **tag == image || **tag == format!("{image}:latest"));
    let arrived = |bytes| Arrived { image: image.to_owned(), id: wanted.id.clone(), bytes };
    if let Some(there) = known(ctx, to, &wanted.id).await? {
        if let Some(name) = name.filter(|name| !there.tags.contains(name)) {
            tag_on(ctx, to, &wanted.id, name).await?;
        }
        return Ok(arrived(None));
    }
    let pieces = archive::saved(ctx, from, &[image.to_owned()]).await?;
    let what = format!("{from} → {to} {image}");
    let meter = Meter::new(ctx.term, &what, Some(wanted.size), false);
    let host = from.to_owned();
    let pieces = pieces.map(move |piece| match piece {
        Ok(piece) => Ok(piece.data),
        Err(status) => Err(Error::from(status).about(host.clone())),
    });
    archive::load_on(ctx, to, meter.over(pieces), async |_| Ok(())).await?;
    match known(ctx, to, &wanted.id).await? {
        Some(_) => Ok(arrived(Some(meter.bytes()))),
        None => {
            let why = format!("{} did not arrive as {}", clean(image), clean(&wanted.id));
            Err(Error::new(Exit::Failed, why).about(to))
        }
    }
}

/// What a host knows of an image; None where it has none of that name or id.
async fn known(ctx: &Ctx, agent: &str, image: &str) -> Result<Option<Known>> {
    let text = match json_of(ctx, agent, image).await {
        Err(error) if error.has_reason(reason::NOT_FOUND) => return Ok(None),
        text => text?,
    };
    let value = host::json(&text)?;
    let tags = value["RepoTags"].as_array().into_iter().flatten();
    Ok(Some(Known {
        id: value["Id"].as_str().unwrap_or_default().to_owned(),
        size: value["Size"].as_u64().unwrap_or(0),
        tags: tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_told() {
        let arrived = |bytes| Arrived {
            image: "a:1".to_owned(),
            id: "sha256:0123456789abcdef".to_owned(),
            bytes,
        };
        let line = arrived(Some(2_000_000)).line("db-1");
        assert_eq!(line, "db-1: a:1 has arrived as 0123456789ab (2MB)\n");
        assert_eq!(arrived(None).line("db-1"), "db-1: a:1 is there already as 0123456789ab\n");
        assert_eq!(arrived(None).value("db-1")["moved"], false);
    }
}
