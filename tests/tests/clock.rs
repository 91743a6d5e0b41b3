//! Clocks that are an hour or a day wrong, at the agent or at the controller, from the start or set while
//! they run: nobody is locked out, nothing crashes, and dockctl shows by how much they differ. A machine that
//! was suspended stands still, and then its clock has jumped.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dockctl_api::v1::{AgentStanding, AgentState};
use dockctl_tests::{
    Agent, AgentSpec, Container, Controller, Dockctl, LONG, Off, Signal, await_until, rounds,
    scenario,
};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const RIGHT: Off = Off::Ahead(Duration::ZERO);
/// What two looks at one clock may be apart, seconds.
const SLACK: i64 = 60;
/// The offset is the best of the last heartbeats: quick ones, so that it is soon a new one.
const ARGUMENTS: [&str; 2] = ["--heartbeat", "1"];
const IDLE: &str = "exec sleep 100000";

/// The wrong clocks that are tried; `make test` takes one ahead and one behind.
fn wrong() -> Vec<Off> {
    let others = [Off::Ahead(HOUR), Off::Behind(DAY)];
    let all = [Off::Ahead(DAY), Off::Behind(HOUR)].into_iter().chain(others);
    all.take(rounds(2, 4)).collect()
}

#[test]
fn a_host_whose_clock_is_wrong_joins_and_works_and_the_difference_is_shown() {
    scenario(async |world| {
        let controller = world.controller_with(&ARGUMENTS, "127.0.0.1:0").await?;
        let container = world.docker().run("c", IDLE).await?;
        for (n, off) in wrong().into_iter().enumerate() {
            let clock = world.clock()?;
            clock.set(off)?;
            let mut spec = AgentSpec::new(world, &controller, &format!("web-{n}"))?;
            spec.env = clock.environment()?;
            let mut agent = world.join(&controller, spec).await?;
            works(&controller, &agent, &container, off.seconds()).await?;
            agent.process.kill9()?;
            agent.start_again().await?;
            works(&controller, &agent, &container, off.seconds()).await?;
        }
        Ok(())
    });
}

#[test]
fn an_agent_whose_clock_is_set_keeps_its_session_and_its_identity() {
    scenario(async |world| {
        let controller = world.controller_with(&ARGUMENTS, "127.0.0.1:0").await?;
        let container = world.docker().run("c", IDLE).await?;
        let clock = world.clock()?;
        let mut spec = AgentSpec::new(world, &controller, "web-1")?;
        spec.env = clock.environment()?;
        let mut agent = world.join(&controller, spec).await?;
        for off in wrong() {
            let before = controller.agent_record("web-1").await?.epoch;
            clock.set(off)?;
            works(&controller, &agent, &container, off.seconds()).await?;
            let after = controller.agent_record("web-1").await?.epoch;
            ensure!(after == before, "{off:?} cost it its session");
            agent.process.kill9()?;
            agent.start_again().await?;
            clock.set(RIGHT)?;
            works(&controller, &agent, &container, 0).await?;
        }
        Ok(())
    });
}

#[test]
fn a_controller_whose_clock_is_set_locks_nobody_out_and_neither_does_setting_it_right() {
    scenario(async |world| {
        let clock = world.clock()?;
        let mut controller = world.controller_by(&clock, &ARGUMENTS).await?;
        let container = world.docker().run("c", IDLE).await?;
        let agent = world.agent(&controller, "web-1").await?;
        // One login from before, as a person has it.
        let person = controller.dockctl().await?;
        for off in wrong() {
            for now in [off, RIGHT] {
                clock.set(now)?;
                works(&controller, &agent, &container, -now.seconds()).await?;
                person.ok(&["ps"]).await.with_context(|| format!("{now:?}: the old login"))?;
                controller.process.kill9()?;
                controller.start_again().await?;
                works(&controller, &agent, &container, -now.seconds()).await?;
                person.ok(&["ps"]).await.with_context(|| format!("{now:?}, started again"))?;
            }
        }
        // And a host can still join.
        world.agent(&controller, "web-2").await?;
        Ok(())
    });
}

