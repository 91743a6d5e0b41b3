//! The flags that select many containers, and the commands that are made of them.

use super::{Moment, Ref, Tail};
use crate::select::{On, Selection};

/// `-l` and `--on`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Selector {
    /// Only containers with this label: k=v or k; can be repeated.
    #[arg(short, long, value_name = "K=V")]
    pub(crate) label: Vec<String>,
    /// Only on these agents: a name, a glob such as 'web-*', several with commas.
    #[arg(long, value_name = "AGENTS")]
    pub(crate) on: Option<On>,
}

/// What an action works on: references, globs among them, or a selection.
#[derive(Debug, clap::Args)]
pub(crate) struct Many {
    #[command(flatten)]
    pub(crate) selector: Selector,
    /// Do not ask before acting on a selection.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// How many to work on at the same time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: u16,
    /// host/container, or container where the name is unique; globs select, for example 'web-*/app'.
    #[arg(value_name = "REF", required_unless_present_any = ["label", "on"])]
    pub(crate) containers: Vec<Ref>,
}

impl Many {
    /// Whether it selects: else it names its containers one by one.
    pub(crate) fn selects(&self) -> bool {
        Selection::is_one(self.selector.on.as_ref(), &self.selector.label, &self.containers)
    }
}

/// `logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// Go on with new lines as they come, through lost links too.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many lines from the end to begin with, or "all".
    #[arg(short = 'n', long, value_name = "N", default_value = "all", allow_hyphen_values = true)]
    pub(crate) tail: Tail,
    /// Only lines at or after this time: 10m, 2026-11-22T15:27:00Z, or Unix seconds.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// Only lines before this time.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
    /// Begin each line with its time.
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Begin each line with what its log driver was told to note (--log-opt labels=…, env=…, tag=…).
    #[arg(long)]
    pub(crate) details: bool,
    /// Leave escape sequences in, even on a terminal.
    #[arg(long)]
    pub(crate) raw: bool,
    /// Of a selection, stopped containers too.
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) selector: Selector,
    /// host/container, or container where the name is unique; globs select, for example 'web-*/app'.
    #[arg(value_name = "REF", required_unless_present_any = ["label", "on"])]
    pub(crate) containers: Vec<Ref>,
}

/// `stats`.
#[derive(Debug, clap::Args)]
pub(crate) struct Stats {
    /// End after one sample of each.
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Stopped containers too, as zeros; with one host.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Whole ids.
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// "json", "table TEMPLATE" or a Go template, with docker's names and .Agent.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) selector: Selector,
    /// host/container, or container, or a glob such as 'web-*/app'; none means all that run.
    #[arg(value_name = "REF")]
    pub(crate) containers: Vec<Ref>,
}

/// `events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    /// Begin with what happened since this time.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// End at this time.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
    /// Whole ids.
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only what fits, for example type=container or event=die; can be repeated.
    #[arg(short, long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// "json" or a Go template, with docker's names and .Agent.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    #[command(flatten)]
    pub(crate) selector: Selector,
}

/// `top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) selector: Selector,
    /// A container whose processes are listed, as docker does, and options of ps(1) for that, for example
    /// aux; none shows the fleet's containers.
    #[arg(value_name = "REF [PS OPTIONS]", trailing_var_arg = true, conflicts_with_all = ["label", "on"])]
    pub(crate) words: Vec<String>,
}
