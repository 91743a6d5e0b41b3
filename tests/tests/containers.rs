//! Reads and changes of containers, and what a person gets who asks for what is not there.

use anyhow::{Context, Result, ensure};
use dockctl_api::{
    error::{NOT_SENT, RAN, metadata_of, reason, reason_of},
    v1::{
        AgentState, InspectContainerRequest, KillContainerRequest, ListContainersRequest,
        StartContainerRequest, StopContainerRequest, StreamLogsRequest,
    },
};
use dockctl_tests::{Api, Dockctl, LONG, await_until, scenario};
use tonic::Code;

const IDLE: &str = "exec sleep 100000";

fn on(agent: &str) -> ListContainersRequest {
    ListContainersRequest { agent: agent.to_owned(), all: true, ..Default::default() }
}

async fn listed(dockctl: &Dockctl<'_>, arguments: &[&str], name: &str) -> Result<()> {
    await_until(&format!("{name} in {arguments:?}"), LONG, async || {
        Ok(dockctl.ok(arguments).await?.contains(name).then_some(()))
    })
    .await
}

#[test]
fn a_list_says_what_docker_says_and_the_fleets_inventory_follows() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let runs = docker.run_with(&["--label", "tier=front"], "runs", IDLE).await?;
        let ended = docker.run("ended", "exit 3").await?;
        docker.cli(&["wait", &ended.name]).await?;

        let mut api = controller.admin().await?.containers();
        let direct = api.list_containers(on("web-1")).await?.into_inner().containers;
        let one = direct.iter().find(|c| c.id == runs.id).context("not listed")?;
        ensure!(one.agent == "web-1" && one.name == runs.name && one.state == "running", "{one:?}");
        ensure!(one.image == dockctl_tests::IMAGE && one.labels["tier"] == "front", "{one:?}");
        let dead = direct.iter().find(|c| c.id == ended.id).context("not listed")?;
        ensure!(dead.state == "exited" && dead.status.contains("(3)"), "{dead:?}");

        // Each waits only for the inventory to catch up.
        await_until("the inventory", LONG, async || {
            let fleet = api.list_containers(on("")).await?.into_inner();
            ensure!(
                fleet.views.iter().any(|v| v.agent == "web-1" && !v.stale),
                "{:?}",
                fleet.views
            );
            let state =
                |id: &str| fleet.containers.iter().find(|c| c.id == id).map(|c| c.state.clone());
            let ok = state(&runs.id).as_deref() == Some("running")
                && state(&ended.id).as_deref() == Some("exited");
            Ok(ok.then_some(()))
        })
        .await?;

        let running = ListContainersRequest { all: false, ..on("web-1") };
        let running = api.list_containers(running).await?.into_inner().containers;
        ensure!(running.iter().all(|c| c.id != ended.id), "a stopped container without `all`");
        let labelled = ListContainersRequest { label_selector: "tier=front".into(), ..on("") };
        let labelled = api.list_containers(labelled).await?.into_inner().containers;
        ensure!(labelled.iter().any(|c| c.id == runs.id));
        ensure!(labelled.iter().all(|c| c.labels.get("tier").is_some_and(|t| t == "front")));

        docker.cli(&["rm", "-f", &runs.name]).await?;
        await_until("the removed one to go", LONG, async || {
            let fleet = api.list_containers(on("")).await?.into_inner();
            Ok(fleet.containers.iter().all(|c| c.id != runs.id).then_some(()))
        })
        .await
    });
}

#[test]
fn everyone_sees_his_own_writes() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let container = docker.run("c", IDLE).await?;
        let mut api = controller.admin().await?.containers();
        for _ in 0..5 {
            let (agent, name) = ("web-1".to_owned(), container.name.clone());
            let stop = StopContainerRequest {
                agent: agent.clone(),
                container: name.clone(),
                timeout: Some(prost_types::Duration::default()),
                ..Default::default()
            };
            api.stop_container(stop).await?;
            let state = |list: Vec<dockctl_api::v1::Container>| {
                list.into_iter().find(|c| c.id == container.id).map(|c| c.state)
            };
            let now = state(api.list_containers(on("web-1")).await?.into_inner().containers);
            ensure!(now.as_deref() == Some("exited"), "after its stop it is {now:?}");
            api.start_container(StartContainerRequest { agent, container: name }).await?;
            let now = state(api.list_containers(on("web-1")).await?.into_inner().containers);
            ensure!(now.as_deref() == Some("running"), "after its start it is {now:?}");
        }
        Ok(())
    });
}

