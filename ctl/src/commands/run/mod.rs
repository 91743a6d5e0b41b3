//! `create` and `run`: makes a container on a host of docker's own flags, with the image that it needs, and
//! holds a session with it. A failure of ours ends `run` with 125, as docker's does, or 126 and 127 where
//! the program cannot be started; else the program's own code is ours.

pub(crate) mod env;
mod mounts;
mod network;
mod ports;
pub(crate) mod spec;
pub(crate) mod values;

use std::time::Duration;

use dockctl_api::{
    error::reason,
    v1::{
        AttachStart, CreateContainerRequest, CreateContainerResponse, StartContainerRequest,
        WaitCondition, WaitContainerRequest, container_service_client::ContainerServiceClient,
    },
};

use super::{Ctx, attach, change::warn, image::pull::bring};
use crate::{
    args::run::{Create, Run},
    error::{Error, Result},
    output::{self, clean},
    resolve::{self, Target},
    session::PATIENCE,
    talk::Manner,
};

/// A program that could not be run for a reason of docker's or ours.
const NOT_RUN: i32 = 125;
/// A program that may not be executed.
const NOT_EXECUTABLE: i32 = 126;
/// A program that is not there.
const NO_PROGRAM: i32 = 127;

/// `dockctl create IMAGE [COMMAND...]`.
pub(crate) async fn create(ctx: &Ctx, args: Create) -> Result<()> {
    let made = make(ctx, &args, true).await?;
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
        Err(error) => match error.told() {
            Some(failure) => {
                ctx.term.notice(&format!("dockctl: {failure}"));
                // What has no reason was found wrong here, and was no program yet.
                let made = error.has_a_reason();
                Err(Error::program(if made { code(&failure.message) } else { NOT_RUN }))
            }
            None => Err(error),
        },
    }
}

/// The exit code for why a container could not be made or started.
fn code(message: &str) -> i32 {
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
    let made = make(ctx, &args.create, false).await?;
    let starting = ctx.wait("starting it", start(ctx, &made)).await;
    explained(ctx, &made, starting).await?;
    Ok(output::print(format!("{}\n", clean(&made.container)).as_bytes())?)
}

/// Runs it in the foreground; its exit code, or None where it was left running.
async fn attached(ctx: &Ctx, args: &Run) -> Result<Option<i32>> {
    let flags = &args.create.flags;
    let manner =
        Manner { tty: flags.tty, interactive: flags.interactive, sig_proxy: args.sig_proxy };
    manner.check()?;
    let made = make(ctx, &args.create, true).await?;
    let session = async {
        // Before it runs, since then it may be gone at once.
        let removed = match flags.rm {
            true => Some(removal(ctx, &made).await?),
            false => None,
        };
        let options =
            AttachStart { detach_keys: args.detach_keys.clone(), ..AttachStart::default() };
        let code = attach::hold(ctx, &made, options, manner, async || start(ctx, &made).await);
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

/// Makes the container, with its image; `attached` says whether somebody will be there for its output.
async fn make(ctx: &Ctx, args: &Create, attached: bool) -> Result<Target> {
    let agent = resolve::on(&ctx.session, args.on.as_deref()).await?;
    let wrong = |why: String| Error::usage(clean(&why)).about(clean(&agent));
    let pull = Pull::parse(&args.pull).map_err(wrong)?;
    let local = |name: &str| std::env::var(name).ok();
    let json = spec::spec(&args.flags, &args.words, attached, local).map_err(wrong)?;
    let request = CreateContainerRequest {
        agent: agent.clone(),
        name: args.name.clone(),
        json: json.to_string(),
        platform: args.platform.clone(),
    };
    let image = args.words.first().map(String::as_str).unwrap_or_default();
    let making = async {
        if pull == Pull::Always {
            bring(ctx, &agent, image, &args.platform).await?;
        }
        match ask(ctx, &request).await {
            Err(error) if pull == Pull::Missing && error.has_reason(reason::NOT_FOUND) => {
                let shown = clean(&tagged(image));
                ctx.term.notice(&format!("Unable to find image '{shown}' locally"));
                bring(ctx, &agent, image, &args.platform).await?;
                ask(ctx, &request).await
            }
            other => other,
        }
    };
    match Box::pin(making).await {
        Ok(made) => {
            warn(ctx, &agent, &made.warnings);
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

async fn start(ctx: &Ctx, made: &Target) -> Result<()> {
    let request =
        StartContainerRequest { agent: made.agent.clone(), container: made.container.clone() };
    let call = ctx.session.call(ctx.session.patience(PATIENCE * 2), |channel| {
        let request = request.clone();
        async move { ContainerServiceClient::new(channel).start_container(request).await }
    });
    call.await.map(drop)
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
