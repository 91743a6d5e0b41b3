//! The command line: what may be written, and nothing of what it does. Flags have docker's names where
//! docker has them. Each flag can also come from a DOCKCTL_… variable or the configuration file's
//! [defaults]; [`parse`] adds both to every flag, so that no command has to think of it.

pub(crate) mod containers;
pub(crate) mod copy;
mod docker;
pub(crate) mod exec;
pub(crate) mod forward;
pub(crate) mod images;
mod many;
pub(crate) mod run;
pub(crate) mod stores;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::{BoolishValueParser, EnumValueParser, PathBufValueParser, TypedValueParser},
};
use clap_complete::Shell;

pub(crate) use docker::{Docker, DockerSocket, Listen};
pub(crate) use many::{Events, Logs, Many, Stats, Top};

use crate::{
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
    after_help = "Every flag can also be given as a variable (--output: DOCKCTL_OUTPUT) or in the \
        configuration file ([defaults] output = \"json\").\nDOCKCTL_URL, DOCKCTL_TOKEN and \
        DOCKCTL_CA_FINGERPRINT or DOCKCTL_CA_FILE work without a login.\n\nExit codes: 0 done, 1 \
        failed, 2 usage, 3 not authorised, 4 not found, 5 agent or controller unreachable."
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
    /// How long one call may take, for example 30s.
    #[arg(long, global = true, value_name = "SPAN", value_parser = patience)]
    pub(crate) timeout: Option<Span>,
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
    Login(Login),
    /// Log out and forget the tokens.
    Logout,
    /// Tell who is logged in.
    Whoami,
    /// The hosts of the fleet.
    #[command(subcommand)]
    Agents(Agents),
    /// List containers.
    Ps(Ps),
    /// Show the logs of containers.
    Logs(Logs),
    /// Start containers.
    Start(Many),
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
    /// Manage containers.
    #[command(subcommand)]
    Container(containers::Container),
    /// Show all that the engine knows of containers.
    Inspect(Inspect),
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

/// `login`.
#[derive(Debug, clap::Args)]
pub(crate) struct Login {
    /// The controller, for example https://controller:7443; port 7443 if none is given.
    #[arg(value_name = "URL")]
    pub(crate) to: Option<String>,
    /// The user's name.
    #[arg(short, long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// Read the password from stdin.
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

/// `agents`.
#[derive(Debug, Subcommand)]
pub(crate) enum Agents {
    /// List the agents.
    Ls {
        /// Only agents with these labels: k=v or k, several with commas.
        #[arg(short = 'l', long, value_name = "SELECTOR")]
        selector: Option<String>,
        /// Only names.
        #[arg(short, long)]
        quiet: bool,
    },
    /// Show all of one agent.
    Show {
        /// The agent's name or id.
        agent: String,
    },
    /// Set labels (k=v) and remove them (k-).
    Label {
        /// The agent's name or id.
        agent: String,
        /// k=v sets, k- removes.
        #[arg(required = true, value_name = "LABEL")]
        labels: Vec<String>,
    },
    /// Shut an agent out for good.
    Revoke {
        /// The agent's name or id.
        agent: String,
        /// Why; the agent is told.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Revoke an agent and remove it from the list.
    Rm {
        /// The agent's name or id.
        agent: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Watch agents come, go and change.
    Watch {
        /// Only agents with these labels: k=v or k, several with commas.
        #[arg(short = 'l', long, value_name = "SELECTOR")]
        selector: Option<String>,
    },
    /// The tokens that let new hosts in.
    #[command(subcommand)]
    Token(Tokens),
}

/// `agents token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Make a join token; it is shown this once.
    Create {
        /// How many hosts may use it.
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it lives.
        #[arg(long, default_value = "30m", value_name = "SPAN")]
        ttl: Span,
        /// A label that its hosts get; can be repeated.
        #[arg(long, value_name = "K=V")]
        label: Vec<String>,
        /// What it is for.
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
    },
    /// List the tokens, without their secrets.
    Ls,
    /// Delete a token; hosts that used it stay.
    Rm {
        /// The token's id.
        id: String,
    },
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
        if text == "all" {
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

/// `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// "json" or a Go template over the engine's JSON.
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) refs: Refs,
}

/// `stop` and `restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    /// Seconds to wait before SIGKILL.
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) time: Option<u32>,
    /// The signal to send first.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) signal: String,
    #[command(flatten)]
    pub(crate) many: Many,
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

/// Parses the command line. Precedence: flag, variable, `defaults` of the configuration `file`.
pub(crate) fn parse(
    words: impl IntoIterator<Item = OsString>,
    defaults: &toml::Table,
    file: &Path,
) -> Result<Args, clap::Error> {
    let mut unknown: Vec<&String> = defaults.keys().collect();
    let command = with_sources(Args::command(), defaults, &mut unknown);
    if let Some(name) = unknown.first() {
        let text = format!("{}: its [defaults] has \"{name}\", which is no flag\n", file.display());
        return Err(clap::Error::raw(clap::error::ErrorKind::UnknownArgument, text));
    }
    Args::from_arg_matches(&command.try_get_matches_from(words)?)
}

/// A span in which something can happen.
fn patience(text: &str) -> Result<Span, String> {
    match text.parse::<Span>()? {
        Span(span) if span.is_zero() => {
            Err("no call is done in no time: write for example 30s".to_owned())
        }
        span => Ok(span),
    }
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
    let parsed = || Args::command().ignore_errors(true).try_get_matches_from(words).ok();
    let found = named.then(parsed).flatten();
    let found = found.and_then(|matches| matches.get_one::<PathBuf>("config").cloned());
    let variable = || std::env::var_os("DOCKCTL_CONFIG").filter(|v| !v.is_empty());
    found.or_else(|| variable().map(PathBuf::from))
}

fn with_sources(
    command: clap::Command,
    defaults: &toml::Table,
    unknown: &mut Vec<&String>,
) -> clap::Command {
    command
        .mut_args(|arg| with_source(arg, defaults, unknown))
        .mut_subcommands(|sub| with_sources(sub, defaults, unknown))
}

fn with_source(mut arg: Arg, defaults: &toml::Table, unknown: &mut Vec<&String>) -> Arg {
    let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
    if matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
        return arg;
    }
    // A file to write is not what the variable and the default of the global --output mean.
    if long == "output" && !arg.is_global_set() {
        return arg;
    }
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        arg = arg.value_parser(BoolishValueParser::new());
    }
    let variable = format!("DOCKCTL_{}", long.to_uppercase().replace('-', "_"));
    // One that is set to nothing counts as one that is not set.
    if std::env::var_os(&variable).is_some_and(|value| !value.is_empty()) {
        // Hidden, since help would otherwise print the variables' values, a token among them.
        arg = arg.env(variable).hide_env(true);
    }
    unknown.retain(|name| **name != long);
    match defaults.get(&long) {
        Some(toml::Value::Array(values)) => {
            arg.default_values(values.iter().map(default_text).collect::<Vec<_>>())
        }
        Some(value) => arg.default_value(default_text(value)),
        None => arg,
    }
}

