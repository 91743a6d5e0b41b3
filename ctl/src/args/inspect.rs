//! `inspect`.

use clap::ValueEnum;

/// `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// The host of all that is named, which is then named as docker names it.
    #[arg(long, value_name = "AGENT")]
    pub(crate) on: Option<String>,
    /// Only things of this kind: container, image, network or volume.
    #[arg(long = "type", value_name = "KIND", hide_possible_values = true)]
    pub(crate) kind: Option<Kind>,
    /// The sizes of containers too.
    #[arg(short, long)]
    pub(crate) size: bool,
    /// "json" or a Go template over the engine's JSON.
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// host/name of containers, images, networks or volumes; the host may be left out where a container's
    /// name is unique.
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// What there is to inspect, in the order in which a name is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Container,
    Image,
    Network,
    Volume,
}
