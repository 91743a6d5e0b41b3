//! Enrolment with one token, and what an idle fleet costs as it grows.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use dockctl_api::v1::{ListAgentsRequest, ListJoinTokensRequest};

use super::{Fleet, await_inventory};
use crate::{
    plot::{Curve, Plot},
    report::{Figure, Goal},
};

/// What a fleet of so many agents costs while nothing happens.
pub(crate) struct Step {
    agents: f64,
    /// The controller's resident memory, MiB.
    memory: f64,
    /// Percent of one processor.
    cpu: f64,
}

pub(super) async fn run(fleet: &mut Fleet<'_>) -> Result<(Vec<Figure>, Vec<Step>)> {
    let size = fleet.size.0;
    let token = fleet.controller.join_token_for(u32::try_from(size)?).await?;
    let (settling, measured) = fleet.pick((8, 45), (1, 2));
    let [settling, measured] = [settling, measured].map(Duration::from_secs);
    let mut steps = vec![cost(fleet, measured).await?];
    let mut enrolling = Duration::ZERO;
    for count in [size / 10, size / 2, size] {
        enrolling += fleet.agents.enroll(&fleet.controller, &token, count).await?;
        fleet.agents.connect().await?;
        fleet.controller.login().await?;
        await_inventory(fleet).await?;
        tokio::time::sleep(settling).await;
        steps.push(cost(fleet, measured).await?);
    }
    each_once(fleet).await?;

    let (first, last) = (&steps[0], &steps[steps.len() - 1]);
    let per_agent = (last.memory - first.memory) * 1024.0 / last.agents;
    let rate = last.agents / enrolling.as_secs_f64();
    // How much more the last agents cost than the first ones; 1 is linear.
    let per = |of: fn(&Step) -> f64, a: &Step, b: &Step| (of(b) - of(a)) / (b.agents - a.agents);
    let bend = |of| per(of, &steps[2], last) / per(of, first, &steps[2]);
    let files = fleet.controller.daemon.open_files()?;
    ensure!(files > size, "only {files} open files with {size} agents");
    let figures = vec![
        Figure::alone("enrolments with one token", "1/s", &rate.into()).goal(Goal::AtLeast(300.0)),
        Figure::alone("memory of an idle agent, its inventory", "KiB", &per_agent.into())
            .goal(Goal::AtMost(60.0)),
        Figure::alone("processor, all agents idle", "%", &last.cpu.into()).goal(Goal::AtMost(15.0)),
        Figure::alone("memory, growth of the second half", "×", &bend(|s| s.memory).into())
            .goal(Goal::AtMost(1.1)),
        Figure::alone("processor, growth of the second half", "×", &bend(|s| s.cpu).into())
            .goal(Goal::AtMost(1.1)),
    ];
    Ok((figures, steps))
}

/// Measures while nothing happens.
async fn cost(fleet: &Fleet<'_>, span: Duration) -> Result<Step> {
    let daemon = &fleet.controller.daemon;
    let load = daemon.load()?;
    tokio::time::sleep(span).await;
    Ok(Step { agents: fleet.agents.len() as f64, memory: daemon.memory()?, cpu: load()? })
}

/// Each enrolment has made one agent and used the token once.
async fn each_once(fleet: &Fleet<'_>) -> Result<()> {
    let mut client = fleet.controller.client().await?.agents();
    let tokens = client.list_join_tokens(ListJoinTokensRequest::default()).await?.into_inner();
    let used: Vec<u32> = tokens.join_tokens.iter().map(|token| token.uses).collect();
    let listed = client.list_agents(ListAgentsRequest::default()).await?.into_inner().agents.len();
    ensure!(
        used == [u32::try_from(fleet.size.0)?] && listed == fleet.size.0,
        "{} enrolled: tokens were used {used:?} times, {listed} agents are listed",
        fleet.size.0
    );
    Ok(())
}

/// Memory and processor against the number of agents.
pub(super) fn plot(steps: &[Step], dir: &Path) -> Result<()> {
    let points = |of: fn(&Step) -> f64| steps.iter().map(|step| (step.agents, of(step))).collect();
    Plot { title: "Controller's memory, idle fleet", x: "agents", y: "MiB" }.write(
        &dir.join("fleet-memory.svg"),
        &[Curve { name: "resident", points: points(|s| s.memory) }],
    )?;
    Plot { title: "Controller's processor time, idle fleet", x: "agents", y: "% of one processor" }
        .write(
            &dir.join("fleet-processor.svg"),
            &[Curve { name: "used", points: points(|s| s.cpu) }],
        )
}
