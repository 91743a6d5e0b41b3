//! Many callers at once, each call for another agent, beside people who list and look.

use std::time::{Duration, Instant};

use anyhow::Result;
use dockctl_api::v1::{GetAgentRequest, ListContainersRequest, PingRequest};
use tokio::task::JoinSet;

use super::Fleet;
use crate::{
    api::Api,
    measure::{Series, ms},
    report::Figure,
};

/// Callers at once, on a few connections.
const CALLERS: usize = 64;
const CONNECTIONS: usize = 8;
/// Of so many calls one lists a page and one looks at an agent; the others go to agents.
const TURN: usize = 10;

pub(super) async fn run(fleet: &mut Fleet<'_>) -> Result<Vec<Figure>> {
    fleet.controller.login().await?;
    let end = Instant::now() + Duration::from_secs(fleet.pick(10, 1));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(fleet.controller.client().await?);
    }
    let mut calling = JoinSet::new();
    let begin = Instant::now();
    for caller in 0..CALLERS {
        let each = fleet.agents.len() / CALLERS;
        let agents = (0..each).map(|n| fleet.agents.name(caller * each + n).to_owned()).collect();
        calling.spawn(calls(connections[caller % CONNECTIONS].clone(), agents, end));
    }
    let mut all = Series::default();
    while let Some(series) = calling.join_next().await {
        all.extend(series??);
    }
    let rate = all.len() as f64 / begin.elapsed().as_secs_f64();
    let p99 = Series::from(all.quantile(0.99));
    Ok(vec![
        Figure::alone("calls to all agents, 64 callers", "1/s", &rate.into()),
        Figure::alone("the same, one call", "ms", &all),
        Figure::alone("the same, p99", "ms", &p99),
    ])
}

/// Calls one agent after the other until the end; gives milliseconds.
async fn calls(api: Api, agents: Vec<String>, end: Instant) -> Result<Series> {
    let (mut system, mut containers, mut series) =
        (api.system(), api.containers(), Series::default());
    for (n, agent) in agents.iter().cycle().enumerate() {
        if Instant::now() >= end {
            break;
        }
        let (begin, agent) = (Instant::now(), agent.clone());
        match n % TURN {
            0 => {
                let page = ListContainersRequest { page_size: 50, ..Default::default() };
                containers.list_containers(page).await?;
            }
            1 => drop(api.agents().get_agent(GetAgentRequest { agent }).await?),
            _ => drop(system.ping(PingRequest { agent }).await?),
        }
        series.push(ms(begin.elapsed()));
    }
    Ok(series)
}
