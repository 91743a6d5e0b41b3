//! What is done with containers that are there. Names and flags are docker's.

use std::path::PathBuf;

use crate::refs::Ref;

use super::{Many, Refs};

/// `start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// Show its output, and end with its exit code; 125 for a failure of ours.
    #[arg(short, long)]
    pub(crate) attach: bool,
    /// Pass standard input on.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Keys that leave the session and let the container run, instead of ctrl-p,ctrl-q.
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    pub(crate) detach_keys: String,
    #[command(flatten)]
    pub(crate) many: Many,
}

impl Start {
    /// Whether it holds a session with the container.
    pub(crate) fn is_attached(&self) -> bool {
        self.attach || self.interactive
    }
}

/// `rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// Kill those that run first.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Remove their anonymous volumes too.
    #[arg(short, long)]
    pub(crate) volumes: bool,
    #[command(flatten)]
    pub(crate) many: Many,
}

/// `rename`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rename {
    /// host/container, or container where the name is unique.
    #[arg(value_name = "REF")]
    pub(crate) container: Ref,
    /// Its new name.
    pub(crate) new_name: String,
}

/// `update`: the limits that can change.
#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    /// How many CPUs it may use, for example 1.5.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) cpus: Option<String>,
    /// Its weight among those that want CPU time.
    #[arg(short, long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) cpu_shares: Option<String>,
    /// The period of the CPU quota, microseconds.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) cpu_period: Option<String>,
    /// The CPU quota, microseconds in each period.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<String>,
    /// The period of its real-time CPU time, microseconds.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) cpu_rt_period: Option<String>,
    /// Its real-time CPU time, microseconds in each period.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) cpu_rt_runtime: Option<String>,
    /// The CPUs it may use, for example 0-2,4.
    #[arg(long, value_name = "CPUS")]
    pub(crate) cpuset_cpus: Option<String>,
    /// The memory nodes it may use.
    #[arg(long, value_name = "NODES")]
    pub(crate) cpuset_mems: Option<String>,
    /// How much memory it may use, for example 512m.
    #[arg(short, long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory: Option<String>,
    /// How much memory and swap together; -1 for no limit.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// How much memory it keeps when memory is short.
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_reservation: Option<String>,
    /// How many processes it may have; -1 for no limit.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<String>,
    /// Its weight in disk access, 10 to 1000.
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<String>,
    /// When to restart it: no, on-failure[:N], always or unless-stopped.
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    #[command(flatten)]
    pub(crate) refs: Refs,
}

/// `commit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Commit {
    /// Who changed it.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) author: String,
    /// What was changed.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) message: String,
    /// A Dockerfile instruction to apply; can be repeated.
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Pause the container meanwhile.
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) pause: bool,
    /// host/container, or container where the name is unique.
    #[arg(value_name = "REF")]
    pub(crate) container: Ref,
    /// The image's name, REPOSITORY[:TAG].
    #[arg(value_name = "IMAGE", default_value = "", hide_default_value = true)]
    pub(crate) image: String,
}

/// `export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Write to this file.
    // Called as the global flag is, which it stands before here; see `Output`.
    #[arg(id = "output", short, long, value_name = "FILE", value_parser = super::Output::file())]
    pub(crate) output: Option<super::Output>,
    /// host/container, or container where the name is unique.
    #[arg(value_name = "REF")]
    pub(crate) container: Ref,
}

impl Export {
    /// The file to write; None for standard output.
    pub(crate) fn file(&self) -> Option<&PathBuf> {
        self.output.as_ref().and_then(super::Output::path)
    }
}

/// `diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// host/container, or container where the name is unique.
    #[arg(value_name = "REF")]
    pub(crate) container: Ref,
}

/// `port`.
#[derive(Debug, clap::Args)]
pub(crate) struct Port {
    /// host/container, or container where the name is unique.
    #[arg(value_name = "REF")]
    pub(crate) container: Ref,
    /// Only this port of the container, for example 80 or 53/udp.
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub(crate) port: Option<String>,
}
