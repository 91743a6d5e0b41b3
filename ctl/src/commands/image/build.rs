//! `build`: sends a local context to a host's engine while it is read, and shows what the build prints.

use std::{
    fs,
    io::{self, Chain, Cursor, Read, Write},
    path::Path,
};

use bytes::Bytes;
use dockctl_api::v1::{
    BuildImageRequest, BuildOptions, RegistryLogin, image_service_client::ImageServiceClient,
};
use flate2::{Compression, write::GzEncoder};
use futures_util::{StreamExt as _, stream::BoxStream};

use super::{Ctx, Show, host};
use crate::{
    args::images::Build,
    context::{Context, bases, is_archive},
    error::{Error, Result},
    output::progress::Meter,
    pipe, registry,
};

/// The longest Dockerfile that comes by stdin, bytes.
const MAX_DOCKERFILE: u64 = 1024 * 1024;
/// Enough of a tar archive to know it by.
const BEGIN: u64 = 512;

/// `dockctl build PATH`.
pub(crate) async fn run(ctx: &Ctx, args: Build) -> Result<()> {
    if args.path == Path::new("-") && args.file.as_deref() == Some(Path::new("-")) {
        return Err(Error::usage(
            "invalid argument: can't use stdin for both build context and dockerfile",
        ));
    }
    let agent = host::agent(ctx, &args.on).await?;
    let build_args: Vec<String> = args.build_arg.iter().filter_map(|arg| argument(arg)).collect();
    let Source { pieces, dockerfile, text } = source(&args)?;
    let options = BuildOptions {
        dockerfile,
        tags: args.tag,
        logins: logins(&text, &build_args).await?,
        args: build_args,
        labels: args.label,
        target: args.target,
        no_cache: args.no_cache,
        pull: args.pull,
        platform: args.platform,
        network: args.network,
        extra_hosts: args.add_host,
        quiet: args.quiet,
        ulimits: args.limits.ulimit,
        memory: args.limits.memory.unwrap_or(0),
        memory_swap: args.limits.memory_swap.unwrap_or(0),
        cpu_period: args.limits.cpu_period,
        cpu_quota: args.limits.cpu_quota,
        cpu_shares: args.limits.cpu_shares,
        cpuset_cpus: args.limits.cpuset_cpus,
        cpuset_mems: args.limits.cpuset_mems,
        shm_size: args.limits.shm_size.unwrap_or(0),
        cache_from: args.limits.cache_from,
        security_options: args.limits.security_opt,
        cgroup_parent: args.limits.cgroup_parent,
        isolation: args.limits.isolation,
        keep_containers: !args.limits.rm && !args.limits.force_rm,
    };
    let meter = Meter::new(ctx.term, &format!("sending the context to {agent}"), None, args.quiet);
    let pieces = meter
        .over(pieces)
        .map(|data| Ok(BuildImageRequest { data: data?, ..BuildImageRequest::default() }));
    let first =
        BuildImageRequest { agent: agent.clone(), options: Some(options), data: Bytes::new() };
    let call =
        |channel, upload| async move { ImageServiceClient::new(channel).build_image(upload).await };
    let mut show = Show::start(ctx, args.quiet)?;
    let told =
        async |message: dockctl_api::v1::BuildImageResponse| show.show(message.progress).await;
    let mut result = host::send_up(ctx, &agent, first, pieces, call, told).await;
    if let (Ok(()), Some(file)) = (&result, &args.limits.iidfile) {
        result = fs::write(file, &show.result).map_err(|e| pipe::of_file(file, &e));
    }
    // Its words for a Dockerfile that is beyond the engine's own builder.
    let beyond = |e: &Error| e.told().is_some_and(|f| f.to_string().contains("BuildKit"));
    result = result.map_err(|error| match beyond(&error) {
        true => {
            let hint = format!("the local docker client has it: dockctl docker {agent} -- build …");
            error.hint(hint)
        }
        false => error,
    });
    if args.quiet && result.is_ok() {
        result = show.last(show.result.clone()).await;
    }
    show.finish(result)
}

/// Where the context comes from.
struct Source {
    pieces: BoxStream<'static, Result<Bytes>>,
    /// The Dockerfile's path in it; empty for the usual one.
    dockerfile: String,
    /// The Dockerfile's text; empty where it is in an archive.
    text: Vec<u8>,
}

