//! The controller is killed again and again in the middle of everything that it does.

mod history;
mod load;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use dockctl_api::v1::{AgentState, ListJoinTokensRequest};
use dockctl_tests::{
    Controller, Docker, LONG, Process, SHORT, World, await_until, consecutive_lines,
    counting_script, rounds, scenario,
};
use futures_util::future::try_join_all;

use crate::{
    history::{Call, Writes, each_call_ran_as_told},
    load::{Acknowledged, SIGNAL, Targets, act, run},
};

/// Ignores SIGUSR1, also as a process that --init has started.
const IDLE: &str = "trap '' USR1; exec sleep 100000";

#[test]
fn killed_under_load_the_controller_loses_no_acknowledged_write_and_runs_no_command_twice() {
    scenario(async |world| {
        // The waits between the rounds are the agents' backoff, so fleets side by side take no longer.
        let (fleets, each) = rounds((1, 5), (8, 25));
        let docker = world.docker();
        let events = watch(world, &docker)?;
        let histories = try_join_all((0..fleets).map(|n| fleet(world, n, each))).await?;
        // What is seen after everything else: all that happened has been told.
        let last = docker.run("last", IDLE).await?;
        await_until("the last event", LONG, async || {
            let told = String::from_utf8(events.stdout()?)?;
            Ok(told.lines().any(|l| l.contains(&last.id)).then_some(()))
        })
        .await?;
        let calls: Vec<Call> = histories.into_iter().flatten().collect();
        each_call_ran_as_told(&calls, &events.stdout()?)?;
        println!("{} calls in {fleets} × {each} kills, each ran as told", calls.len());
        Ok(())
    });
}

/// The engine's own account of what happens to the scenario's containers.
fn watch(world: &World, docker: &Docker) -> Result<Process> {
    let mut command = std::process::Command::new("docker");
    command.args(["-H", docker.host(), "events", "--since", "1s", "--format", "{{json .}}"]);
    command.args(["--filter", &format!("label={}", docker.selector())]);
    Process::spawn("events", command, world.logs())
}

/// One controller with two agents and a follow, killed `rounds` times; gives every call that was made.
async fn fleet(world: &World, n: u32, rounds: u64) -> Result<Vec<Call>> {
    let docker = world.docker();
    let mut controller = world.controller().await?;
    let agents =
        [world.agent(&controller, "web-1").await?, world.agent(&controller, "web-2").await?];
    let counting = docker.run(&format!("{n}-count"), counting_script()).await?;
    let probed = docker.run(&format!("{n}-probed"), IDLE).await?;
    let dockctl = controller.dockctl().await?;
    let mut follow = dockctl.start(&["logs", "-f", &format!("web-1/{}", counting.name)])?;
    let before = tokens(&controller).await?;
    let (mut writes, mut calls, mut slowest) = (Writes::default(), Vec::new(), Duration::ZERO);

    for round in 1..=rounds {
        let targets = targets(&docker, &format!("{n}-{round}")).await?;
        let lines = consecutive_lines(&follow.stdout()?)?;
        follow.wait_for_lines(lines + 50).await?;
        let acknowledged = Acknowledged::default();
        let api = controller.admin().await?;
        let load = tokio::spawn(run(api, targets.clone(), round, acknowledged.clone()));
        await_until("acknowledged calls of every kind", LONG, async || {
            ensure!(!load.is_finished(), "the load has ended before the controller");
            Ok(acknowledged.each_has(3).then_some(()))
        })
        .await?;
        controller.process.kill9()?;
        let (written, called) = load.await??;
        writes.extend(written);
        calls.extend(called);
        controller.start_again().await?;

        let restarted = Instant::now();
        // While no agent is back yet, a call must not be sent: it says so, or it runs.
        let api = controller.admin().await?;
        act(&api, "web-1", &probed.name, SIGNAL, &mut calls).await?;
        for agent in &agents {
            let record = await_until("the agent to be back", SHORT, async || {
                let record = controller.agent_record(&agent.id).await?;
                Ok((record.state() == AgentState::Connected).then_some(record))
            })
            .await?;
            ensure!(record.name == agent.spec.name, "it came back as another");
        }
        slowest = slowest.max(restarted.elapsed());
        act(&api, "web-1", &probed.name, SIGNAL, &mut calls).await?;
        let labels = controller.agent_record("web-1").await?.labels;
        writes.are_there(&tokens(&controller).await?, &before, &labels)?;
        let names = [&*targets.toggled, &targets.restarted, &targets.signalled];
        docker.cli(&[&["rm", "-f"], &names[..]].concat()).await?;
    }

    docker.cli(&["kill", &counting.name]).await?;
    ensure!(follow.exit_code().await? == 0, "{}", follow.tail());
    let theirs = docker.raw(&["logs", &counting.name]).await?.stdout;
    ensure!(follow.stdout()? == theirs, "the follow is not what docker has");
    let lines = consecutive_lines(&theirs)?;
    println!(
        "{rounds} kills: {} tokens and {} deletions kept, {lines} lines followed, agents back \
         after at most {slowest:.1?}",
        writes.kept.len(),
        writes.deleted.len()
    );
    Ok(calls)
}

/// Containers for one round only: what a call of an earlier round may still do is not taken for a
/// call of this one.
async fn targets(docker: &Docker, name: &str) -> Result<Targets> {
    let names = ["toggled", "restarted", "signalled"].map(|role| format!("{name}-{role}"));
    let made = try_join_all(names.iter().map(|name| docker.run(name, IDLE))).await?;
    let [toggled, restarted, signalled] = [0, 1, 2].map(|n: usize| made[n].name.clone());
    Ok(Targets { toggled, restarted, signalled })
}

/// The ids of all join tokens.
async fn tokens(controller: &Controller<'_>) -> Result<BTreeSet<String>> {
    let mut api = controller.admin().await?.agents();
    let listed = api.list_join_tokens(ListJoinTokensRequest {}).await?.into_inner();
    Ok(listed.join_tokens.into_iter().map(|token| token.id).collect())
}
