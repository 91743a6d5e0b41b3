//! One process for one machine: `dockctl-controller serve --with-agent`.

use anyhow::{Context, Result, ensure};
use dockctl_api::v1::{AgentState, ListAgentsRequest};
use dockctl_tests::{Controller, LONG, World, await_until, counting_script, scenario};

/// A controller with an agent in its own process, and that agent's name.
async fn standalone(world: &World) -> Result<(Controller<'_>, String)> {
    let controller = world.controller_with(&["--with-agent"], "127.0.0.1:0").await?;
    let name = embedded(&controller).await?;
    Ok((controller, name))
}

async fn embedded(controller: &Controller<'_>) -> Result<String> {
    let mut api = controller.admin().await?.agents();
    await_until("the embedded agent", LONG, async || {
        let agents = api.list_agents(ListAgentsRequest::default()).await?.into_inner().agents;
        ensure!(agents.len() <= 1, "several agents: {agents:?}");
        let up = agents.into_iter().find(|a| a.state() == AgentState::Connected);
        Ok(up.map(|a| a.name))
    })
    .await
}

#[test]
fn one_process_runs_controller_and_agent_over_the_same_link() {
    scenario(async |world| {
        let (controller, name) = standalone(world).await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let container = docker.run("c", counting_script()).await?;
        await_until("the container", LONG, async || {
            Ok(dockctl.ok(&["ps"]).await?.contains(&container.name).then_some(()))
        })
        .await?;
        let log = dockctl.ok(&["logs", "--tail", "2", &container.name]).await?;
        ensure!(log.starts_with("line "), "{log}");
        dockctl.ok(&["stop", "-t", "1", &format!("{name}/{}", container.name)]).await?;
        ensure!(docker.inspect(&container.name, "{{.State.Status}}").await? == "exited");
        let record = controller.agent_record(&name).await?;
        record.round_trip.context("no round trip: it does not use the link")?;
        Ok(())
    });
}

#[test]
fn after_a_kill_9_it_comes_back_with_the_same_agent() {
    scenario(async |world| {
        let (mut controller, name) = standalone(world).await?;
        let before = controller.agent_record(&name).await?;
        controller.process.kill9()?;
        controller.start_again().await?;
        let name_after = embedded(&controller).await?;
        let after = controller.agent_record(&name_after).await?;
        ensure!(after.id == before.id && after.epoch > before.epoch, "{before:?} {after:?}");
        Ok(())
    });
}

#[test]
fn logs_are_json_where_that_is_asked_for() {
    scenario(async |world| {
        let controller =
            world.controller_with(&["--with-agent", "--log-json"], "127.0.0.1:0").await?;
        embedded(&controller).await?;
        let log = controller.process.log()?;
        let mut targets = Vec::new();
        for line in log.lines() {
            let line: serde_json::Value = serde_json::from_str(line).context(line.to_owned())?;
            ensure!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
            targets.push(line["target"].to_string());
        }
        for part in ["controller", "agent"] {
            ensure!(targets.iter().any(|t| t.contains(part)), "nothing from the {part}: {log}");
        }
        Ok(())
    });
}
