//! `volumes`, `networks`, `system` and `builder`.

use clap::Subcommand;

use super::{
    Info, Output,
    images::{On, PruneAll, Pruning},
};
use crate::{commands::run::values::size, refs::Ref};

/// `volumes`.
#[derive(Debug, Subcommand)]
pub(crate) enum Volumes {
    /// List volumes.
    #[command(visible_alias = "list")]
    Ls(List),
    /// Make a volume.
    Create {
        #[command(flatten)]
        on: On,
        /// Its driver.
        #[arg(short, long, default_value = "local")]
        driver: String,
        /// An option for the driver, k=v; can be repeated.
        // Called as the global flag is, which it stands before here; see `Output`.
        #[arg(id = "output", short = 'o', long = "opt", value_name = "K=V", value_parser = Output::file())]
        options: Vec<Output>,
        /// A label, k=v; can be repeated.
        #[arg(long = "label", value_name = "K=V")]
        labels: Vec<String>,
        /// Its name; the engine chooses one where it is left out.
        #[arg(value_name = "VOLUME", default_value = "", hide_default_value = true)]
        name: String,
    },
    /// Show all that the engine knows of volumes.
    Inspect {
        #[command(flatten)]
        on: On,
        /// "json" or a Go template over the engine's JSON.
        #[arg(short, long, value_name = "FORMAT")]
        format: Option<String>,
        /// Names.
        #[arg(required = true, value_name = "VOLUME")]
        volumes: Vec<String>,
    },
    /// Remove volumes.
    #[command(visible_alias = "remove")]
    Rm {
        #[command(flatten)]
        on: On,
        /// Forget them although their driver fails.
        #[arg(short, long)]
        force: bool,
        /// Names.
        #[arg(required = true, value_name = "VOLUME")]
        volumes: Vec<String>,
    },
    /// Remove volumes that no container uses.
    Prune(PruneAll),
}

/// A list of volumes or networks.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) on: On,
    /// Only what fits, for example dangling=true or label=k=v; can be repeated.
    #[arg(short, long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// Only names of volumes, or ids of networks.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// "json", "table TEMPLATE" or a Go template, with docker's names and .Agent.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// `networks`.
#[derive(Debug, Subcommand)]
pub(crate) enum Networks {
    /// List networks.
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        list: List,
        /// Whole ids.
        #[arg(long)]
        no_trunc: bool,
    },
    /// Make a network.
    Create(Box<CreateNetwork>),
    /// Show all that the engine knows of networks.
    Inspect {
        #[command(flatten)]
        on: On,
        /// "json" or a Go template over the engine's JSON.
        #[arg(short, long, value_name = "FORMAT")]
        format: Option<String>,
        /// Names or ids.
        #[arg(required = true, value_name = "NETWORK")]
        networks: Vec<String>,
    },
    /// Remove networks.
    #[command(visible_alias = "remove")]
    Rm {
        #[command(flatten)]
        on: On,
        /// Do not fail where there is no such network.
        #[arg(short, long)]
        force: bool,
        /// Names or ids.
        #[arg(required = true, value_name = "NETWORK")]
        networks: Vec<String>,
    },
    /// Remove networks that no container uses.
    Prune(Pruning),
    /// Connect a container to a network.
    Connect {
        #[command(flatten)]
        on: On,
        /// A further name of the container in this network; can be repeated.
        #[arg(long, value_name = "NAME")]
        alias: Vec<String>,
        /// Its IPv4 address.
        #[arg(long, default_value = "", hide_default_value = true)]
        ip: String,
        /// Its IPv6 address.
        #[arg(long, default_value = "", hide_default_value = true)]
        ip6: String,
        /// A link-local address; can be repeated.
        #[arg(long, value_name = "ADDRESS")]
        link_local_ip: Vec<String>,
        /// Another container as this one calls it; can be repeated.
        #[arg(long, value_name = "CONTAINER:ALIAS")]
        link: Vec<String>,
        /// An option for the driver, k=v; can be repeated.
        #[arg(long, value_name = "K=V")]
        driver_opt: Vec<String>,
        /// The network.
        network: String,
        /// The container; a host before it is the agent.
        #[arg(value_name = "REF")]
        container: Ref,
    },
    /// Disconnect a container from a network.
    Disconnect {
        #[command(flatten)]
        on: On,
        /// Although the container is gone or its network fails.
        #[arg(short, long)]
        force: bool,
        /// The network.
        network: String,
        /// The container; a host before it is the agent.
        #[arg(value_name = "REF")]
        container: Ref,
    },
}

