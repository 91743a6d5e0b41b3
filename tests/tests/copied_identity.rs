//! An agent's state directory is copied and lives on two machines: that is found within one renewal,
//! both are kept out, and nothing flaps.

use std::{process::Command, time::Duration};

use anyhow::{Result, ensure};
use dockctl_api::v1::{Agent as Record, AgentStanding, AgentState};
use dockctl_tests::{
    Agent, AgentSpec, Controller, FakeClock, LONG, Off, Process, World, await_until, scenario,
};

/// How many minutes a certificate is good for, where a scenario waits for its end.
const LIFE: &str = "10";
const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn two_machines_at_once_are_both_locked_and_the_operator_is_told() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let thief = stolen(world, &mut agent)?;
        agent.start_again().await?;
        let other = start(world, &thief)?;
        both_are_locked_for_good(world, &controller, agent, &thief, other).await
    });
}

#[test]
fn a_copy_that_wakes_after_the_agent_has_renewed_locks_both() {
    scenario(async |world| {
        let (clock, controller) = short_lived(world).await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let thief = stolen(world, &mut agent)?;
        clock.set(Off::Ahead(HOUR))?;
        agent.start_again().await?;
        let other = start(world, &thief)?;
        both_are_locked_for_good(world, &controller, agent, &thief, other).await
    });
}

#[test]
fn an_agent_that_renews_after_its_copy_has_locks_both() {
    scenario(async |world| {
        let (clock, controller) = short_lived(world).await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let thief = stolen(world, &mut agent)?;
        clock.set(Off::Ahead(HOUR))?;
        let mut other = start(world, &thief)?;
        // The copy is let in: nothing tells it from the agent yet.
        other.ready::<serde_json::Value>().await?;
        agent.process = start(world, &agent.spec)?;
        both_are_locked_for_good(world, &controller, agent, &thief, other).await
    });
}

/// A controller whose clock can be set and whose certificates end soon.
async fn short_lived(world: &World) -> Result<(FakeClock, Controller<'_>)> {
    let clock = world.clock()?;
    let controller = world.controller_by(&clock, &["--certificate-minutes", LIFE]).await?;
    Ok((clock, controller))
}

/// Stops the agent and copies its state directory.
fn stolen(world: &World, agent: &mut Agent<'_>) -> Result<AgentSpec> {
    agent.process.kill9()?;
    let thief = AgentSpec { data_dir: world.dir("thief")?, ..agent.spec.clone() };
    let from = agent.spec.data_dir.join(".");
    let status = Command::new("cp").arg("-a").arg(from).arg(&thief.data_dir).status()?;
    ensure!(status.success(), "cp failed");
    Ok(thief)
}

fn start(world: &World, spec: &AgentSpec) -> Result<Process> {
    Process::spawn(&spec.name, spec.run_command()?, world.logs())
}

/// Waits until the identity is locked and both machines know; then a restart lets neither of
/// them in again.
async fn both_are_locked_for_good(
    world: &World,
    controller: &Controller<'_>,
    mut agent: Agent<'_>,
    thief: &AgentSpec,
    mut other: Process,
) -> Result<()> {
    let record = await_until("the lock", LONG, async || {
        let record = controller.agent_record("web-1").await?;
        Ok((record.standing() == AgentStanding::Locked).then_some(record))
    })
    .await?;
    ensure!(!record.cause.is_empty(), "no cause");
    let locked = controller.await_state("web-1", AgentState::Offline).await?;
    for process in [&agent.process, &other] {
        process.wait_for_log("two machines").await?;
    }
    let log = controller.process.log()?;
    let alarms = log.lines().filter(|l| l.contains("ERROR") && l.contains("ALARM")).count();
    ensure!(alarms == 1, "{alarms} alarms in the controller's log");
    let listed = controller.dockctl().await?.ok(&["agents", "ls"]).await?;
    ensure!(listed.to_lowercase().contains("locked"), "{listed}");

    agent.process.kill9()?;
    other.kill9()?;
    for spec in [&agent.spec, thief] {
        let again = start(world, spec)?;
        again.wait_for_log("two machines").await?;
        ensure!(again.stdout()?.is_empty(), "it said that it was ready");
    }
    let after = controller.agent_record("web-1").await?;
    let standing = |r: &Record| (r.epoch, r.standing(), r.state());
    ensure!(standing(&after) == standing(&locked), "{locked:?} became {after:?}");
    Ok(())
}