#[test]
fn a_suspended_host_is_told_as_offline_and_comes_back_as_itself() {
    scenario(async |world| {
        let controller = world.controller_with(&ARGUMENTS, "127.0.0.1:0").await?;
        let dockctl = controller.dockctl().await?;
        let container = world.docker().run("c", IDLE).await?;
        let clock = world.clock()?;
        let mut spec = AgentSpec::new(world, &controller, "web-1")?;
        spec.env = clock.environment()?;
        let mut agent = world.join(&controller, spec).await?;
        for _ in 0..rounds(2, 20) {
            clock.set(Off::Behind(HOUR))?;
            works(&controller, &agent, &container, -3_600).await?;
            let before = controller.agent_record("web-1").await?;
            agent.process.signal(Signal::STOP)?;
            let away = controller.await_state("web-1", AgentState::Offline).await?;
            ensure!(!away.cause.is_empty(), "no cause: {away:?}");
            let listed = dockctl.ok(&["agents", "ls"]).await?;
            let line = listed.lines().find(|line| line.contains("web-1")).context("not listed")?;
            ensure!(line.contains("offline") && line.contains(&away.cause), "{line}");

            // An hour has passed that it has not seen.
            clock.set(RIGHT)?;
            agent.process.signal(Signal::CONT)?;
            works(&controller, &agent, &container, 0).await?;
            let after = controller.agent_record("web-1").await?;
            ensure!(after.id == before.id && after.epoch > before.epoch, "{before:?} {after:?}");
            ensure!(agent.process.is_running()?, "it ended: {}", agent.process.tail());
        }
        Ok(())
    });
}

#[test]
fn agents_come_back_to_a_controller_that_was_suspended() {
    scenario(async |world| {
        let clock = world.clock()?;
        let mut controller = world.controller_by(&clock, &ARGUMENTS).await?;
        let container = world.docker().run("c", IDLE).await?;
        let mut agents = Vec::new();
        for name in ["web-1", "web-2"] {
            agents.push(world.agent(&controller, name).await?);
        }
        let person = controller.dockctl().await?;
        let losses = |agent: &Agent<'_>| {
            anyhow::Ok(agent.process.log()?.matches("no link; next try").count())
        };
        for _ in 0..rounds(2, 20) {
            clock.set(Off::Behind(HOUR))?;
            for agent in &agents {
                works(&controller, agent, &container, 3_600).await?;
            }
            let before = agents.iter().map(losses).collect::<Result<Vec<_>>>()?;
            controller.process.signal(Signal::STOP)?;
            for (agent, before) in agents.iter().zip(before) {
                await_until("the agent to notice", LONG, async || {
                    Ok((losses(agent)? > before).then_some(()))
                })
                .await?;
            }
            clock.set(RIGHT)?;
            controller.process.signal(Signal::CONT)?;
            for agent in &agents {
                works(&controller, agent, &container, 0).await?;
            }
            person.ok(&["ps"]).await.context("the login from before")?;
            ensure!(controller.process.is_running()?, "it ended: {}", controller.process.tail());
        }
        Ok(())
    });
}

/// Waits until the agent is there with its clock so many seconds from the controller's, and checks that
/// dockctl says so and can act on it.
async fn works(
    controller: &Controller<'_>,
    agent: &Agent<'_>,
    container: &Container,
    seconds: i64,
) -> Result<()> {
    let name = &agent.spec.name;
    let what = format!("{name} to be there, {seconds} s off");
    await_until(&what, LONG, async || {
        let record = controller.agent_record(&agent.id).await?;
        ensure!(record.state() == AgentState::Connected, "{record:?}");
        ensure!(record.standing() == AgentStanding::Active, "{record:?}");
        let offset = record.clock_offset.context("no clock offset")?;
        ensure!((offset.seconds - seconds).abs() < SLACK, "{offset:?}");
        Ok(Some(()))
    })
    .await?;
    let dockctl: Dockctl<'_> = controller.dockctl().await?;
    let listed = dockctl.ok(&["agents", "ls"]).await?;
    let line = listed.lines().find(|line| line.contains(&**name)).context("not listed")?;
    ensure!(line.contains("its clock is") == (seconds != 0), "{seconds} s off: {line}");
    let at_host = format!("{name}/{}", container.name);
    dockctl.ok(&["stop", "-t", "0", &at_host]).await?;
    dockctl.ok(&["start", &at_host]).await?;
    Ok(())
}