#[test]
fn unknown_agents_and_containers_are_told_with_reason_sentence_and_exit_code_4() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let mut api = controller.admin().await?.containers();
        let inspect = |agent: &str, container: &str| InspectContainerRequest {
            agent: agent.into(),
            container: container.into(),
            size: false,
        };

        let error = api.inspect_container(inspect("web-9", "c")).await.expect_err("no web-9");
        ensure!(error.code() == Code::NotFound, "{error}");
        ensure!(reason_of(&error).as_deref() == Some(reason::AGENT_NOT_FOUND), "{error}");
        let error = api.inspect_container(inspect("web-1", "ghost")).await.expect_err("no ghost");
        ensure!(error.code() == Code::NotFound, "{error}");
        ensure!(reason_of(&error).as_deref() == Some(reason::CONTAINER_NOT_FOUND), "{error}");

        for arguments in [
            &["start", "web-9/c"][..],
            &["logs", "web-1/ghost"],
            &["logs", "ghost-of-all-hosts"],
            &["stop", "web-1/ghost"],
            &["agents", "show", "web-9"],
            &["ps", "--on", "web-9"],
        ] {
            let said = dockctl.run(arguments).await?.failed(4)?;
            ensure!(said.contains("web-9") || said.contains("ghost"), "{arguments:?}: {said}");
        }
        Ok(())
    });
}

#[test]
fn an_ambiguous_name_lists_the_candidates() {
    scenario(async |world| {
        let controller = world.controller().await?;
        // Two agents beside one engine: every container is on two hosts.
        let _one = world.agent(&controller, "web-1").await?;
        let _two = world.agent(&controller, "web-2").await?;
        let docker = world.docker();
        let container = docker.run("twin", IDLE).await?;
        let dockctl = controller.dockctl().await?;
        for agent in ["web-1", "web-2"] {
            await_until("the twin in the inventory", LONG, async || {
                let all = dockctl.json(&["ps"]).await?;
                let all = all.as_array().context("no array")?;
                let there = all.iter().any(|c| c["agent"] == agent && c["name"] == *container.name);
                Ok(there.then_some(()))
            })
            .await?;
        }
        let said = dockctl.run(&["stop", &container.name]).await?.failed(1)?;
        for host in ["web-1", "web-2"] {
            ensure!(said.contains(&format!("{host}/{}", container.name)), "{said}");
        }
        let state = docker.inspect(&container.name, "{{.State.Status}}").await?;
        ensure!(state == "running", "one of the two was stopped");
        Ok(())
    });
}

#[test]
fn an_ambiguous_id_is_refused_by_the_api() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        // Of 17 containers two begin with the same hexadecimal digit.
        let mut first = std::collections::HashMap::new();
        for n in 0..17 {
            let id = docker.run(&format!("n{n}"), IDLE).await?.id;
            *first.entry(id[..1].to_owned()).or_insert(0) += 1;
        }
        let (prefix, _) = first.into_iter().max_by_key(|(_, n)| *n).context("no container")?;
        let mut api = controller.admin().await?.containers();
        let kill =
            KillContainerRequest { agent: "web-1".into(), container: prefix, ..Default::default() };
        let error = api.kill_container(kill).await.expect_err("it is ambiguous");
        ensure!(reason_of(&error).as_deref() == Some(reason::AMBIGUOUS), "{error}");
        Ok(())
    });
}

#[test]
fn an_offline_agent_is_told_at_once_with_not_sent_and_exit_code_5_and_its_containers_stay_listed() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let container = docker.run("c", IDLE).await?;
        listed(&dockctl, &["ps"], &container.name).await?;
        agent.process.kill9()?;
        let record = controller.await_state("web-1", AgentState::Offline).await?;
        ensure!(!record.cause.is_empty(), "no cause");

        let said = dockctl.run(&["stop", &format!("web-1/{}", container.name)]).await?.failed(5)?;
        ensure!(said.contains("web-1"), "{said}");
        let mut api = controller.admin().await?.containers();
        let stop = StopContainerRequest {
            agent: "web-1".into(),
            container: container.name.clone(),
            ..Default::default()
        };
        let error = api.stop_container(stop).await.expect_err("web-1 is offline");
        ensure!(error.code() == Code::Unavailable, "{error}");
        ensure!(reason_of(&error).as_deref() == Some(reason::AGENT_OFFLINE), "{error}");
        ensure!(metadata_of(&error, RAN).as_deref() == Some(NOT_SENT), "{error}");

        let fleet = api.list_containers(on("")).await?.into_inner();
        let one = fleet.containers.iter().find(|c| c.id == container.id).context("not listed")?;
        ensure!(one.stale, "an offline agent's container is not marked");
        let view = fleet.views.iter().find(|v| v.agent == "web-1").context("no view")?;
        ensure!(view.stale && !view.cause.is_empty(), "{view:?}");

        // One that is named alone is asked itself; of several the list is what was known.
        for list in ["ps", "images"] {
            let said = dockctl.run(&[list, "--on", "web-1"]).await?.failed(5)?;
            ensure!(said.contains("web-1 is offline"), "{said}");
        }
        for on in [&[][..], &["--on", "web-*"], &["--on", "web-1,w*"]] {
            let output = dockctl.run(&[&["ps", "-a"], on].concat()).await?;
            let shown = String::from_utf8_lossy(&output.stdout);
            let row = shown.lines().find(|line| line.contains(&container.name));
            ensure!(output.code == 0 && row.is_some_and(|r| r.contains("stale")), "{output:?}");
            ensure!(output.stderr.contains("web-1: containers as of "), "{output:?}");
        }
        Ok(())
    });
}

