//! What the way over controller and link costs a small unary call. The same service, which answers at
//! once, is called over one TLS hop and through a real controller; one other process serves both ways.
//! Caller and host keep to a processor each: where the system puts both on one, as it does in some runs,
//! a hop costs a third.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dockctl_api::{
    tls::Trust,
    v1::{ReadArchiveRequest, StreamLogsRequest},
};
use tokio::process::Command;

use crate::{
    api::{Api, Ping},
    at_once::{NAME, Ready},
    fake_agent::PIECE,
    harness::{Bench, Controller, Daemon, own_cpu},
    measure::{Processor, Series, alternate_latency, alternate_rate, rate},
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
    let one_hop = Api::connect(&ready.address, Trust::Ca(hex::decode(&ready.ca)?.into())).await?;
    let over_link = controller.client().await?;
    let _here = Processor::first()?;
    let ping = |api: &Api| Ping { client: api.system(), agent: NAME.to_owned() };

    let rounds = bench.pick(40, 4);
    let (hop, link) =
        alternate_latency(rounds, 50, &mut ping(&one_hop), &mut ping(&over_link)).await?;
    let alone = Figure::ratio("unary over the link, 1 caller", "ms", ("one hop", &hop), &link);

    let (rounds, span) =
        bench.pick((5, Duration::from_millis(500)), (1, Duration::from_millis(200)));
    let mut hop: Vec<_> = (0..CALLERS).map(|_| ping(&one_hop)).collect();
    let mut link: Vec<_> = (0..CALLERS).map(|_| ping(&over_link)).collect();
    let (hop_rate, link_rate) = alternate_rate(rounds, span, &mut hop, &mut link).await?;
    let busy = ("one hop", &hop_rate);
    let busy = Figure::ratio("unary over the link, 64 callers", "calls/s", busy, &link_rate);
    // What all processes together need for a call bounds how many two processors can get through.
    let used = || anyhow::Ok(own_cpu()? + host.cpu()? + controller.daemon.cpu()?);
    let (mut hop_cost, mut link_cost) = (Series::default(), Series::default());
    for _ in 0..rounds {
        hop_cost.push(cost(&mut hop, span, used).await?);
        link_cost.push(cost(&mut link, span, used).await?);
    }
    let hop_cost = ("one hop", &hop_cost);
    let cost = Figure::ratio("the same, processor time of a call", "µs", hop_cost, &link_cost);

    let pieces = bench.pick(3_200, 100);
    let mut figures = vec![alone.goal(Goal::AtMost(1.9)), busy.goal(Goal::AtLeast(0.8)), cost];
    for (name, kind) in [
        ("64 KiB chunks over the link", Kind::Chunks),
        ("100-byte log lines over the link", Kind::Lines),
    ] {
        let (mut hop, mut link) = (Series::default(), Series::default());
        for _ in 0..bench.pick(5, 1) {
            hop.push(streamed(&one_hop, kind, pieces).await?);
            link.push(streamed(&over_link, kind, pieces).await?);
        }
        let figure = Figure::ratio(name, "MB/s", ("one hop", &hop), &link);
        figures.push(figure.goal(Goal::AtLeast(0.75)));
    }
    Ok(figures)
}

/// Processor time of a call, microseconds.
async fn cost(
    callers: &mut Vec<Ping>,
    span: Duration,
    used: impl Fn() -> Result<f64>,
) -> Result<f64> {
    let (begin, before) = (Instant::now(), used()?);
    let rate = rate(callers, span).await?;
    Ok((used()? - before) * 1e6 / (rate * begin.elapsed().as_secs_f64()))
}

/// What is streamed.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Chunks,
    Lines,
}

/// Reads so many pieces; gives MB a second.
async fn streamed(api: &Api, kind: Kind, pieces: usize) -> Result<f64> {
    let (agent, container) = (NAME.to_owned(), pieces.to_string());
    let (begin, mut bytes) = (Instant::now(), 0);
    match kind {
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
