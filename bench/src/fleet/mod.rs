//! `make bench-fleet`: ten thousand simulated agents at one real controller. One fleet goes through all
//! scenarios, since to enrol it takes the most time; each scenario gives figures, and curves for plots.

mod churn;
mod growth;
mod mix;
mod pages;
mod simulator;
mod soak;
mod storm;
mod watchers;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;

use crate::{
    harness::{Controller, Programs},
    report::Report,
};
use simulator::Simulator;

/// Where a whole run leaves its figures and plots.
const RESULTS: &str = "bench/results";

/// How large the fleet is, and where its results go.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many agents.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    agents: u32,
    /// How many containers each has.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    containers: u32,
    /// Only these scenarios, after the fleet has grown; writes nothing.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Name>,
    /// Instead of the scenarios: all that happens in a fleet, for so many minutes.
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=1_440))]
    soak: Option<u64>,
    /// Short rounds: shows that everything works, measures badly, writes nothing.
    #[arg(long)]
    quick: bool,
    /// A directory for fleet.json and the plots, instead of bench/results.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where the programs under test are, instead of beside this one.
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Option<PathBuf>,
}

/// The scenarios, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// `ps` over all containers.
    Pages,
    /// Calls to all agents, from many at once.
    Mix,
    /// Containers that start and stop all over the fleet.
    Churn,
    /// Many who watch the events, and one who does not read.
    Watchers,
    /// The controller killed and started again.
    Storm,
}

/// What every scenario works with.
struct Fleet<'p> {
    programs: &'p Programs,
    controller: Controller,
    agents: Simulator,
    /// How many agents there shall be, and containers on each.
    size: (usize, usize),
    quick: bool,
}

impl Fleet<'_> {
    /// The first for a run that counts, the second for a quick one.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// Runs all scenarios.
pub(crate) async fn run(programs: &Programs, args: Args) -> Result<()> {
    let containers = usize::try_from(args.containers)?;
    let mut fleet = Fleet {
        programs,
        controller: Controller::start(programs, &["--heartbeat", "15"]).await?,
        agents: Simulator::start(containers)?,
        size: (usize::try_from(args.agents)?, containers),
        quick: args.quick,
    };
    let mut report = Report::new(None, args.quick)?;
    println!("{} agents with {} containers each", args.agents, args.containers);
    let out = args.out.unwrap_or_else(|| RESULTS.into());

    if let Some(minutes) = args.soak {
        let (figures, seen) = soak::run(&mut fleet, Duration::from_secs(60 * minutes)).await?;
        report.add(figures);
        report.finish();
        report.write(&out.join("soak.json"))?;
        return soak::plot(&seen, &out);
    }
    let (figures, growth) = growth::run(&mut fleet).await.context("growth")?;
    report.add(figures);
    let mut storm = None;
    for name in Name::value_variants() {
        if !args.only.is_empty() && !args.only.contains(name) {
            continue;
        }
        let figures = match name {
            Name::Pages => pages::run(&mut fleet).await,
            Name::Mix => mix::run(&mut fleet).await,
            Name::Churn => churn::run(&mut fleet).await,
            Name::Watchers => watchers::run(&mut fleet).await,
            Name::Storm => storm::run(&mut fleet).await.map(|(figures, curves)| {
                storm = Some(curves);
                figures
            }),
        };
        report.add(figures.with_context(|| format!("{name:?}"))?);
    }

    report.finish();
    if let Some(storm) = storm.filter(|_| !args.quick && args.only.is_empty()) {
        report.write(&out.join("fleet.json"))?;
        growth::plot(&growth, &out)?;
        storm::plot(&storm, &out)?;
        println!("written to {}", out.display());
    }
    Ok(())
}

/// Waits until the controller knows all containers of all agents.
async fn await_inventory(fleet: &Fleet<'_>) -> Result<()> {
    let wanted = fleet.agents.len() * fleet.size.1;
    let mut client = fleet.controller.client().await?.agents();
    let waiting = async {
        loop {
            let agents = client.list_agents(dockctl_api::v1::ListAgentsRequest::default()).await?;
            let known = agents.into_inner().agents.iter().map(|a| a.containers_total).sum::<u32>();
            if usize::try_from(known)? == wanted {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.context("no whole inventory")?
}
