//! A Docker engine that restarts, goes away, or says more than one can read: what the fleet knows
//! afterwards, and what everybody is told meanwhile.

use std::{
    convert::Infallible,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use dockctl_api::{
    error::{NOT_SENT, RAN, metadata_of, reason, reason_of},
    v1::*,
};
use dockctl_tests::{
    Agent, Controller, Dockctl, Docker, LONG, PrivateDockerd, World, await_until,
    consecutive_lines, counting_script, inventory_is_dockers, rounds, scenario,
};
use tonic::{Code, Status};

const IDLE: &str = "exec sleep 100000";

/// An agent beside a private engine.
async fn beside<'w>(
    world: &'w World,
    controller: &Controller<'_>,
    engine: &PrivateDockerd<'_>,
) -> Result<Agent<'w>> {
    world.agent_at(controller, "web-1", engine.docker().host()).await
}

/// `dockctl ps -a --on web-1` against `docker ps -a`, container by container: id and state.
async fn lists_are_the_same(dockctl: &Dockctl<'_>, docker: &Docker) -> Result<()> {
    let theirs = docker.cli(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"]).await?;
    let mut theirs: Vec<String> = theirs.lines().map(str::to_owned).collect();
    theirs.sort();
    for from in [&["ps", "-a", "--on", "web-1"][..], &["ps", "-a"]] {
        let listed = dockctl.json(from).await?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let mut ours: Vec<String> = listed
            .as_array()
            .context("a list")?
            .iter()
            .map(|c| format!("{} {}", text(&c["id"]), text(&c["state"])))
            .collect();
        ours.sort();
        ensure!(ours == theirs, "{from:?} has {ours:?}, docker ps -a has {theirs:?}");
    }
    Ok(())
}

#[test]
fn a_dockerd_that_restarts_again_and_again_is_resynced_each_time() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut engine = world.private_dockerd().await?;
        let agent = beside(world, &controller, &engine).await?;
        let ends = engine.docker().run("ends", IDLE).await?;
        engine.docker().run_with(&["--restart", "always"], "returns", IDLE).await?;
        inventory_is_dockers(&controller, engine.docker()).await?;
        let mut slowest = Duration::ZERO;
        for round in 0..rounds(3, 100) {
            // A crash in every third round; what it leaves running ends when the engine is back.
            match round % 3 {
                2 => engine.kill9()?,
                _ => engine.stop().await?,
            }
            engine.start().await?;
            let back = Instant::now();
            inventory_is_dockers(&controller, engine.docker()).await?;
            slowest = slowest.max(back.elapsed());
            // So that no two rounds are alike.
            engine.docker().cli(&["start", &ends.name]).await?;
            engine.docker().run(&format!("new-{round}"), "exit 3").await?;
            if round > 0 {
                let old = format!("{}-new-{}", world.prefix(), round - 1);
                engine.docker().cli(&["rm", "-f", &old]).await?;
            }
        }
        eprintln!("slowest resync after a restart of dockerd: {slowest:?}");
        inventory_is_dockers(&controller, engine.docker()).await?;
        lists_are_the_same(&controller.dockctl().await?, engine.docker()).await?;
        let record = controller.await_state("web-1", AgentState::Connected).await?;
        ensure!(record.epoch == 1 && record.id == agent.id, "its link did not last: {record:?}");
        Ok(())
    });
}

/// Takes containers through their lives until docker has told at least 300 events of them, more than
/// it remembers itself. Some run at the end, some have ended, some are gone.
async fn three_hundred_events(world: &World, docker: &Docker, name: &str) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().to_string();
    let label = format!("label={}", docker.selector());
    let told = ["events", "--since", &now, "--filter", "type=container", "--filter", &label];
    let told = docker.start(world, &told)?;
    let mut names = Vec::new();
    for n in 0..12 {
        names.push(docker.run(&format!("{name}-{n}"), IDLE).await?.name);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let act = async |verb: &[&str], names: &[&str]| docker.cli(&[verb, names].concat()).await;
    act(&["pause"], &names).await?;
    act(&["unpause"], &names).await?;
    act(&["kill"], &names).await?;
    // The cheapest change of a container that there is.
    for round in 0..20 {
        act(&["update", "--cpu-shares", &(100 + round).to_string()], &names).await?;
    }
    act(&["start"], &names[4..]).await?;
    act(&["rm", "-f"], &names[..8]).await?;
    told.wait_for_lines(300).await?;
    Ok(())
}

