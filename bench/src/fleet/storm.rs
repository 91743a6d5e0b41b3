//! The controller is killed and started again: when all agents are back, how it answers meanwhile, and
//! whether any agent is taken for offline afterwards.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dockctl_api::{
    error::reason,
    v1::{GetAgentRequest, ListContainersRequest},
};
use tokio_util::sync::CancellationToken;

use super::{Fleet, await_inventory, churn};
use crate::{
    api::Api,
    measure::{Series, ms},
    plot::{Curve, Plot},
    report::{Figure, Goal},
};

/// How often the connected ones are counted.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for all of them.
const LIMIT: Duration = Duration::from_secs(180);

/// What a plot shows.
pub(crate) struct Storm {
    /// Seconds since the kill, and how many agents were connected.
    back: Vec<(f64, f64)>,
    /// Milliseconds of each call meanwhile.
    calls: Series,
}

pub(super) async fn run(fleet: &mut Fleet<'_>) -> Result<(Vec<Figure>, Storm)> {
    let size = fleet.agents.len();
    ensure!(fleet.agents.connected() == size, "not all are connected before the storm");
    let begin = Instant::now();
    fleet.controller.daemon.kill().await?;
    fleet.controller.start_again(fleet.programs).await?;
    let started = begin.elapsed();
    let client = fleet.controller.client().await?;
    let over = CancellationToken::new();
    let calling = tokio::spawn(calls(client, fleet.agents.name(size / 2).to_owned(), over.clone()));

    let (mut back, mut was_away) = (Vec::new(), false);
    loop {
        let connected = fleet.agents.connected();
        back.push((begin.elapsed().as_secs_f64(), connected as f64));
        was_away |= connected < size / 2;
        if was_away && connected == size {
            break;
        }
        ensure!(begin.elapsed() < LIMIT, "{connected} of {size} came back");
        tokio::time::sleep(LOOK).await;
    }
    let all_back = begin.elapsed();
    await_inventory(fleet).await?;
    over.cancel();
    let calls = calling.await??;
    let quiet = Duration::from_secs(fleet.pick(45, 2));
    let false_alarms = offline(fleet, quiet).await?;
    let p99 = Series::from(calls.quantile(0.99));
    println!("started again after {started:.1?}; {} calls meanwhile", calls.len());
    let figures = vec![
        Figure::alone("all back after kill -9", "s", &all_back.as_secs_f64().into())
            .goal(Goal::AtMost(45.0)),
        Figure::alone("API meanwhile, p99", "ms", &p99).goal(Goal::AtMost(1_000.0)),
        Figure::alone("API meanwhile", "ms", &calls),
        Figure::alone("agents taken for offline afterwards", "", &(false_alarms as f64).into())
            .goal(Goal::AtMost(0.0)),
    ];
    Ok((figures, Storm { back, calls }))
}

/// Asks for an agent and for a page of containers in turns, until it is over; gives milliseconds.
async fn calls(client: Api, agent: String, over: CancellationToken) -> Result<Series> {
    let (mut agents, mut containers, mut series) =
        (client.agents(), client.containers(), Series::default());
    while !over.is_cancelled() {
        let begin = Instant::now();
        agents.get_agent(GetAgentRequest { agent: agent.clone() }).await?;
        series.push(ms(begin.elapsed()));
        let begin = Instant::now();
        let request = ListContainersRequest { all: true, page_size: 50, ..Default::default() };
        containers.list_containers(request).await?;
        series.push(ms(begin.elapsed()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(series)
}

/// How many agents are said to be offline within a time in which none is.
async fn offline(fleet: &Fleet<'_>, span: Duration) -> Result<usize> {
    let mut events = churn::subscribe(fleet).await?;
    let counting = async {
        let mut count = 0;
        let end = tokio::time::Instant::now() + span;
        while let Ok(message) = tokio::time::timeout_at(end, events.message()).await {
            let notice = message?.context("the events ended")?.notice;
            count += usize::from(notice.is_some_and(|n| n.reason == reason::AGENT_OFFLINE));
        }
        anyhow::Ok(count)
    };
    counting.await
}

/// The agents' return, and how long calls took meanwhile.
pub(super) fn plot(storm: &Storm, dir: &Path) -> Result<()> {
    Plot { title: "Agents connected after kill -9 of the controller", x: "seconds", y: "agents" }
        .write(
        &dir.join("fleet-return.svg"),
        &[Curve { name: "connected", points: storm.back.clone() }],
    )?;
    let percent = (0..=1_000).map(|n| f64::from(n) / 10.0);
    let points = percent.map(|p| (p, storm.calls.quantile(p / 100.0))).collect();
    Plot { title: "Calls while all agents come back", x: "percent of calls", y: "at most ms" }
        .write(&dir.join("fleet-latency.svg"), &[Curve { name: "latency", points }])
}
