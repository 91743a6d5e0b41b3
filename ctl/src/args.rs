//! The command line: what may be written, and nothing of what it does. Flags have docker's names where
//! docker has them. What holds for all flags is added by [`parse`], so that no command has to think of it:
//! variables and defaults (`sources.rs`), values of those that are on or off (`booleans.rs`), and docker's
//! words for what is wrong (`mistakes.rs`).

mod agents;
pub(crate) mod audit;
mod booleans;
mod container;
pub(crate) mod containers;
pub(crate) mod copy;
mod docker;
pub(crate) mod exec;
pub(crate) mod forward;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod login;
mod many;
mod mistakes;
pub(crate) mod people;
pub(crate) mod run;
mod sources;
pub(crate) mod stores;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::{EnumValueParser, PathBufValueParser, TypedValueParser},
    error::ErrorKind,
};
use clap_complete::Shell;

pub(crate) use agents::{Agents, Tokens};
pub(crate) use container::Container;
pub(crate) use docker::{Docker, DockerSocket, Listen};
pub(crate) use many::{Events, Logs, Many, Stats, Top};

use crate::{
    error::Error,
    moment::{Moment, Span},
    refs::Ref,
    select::On,
};

/// Runs fleets of Docker hosts from one place.
#[derive(Debug, Parser)]
#[command(
    name = "dockctl",
    version,
    max_term_width = 100,
    after_help = "Global options can also be variables (DOCKCTL_OUTPUT) or stand in the configuration \
        file ([defaults] output = \"json\"), those of one command in its table there \
        ([defaults.ps] all = true).\nDOCKCTL_URL, DOCKCTL_TOKEN and \
        DOCKCTL_CA_FINGERPRINT or DOCKCTL_CA_FILE work without a login.\n\nExit codes: 0 done, 1 \
        failed, 2 usage, 3 not authorised, 4 not found, 5 agent or controller unreachable. \
        run, exec, attach and start -a end with the program's own, or 125."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// How results are printed.
    #[arg(short, long, global = true, value_parser = Output::format())]
    #[arg(value_name = "table|json|yaml", hide_possible_values = true)]
    pub(crate) output: Option<Output>,
    /// No colours; so does a NO_COLOR variable.
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// The configuration file, instead of ~/.config/dockctl/config.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How long one call may take that is no stream, for example 30s.
    #[arg(long, global = true, value_name = "SPAN", value_parser = patience)]
    pub(crate) timeout: Option<Timeout>,
    /// The controller, instead of the one logged in to.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// An access token to use as it is; better given as DOCKCTL_TOKEN, which `ps` does not show.
    #[arg(long, global = true, value_name = "TOKEN", hide = true)]
    pub(crate) token: Option<String>,
    /// Trust the controller whose CA certificate has this fingerprint.
    #[arg(long, global = true, value_name = "SHA256", conflicts_with = "ca_file")]
    pub(crate) ca_fingerprint: Option<String>,
    /// Trust the controller whose CA certificate is in this file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl Global {
    /// How results are printed.
    pub(crate) fn format(&self) -> Format {
        match self.output {
            Some(Output::Format(format)) => format,
            _ => Format::default(),
        }
    }

    /// How long one call may take.
    pub(crate) fn patience(&self) -> Option<Duration> {
        match self.timeout {
            Some(Timeout::Call(Span(span))) => Some(span),
            _ => None,
        }
    }
}

/// What `--timeout` says: how long a call may take or, where docker has a flag of that name, how long a
/// container may take to end. Such a flag stands before the global one, as with [`Output`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timeout {
    /// How long one call may take.
    Call(Span),
    /// Seconds before SIGKILL; -1 for ever.
    Grace(i32),
}

/// What `--output` says: how results are printed or, for a command that writes a file as docker's does,
/// which one. The flag of such a command stands before the global one of the same name, so that both
/// have one type.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    /// How results are printed.
    Format(Format),
    /// The file to write.
    File(PathBuf),
}

impl Output {
    fn format() -> impl TypedValueParser<Value = Self> {
        EnumValueParser::<Format>::new().map(Self::Format)
    }

