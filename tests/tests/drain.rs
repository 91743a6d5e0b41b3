//! A planned stop: what is under way ends well, and agents are told to come back.

use anyhow::ensure;
use dockctl_api::v1::{AgentState, StopContainerRequest};
use dockctl_tests::{LONG, Signal, await_until, consecutive_lines, counting_script, scenario};

/// A process that takes about two seconds to stop.
const SLOW_TO_STOP: &str = "trap 'sleep 2; exit 7' TERM; while :; do sleep 0.1; done";

#[test]
fn on_sigterm_the_controller_ends_its_calls_tells_the_agents_and_exits_with_0() {
    scenario(async |world| {
        let mut controller = world.controller().await?;
        let agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let slow = docker.run("slow", SLOW_TO_STOP).await?;
        let counting = docker.run("count", counting_script()).await?;
        let dockctl = controller.dockctl().await?;
        let follow = dockctl.start(&["logs", "-f", &format!("web-1/{}", counting.name)])?;
        follow.wait_for_lines(20).await?;

        let mut api = controller.admin().await?.containers();
        let stop = StopContainerRequest {
            agent: "web-1".into(),
            container: slow.name.clone(),
            ..Default::default()
        };
        let call = tokio::spawn(async move { api.stop_container(stop).await });
        // The engine has begun: the trap's `sleep 2` runs.
        await_until("the stop to be under way", LONG, async || {
            Ok(docker.cli(&["top", &slow.name]).await?.contains("sleep 2").then_some(()))
        })
        .await?;
        controller.process.signal(Signal::TERM)?;
        call.await??;
        ensure!(docker.inspect(&slow.name, "{{.State.ExitCode}}").await? == "7", "it was killed");
        ensure!(controller.process.exit_code().await? == 0, "{}", controller.process.tail());
        agent.process.wait_for_log("come back").await?;

        controller.start_again().await?;
        controller.await_state("web-1", AgentState::Connected).await?;
        let before = consecutive_lines(&follow.stdout()?)?;
        consecutive_lines(&follow.wait_for_lines(before + 100).await?)?;
        Ok(())
    });
}

#[test]
fn on_sigterm_the_agent_says_goodbye_and_exits_with_0() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        agent.process.signal(Signal::TERM)?;
        ensure!(agent.process.exit_code().await? == 0, "{}", agent.process.tail());
        let record = controller.await_state("web-1", AgentState::Offline).await?;
        ensure!(record.cause == "the agent was stopped", "{:?}", record.cause);
        Ok(())
    });
}
