//! What a fleet with nothing to do costs: resident memory 20 s after it has come up.

use std::time::Duration;

use anyhow::Result;

use crate::{
    harness::{Bench, Fleet},
    report::{Figure, Goal},
};

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let fleet = Fleet::start(bench).await?;
    tokio::time::sleep(Duration::from_secs(bench.pick(20, 2))).await;
    let agent = fleet.agent.memory()?.into();
    let controller = fleet.controller.daemon.memory()?.into();
    Ok(vec![
        Figure::alone("memory of an idle agent", "MiB", &agent).goal(Goal::AtMost(12.0)),
        Figure::alone("memory of an idle controller", "MiB", &controller),
    ])
}