    /// For a command's own flag.
    fn file() -> impl TypedValueParser<Value = Self> {
        PathBufValueParser::new().map(Self::File)
    }

    /// Several of a command's own flag as they were written.
    pub(crate) fn texts(all: &[Self]) -> Vec<String> {
        all.iter().filter_map(Self::path).map(|path| path.to_string_lossy().into_owned()).collect()
    }

    /// The file to write.
    pub(crate) fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Format(_) => None,
        }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One document; a line for each item of a stream.
    Json,
    /// One document for each item of a stream.
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in to a controller.
    Login(login::Login),
    /// Log out and forget the tokens.
    Logout(login::Logout),
    /// Tell who is logged in.
    Whoami,
    /// Logins to several controllers.
    #[command(subcommand)]
    Context(login::Context),
    /// The hosts of the fleet.
    #[command(subcommand)]
    Agents(Agents),
    /// Who may log in, and what each may do.
    #[command(subcommand, visible_alias = "user")]
    Users(people::Users),
    /// The tokens that scripts carry instead of a login.
    #[command(subcommand, visible_alias = "token")]
    Tokens(people::ApiTokens),
    /// Show what each role may do.
    Roles,
    /// Who did what to which host.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// List containers.
    Ps(Ps),
    /// Show the logs of containers.
    Logs(Logs),
    /// Start containers.
    Start(containers::Start),
    /// Stop containers.
    Stop(Stop),
    /// Restart containers.
    Restart(Stop),
    /// Send a signal to containers.
    Kill(Kill),
    /// Run a command in a container.
    Exec(exec::Exec),
    /// Attach this terminal to a container's main process.
    Attach(exec::Attach),
    /// Make a container and run it.
    Run(Box<run::Run>),
    /// Make a container.
    Create(Box<run::Create>),
    /// Suspend all processes of containers.
    Pause(Many),
    /// Let the processes of paused containers go on.
    Unpause(Many),
    /// Remove containers.
    Rm(containers::Rm),
    /// Rename a container.
    Rename(containers::Rename),
    /// Change the limits of containers.
    Update(containers::Update),
    /// Wait until containers end, and print their exit codes.
    Wait(Refs),
    /// Show what a container has changed in its file system.
    Diff(containers::Diff),
    /// Show where the ports of a container are published.
    Port(containers::Port),
    /// Make an image of a container.
    Commit(containers::Commit),
    /// Write a container's file system as a tar archive.
    Export(containers::Export),
    /// Docker's long names of the verbs of containers, and `prune`.
    #[command(subcommand)]
    Container(Container),
    /// Show all that the engine knows of containers, images, networks and volumes.
    Inspect(inspect::Inspect),
    /// Copy files between this machine and containers, or between containers.
    Cp(copy::Cp),
    /// Forward ports of this machine to a container's.
    PortForward(forward::PortForward),
    /// Watch the resource use of containers.
    Stats(Stats),
    /// Watch what happens on the hosts.
    Events(Events),
    /// List images, or work on them.
    #[command(visible_alias = "image")]
    Images(images::ImagesCommand),
    /// Pull an image from a registry.
    Pull(images::Pull),
    /// Push an image to a registry.
    Push(images::Push),
    /// Give an image a further name.
    Tag(images::Tag),
    /// Remove images.
    Rmi(images::Rmi),
    /// Show the layers of an image.
    History(images::History),
    /// Save images as a tar archive.
    Save(images::Save),
    /// Load images from a tar archive.
    Load(images::Load),
    /// Make an image of a tar archive of files.
    Import(images::Import),
    /// Build an image from a Dockerfile.
    Build(Box<images::Build>),
    /// The volumes of a host.
    #[command(subcommand, visible_alias = "volume")]
    Volumes(stores::Volumes),
    /// The networks of a host.
    #[command(subcommand, visible_alias = "network")]
    Networks(stores::Networks),
    /// The disk of a host, and what its engine tells of itself.
    #[command(subcommand)]
    System(stores::System),
    /// The build cache of a host.
    #[command(subcommand)]
    Builder(stores::Builder),
    /// A live table of the fleet's containers.
    Top(Top),
    /// Tell the versions of client and controller, or of an agent and its engine.
    Version(Version),
    /// Time the way to the controller, or to an agent's engine.
    Ping(Ping),
    /// Show what an agent's engine tells of itself.
    Info(Info),
    /// Run the local docker client against a host.
    Docker(Docker),
    /// Keep a socket open that is a host's Docker API.
    DockerSocket(DockerSocket),
    /// Print a completion script for a shell.
    Completions(Completions),
}