/// `networks create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateNetwork {
    #[command(flatten)]
    pub(crate) on: On,
    /// Its driver.
    #[arg(short, long, default_value = "bridge")]
    pub(crate) driver: String,
    /// An option for the driver, k=v; can be repeated.
    // Called as the global flag is, which it stands before here; see `Output`.
    #[arg(id = "output", short = 'o', long = "opt", value_name = "K=V", value_parser = Output::file())]
    pub(crate) options: Vec<Output>,
    /// A label, k=v; can be repeated.
    #[arg(long = "label", value_name = "K=V")]
    pub(crate) labels: Vec<String>,
    /// It leads nowhere but to its containers.
    #[arg(long)]
    pub(crate) internal: bool,
    /// Containers may be connected by hand.
    #[arg(long)]
    pub(crate) attachable: bool,
    /// It has IPv6.
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// An address range, for example 10.1.0.0/16; can be repeated.
    #[arg(long, value_name = "RANGE")]
    pub(crate) subnet: Vec<String>,
    /// The gateway's address, one for each range.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) gateway: Vec<String>,
    /// The part of a range that containers get addresses from, one for each range.
    #[arg(long, value_name = "RANGE")]
    pub(crate) ip_range: Vec<String>,
    /// An address that the driver uses itself, name=address; can be repeated.
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub(crate) aux_address: Vec<String>,
    /// The driver that gives addresses.
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    pub(crate) ipam_driver: String,
    /// An option for that driver, k=v; can be repeated.
    #[arg(long, value_name = "K=V")]
    pub(crate) ipam_opt: Vec<String>,
    /// The network whose configuration it takes.
    #[arg(long, value_name = "NETWORK", default_value = "", hide_default_value = true)]
    pub(crate) config_from: String,
    /// It is no network but a configuration for others.
    #[arg(long)]
    pub(crate) config_only: bool,
    /// It is a swarm's way in.
    #[arg(long)]
    pub(crate) ingress: bool,
    /// local, global or swarm.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) scope: String,
    /// Its name.
    #[arg(value_name = "NETWORK")]
    pub(crate) name: String,
}

/// `system`.
#[derive(Debug, Subcommand)]
pub(crate) enum System {
    /// Show what images, containers, volumes and the build cache take on the disk.
    Df {
        #[command(flatten)]
        on: On,
        /// Each of them.
        #[arg(short, long, conflicts_with = "format")]
        verbose: bool,
        /// "json", "table TEMPLATE" or a Go template, with docker's names.
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
    },
    /// Show what an agent's engine tells of itself.
    Info(Info),
    /// Watch what happens on the hosts.
    Events(super::Events),
    /// Remove what nothing uses.
    Prune {
        /// Images with names too.
        #[arg(short, long)]
        all: bool,
        /// Volumes too.
        #[arg(long)]
        volumes: bool,
        #[command(flatten)]
        prune: Pruning,
    },
}

/// `builder`.
#[derive(Debug, Subcommand)]
pub(crate) enum Builder {
    /// Remove what the engine's builder has kept.
    Prune {
        #[command(flatten)]
        args: PruneAll,
        /// How much to keep, for example 10g.
        #[arg(long, value_name = "BYTES", value_parser = size)]
        keep_storage: Option<i64>,
    },
}
