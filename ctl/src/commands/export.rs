//! `export`: a container's file system as a tar archive, to a pipe or a file. A file is complete or not
//! there at all.

use std::path::PathBuf;

use dockctl_api::v1::{ExportContainerRequest, container_service_client::ContainerServiceClient};
use futures_util::StreamExt as _;

use super::{Ctx, act};
use crate::{
    args::containers::Export,
    client::LARGEST_ANSWER,
    error::{Error, Result},
    output::progress::Meter,
    pipe,
    resolve::Target,
};

/// `dockctl export REF`.
pub(crate) async fn run(ctx: &Ctx, args: Export) -> Result<()> {
    if args.file().is_none() && ctx.term.out {
        return Err(Error::usage(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let export = async |target: Target| {
        let request = ExportContainerRequest { agent: target.agent, container: target.container };
        let opening = ctx.session.call(None, |channel| {
            let request = request.clone();
            async move {
                ContainerServiceClient::new(channel)
                    .max_decoding_message_size(LARGEST_ANSWER)
                    .export_container(request)
                    .await
            }
        });
        let archive = ctx.wait("exporting", opening).await?;
        let meter = Meter::new(ctx.term, "exporting", None, false);
        let pieces = meter.over(archive.map(|piece| Ok(piece?.data)));
        pipe::Target::open(args.file().map(PathBuf::as_path))?.receive(pieces).await
    };
    Box::pin(act::one(ctx, &args.container, &export)).await
}
