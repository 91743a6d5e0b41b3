//! `export`: a container's file system as a tar archive, to a pipe or a file. A file is complete or not
//! there at all.

use std::{fs::File as StdFile, path::Path};

use dockctl_api::v1::{
    ExportContainerRequest, ExportContainerResponse,
    container_service_client::ContainerServiceClient,
};
use tempfile::NamedTempFile;
use tokio::{fs::File, io::AsyncWriteExt as _};
use tonic::Streaming;

use super::{Ctx, act};
use crate::{
    args::containers::Export,
    client::LARGEST_ANSWER,
    error::{Error, Exit, Result},
    output::{
        clean,
        printer::{Printer, To},
    },
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
        match args.file() {
            Some(path) => to_file(path, opening.await?).await,
            None => to_stdout(ctx, opening.await?).await,
        }
    };
    // The archive itself is the sign of life on a pipe.
    match args.file() {
        Some(_) => ctx.wait("exporting", act::one(ctx, &args.container, &export)).await,
        None => Box::pin(act::one(ctx, &args.container, &export)).await,
    }
}

async fn to_stdout(ctx: &Ctx, mut archive: Streaming<ExportContainerResponse>) -> Result<()> {
    let mut printer = Printer::start(ctx.term, true)?;
    let printing = async {
        while let Some(piece) = archive.message().await? {
            printer.send(To::Out, piece.data).await?;
        }
        Ok(())
    };
    let result = printing.await;
    printer.finish(result)
}

async fn to_file(path: &Path, archive: Streaming<ExportContainerResponse>) -> Result<()> {
    let failed = |error: &std::io::Error| {
        let shown = clean(&path.display().to_string());
        Error::new(Exit::Failed, format!("{shown} cannot be written: {error}"))
    };
    // A device or a pipe is written to; a file is replaced once its successor is whole.
    if path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        let file = StdFile::options().write(true).open(path).map_err(|e| failed(&e))?;
        return write(file, archive, failed).await;
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let part = NamedTempFile::new_in(folder).map_err(|e| failed(&e))?;
    write(part.reopen().map_err(|e| failed(&e))?, archive, failed).await?;
    part.persist(path).map(drop).map_err(|e| failed(&e.error))
}

async fn write(
    file: StdFile,
    mut archive: Streaming<ExportContainerResponse>,
    failed: impl Fn(&std::io::Error) -> Error,
) -> Result<()> {
    let mut file = File::from_std(file);
    while let Some(piece) = archive.message().await? {
        file.write_all(&piece.data).await.map_err(|e| failed(&e))?;
    }
    file.flush().await.map_err(|e| failed(&e))
}
