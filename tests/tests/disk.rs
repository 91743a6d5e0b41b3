//! Full and failing disks: whatever cannot be stored is told as an error, what was acknowledged stays,
//! and the daemons go on by themselves once the disk is well.

use anyhow::{Context, Result, ensure};
use dockctl_api::{
    error::{reason, reason_of},
    v1::*,
};
use dockctl_tests::{
    ADMIN_PASSWORD, AgentSpec, Api, Controller, LONG, Process, await_until, failing_from, rounds,
    scenario,
};
use tonic::{Code, Status};

/// Labels an agent with `key=yes`.
async fn write(api: &Api, key: &str) -> Result<(), Status> {
    let set = [(key.to_owned(), "yes".to_owned())].into();
    let request = UpdateAgentLabelsRequest { agent: "web-1".into(), set, ..Default::default() };
    api.agents().update_agent_labels(request).await.map(drop)
}

/// Writes until the disk takes no more; says how many writes were acknowledged.
async fn write_until_refused(api: &Api) -> Result<usize> {
    // What the database has set aside for itself is used up sooner.
    for n in 0..2_000 {
        if let Err(refused) = write(api, &format!("n{n}")).await {
            is_told(&refused)?;
            return Ok(n);
        }
    }
    anyhow::bail!("2000 writes were acknowledged by a disk that takes none")
}

fn is_told(refused: &Status) -> Result<()> {
    ensure!(refused.code() == Code::Internal, "{refused}");
    ensure!(reason_of(refused).as_deref() == Some(reason::INTERNAL), "{refused}");
    ensure!(refused.message().contains("database (is its disk full?)"), "{refused}");
    Ok(())
}

/// With a disk that takes nothing: writes are refused, everything else goes on.
async fn only_writes_fail(controller: &Controller<'_>, api: &Api) -> Result<()> {
    let token = api.agents().create_join_token(CreateJoinTokenRequest::default()).await;
    is_told(&token.err().context("a join token was made")?)?;
    let anonymous = controller.anonymous().await?;
    let login = LoginRequest { username: "admin".into(), password: ADMIN_PASSWORD.into() };
    is_told(&anonymous.auth().login(login).await.err().context("a login was stored")?)?;
    // Reads, the link and forwarded calls need no disk.
    let get = GetAgentRequest { agent: "web-1".into() };
    let record = api.agents().get_agent(get).await?.into_inner().agent.context("no agent")?;
    ensure!(record.state() == AgentState::Connected, "{record:?}");
    let ping = PingRequest { agent: "web-1".into() };
    api.system().ping(ping).await?;
    Ok(())
}

/// With the disk well again: it goes on without a restart, and a crash loses nothing acknowledged.
async fn goes_on(controller: &mut Controller<'_>, api: &Api, acknowledged: usize) -> Result<()> {
    await_until("a write to be taken again", LONG, async || Ok(Some(write(api, "after").await?)))
        .await?;
    controller.process.kill9()?;
    controller.start_again().await?;
    let kept = controller.await_state("web-1", AgentState::Connected).await?.labels;
    for n in 0..acknowledged {
        ensure!(kept.contains_key(&format!("n{n}")), "write {n} of {acknowledged} is lost");
    }
    ensure!(kept.contains_key("after"), "the write after the fault is lost: {kept:?}");
    Ok(())
}

#[test]
fn a_controller_whose_disk_is_full_refuses_writes_and_goes_on_when_there_is_space() {
    scenario(async |world| {
        let disk = world.small_disk(16)?;
        let data_dir = disk.data_dir().to_str().context("a path in UTF-8")?;
        let mut controller =
            world.controller_with(&["--data-dir", data_dir], "127.0.0.1:0").await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let api = controller.admin().await?;
        write(&api, "before").await?;

        disk.fill()?;
        let acknowledged = write_until_refused(&api).await?;
        only_writes_fail(&controller, &api).await?;
        controller.process.wait_for_log("the database could not write").await?;
        disk.free()?;
        goes_on(&mut controller, &api, acknowledged).await
    });
}

#[test]
fn a_controller_whose_disk_fails_to_flush_acknowledges_nothing_and_recovers() {
    scenario(async |world| {
        let mut controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let api = controller.admin().await?;
        for n in 0..5 {
            write(&api, &format!("n{n}")).await?;
        }
        let failing = world.failing_disk(&controller.process).await?;
        for n in 0..5 {
            let refused = write(&api, &format!("refused-{n}")).await;
            is_told(&refused.err().context("a write that was not flushed is acknowledged")?)?;
        }
        only_writes_fail(&controller, &api).await?;
        drop(failing);
        goes_on(&mut controller, &api, 5).await
    });
}