impl Command {
    /// Whether it ends with the exit code of a program on a host.
    pub(crate) fn runs_a_program(&self) -> bool {
        match self {
            Self::Run(_) | Self::Exec(_) | Self::Attach(_) => true,
            Self::Start(start) => start.is_attached(),
            _ => false,
        }
    }
}

/// `ps`.
#[derive(Debug, clap::Args)]
pub(crate) struct Ps {
    /// Stopped containers too.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only ids.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only on these agents: a name, a glob such as 'web-*', several with commas. One name asks that
    /// agent's engine.
    #[arg(long, value_name = "AGENTS")]
    pub(crate) on: Option<On>,
    /// Only containers with this label: k=v or k; can be repeated.
    #[arg(short, long, value_name = "K=V")]
    pub(crate) label: Vec<String>,
    /// Whole ids and commands.
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only what fits, for example status=exited or name=web; can be repeated.
    #[arg(short, long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// Only the newest so many, stopped ones too.
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) last: Option<u32>,
    /// Only the newest, running or not.
    #[arg(long, conflicts_with = "last")]
    pub(crate) latest: bool,
    /// What each has written, too.
    #[arg(short, long)]
    pub(crate) size: bool,
    /// "json", "table TEMPLATE" or a Go template, with docker's names and .Agent.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// How many lines from the end: a number, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail(pub(crate) Option<u32>);

impl std::str::FromStr for Tail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Less than none is all, as docker has it.
        if text == "all" || text.parse::<i64>().is_ok_and(|n| n < 0) {
            return Ok(Self(None));
        }
        text.parse().map(|n| Self(Some(n))).map_err(|_| "write a number or \"all\"".to_owned())
    }
}

/// Containers, and nothing else.
#[derive(Debug, clap::Args)]
pub(crate) struct Refs {
    /// host/container, or container where the name is unique.
    #[arg(required = true, value_name = "REF")]
    pub(crate) containers: Vec<Ref>,
}

/// `stop` and `restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    /// Seconds to wait before SIGKILL; -1 waits for ever. (The global --timeout stands before the verb.)
    // Called as the global flag is, which it stands before here; see `Timeout`.
    #[arg(id = "timeout", short, long, visible_alias = "time", value_name = "SECONDS")]
    #[arg(value_parser = grace, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Timeout>,
    /// The signal to send first.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) signal: String,
    #[command(flatten)]
    pub(crate) many: Many,
}

impl Stop {
    /// Seconds before SIGKILL, -1 for ever; None for the container's own.
    pub(crate) fn grace(&self) -> Option<i32> {
        match self.timeout {
            Some(Timeout::Grace(seconds)) => Some(seconds),
            _ => None,
        }
    }
}

/// `kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Kill {
    /// The signal to send; SIGKILL if none is given.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) signal: String,
    #[command(flatten)]
    pub(crate) many: Many,
}

/// `images`.
#[derive(Debug, clap::Args)]
pub(crate) struct Images {
    /// Only on these agents: a name, a glob such as 'web-*', several with commas. One name asks that
    /// agent's engine.
    #[arg(long, value_name = "AGENTS")]
    pub(crate) on: Option<On>,
    /// Only images with this label: k=v or k; can be repeated.
    #[arg(short, long, value_name = "K=V")]
    pub(crate) label: Vec<String>,
    /// The images between, too.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only ids.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Their digests, too.
    #[arg(long)]
    pub(crate) digests: bool,
    /// Whole ids.
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only what fits, for example dangling=true or reference='web*'; can be repeated.
    #[arg(short, long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// "json", "table TEMPLATE" or a Go template, with docker's names and .Agent.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Only these, as a filter by reference does.
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) reference: Option<String>,
}