#[test]
fn three_hundred_events_while_the_agent_is_stopped_are_in_the_inventory_afterwards() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let changes = docker.run("changes", IDLE).await?;
        inventory_is_dockers(&controller, &docker).await?;

        agent.process.terminate().await?;
        docker.cli(&["kill", &changes.name]).await?;
        three_hundred_events(world, &docker, "apart").await?;
        agent.start_again().await?;
        inventory_is_dockers(&controller, &docker).await
    });
}

#[test]
fn three_hundred_events_while_the_link_is_cut_are_in_the_inventory_afterwards() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let (proxy, _agent) = world.agent_behind_proxy(&controller, "web-1").await?;
        let docker = world.docker();

        proxy.refuse();
        controller.await_state("web-1", AgentState::Offline).await?;
        three_hundred_events(world, &docker, "apart").await?;
        proxy.resume();
        controller.await_state("web-1", AgentState::Connected).await?;
        inventory_is_dockers(&controller, &docker).await
    });
}

#[test]
fn three_hundred_events_while_the_agent_lists_anew_again_and_again_cost_nothing() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        tokio::select! {
            end = three_hundred_events(world, &docker, "burst") => end?,
            end = restarted_for_ever(&mut agent) => match end? {},
        }
        inventory_is_dockers(&controller, &docker).await
    });
}

async fn restarted_for_ever(agent: &mut Agent<'_>) -> Result<Infallible> {
    loop {
        agent.process.kill9()?;
        agent.start_again().await?;
    }
}

/// That a call without Docker fails as it should.
fn is_down<T>(call: &str, result: Result<T, Status>) -> Result<()> {
    let Err(status) = result else { anyhow::bail!("{call} went well without Docker") };
    ensure!(status.code() == Code::Unavailable, "{call}: {status}");
    ensure!(reason_of(&status).as_deref() == Some(reason::DOCKER_DOWN), "{call}: {status}");
    ensure!(metadata_of(&status, RAN).as_deref() == Some(NOT_SENT), "{call}: {status}");
    ensure!(status.message().contains("dockerd running"), "{call}: {status}");
    Ok(())
}

async fn await_engine(controller: &Controller<'_>, available: bool) -> Result<()> {
    await_until(&format!("an engine that is available: {available}"), LONG, async || {
        let record = controller.agent_record("web-1").await?;
        Ok((record.engine.context("no engine")?.available == available).then_some(()))
    })
    .await
}

#[test]
fn without_its_dockerd_every_call_says_so_with_its_reason_and_whether_it_ran() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut engine = world.private_dockerd().await?;
        let _agent = beside(world, &controller, &engine).await?;
        let name = engine.docker().run("c", IDLE).await?.name;
        engine.stop().await?;
        await_engine(&controller, false).await?;

        let api = controller.admin().await?;
        let (mut containers, mut images, mut system) =
            (api.containers(), api.images(), api.system());
        let agent = || "web-1".to_owned();
        let list = ListContainersRequest { agent: agent(), ..Default::default() };
        is_down("list", containers.list_containers(list).await)?;
        let inspect =
            InspectContainerRequest { agent: agent(), container: name.clone(), size: false };
        is_down("inspect", containers.inspect_container(inspect).await)?;
        let start = StartContainerRequest { agent: agent(), container: name.clone() };
        is_down("start", containers.start_container(start).await)?;
        let (a, container) = (agent(), name.clone());
        let stop = StopContainerRequest { agent: a, container, ..Default::default() };
        is_down("stop", containers.stop_container(stop).await)?;
        let (a, container) = (agent(), name.clone());
        let restart = RestartContainerRequest { agent: a, container, ..Default::default() };
        is_down("restart", containers.restart_container(restart).await)?;
        let (a, container) = (agent(), name.clone());
        let kill = KillContainerRequest { agent: a, container, ..Default::default() };
        is_down("kill", containers.kill_container(kill).await)?;
        let request = ListImagesRequest { agent: agent(), ..Default::default() };
        is_down("images", images.list_images(request).await)?;
        is_down("ping", system.ping(PingRequest { agent: agent() }).await)?;
        is_down("info", system.get_info(GetInfoRequest { agent: agent() }).await)?;

        // A stream may tell it at once or as its first message.
        let (a, container) = (agent(), name.clone());
        for follow in [false, true] {
            let (agent, container) = (a.clone(), container.clone());
            let logs = StreamLogsRequest { agent, container, follow, ..Default::default() };
            let first = match containers.stream_logs(logs).await {
                Ok(stream) => stream.into_inner().message().await.map(drop),
                Err(status) => Err(status),
            };
            is_down("logs", first)?;
        }
        let stats = StreamStatsRequest { agent: agent(), ..Default::default() };
        let first = match containers.stream_stats(stats).await {
            Ok(stream) => stream.into_inner().message().await.map(drop),
            Err(status) => Err(status),
        };
        is_down("stats", first)?;
        let since = Some(SystemTime::UNIX_EPOCH.into());
        let events = StreamEventsRequest { agent: agent(), since, ..Default::default() };
        let first = match system.stream_events(events).await {
            Ok(stream) => stream.into_inner().message().await.map(drop),
            Err(status) => Err(status),
        };
        is_down("events", first)
    });
}

