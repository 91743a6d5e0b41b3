//! What dockctl adds to the engine beside it, measured against the engine's own socket in one run.
//! Real controller, agent and dockctl binaries, a real engine; each figure starts its own fleet, so that
//! none inherits another's memory or heartbeats. It fails only where something did not work (a line
//! missing or out of order), never because of a figure.

mod api;
mod at_once;
mod cli;
mod copy;
mod engine;
mod events;
mod exec;
mod fake_agent;
mod fleet;
mod follow;
mod forward;
mod harness;
mod hostile;
mod idle;
mod lines;
mod link;
mod list;
mod logs;
mod measure;
mod plot;
mod relay;
mod report;
mod slow_readers;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use clap::{Parser, ValueEnum};
use tempfile::TempDir;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{
    engine::Engine,
    harness::{Bench, Programs},
    report::{Figure, Report},
};

/// How long one benchmark may take before something must be stuck.
const LIMIT: Duration = Duration::from_secs(300);
/// Where a whole run leaves its figures.
const RESULTS: &str = "bench/results/latest.json";

/// Measures dockctl against the Docker engine's own socket and prints ratios.
#[derive(Parser)]
#[command(name = "dockctl-bench", version)]
struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// Short rounds: shows that everything works, measures badly.
    #[arg(long)]
    quick: bool,
    /// Only these benchmarks.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Name>,
    /// Where to write the figures as JSON. Unless given, a whole run writes bench/results/latest.json
    /// and a quick or partial one writes nothing.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the programs under test are, instead of beside this one.
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
}

/// What is no comparison with an engine.
#[derive(clap::Subcommand)]
enum Part {
    /// A fleet of thousands of simulated agents at one controller.
    Fleet(fleet::Args),
    /// A host whose service answers at once.
    #[command(hide = true)]
    AtOnce(at_once::Args),
    /// What ends TLS on both sides of a hop and does nothing else.
    #[command(hide = true)]
    Relay(relay::Args),
}

/// The benchmarks, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Memory of a fleet with nothing to do.
    Idle,
    /// Lists of containers: one host, the whole fleet.
    List,
    /// How soon an event is known.
    Events,
    /// `dockctl ps` beside `docker ps`.
    Cli,
    /// Unary calls over the link against one hop.
    Link,
    /// Other calls beside 200 logs that nobody reads.
    SlowReaders,
    /// Other agents' calls beside one that does what harm it can.
    Hostile,
    /// A key typed in a container and its echo.
    Exec,
    /// A container that prints as fast as it can.
    Follow,
    /// A whole log of 100 MB.
    Logs,
    /// 1 GB out of a container and into it.
    Copy,
    /// A container's port through `dockctl port-forward`.
    Forward,
}

fn main() -> ExitCode {
    match work(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dockctl-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(mut args: Args) -> Result<()> {
    // One thread, as dockctl and the agent have: threads that wake each other would be measured, too.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.part.take() {
        Some(Part::AtOnce(args)) => runtime.block_on(at_once::run(args)),
        Some(Part::Relay(args)) => runtime.block_on(relay::run(args)),
        Some(Part::Fleet(args)) => runtime.block_on(fleet(args)),
        None => runtime.block_on(bench(args)),
    }
}

async fn bench(args: Args) -> Result<()> {
    let engine = Engine::from_environment()?;
    let (programs, dir) = programs(args.bin_dir.clone())?;
    let bench = Bench { engine, programs, quick: args.quick };
    let ended = until_told(run(&bench, &args)).await;
    // The processes ended with their handles, when `run` did.
    bench.engine.remove_containers().await.context("cannot remove the benchmark's containers")?;
    kept(dir, ended)
}

async fn fleet(args: fleet::Args) -> Result<()> {
    let (programs, dir) = programs(args.bin_dir.clone())?;
    kept(dir, until_told(fleet::run(&programs, args)).await)
}

/// The programs under test and a directory for them.
fn programs(bin_dir: Option<PathBuf>) -> Result<(Programs, TempDir)> {
    let dir = tempfile::tempdir()?;
    let bin_dir = bin_dir.map_or_else(beside_this_program, Ok)?;
    Ok((Programs { bin_dir, dir: dir.path().to_owned() }, dir))
}

/// Works until done or told to end.
async fn until_told(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = work => ended,
        _ = interrupt.recv() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("terminated")),
    }
}

/// Keeps what the programs wrote where something did not work.
fn kept(dir: TempDir, ended: Result<()>) -> Result<()> {
    if ended.is_err() {
        eprintln!("the programs' logs are kept in {}", dir.keep().display());
    }
    ended
}

async fn run(bench: &Bench, args: &Args) -> Result<()> {
    bench.engine.remove_containers().await?; // Of a run that was killed.
    bench.engine.make_twenty().await?;
    let mut report = Report::new(Some(bench.engine.version().await?), bench.quick)?;
    let mut failed = Vec::new();
    for name in Name::value_variants() {
        if !args.only.is_empty() && !args.only.contains(name) {
            continue;
        }
        let late = |_| anyhow!("not done within {} s", LIMIT.as_secs());
        match timeout(LIMIT, Box::pin(figures(bench, *name))).await.map_err(late).flatten() {
            Ok(figures) => report.add(figures),
            Err(error) => {
                eprintln!("{name:?} failed: {error:#}");
                failed.push(format!("{name:?}"));
            }
        }
    }
    report.finish();
    let whole = !args.quick && args.only.is_empty() && failed.is_empty();
    if let Some(path) = args.out.clone().or_else(|| whole.then(|| RESULTS.into())) {
        report.write(&path).with_context(|| format!("cannot write {}", path.display()))?;
        println!("written to {}", path.display());
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(anyhow!("{} did not work", failed.join(", "))),
    }
}

async fn figures(bench: &Bench, name: Name) -> Result<Vec<Figure>> {
    match name {
        Name::Idle => idle::run(bench).await,
        Name::List => list::run(bench).await,
        Name::Events => events::run(bench).await,
        Name::Cli => cli::run(bench).await,
        Name::Link => link::run(bench).await,
        Name::SlowReaders => slow_readers::run(bench).await,
        Name::Hostile => hostile::run(bench).await,
        Name::Exec => exec::run(bench).await,
        Name::Follow => follow::run(bench).await,
        Name::Logs => logs::run(bench).await,
        Name::Copy => copy::run(bench).await,
        Name::Forward => forward::run(bench).await,
    }
}

fn beside_this_program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("this program is in no directory")?.to_owned())
}
