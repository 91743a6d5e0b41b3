//! `images VERB`, and docker's own short names for the same.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Images, Output};
use crate::{
    commands::run::values::{size, size_or_unlimited},
    select,
};

/// Where a command works.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct On {
    /// The agent; may be left out where the fleet has just one that is connected.
    #[arg(long, value_name = "AGENT")]
    pub(crate) on: Option<String>,
}

/// `images`: the list, or a verb.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ImagesCommand {
    #[command(flatten)]
    pub(crate) list: Images,
    #[command(subcommand)]
    pub(crate) verb: Option<ImageVerb>,
}

/// `images VERB`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// List images.
    #[command(visible_alias = "list")]
    Ls(Images),
    /// Pull an image from a registry.
    Pull(Pull),
    /// Push an image to a registry.
    Push(Push),
    /// Give an image a further name.
    Tag(Tag),
    /// Remove images.
    #[command(visible_alias = "remove")]
    Rm(Rmi),
    /// Show all that the engine knows of images.
    Inspect(ImageNames),
    /// Show the layers of an image.
    History(History),
    /// Remove images that nothing uses.
    Prune(PruneAll),
    /// Save images as a tar archive.
    Save(Save),
    /// Load images from a tar archive.
    Load(Load),
    /// Make an image of a tar archive of files.
    Import(Import),
    /// Move images from one host to another, without a registry.
    Transfer(Transfer),
    /// Build an image from a Dockerfile.
    Build(Box<Build>),
}

/// `pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pull {
    /// The agent, or several: globs select, and commas stand between. It may be left out where the fleet
    /// has just one that is connected.
    #[arg(long, value_name = "AGENTS")]
    pub(crate) on: Option<select::On>,
    /// Pull the images of the containers with this label instead, on their hosts: k=v or k; can be repeated.
    #[arg(short, long, value_name = "K=V", conflicts_with = "all_tags")]
    pub(crate) label: Vec<String>,
    /// Nothing is asked: here for scripts that pass it to every verb on a selection.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// On how many hosts to pull at the same time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: u16,
    /// All tags of the repository.
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// The platform, for example linux/arm64.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) platform: String,
    /// No progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// NAME[:TAG|@DIGEST]
    #[arg(value_name = "IMAGE", required_unless_present = "label", conflicts_with = "label")]
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) image: String,
}

/// `push`.
#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    #[command(flatten)]
    pub(crate) on: On,
    /// All tags of the repository.
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// No progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// NAME[:TAG]
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// `tag`.
#[derive(Debug, clap::Args)]
pub(crate) struct Tag {
    #[command(flatten)]
    pub(crate) on: On,
    /// The image.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Its further name.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// `rmi`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rmi {
    #[command(flatten)]
    pub(crate) on: On,
    /// Also where stopped containers or several names use it.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Keep untagged parents.
    #[arg(long)]
    pub(crate) no_prune: bool,
    /// Names or ids.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// Images on a host, and nothing else.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageNames {
    #[command(flatten)]
    pub(crate) on: On,
    /// "json" or a Go template over the engine's JSON.
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Names or ids.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `history`.
#[derive(Debug, clap::Args)]
pub(crate) struct History {
    #[command(flatten)]
    pub(crate) on: On,
    /// Only ids.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Whole ids and commands.
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Sizes and times for people, or exact ones with --human=false.
    #[arg(short = 'H', long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) human: bool,
    /// "json", "table TEMPLATE" or a Go template, with docker's names.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// The image.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// A prune of images, volumes or the build cache.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneAll {
    /// All that is unused: images with names too, named volumes too, all of the cache.
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) prune: Pruning,
}

/// A prune.
#[derive(Debug, clap::Args)]
pub(crate) struct Pruning {
    #[command(flatten)]
    pub(crate) on: On,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only what fits, for example until=24h or label=k=v; can be repeated.
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
}

