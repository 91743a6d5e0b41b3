//! What the way over controller and link costs a small unary call. The same service, which answers at
//! once, is called over one TLS hop and through a real controller; one other process serves both ways.
//! Caller and host keep to a processor each: where the system puts both on one, as it does in some runs,
//! a hop costs a third.

use std::time::Duration;

use anyhow::Result;
use dockctl_api::tls::Trust;
use tokio::process::Command;

use crate::{
    api::{Api, Ping},
    at_once::{NAME, Ready},
    harness::{Bench, Controller, Daemon},
    measure::{Processor, alternate_latency, alternate_rate},
    report::{Figure, Goal},
};

/// Callers at once in the busy figure, on one connection.
const CALLERS: usize = 64;

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let controller = Controller::start(bench, &[]).await?;
    let mut host = Command::new(std::env::current_exe()?);
    host.args(["at-once", &controller.agents, &controller.join_token().await?]);
    host.arg(&controller.ca_fingerprint);
    let (_host, ready) = Daemon::start::<Ready>(host, &bench.dir.join("at-once.log")).await?;
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
    let (hop, link) = alternate_rate(rounds, span, &mut hop, &mut link).await?;
    let busy =
        Figure::ratio("unary over the link, 64 callers", "calls/s", ("one hop", &hop), &link);
    Ok(vec![alone.goal(Goal::AtMost(2.0)), busy])
}
