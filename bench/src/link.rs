//! What the way over controller and link costs. The same service, which answers at once, is called over one TLS hop,
//! through a bare TLS relay and through a real controller, in turn; one other process serves all three ways.
//! Caller and host keep to a processor each: where the system puts both on one, as it does in some runs,
//! a hop costs a third.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dockctl_api::v1::{ReadArchiveRequest, StreamLogsRequest};
use tokio::process::Command;

use crate::{
    api::{Api, Ping},
    at_once::{NAME, Ready},
    fake_agent::PIECE,
    harness::{Bench, Controller, Daemon, own_cpu},
    measure::{Processor, Series, alternate_latency, rate},
    report::{Figure, Goal},
};

/// Callers at once in the busy figure, on one connection.
const CALLERS: usize = 64;

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let controller = Controller::start(bench, &[]).await?;
    let mut host = Command::new(std::env::current_exe()?);
    host.args(["at-once", &controller.agents, &controller.join_token().await?]);
    host.arg(&controller.ca_fingerprint);
    let (host, ready) = Daemon::start::<Ready>(host, &bench.dir.join("at-once.log")).await?;
    let mut relay = Command::new(std::env::current_exe()?);
    relay.args(["relay", &ready.address, &ready.ca]);
    let (relay, relayed) = Daemon::start::<Ready>(relay, &bench.dir.join("relay.log")).await?;
    let ways = [
        Way { api: ready.connect().await?, between: None },
        Way { api: relayed.connect().await?, between: Some(&relay) },
        Way { api: controller.client().await?, between: Some(&controller.daemon) },
    ];
    let [one_hop, _, over_link] = &ways;
    let _here = Processor::first()?;

    let rounds = bench.pick(40, 4);
    let (hop, link) =
        alternate_latency(rounds, 50, &mut one_hop.ping(), &mut over_link.ping()).await?;
    let alone = Figure::ratio("unary over the link, 1 caller", "ms", ("one hop", &hop), &link);
    let mut figures = vec![alone.goal(Goal::AtMost(1.9))];

    for (kind, names, unit, cost_unit, goal) in [
        (Kind::Calls, CALLS, "calls/s", "µs", 0.8),
        (Kind::Chunks, CHUNKS, "MB/s", "µs/MB", 0.75),
        (Kind::Lines, LINES, "MB/s", "µs/MB", 0.75),
    ] {
        let [mut hop, mut relay, mut link] = std::array::from_fn(|_| Outcome::default());
        for round in 0..=bench.pick(7, 1) {
            for (way, outcome) in ways.iter().zip([&mut hop, &mut relay, &mut link]) {
                let once = way.work(kind, bench, &host).await?;
                // The first round warms up.
                if round > 0 {
                    outcome.add(once);
                }
            }
        }
        let [over_link, through_relay, cost] = names;
        let base = ("one hop", &hop.rates);
        figures.push(Figure::ratio(over_link, unit, base, &link.rates).goal(Goal::AtLeast(goal)));
        // What anything in between costs on these processors, and what dockctl does.
        figures.push(Figure::ratio(through_relay, unit, base, &relay.rates));
        let (hop_cost, link_cost) = (hop.cost(), link.cost());
        let total = |cost: [f64; 3]| Series::from(cost.iter().sum::<f64>());
        let base = ("one hop", &total(hop_cost));
        let figure = Figure::ratio(cost, cost_unit, base, &total(link_cost));
        figures.push(figure.parts(PROCESSES, hop_cost, link_cost));
    }
    Ok(figures)
}

const CALLS: [&str; 3] = [
    "unary over the link, 64 callers",
    "the same, through a bare TLS relay",
    "the same, processor time of a call",
];
const CHUNKS: [&str; 3] = [
    "64 KiB chunks over the link",
    "the same, through a bare TLS relay",
    "the same, processor time of a MB",
];
const LINES: [&str; 3] = [
    "100-byte log lines over the link",
    "the same, through a bare TLS relay",
    "the same, processor time of a MB",
];
/// Whose processor time is counted.
const PROCESSES: [&str; 3] = ["caller", "controller", "host"];

/// What is done.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Calls,
    Chunks,
    Lines,
}

/// A way to the host.
struct Way<'a> {
    api: Api,
    /// What stands between.
    between: Option<&'a Daemon>,
}

/// What one way has done: calls or MB a second of each round; all calls or MB, and the processor seconds that the
/// three processes needed for them.
#[derive(Default)]
struct Outcome {
    rates: Series,
    done: f64,
    used: [f64; 3],
}

impl Outcome {
    fn add(&mut self, once: Outcome) {
        self.rates.extend(once.rates);
        self.done += once.done;
        self.used.iter_mut().zip(once.used).for_each(|(all, once)| *all += once);
    }

    /// Processor time of each process for one call or MB, microseconds.
    fn cost(&self) -> [f64; 3] {
        self.used.map(|used| used * 1e6 / self.done)
    }
}

impl Way<'_> {
    fn ping(&self) -> Ping {
        Ping { client: self.api.system(), agent: NAME.to_owned() }
    }

    async fn work(&self, kind: Kind, bench: &Bench, host: &Daemon) -> Result<Outcome> {
        let used = || {
            let between = self.between.map_or(Ok(0.0), Daemon::cpu)?;
            anyhow::Ok([own_cpu()?, between, host.cpu()?])
        };
        let (begin, before) = (Instant::now(), used()?);
        let pieces = bench.pick(6_400, 100);
        let rate = match kind {
            Kind::Calls => {
                let mut callers = (0..CALLERS).map(|_| self.ping()).collect();
                let span = bench.pick(Duration::from_millis(500), Duration::from_millis(200));
                rate(&mut callers, span).await?
            }
            Kind::Chunks | Kind::Lines => streamed(&self.api, kind, pieces).await?,
        };
        let (after, done) = (used()?, rate * begin.elapsed().as_secs_f64());
        let used = std::array::from_fn(|n| after[n] - before[n]);
        Ok(Outcome { rates: rate.into(), done, used })
    }
}

/// Reads so many pieces; gives MB a second.
async fn streamed(api: &Api, kind: Kind, pieces: usize) -> Result<f64> {
    let (agent, container) = (NAME.to_owned(), pieces.to_string());
    let (begin, mut bytes) = (Instant::now(), 0);
    match kind {
        Kind::Calls => anyhow::bail!("calls are not streamed"),
        Kind::Chunks => {
            let request = ReadArchiveRequest { agent, container, ..Default::default() };
            let mut stream = api.copy().read_archive(request).await?.into_inner();
            while let Some(message) = stream.message().await? {
                bytes += message.data.len();
            }
        }
        Kind::Lines => {
            let request = StreamLogsRequest { agent, container, ..Default::default() };
            let mut stream = api.containers().stream_logs(request).await?.into_inner();
            while let Some(message) = stream.message().await? {
                bytes += message.records.iter().map(|record| record.data.len()).sum::<usize>();
            }
        }
    }
    ensure!(bytes > pieces * PIECE * 99 / 100, "only {bytes} bytes came of {pieces} pieces");
    Ok(bytes as f64 / 1e6 / begin.elapsed().as_secs_f64())
}