/// `save`.
#[derive(Debug, clap::Args)]
pub(crate) struct Save {
    #[command(flatten)]
    pub(crate) on: On,
    /// The file to write, instead of stdout.
    // Called as the global flag is, which it stands before here; see `Output`.
    #[arg(id = "output", short, long, value_name = "FILE", value_parser = Output::file())]
    pub(crate) output: Option<Output>,
    /// Names or ids.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

impl Save {
    /// The file to write; None for standard output.
    pub(crate) fn file(&self) -> Option<&PathBuf> {
        self.output.as_ref().and_then(Output::path)
    }
}

/// `load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) on: On,
    /// The archive, instead of stdin.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// No progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) on: On,
    /// A Dockerfile instruction to apply; can be repeated.
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// What it is.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) message: String,
    /// The platform, for example linux/arm64.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) platform: String,
    /// The archive; - for stdin, a URL for the engine to fetch.
    #[arg(value_name = "FILE|URL|-")]
    pub(crate) file: PathBuf,
    /// The image's name.
    #[arg(value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) name: String,
}

/// `images transfer`.
#[derive(Debug, clap::Args)]
pub(crate) struct Transfer {
    /// The agent that has them.
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// The agent that gets them, or several, one after the other: globs select, and commas stand between.
    #[arg(value_name = "TO")]
    pub(crate) to: select::On,
    /// Names or ids.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) on: On,
    /// The Dockerfile, instead of PATH/Dockerfile; - for stdin.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A name for the image; can be repeated.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// A build argument, k=v, or k to take the variable's value; can be repeated.
    #[arg(long, value_name = "K=V")]
    pub(crate) build_arg: Vec<String>,
    /// A label for the image, k=v; can be repeated.
    #[arg(long, value_name = "K=V")]
    pub(crate) label: Vec<String>,
    /// The stage to build.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) target: String,
    /// Build every step anew.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Pull the base images anew.
    #[arg(long)]
    pub(crate) pull: bool,
    /// The platform, for example linux/arm64.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) platform: String,
    /// The network of the steps.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) network: String,
    /// An entry for /etc/hosts, name:address; can be repeated.
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// Print nothing but the image's id.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) limits: BuildLimits,
    /// The directory with the context; - for a tar archive or a Dockerfile on stdin.
    #[arg(value_name = "PATH|-")]
    pub(crate) path: PathBuf,
}

/// What the steps of a build may use, and how the engine goes about it.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildLimits {
    /// A limit of the steps, for example nofile=1024:2048; can be repeated.
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// How much memory a step may use, for example 512m.
    #[arg(short, long, value_name = "BYTES", value_parser = size)]
    pub(crate) memory: Option<i64>,
    /// How much memory and swap together; -1 for no limit.
    #[arg(long, value_name = "BYTES", value_parser = size_or_unlimited, allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<i64>,
    /// The period of the CPU quota, microseconds.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) cpu_period: i64,
    /// The CPU quota, microseconds in each period.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) cpu_quota: i64,
    /// A step's weight among those that want CPU time.
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) cpu_shares: i64,
    /// The CPUs that the steps may use, for example 0-2,4.
    #[arg(long, value_name = "CPUS", default_value = "", hide_default_value = true)]
    pub(crate) cpuset_cpus: String,
    /// The memory nodes that they may use.
    #[arg(long, value_name = "NODES", default_value = "", hide_default_value = true)]
    pub(crate) cpuset_mems: String,
    /// The size of /dev/shm.
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) shm_size: Option<i64>,
    /// An image whose layers may be used again; can be repeated.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) cache_from: Vec<String>,
    /// Write the image's id to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// A security option; can be repeated.
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// The control group of the steps.
    #[arg(long, value_name = "GROUP", default_value = "", hide_default_value = true)]
    pub(crate) cgroup_parent: String,
    /// How the steps are isolated, on Windows.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) isolation: String,
    /// Remove the steps' containers; they stay with --rm=false.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) rm: bool,
    /// Remove them whatever --rm says.
    #[arg(long)]
    pub(crate) force_rm: bool,
    /// Compress the context with gzip on its way, for a slow line.
    #[arg(long)]
    pub(crate) compress: bool,
}
