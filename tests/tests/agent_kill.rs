//! The agent is killed at every step of getting and of renewing its identity. It always comes back as
//! itself, without a new token, and its host's containers never notice.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use dockctl_api::v1::{
    AgentStanding, AgentState, CreateJoinTokenRequest, GetAgentRequest, ListAgentsRequest,
    ListJoinTokensRequest,
};
use dockctl_tests::{
    AgentSpec, Container, Docker, LONG, Off, Process, World, await_until, killed_at, scenario,
};

/// What writes to the disk or speaks to the network. A kill comes as a call begins, so one at a call's
/// successor is one after the call itself.
const STEPS: [&str; 10] = [
    "mkdir",
    "unlink",
    "write",
    "fsync",
    "rename",
    "pwrite64",
    "sync_file_range",
    "connect",
    "writev",
    "recvfrom",
];
/// More calls of one kind than either has.
const MOST: u32 = 100;

/// Runs `command` and has it killed at the `n`th call of `step`. True when that has happened, false when
/// it ended well or was ready before.
async fn dies(world: &World, command: &Command, step: &str, n: u32) -> Result<bool> {
    let name = format!("{step}-{n}");
    let mut process = Process::spawn(&name, killed_at(command, step, n), world.logs())?;
    await_until(&format!("{name} to be ready or to end"), LONG, async || {
        if !process.is_running()? {
            let code = process.exit_code().await?;
            ensure!(code == 0 || code == -9, "it ended with {code}: {}", process.tail());
            return Ok(Some(code == -9));
        }
        Ok((!process.stdout()?.is_empty()).then_some(false))
    })
    .await
}

/// When a container began to run, which changes if anything stops it.
async fn started(docker: &Docker, container: &Container) -> Result<String> {
    docker.inspect(&container.name, "{{.State.StartedAt}}").await
}

#[test]
fn killed_at_each_step_of_joining_an_agent_recovers_with_the_same_single_use_token() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let docker = world.docker();
        let container = docker.run("c", "exec sleep 100000").await?;
        let untouched = started(&docker, &container).await?;
        let (mut hosts, mut kills) = (0, 0);
        for step in STEPS {
            let mut api = controller.admin().await?.agents();
            for n in 1..=MOST {
                hosts += 1;
                let spec = AgentSpec::new(world, &controller, &format!("web-{hosts}"))?;
                let made = api.create_join_token(CreateJoinTokenRequest::default()).await?;
                let token = made.into_inner().token;
                let mut only_join = spec.join_command(&token)?;
                only_join.arg("--only-join");
                // The second time it is killed while it takes up what the first one has left.
                let mut killed = 0;
                for _ in 0..2 {
                    killed += u32::from(dies(world, &only_join, step, n).await?);
                }

                let mut process = Process::spawn("web", spec.join_command(&token)?, world.logs())?;
                let ready: serde_json::Value = process.ready().await?;
                let listed = api.get_agent(GetAgentRequest { agent: spec.name.clone() }).await?;
                let id = listed.into_inner().agent.context("no agent")?.id;
                ensure!(ready["id"] == *id, "{ready}: it is listed as {id}");
                process.kill9()?;
                kills += killed;
                if killed == 0 {
                    break;
                }
                ensure!(n < MOST, "more than {MOST} calls of {step}");
            }
        }
        let mut api = controller.admin().await?.agents();
        let agents = api.list_agents(ListAgentsRequest::default()).await?.into_inner().agents;
        ensure!(agents.len() == hosts, "{} agents on {hosts} hosts", agents.len());
        let tokens = api.list_join_tokens(ListJoinTokensRequest {}).await?.into_inner();
        ensure!(tokens.join_tokens.iter().all(|t| t.uses <= 1), "a token was used twice");
        ensure!(started(&docker, &container).await? == untouched, "the container was touched");
        println!(
            "{hosts} hosts, killed {kills} times while joining: each joined with its one token"
        );
        Ok(())
    });
}

#[test]
fn killed_at_each_step_of_renewing_an_agent_comes_back_as_itself() {
    scenario(async |world| {
        let clock = world.clock()?;
        let controller = world.controller_by(&clock, &["--certificate-minutes", "10"]).await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let container = docker.run("c", "exec sleep 100000").await?;
        let untouched = started(&docker, &container).await?;
        let (mut hours, mut kills) = (0, 0);
        for step in STEPS {
            for n in 1..=MOST {
                agent.process.kill9()?;
                // Its certificate ends, so that it renews before anything else.
                hours += 1;
                clock.set(Off::Ahead(Duration::from_secs(3_600 * hours)))?;
                let run = agent.spec.run_command()?;
                let mut killed = 0;
                for _ in 0..2 {
                    killed += u32::from(dies(world, &run, step, n).await?);
                }
                agent.start_again().await?;
                kills += killed;
                if killed == 0 {
                    break;
                }
                ensure!(n < MOST, "more than {MOST} calls of {step}");
            }
        }
        let record = controller.await_state("web-1", AgentState::Connected).await?;
        ensure!(record.standing() == AgentStanding::Active, "{record:?}");
        ensure!(started(&docker, &container).await? == untouched, "the container was touched");
        println!("killed {kills} times in {hours} renewals: the agent came back as itself");
        Ok(())
    });
}