#[test]
fn malformed_fields_are_refused_by_name() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let mut api = controller.admin().await?.containers();
        for container in ["", "a b", "../../info", "a\nb", "%2e%2e", &"x".repeat(5_000)] {
            let request = InspectContainerRequest {
                agent: "web-1".into(),
                container: container.into(),
                size: false,
            };
            let error = api.inspect_container(request).await.expect_err("it is malformed");
            ensure!(error.code() == Code::InvalidArgument, "{container:?}: {error}");
            ensure!(metadata_of(&error, "field").as_deref() == Some("container"), "{error}");
        }
        let request =
            InspectContainerRequest { agent: String::new(), container: "c".into(), size: false };
        let error = api.inspect_container(request).await.expect_err("no agent");
        ensure!(reason_of(&error).as_deref() == Some(reason::AGENT_REQUIRED), "{error}");
        let request = ListContainersRequest { label_selector: "=,=".into(), ..on("web-1") };
        let error = api.list_containers(request).await.expect_err("no selector");
        ensure!(error.code() == Code::InvalidArgument, "{error}");
        let request = StreamLogsRequest {
            agent: "web-1".into(),
            container: "c".into(),
            since: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: -1 }),
            ..Default::default()
        };
        // A refusal may come before the stream or as its first and only item.
        let error = match api.stream_logs(request).await {
            Err(error) => error,
            Ok(stream) => stream.into_inner().message().await.expect_err("no such time"),
        };
        ensure!(error.code() == Code::InvalidArgument, "{error}");

        let dockctl = controller.dockctl().await?;
        for arguments in [
            &["logs", "a/b/c"][..],
            &["logs", "--tail", "few", "c"],
            &["logs", "--since", "yesterday-ish", "c"],
            &["stop"],
            &["no-such-verb"],
        ] {
            dockctl.run(arguments).await?.failed(2)?;
        }
        Ok(())
    });
}

#[test]
fn docker_refusing_is_told_in_its_own_words_and_exit_code_1() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let ended = docker.run("ended", "true").await?;
        docker.cli(&["wait", &ended.name]).await?;
        let dockctl = controller.dockctl().await?;
        let said = dockctl.run(&["kill", &format!("web-1/{}", ended.name)]).await?.failed(1)?;
        ensure!(said.contains("is not running"), "{said}");
        Ok(())
    });
}

#[test]
fn without_a_login_everything_is_refused_with_exit_code_3() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut api = controller.anonymous().await?;
        let error = api.containers().list_containers(on("")).await.expect_err("no login");
        ensure!(error.code() == Code::Unauthenticated, "{error}");
        ensure!(reason_of(&error).as_deref() == Some(reason::NOT_LOGGED_IN), "{error}");
        api = Api::connect(controller.api, &controller.ca_fingerprint, Some("x.y.z")).await?;
        let error = api.containers().list_containers(on("")).await.expect_err("a forged token");
        ensure!(error.code() == Code::Unauthenticated, "{error}");

        let dockctl = Dockctl::new(world)?;
        let said = dockctl.run(&["ps"]).await?;
        ensure!(said.code == 2 || said.code == 3, "{said:?}");
        ensure!(said.stderr.contains("dockctl login"), "{}", said.stderr);
        let mut command = dockctl.command(&["ps"])?;
        command
            .env("DOCKCTL_URL", format!("https://{}", controller.api))
            .env("DOCKCTL_CA_FINGERPRINT", &controller.ca_fingerprint)
            .env("DOCKCTL_TOKEN", "x.y.z");
        ensure!(command.output()?.status.code() == Some(3));

        // The same three variables with a good token need no login.
        let admin = controller.admin().await?;
        let token = admin.authorization().context("no token")?.trim_start_matches("Bearer ");
        ensure!(command.env("DOCKCTL_TOKEN", token).output()?.status.code() == Some(0));
        Ok(())
    });
}

#[test]
fn dockctl_tells_a_controller_that_is_away_with_exit_code_5() {
    scenario(async |world| {
        let mut controller = world.controller().await?;
        let dockctl = controller.dockctl().await?;
        controller.process.kill9()?;
        let said = dockctl.run(&["ps"]).await?.failed(5)?;
        ensure!(said.contains(&controller.api.to_string()), "{said}");
        Ok(())
    });
}
