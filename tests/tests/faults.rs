//! What breaks between the parts, and what must hold all the same.

use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use dockctl_api::{
    error::{MAYBE_RAN, RAN, metadata_of, reason, reason_of},
    v1::{AgentState, ListContainersRequest, StopContainerRequest},
};
use dockctl_tests::{DockerProxy, LONG, await_until, inventory_is_dockers, scenario};
use tonic::Code;

const IDLE: &str = "exec sleep 100000";

#[test]
fn agent_kill_9_comes_back_as_itself_and_leaves_the_containers_alone() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let container = docker.run("c", IDLE).await?;
        let started = docker.inspect(&container.name, "{{.State.StartedAt}}").await?;
        let before = controller.agent_record("web-1").await?;
        for _ in 0..3 {
            agent.process.kill9()?;
            agent.start_again().await?;
        }
        let after = controller.await_state("web-1", AgentState::Connected).await?;
        ensure!(after.epoch >= before.epoch + 3, "{} then {}", before.epoch, after.epoch);
        ensure!(docker.inspect(&container.name, "{{.State.StartedAt}}").await? == started);
        Ok(())
    });
}

#[test]
fn a_call_on_a_link_that_dies_says_that_it_may_have_run() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let (proxy, _agent) = world.agent_behind_proxy(&controller, "web-1").await?;
        let container = world.docker().run("c", IDLE).await?;
        let mut api = controller.admin().await?.containers();

        proxy.stall();
        let agent = "web-1".to_owned();
        let stop = StopContainerRequest { agent, container: container.name, ..Default::default() };
        let error = api.stop_container(stop).await.expect_err("nothing comes through");
        ensure!(error.code() == Code::Unavailable, "{error}");
        ensure!(reason_of(&error).as_deref() == Some(reason::LINK_LOST), "{error}");
        ensure!(metadata_of(&error, RAN).as_deref() == Some(MAYBE_RAN), "{error}");
        Ok(())
    });
}

#[test]
fn a_wait_outlives_a_lost_link_and_tells_how_its_containers_ended_meanwhile() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let (proxy, _agent) = world.agent_behind_proxy(&controller, "web-1").await?;
        let docker = world.docker();
        let script = "trap 'exit 7' TERM; sleep 100000 & wait";
        let (first, second) =
            (docker.run("first", script).await?.name, docker.run("second", script).await?.name);
        let dockctl = controller.dockctl().await?;
        let at = |name: &str| format!("web-1/{name}");
        let mut wait = dockctl.start(&["wait", &at(&first), &at(&second)])?;
        await_until("both waits to be under way", LONG, async || {
            let metrics = controller.read_metrics().await?;
            let open = "dockctl_calls_open{method=\"ContainerService/WaitContainer\"} 2";
            ensure!(metrics.lines().any(|line| line == open), "{metrics}");
            Ok(Some(()))
        })
        .await?;

        proxy.refuse();
        wait.wait_for_log("link to web-1 lost").await?;
        docker.cli(&["stop", &first]).await?;
        proxy.resume();
        wait.wait_for_log("link to web-1 is back").await?;
        ensure!(wait.is_running()?, "the second one has not ended: {}", wait.tail());
        docker.cli(&["kill", &second]).await?;
        ensure!(wait.exit_code().await? == 0, "{}", wait.tail());
        let told = String::from_utf8(wait.stdout()?)?;
        ensure!(told == "7\n137\n", "{told}");
        Ok(())
    });
}

#[test]
fn what_happened_while_the_link_was_down_is_in_the_inventory_afterwards() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let (proxy, _agent) = world.agent_behind_proxy(&controller, "web-1").await?;
        let docker = world.docker();
        let dies = docker.run("dies", IDLE).await?;
        let goes = docker.run("goes", IDLE).await?;
        inventory_is_dockers(&controller, &docker).await?;

        proxy.refuse();
        controller.await_state("web-1", AgentState::Offline).await?;
        docker.cli(&["kill", &dies.name]).await?;
        docker.cli(&["rm", "-f", &goes.name]).await?;
        for n in 0..10 {
            docker.run(&format!("comes-{n}"), IDLE).await?;
        }
        proxy.resume();
        controller.await_state("web-1", AgentState::Connected).await?;
        inventory_is_dockers(&controller, &docker).await
    });
}