fn source(args: &Build) -> Result<Source> {
    let context = if args.path == Path::new("-") {
        let mut stdin = pipe::source(None)?.0;
        let mut begin = Vec::new();
        Read::by_ref(&mut stdin).take(BEGIN).read_to_end(&mut begin)?;
        if is_archive(&begin) {
            let all: Chain<Cursor<Vec<u8>>, fs::File> = Cursor::new(begin).chain(stdin);
            let file = args.file.as_deref().map(|file| file.to_string_lossy().into_owned());
            let (dockerfile, text) = (file.unwrap_or_default(), Vec::new());
            return Ok(Source { pieces: pipe::read(all)?.boxed(), dockerfile, text });
        }
        Context::of_text(dockerfile(Cursor::new(begin).chain(stdin))?, None)?
    } else if args.file.as_deref() == Some(Path::new("-")) {
        Context::of_text(dockerfile(pipe::source(None)?.0)?, Some(&args.path))?
    } else {
        Context::of_dir(&args.path, args.file.as_deref())?
    };
    let (name, text) = (context.dockerfile.clone(), context.text.clone());
    let compress = args.limits.compress;
    let pieces = pipe::produce(move |out| write(&context, compress, out))?.boxed();
    Ok(Source { pieces, dockerfile: name, text })
}

fn write(context: &Context, compress: bool, out: impl Write) -> io::Result<()> {
    if !compress {
        return context.write(out);
    }
    let mut zipped = GzEncoder::new(out, Compression::default());
    context.write(&mut zipped)?;
    zipped.finish().map(drop)
}

fn dockerfile(from: impl Read) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(MAX_DOCKERFILE + 1).read_to_end(&mut text)?;
    match text.len() as u64 {
        0 => Err(Error::usage("the Dockerfile on stdin is empty")),
        1..=MAX_DOCKERFILE => Ok(text),
        _ => Err(Error::usage("what comes by stdin is no archive, and too long for a Dockerfile")),
    }
}

/// A build argument; one without a value has that of the variable of its name, or is left out.
fn argument(arg: &str) -> Option<String> {
    match arg.contains('=') {
        true => Some(arg.to_owned()),
        false => std::env::var(arg).ok().map(|value| format!("{arg}={value}")),
    }
}

/// The logins of the registries that the build's base images come from.
async fn logins(dockerfile: &[u8], args: &[String]) -> Result<Vec<RegistryLogin>> {
    let args: Vec<(String, String)> = host::pairs(args).into_iter().collect();
    let mut logins: Vec<RegistryLogin> = Vec::new();
    for base in bases(dockerfile, &args) {
        let registry = registry::registry_of(&base);
        if logins.iter().all(|login| login.server != registry) {
            logins.extend(registry::login(&base).await?);
        }
    }
    Ok(logins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_without_a_value_are_variables() {
        assert_eq!(argument("A=1").as_deref(), Some("A=1"));
        assert_eq!(argument("CARGO_PKG_NAME").as_deref(), Some("CARGO_PKG_NAME=dockctl"));
        assert_eq!(argument("NO_SUCH_VARIABLE_AT_ALL"), None);
    }

    #[test]
    fn a_compressed_context_is_the_same_and_smaller() {
        let context = Context::of_text(b"FROM scratch".to_vec(), None).unwrap();
        let [mut plain, mut zipped, mut again] = [const { Vec::new() }; 3];
        write(&context, false, &mut plain).unwrap();
        write(&context, true, &mut zipped).unwrap();
        assert!(is_archive(&zipped) && zipped.len() < plain.len() / 2, "{}", zipped.len());
        flate2::read::GzDecoder::new(&zipped[..]).read_to_end(&mut again).unwrap();
        assert_eq!(again, plain);
    }

    #[test]
    fn a_dockerfile_by_stdin_has_bounds() {
        assert!(dockerfile(io::empty()).is_err());
        assert!(dockerfile(io::repeat(b'x')).is_err());
        assert_eq!(dockerfile(&b"FROM scratch"[..]).unwrap(), b"FROM scratch");
    }
}
