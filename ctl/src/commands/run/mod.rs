//! `create` and `run`: makes a container on a host of docker's own flags, with the image that it needs, and
//! holds a session with it. A failure of ours ends `run` with 125, as docker's does, or 126 and 127 where
//! the program cannot be started; else the program's own code is ours.

pub(crate) mod env;
mod mounts;
mod network;
mod ports;
pub(crate) mod spec;
pub(crate) mod values;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use dockctl_api::{
    error::reason,
    v1::{
        AttachStart, CreateContainerRequest, CreateContainerResponse, WaitCondition,
        WaitContainerRequest, container_service_client::ContainerServiceClient,
    },
};

use super::{Ctx, act::start_one, attach, change::warn, image::pull::bring};
use crate::{
    args::run::{Create, Run},
    error::{Error, NOT_RUN, Result},
    output::{self, clean},
    resolve::{self, Target},
    session::PATIENCE,
    talk::Manner,
};

/// A program that may not be executed.
const NOT_EXECUTABLE: u8 = 126;
/// A program that is not there.
const NO_PROGRAM: u8 = 127;

/// `dockctl create IMAGE [COMMAND...]`.
pub(crate) async fn create(ctx: &Ctx, args: Create) -> Result<()> {
    let agent = host(ctx, &args).await?;
    let made = make(ctx, agent, &args, true).await?;
    output::print(format!("{}\n", clean(&made.container)).as_bytes())?;
    Ok(())
}

/// `dockctl run IMAGE [COMMAND...]`.
pub(crate) async fn run(ctx: &Ctx, args: Run) -> Result<()> {
    let result = match args.detach {
        true => detached(ctx, &args).await.map(|()| None),
        false => attached(ctx, &args).await,
    };
    match result {
        Ok(Some(code)) => Err(Error::program(code)),
        // It runs on.
        Ok(None) => Ok(()),
        Err(error) => {
            // What has no reason was found wrong here, and was no program yet.
            let made = error.told().filter(|_| error.has_a_reason());
            let code = made.map_or(NOT_RUN, |failure| code(&failure.message));
            Err(error.with_code(code))
        }
    }
}

/// The exit code for why a container could not be made or started.
fn code(message: &str) -> u8 {
    let message = message.to_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if says(&["executable file not found", "no such file or directory"]) {
        NO_PROGRAM
    } else if says(&["permission denied", "is a directory"]) {
        NOT_EXECUTABLE
    } else {
        NOT_RUN
    }
}

async fn detached(ctx: &Ctx, args: &Run) -> Result<()> {
    let agent = host(ctx, &args.create).await?;
    if !args.create.flags.attach.is_empty() {
        let why = "conflicting options: cannot specify both --attach and --detach";
        return Err(Error::usage(why).about(clean(&agent)));
    }
    let made = make(ctx, agent, &args.create, false).await?;
    let starting = ctx.wait("starting it", start_one(ctx, &made)).await;
    explained(ctx, &made, starting).await?;
    Ok(output::print(format!("{}\n", clean(&made.container)).as_bytes())?)
}

/// Runs it in the foreground; its exit code, or None where it was left running.
async fn attached(ctx: &Ctx, args: &Run) -> Result<Option<i32>> {
    let flags = &args.create.flags;
    let agent = host(ctx, &args.create).await?;
    let streams =
        spec::Streams::of(flags).map_err(|why| Error::usage(clean(&why)).about(clean(&agent)))?;
    let manner = Manner {
        tty: flags.tty,
        interactive: flags.interactive && streams.input,
        sig_proxy: args.sig_proxy,
        output: streams.output,
        errors: streams.errors,
    };
    manner.check()?;
    let made = make(ctx, agent, &args.create, true).await?;
    if !streams.output && !streams.errors {
        output::print(format!("{}\n", clean(&made.container)).as_bytes())?;
    }
    let session = async {
        // Before it runs, since then it may be gone at once.
        let removed = match flags.rm {
            true => Some(removal(ctx, &made).await?),
            false => None,
        };
        let options =
            AttachStart { detach_keys: args.detach_keys.clone(), ..AttachStart::default() };
        let code = attach::hold(ctx, &made, options, manner, async || start_one(ctx, &made).await);
        match (code.await?, removed) {
            (Some(code), Some(removed)) => {
                // The code is what counts: a connection lost now takes nothing from it.
                let _ = removed.await;
                Ok(Some(code))
            }
            (code, _) => Ok(code),
        }
    };
    let result = session.await;
    explained(ctx, &made, result).await
}

async fn explained<T>(ctx: &Ctx, made: &Target, result: Result<T>) -> Result<T> {
    match result {
        Err(error) => Err(resolve::explain_agent(&ctx.session, &made.agent, error).await),
        done => done,
    }
}

/// The host that is meant.
async fn host(ctx: &Ctx, args: &Create) -> Result<String> {
    ctx.wait("looking for the agent", resolve::on(&ctx.session, args.on.as_deref())).await
}