#[test]
fn with_its_dockerd_down_an_agent_stays_connected_and_says_so() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut engine = world.private_dockerd().await?;
        let _agent = world.agent_at(&controller, "web-1", engine.docker().host()).await?;
        let container = engine.docker().run("c", IDLE).await?;
        inventory_is_dockers(&controller, engine.docker()).await?;

        engine.stop().await?;
        let down = await_until("the agent to say so", LONG, async || {
            let record = controller.agent_record("web-1").await?;
            let engine = record.engine.clone().context("no engine")?;
            Ok((!engine.available).then_some(record))
        })
        .await?;
        ensure!(down.state() == AgentState::Connected, "{down:?}");
        ensure!(!down.engine.context("no engine")?.error.is_empty(), "no error");

        let mut api = controller.admin().await?.containers();
        let request = ListContainersRequest { agent: "web-1".into(), ..Default::default() };
        let error = api.list_containers(request).await.expect_err("docker is down");
        ensure!(error.code() == Code::Unavailable, "{error}");
        ensure!(reason_of(&error).as_deref() == Some(reason::DOCKER_DOWN), "{error}");
        let fleet = api.list_containers(ListContainersRequest { all: true, ..Default::default() });
        let fleet = fleet.await?.into_inner();
        let one = fleet.containers.iter().find(|c| c.id == container.id).context("forgotten")?;
        ensure!(one.stale, "a view without an engine is not marked as old");

        engine.start().await?;
        inventory_is_dockers(&controller, engine.docker()).await
    });
}

#[test]
fn an_agent_that_starts_before_its_dockerd_waits_for_it() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut engine = world.private_dockerd().await?;
        engine.docker().run("c", IDLE).await?;
        engine.stop().await?;
        let _agent = world.agent_at(&controller, "web-1", engine.docker().host()).await?;
        engine.start().await?;
        inventory_is_dockers(&controller, engine.docker()).await
    });
}

#[test]
fn a_socket_proxy_that_refuses_a_call_is_told_with_that_call() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let docker = world.docker();
        let proxy = DockerProxy::start(docker.host()).await?;
        let _agent = world.agent_at(&controller, "web-1", &proxy.url()).await?;
        let container = docker.run("c", "echo hello; exec sleep 100000").await?;
        inventory_is_dockers(&controller, &docker).await?;
        let dockctl = controller.dockctl().await?;
        let at_host = format!("web-1/{}", container.name);
        ensure!(dockctl.ok(&["logs", &at_host]).await? == "hello\n", "a read is refused");

        let said = dockctl.run(&["stop", &at_host]).await?.failed(3)?;
        ensure!(said.contains("POST") && said.contains("stop"), "{said}");
        let mut api = controller.admin().await?.containers();
        let agent = "web-1".to_owned();
        let stop =
            StopContainerRequest { agent, container: container.name.clone(), ..Default::default() };
        let error = api.stop_container(stop).await.expect_err("the proxy refuses");
        ensure!(error.code() == Code::PermissionDenied, "{error}");
        ensure!(reason_of(&error).as_deref() == Some(reason::DOCKER_REFUSED), "{error}");
        let call = metadata_of(&error, "call").context("no call")?;
        ensure!(call.starts_with("POST ") && call.contains("/stop"), "{call}");
        ensure!(docker.inspect(&container.name, "{{.State.Running}}").await? == "true");
        Ok(())
    });
}

#[test]
fn heartbeats_go_on_and_measure() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let first = await_until("a round trip", LONG, async || {
            let record = controller.agent_record("web-1").await?;
            Ok(record.round_trip.is_some().then_some(record))
        })
        .await?;
        let seen =
            |r: &dockctl_api::v1::Agent| r.last_seen_at.and_then(|t| SystemTime::try_from(t).ok());
        await_until("a later heartbeat", LONG, async || {
            let record = controller.agent_record("web-1").await?;
            Ok((seen(&record) > seen(&first)).then_some(()))
        })
        .await?;
        // One clock: an offset of a minute would be a wrong sign or unit.
        let offset = first.clock_offset.context("no clock offset")?;
        ensure!(offset.seconds.unsigned_abs() < Duration::from_secs(60).as_secs(), "{offset:?}");
        Ok(())
    });
}
