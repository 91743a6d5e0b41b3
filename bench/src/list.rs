//! Lists of containers: of one host, where the engine is asked, and of the fleet, where the inventory
//! answers. The engine is asked for the same containers on its socket, its answers read whole.

use std::time::Duration;

use anyhow::Result;

use crate::{
    api::List,
    engine::EngineList,
    harness::{AGENT, Bench, Fleet},
    measure::{alternate_latency, alternate_rate},
    report::{Figure, Goal},
};

/// Connections in the busy figures, each with one call at a time.
const CONNECTIONS: usize = 8;
/// How much faster the inventory shall be than asking Docker.
const FLEET: Goal = Goal::AtLeast(10.0);

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let fleet = Fleet::start(bench).await?;
    let (mut engine, mut host, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        engine.push(EngineList(bench.engine.connect().await?));
        let client = fleet.controller.client().await?.containers();
        host.push(List { client, agent: AGENT });
        let client = fleet.controller.client().await?.containers();
        all.push(List { client, agent: "" });
    }

    let rounds = bench.pick(40, 4);
    let (direct, dockctl) = alternate_latency(rounds, 25, &mut engine[0], &mut host[0]).await?;
    let alone = Figure::added("list of 20, 1 connection", "ms", ("engine", &direct), &dockctl);

    let (rounds, span) =
        bench.pick((5, Duration::from_millis(500)), (1, Duration::from_millis(200)));
    let (direct, dockctl) = alternate_rate(rounds, span, &mut engine, &mut host).await?;
    let busy = Figure::ratio("list of 20, 8 connections", "lists/s", ("engine", &direct), &dockctl);
    let (direct, dockctl) = alternate_rate(rounds, span, &mut engine, &mut all).await?;
    let fleet_busy =
        Figure::ratio("list of the fleet, 8 connections", "lists/s", ("engine", &direct), &dockctl);

    engine.truncate(1);
    all.truncate(1);
    let (direct, dockctl) = alternate_rate(rounds, span, &mut engine, &mut all).await?;
    let fleet_alone =
        Figure::ratio("list of the fleet, 1 connection", "lists/s", ("engine", &direct), &dockctl);
    Ok(vec![
        alone.goal(Goal::AtMost(0.5)),
        busy.goal(Goal::MoreThan(1.0)),
        fleet_alone, // Two processes that wake each other; how many answers there can be is the next one.
        fleet_busy.goal(FLEET),
    ])
}