fn default_text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str, defaults: &str) -> Result<Args, clap::Error> {
        let words = line.split_whitespace().map(OsString::from);
        parse(words, &defaults.parse().unwrap(), Path::new("/my/config.toml"))
    }

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_win_over_the_files_defaults() {
        let defaults = "output = \"yaml\"\nall = true\nlabel = [\"a=b\", \"c\"]\ntail = 5";
        let ps = args("dockctl ps", defaults).unwrap();
        assert_eq!(ps.global.format(), Format::Yaml);
        let Command::Ps(ps) = ps.command else { panic!() };
        assert!(ps.all);
        assert_eq!(ps.label, ["a=b", "c"]);
        let logs = args("dockctl logs x -o json --tail all", defaults).unwrap();
        assert_eq!(logs.global.format(), Format::Json);
        let Command::Logs(logs) = logs.command else { panic!() };
        assert_eq!(logs.tail, Tail(None));
    }

    #[test]
    fn a_file_to_write_is_not_a_format() {
        let export = |line: &str, defaults: &str| {
            let args = args(line, defaults).unwrap();
            let Command::Export(export) = &args.command else { panic!() };
            (args.global.format(), export.file().cloned())
        };
        assert_eq!(export("dockctl export x", ""), (Format::Table, None));
        assert_eq!(export("dockctl export -o a.tar x", ""), (Format::Table, Some("a.tar".into())));
        assert_eq!(export("dockctl export x", "output = \"json\"").1, None);
        assert_eq!(export("dockctl -o json export x", "").1, None);
    }

    #[test]
    fn what_comes_after_the_image_is_the_containers() {
        let run = |line: &str| {
            let Command::Run(run) = args(line, "").unwrap().command else { panic!() };
            run
        };
        let plain = run("dockctl run --on a -dit -h web -e A=1 -p 80:80 image sh -c -e -o --rm x");
        assert_eq!(plain.create.words, ["image", "sh", "-c", "-e", "-o", "--rm", "x"]);
        assert!(plain.detach && plain.create.flags.interactive && plain.create.flags.tty);
        assert_eq!(plain.create.flags.env, ["A=1"]);
        assert!(!plain.create.flags.rm && plain.sig_proxy);
        assert_eq!(plain.create.flags.hostname.as_deref(), Some("web"));
        let other = run("dockctl run --sig-proxy=false --entrypoint= -m -5 image --help");
        assert_eq!(other.create.words, ["image", "--help"]);
        assert!(!other.sig_proxy);
        assert_eq!(other.create.flags.entrypoint.as_deref(), Some(""));
        assert_eq!(other.create.flags.memory.as_deref(), Some("-5"));
        assert_eq!(args("dockctl run", "").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn an_unknown_default_is_named() {
        let error = args("dockctl ps", "colour = true").unwrap_err().to_string();
        assert!(error.contains("\"colour\""), "{error}");
    }

    #[test]
    fn bad_references_and_times_are_usage_errors() {
        for line in
            ["dockctl logs a/b/c", "dockctl logs --since soon x", "dockctl stop", "dockctl ps x"]
        {
            assert_eq!(args(line, "").unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn the_configuration_file_is_found_first() {
        let path = |line: &str| {
            config_path(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
        };
        assert_eq!(path("dockctl ps --config a.toml"), Some("a.toml".into()));
        assert_eq!(path("dockctl --config=b.toml ps"), Some("b.toml".into()));
        assert_eq!(path("dockctl logs -- --config"), None);
        assert_eq!(path("dockctl run image program --config c.toml"), None);
        assert_eq!(path("dockctl --config a exec x prog --config b"), Some("a".into()));
        assert_eq!(path("dockctl exec --config a -it x prog"), Some("a".into()));
        assert_eq!(path("dockctl exec x prog --config b"), None);
        assert_eq!(path("dockctl --config a nonsense --flag"), Some("a".into()));
    }

    #[test]
    fn the_words_of_a_command_are_its_own() {
        let exec = |line| match args(line, "").unwrap().command {
            Command::Exec(exec) => exec,
            other => panic!("{other:?}"),
        };
        let one = exec("dockctl exec -it -e A=1 -e B web-1/app ls -la -o json -- --help");
        assert!(one.interactive && one.tty && !one.detach);
        assert_eq!(one.env, ["A=1", "B"]);
        assert_eq!(one.command, ["ls", "-la", "-o", "json", "--", "--help"]);
        let two = exec("dockctl exec --user 1:2 -w /srv app -x");
        assert_eq!((two.user.as_str(), two.workdir.as_str()), ("1:2", "/srv"));
        assert_eq!(two.command, ["-x"]);
        assert_eq!(args("dockctl exec app", "").unwrap_err().exit_code(), 2);
        for (line, proxy) in [
            ("dockctl attach app", true),
            ("dockctl attach --sig-proxy app", true),
            ("dockctl attach --sig-proxy=false app", false),
        ] {
            let Command::Attach(attach) = args(line, "").unwrap().command else { panic!() };
            assert_eq!(attach.sig_proxy, proxy, "{line}");
        }
    }
}