/// Makes the container, with its image; `attached` says whether somebody will be there for its output.
async fn make(ctx: &Ctx, agent: String, args: &Create, attached: bool) -> Result<Target> {
    let wrong = |why: String| Error::usage(clean(&why)).about(clean(&agent)).with_code(NOT_RUN);
    let pull = Pull::parse(&args.pull).map_err(wrong)?;
    let local = |name: &str| std::env::var(name).ok();
    let json = spec::spec(&args.flags, &args.words, attached, local).map_err(wrong)?;
    let request = CreateContainerRequest {
        agent: agent.clone(),
        name: args.name.clone(),
        json: json.to_string(),
        platform: args.platform.clone(),
    };
    let id_file = args.cidfile.as_deref().map(IdFile::new).transpose()?;
    let image = args.words.first().map(String::as_str).unwrap_or_default();
    let making = async {
        if pull == Pull::Always {
            bring(ctx, &agent, image, &args.platform, args.quiet).await?;
        }
        match ask(ctx, &request).await {
            Err(error) if pull == Pull::Missing && error.has_reason(reason::NOT_FOUND) => {
                let shown = clean(&tagged(image));
                if !args.quiet {
                    ctx.term.notice(&format!("Unable to find image '{shown}' locally"));
                }
                bring(ctx, &agent, image, &args.platform, args.quiet).await?;
                ask(ctx, &request).await
            }
            other => other,
        }
    };
    match Box::pin(making).await {
        Ok(made) => {
            warn(ctx, &agent, &made.warnings);
            if let Some(file) = id_file {
                file.write(&made.id)?;
            }
            Ok(Target { agent, container: made.id })
        }
        Err(error) => Err(resolve::explain_agent(&ctx.session, &agent, error).await),
    }
}

async fn ask(ctx: &Ctx, request: &CreateContainerRequest) -> Result<CreateContainerResponse> {
    let call = ctx.session.call(ctx.session.patience(PATIENCE * 2), |channel| {
        let request = request.clone();
        async move { ContainerServiceClient::new(channel).create_container(request).await }
    });
    ctx.wait("making the container", call).await
}

/// Registers a wait for the container's removal; what it gives ends with that.
async fn removal(ctx: &Ctx, made: &Target) -> Result<impl Future<Output = Result<()>>> {
    let request = WaitContainerRequest {
        agent: made.agent.clone(),
        container: made.container.clone(),
        condition: WaitCondition::Removed.into(),
    };
    let opening = ctx.session.call(None, |channel| {
        let request = request.clone();
        async move { ContainerServiceClient::new(channel).wait_container(request).await }
    });
    let mut waiting = opening.await?;
    waiting.message().await?;
    Ok(async move {
        // An engine that hangs on a removal must not keep the program's end from being told.
        let gone = tokio::time::timeout(Duration::from_secs(10), waiting.message());
        gone.await.map_or(Ok(()), |end| end.map(drop).map_err(Error::from))
    })
}

/// The file of `--cidfile`. Made before the container, so that no container is left whose id could not be
/// written; one that stays empty goes.
struct IdFile {
    path: PathBuf,
    file: fs::File,
    written: bool,
}

impl IdFile {
    fn new(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = fs::File::create_new(path).map_err(|error| {
            Error::usage(match error.kind() {
                io::ErrorKind::AlreadyExists => format!(
                    "container ID file found, make sure the other container isn't running or delete {shown}"
                ),
                _ => format!(
                    "failed to create the container ID file: open {shown}: {}",
                    env::cause(&error)
                ),
            })
        })?;
        Ok(Self { path: path.to_owned(), file, written: false })
    }

    fn write(mut self, id: &str) -> Result<()> {
        self.file.write_all(id.as_bytes())?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// When to pull the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pull {
    Always,
    Missing,
    Never,
}

impl Pull {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "missing" | "" => Ok(Self::Missing),
            "never" => Ok(Self::Never),
            _ => Err(format!(
                "invalid pull option: '{text}': must be one of \"always\", \"missing\" or \"never\""
            )),
        }
    }
}

/// An image's name with its tag.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.contains([':', '@']) {
        true => image.to_owned(),
        false => format!("{image}:latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_dockers_codes() {
        for (message, wanted) in [
            ("OCI runtime create failed: exec: \"nope\": executable file not found in $PATH", 127),
            ("exec: \"/nope\": stat /nope: no such file or directory: unknown", 127),
            ("exec: \"/etc/passwd\": permission denied: unknown", 126),
            ("exec: \"/etc\": is a directory: unknown", 126),
            ("port is already allocated", 125),
        ] {
            assert_eq!(code(message), wanted, "{message}");
        }
    }

    #[test]
    fn images_are_named_with_their_tag() {
        assert_eq!(tagged("nginx"), "nginx:latest");
        assert_eq!(tagged("r:5000/nginx"), "r:5000/nginx:latest");
        assert_eq!(tagged("r:5000/nginx:1"), "r:5000/nginx:1");
        assert_eq!(tagged("nginx@sha256:1"), "nginx@sha256:1");
    }
}