/// `version`.
#[derive(Debug, clap::Args)]
pub(crate) struct Version {
    /// Tell this agent's version and its engine's.
    #[arg(long, value_name = "AGENT")]
    pub(crate) on: Option<String>,
    /// "json" or a Go template over what both sides tell.
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// `ping`.
#[derive(Debug, clap::Args)]
pub(crate) struct Ping {
    /// The agent; none means the controller.
    pub(crate) agent: Option<String>,
}

/// `info`.
#[derive(Debug, clap::Args)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) on: images::On,
    /// "json" or a Go template over the engine's JSON.
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// The agent, as --on names it.
    #[arg(conflicts_with = "on")]
    pub(crate) agent: Option<String>,
}

/// `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: Shell,
}

/// Why there is nothing to do.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Help or the version was asked for, or a verb is missing.
    Help(clap::Error),
    /// The line makes no sense.
    Mistake(Error),
}

/// Parses the command line. Precedence: flag, variable, `defaults` of the configuration `file`.
pub(crate) fn parse(
    words: impl IntoIterator<Item = OsString>,
    defaults: &toml::Table,
    file: &Path,
) -> Result<Args, Refused> {
    let words: Vec<OsString> = words.into_iter().collect();
    let wrong =
        |why: String| Refused::Mistake(Error::usage(format!("{}: its {why}", file.display())));
    let plain = || sources::with_sources(Args::command(), defaults).map_err(wrong);
    let parsed = booleans::with_values(plain()?).try_get_matches_from(&words);
    let parsed = parsed.and_then(|matches| Args::from_arg_matches(&matches));
    let shortened = |args: Args| match args.command {
        Command::Container(verb) => Args { command: verb.short(), ..args },
        command => Args { command, ..args },
    };
    // The tree is large, and made again only where it is looked at again.
    let error = match parsed {
        Ok(args) => return Ok(shortened(args)),
        Err(error) => error,
    };
    Err(match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let of_plain = plain()?.try_get_matches_from(&words).err();
            Refused::Help(of_plain.filter(|e| e.kind() == error.kind()).unwrap_or(error))
        }
        _ => Refused::Mistake(mistakes::explain(&error, booleans::with_values(plain()?), &words)),
    })
}

/// A span in which something can happen.
fn patience(text: &str) -> Result<Timeout, String> {
    match text.parse::<Span>()? {
        Span(span) if span.is_zero() => {
            Err("no call is done in no time: write for example 30s".to_owned())
        }
        span => Ok(Timeout::Call(span)),
    }
}

/// Seconds that a container has before it is killed.
fn grace(text: &str) -> Result<Timeout, String> {
    let seconds = text
        .parse()
        .map_err(|_| format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))?;
    Ok(Timeout::Grace(seconds))
}

/// The command tree without variables and defaults, for completions.
pub(crate) fn command() -> clap::Command {
    Args::command()
}

/// The file that `--config` or DOCKCTL_CONFIG names. Known before the rest can be parsed, since the file
/// holds defaults.
pub(crate) fn config_path(words: &[OsString]) -> Option<PathBuf> {
    // Behind an image or a command for a container the same words may be that command's, which only the parser knows.
    let named = words.iter().any(|w| w.to_str().is_some_and(|w| w.starts_with("--config")));
    let tree = || booleans::with_values(Args::command());
    let parsed = || tree().ignore_errors(true).try_get_matches_from(words).ok();
    let found = named.then(parsed).flatten();
    let found = found.and_then(|matches| matches.get_one::<PathBuf>("config").cloned());
    let variable = || std::env::var_os("DOCKCTL_CONFIG").filter(|v| !v.is_empty());
    found.or_else(|| variable().map(PathBuf::from))
}

#[cfg(test)]
mod docker_flags;
#[cfg(test)]
mod tests;