/// Joins on a sound disk with the token that was used already: as the one agent that there is.
async fn joins_as_the_only_one(
    controller: &Controller<'_>,
    spec: &AgentSpec,
    token: &str,
    logs: &std::path::Path,
) -> Result<()> {
    let mut process = Process::spawn("web-1", spec.join_command(token)?, logs)?;
    let ready: serde_json::Value = process.ready().await?;
    let mut api = controller.admin().await?.agents();
    let agents = api.list_agents(ListAgentsRequest::default()).await?.into_inner().agents;
    ensure!(agents.len() == 1 && ready["id"] == *agents[0].id, "{ready}: {agents:?}");
    Ok(())
}

#[test]
fn an_agent_that_joins_on_a_full_disk_says_so_and_joins_with_the_same_token_afterwards() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let disk = world.small_disk(4)?;
        let request = CreateJoinTokenRequest { max_uses: 1, ..Default::default() };
        let token = controller.join_token(request).await?.token;
        let spec = AgentSpec::new(world, &controller, "web-1")?;
        let spec = AgentSpec { data_dir: disk.data_dir().to_owned(), ..spec };
        disk.fill()?;
        let mut process = Process::spawn("full", spec.join_command(&token)?, world.logs())?;
        ensure!(process.exit_code().await? == 1, "{}", process.tail());
        ensure!(process.log()?.contains("No space left"), "{}", process.tail());
        disk.free()?;
        joins_as_the_only_one(&controller, &spec, &token, world.logs()).await
    });
}

#[test]
fn an_agent_that_joins_on_a_failing_disk_never_says_ready_and_joins_with_the_same_token_afterwards()
{
    scenario(async |world| {
        // Threads flush a few times each: the fault comes before, between and after their writes.
        for flush in 1..=rounds(3, 12) {
            let controller = world.controller().await?;
            let request = CreateJoinTokenRequest { max_uses: 1, ..Default::default() };
            let token = controller.join_token(request).await?.token;
            let spec = AgentSpec::new(world, &controller, "web-1")?;
            let mut command = spec.join_command(&token)?;
            command.arg("--only-join");
            let mut process =
                Process::spawn("failing", failing_from(flush, &command), world.logs())?;
            match process.exit_code().await? {
                // No thread flushes as often as that any more: it is durable.
                0 => ensure!(flush > 1, "it joined without one flush"),
                _ => {
                    let log = process.log()?;
                    ensure!(log.contains("Input/output error"), "flush {flush}: {log}");
                }
            }
            joins_as_the_only_one(&controller, &spec, &token, world.logs())
                .await
                .with_context(|| format!("after flush {flush} and later ones failed"))?;
        }
        Ok(())
    });
}

#[test]
fn an_agent_that_cannot_store_its_renewal_stays_itself_and_renews_when_its_disk_is_well() {
    scenario(async |world| {
        let controller =
            world.controller_with(&["--certificate-minutes", "1"], "127.0.0.1:0").await?;
        let disk = world.small_disk(4)?;
        let spec = AgentSpec::new(world, &controller, "full")?;
        let spec = AgentSpec { data_dir: disk.data_dir().to_owned(), ..spec };
        let mut full = world.join(&controller, spec).await?;
        let mut fails = world.agent(&controller, "fails").await?;
        disk.fill()?;
        let failing = world.failing_disk(&fails.process).await?;
        for agent in [&full, &fails] {
            agent.process.wait_for_log("cannot renew the certificate").await?;
            let record = controller.agent_record(&agent.id).await?;
            ensure!(record.state() == AgentState::Connected, "{record:?}");
        }
        // Even a power cut meanwhile costs nothing, and the agent starts on a full disk.
        fails.process.kill9()?;
        drop(failing);
        full.process.kill9()?;
        full.start_again().await?;
        fails.start_again().await?;
        disk.free()?;
        for agent in [&full, &fails] {
            agent.process.wait_for_log("renewed the certificate").await?;
            let record = controller.await_state(&agent.id, AgentState::Connected).await?;
            ensure!(record.standing() == AgentStanding::Active, "{record:?}");
        }
        Ok(())
    });
}