#[test]
fn without_its_dockerd_dockctl_says_what_is_down_and_what_to_do() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut engine = world.private_dockerd().await?;
        let _agent = beside(world, &controller, &engine).await?;
        let container = engine.docker().run("c", IDLE).await?;
        inventory_is_dockers(&controller, engine.docker()).await?;
        let dockctl = controller.dockctl().await?;
        engine.stop().await?;
        await_engine(&controller, false).await?;

        let at_host = format!("web-1/{}", container.name);
        for arguments in [
            &["ps", "--on", "web-1"][..],
            &["images", "--on", "web-1"],
            &["inspect", &at_host],
            &["logs", &at_host],
            &["logs", "-f", &at_host],
            &["stats", &at_host],
            &["stats", "--no-stream", &at_host],
            &["events", "--since", "1h", "--on", "web-1"],
            &["start", &at_host],
            &["stop", &at_host],
            &["restart", &at_host],
            &["kill", &at_host],
        ] {
            let ended = dockctl.run(arguments).await?;
            ensure!(ended.code == 1, "{ended:?}");
            let said = ended.stderr;
            ensure!(said.contains("start Docker there"), "{arguments:?}: {said}");
            ensure!(said.contains("safe to try again"), "{arguments:?}: {said}");
        }
        let agents = dockctl.ok(&["agents", "ls"]).await?;
        ensure!(agents.contains("connected") && agents.contains("Docker does not"), "{agents}");
        // The fleet's list is the last known one, and says so.
        let listed = dockctl.run(&["ps", "-a"]).await?;
        let shown = String::from_utf8_lossy(&listed.stdout);
        ensure!(listed.code == 0 && shown.contains(&container.name), "{listed:?}");
        ensure!(shown.contains("stale") && listed.stderr.contains("Docker"), "{listed:?}");
        Ok(())
    });
}

#[test]
fn streams_outlive_a_restart_of_their_dockerd_or_end_with_their_container() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut engine = world.private_dockerd().await?;
        let _agent = beside(world, &controller, &engine).await?;
        let dockctl = controller.dockctl().await?;
        let container = engine.docker().run("count", counting_script()).await?;
        engine.docker().run_with(&["--restart", "always"], "returns", IDLE).await?;
        inventory_is_dockers(&controller, engine.docker()).await?;
        let mut logs = dockctl.start(&["logs", "-f", &format!("web-1/{}", container.name)])?;
        let mut stats = dockctl.start(&["stats", "-o", "json"])?;
        let mut events = dockctl.start(&["events", "--on", "web-1"])?;
        let silent = engine.docker().run("silent", IDLE).await?;
        let mut silent = dockctl.start(&["logs", "-f", &format!("web-1/{}", silent.name)])?;
        logs.wait_for_lines(50).await?;
        stats.wait_for_lines(2).await?;

        engine.kill9()?;
        await_engine(&controller, false).await?;
        logs.wait_for_log("Docker on web-1 lost").await?;
        engine.start().await?;
        await_engine(&controller, true).await?;
        // The container did not outlive its engine: its log ends, and all of it has come.
        ensure!(logs.exit_code().await? == 0, "{}", logs.tail());
        let ours = logs.stdout()?;
        consecutive_lines(&ours)?;
        let theirs = engine.docker().raw(&["logs", &container.name]).await?.stdout;
        ensure!(ours == theirs, "{} bytes came, docker has {}", ours.len(), theirs.len());
        ensure!(silent.exit_code().await? == 0, "{}", silent.tail());
        // The others go on with what runs now.
        let later = engine.docker().run("later", IDLE).await?;
        await_until("its start among the events", LONG, async || {
            let text = String::from_utf8(events.stdout()?)?;
            Ok(text
                .lines()
                .any(|l| l.contains(" container start ") && l.contains(&later.id[..12]))
                .then_some(()))
        })
        .await?;
        await_until("a sample of it", LONG, async || {
            let text = String::from_utf8(stats.stdout()?)?;
            Ok(text.contains(&later.id).then_some(()))
        })
        .await?;
        ensure!(events.is_running()? && stats.is_running()?, "{} {}", events.tail(), stats.tail());
        Ok(())
    });
}
