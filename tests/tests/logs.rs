//! Logs: byte for byte what docker gives, and follows that survive whatever happens between.

use anyhow::{Result, ensure};
use dockctl_api::v1::{AgentState, StreamLogsRequest};
use dockctl_tests::{
    Container, Controller, Docker, DockerProxy, LONG, Running, await_until, consecutive_lines,
    counting_script, scenario,
};

/// Every way in which a program can write a log.
const NASTY: &str = r#"
echo out; echo err >&2
echo; printf '\377\376 not UTF-8 \000 with a zero\n'
printf '\033[31mred\033[0m \033]0;title\007\n' >&2
head -c 1000000 /dev/zero | tr '\0' x; echo
i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo "out $i"; echo "err $i" >&2; done
printf 'no end of line'
"#;

async fn ended(docker: &Docker, options: &[&str], script: &str) -> Result<Container> {
    let container = docker.run_with(options, "c", script).await?;
    docker.cli(&["wait", &container.name]).await?;
    Ok(container)
}

#[test]
fn a_whole_log_is_byte_exact_with_standard_output_and_error_apart() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = ended(&docker, &[], NASTY).await?.name;
        for flags in [
            &[][..],
            &["--tail", "7"],
            &["--tail", "0"],
            &["-t", "--tail", "50"],
            &["--since", "1h"],
            &["--raw"],
            &["--since", "2100-01-01T00:00:00Z"],
        ] {
            // --raw is ours: docker's own is always so.
            let known: Vec<&str> = flags.iter().copied().filter(|f| *f != "--raw").collect();
            let theirs = docker.raw(&[&["logs"], &known[..], &[&name]].concat()).await?;
            let ours =
                dockctl.run(&[&["logs"], flags, &[&*format!("web-1/{name}")]].concat()).await?;
            ensure!(
                ours.code == 0 && theirs.code == 0,
                "{flags:?}: {} {}",
                ours.stderr,
                theirs.stderr
            );
            ensure!(ours.stdout == theirs.stdout, "{flags:?}: standard output differs");
            ensure!(ours.stderr == theirs.stderr, "{flags:?}: standard error differs");
        }
        Ok(())
    });
}

#[test]
fn details_are_dockers_also_in_a_follow() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let noted =
            ["--log-opt", "labels=part,odd", "--label", "part=web", "--label", "odd=a, b=c ü%"];
        let with = ended(&docker, &noted, "echo out; echo err >&2; echo; echo last").await?.name;
        let without = docker.run("without", "echo out").await?.name;
        docker.cli(&["wait", &without]).await?;
        for (name, flags) in [
            (&with, &["--details"][..]),
            (&with, &["--details", "-t"]),
            (&with, &["--details", "-f"]),
            (&with, &["--details", "-f", "-t", "--tail", "2"]),
            (&without, &["--details"]),
        ] {
            let theirs = docker.raw(&[&["logs"], flags, &[name]].concat()).await?;
            let ours =
                dockctl.run(&[&["logs"], flags, &[&*format!("web-1/{name}")]].concat()).await?;
            ensure!(ours.code == 0 && !ours.stdout.is_empty(), "{flags:?}: {}", ours.stderr);
            ensure!(ours.stdout == theirs.stdout, "{flags:?}: {ours:?} and not {theirs:?}");
            ensure!(ours.stderr == theirs.stderr, "{flags:?}: {ours:?} and not {theirs:?}");
        }
        let noted = dockctl.ok(&["logs", "--details", &format!("web-1/{with}")]).await?;
        ensure!(noted.lines().all(|line| line.contains("part=web")), "{noted}");
        Ok(())
    });
}

#[test]
fn a_terminals_log_is_byte_exact_even_if_it_looks_like_a_frame() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        // What a multiplexed stream begins with: a client that guesses loses these bytes.
        let script = r"printf '\001\000\000\000\000\000\000\010 looks framed\n'; echo next";
        let name = ended(&docker, &["-t"], script).await?.name;
        let theirs = docker.raw(&["logs", &name]).await?.stdout;
        ensure!(theirs.starts_with(b"\x01"), "the container's log is {theirs:?}");
        let ours = controller.dockctl().await?.run(&["logs", &format!("web-1/{name}")]).await?;
        ensure!(ours.stdout == theirs, "{:?}", String::from_utf8_lossy(&ours.stdout));
        Ok(())
    });
}

#[test]
fn a_follow_gets_each_line_as_it_comes_and_ends_with_its_container() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let container = docker.run("count", counting_script()).await?;
        let mut follow = start_follow(&controller, &container).await?;
        follow.wait_for_lines(100).await?;
        docker.cli(&["kill", &container.name]).await?;
        ensure!(follow.exit_code().await? == 0, "{}", follow.tail());
        let theirs = docker.raw(&["logs", &container.name]).await?.stdout;
        ensure!(follow.stdout()? == theirs, "it is not what docker has");
        Ok(())
    });
}

async fn start_follow(controller: &Controller<'_>, container: &Container) -> Result<Running> {
    let dockctl = controller.dockctl().await?;
    dockctl.start(&["logs", "-f", &format!("web-1/{}", container.name)])
}

/// Waits for 200 more lines than there were, and checks all.
async fn goes_on(follow: &Running) -> Result<()> {
    let before = consecutive_lines(&follow.stdout()?)?;
    let bytes = follow.wait_for_lines(before + 200).await?;
    consecutive_lines(&bytes)?;
    Ok(())
}

#[test]
fn a_follow_goes_on_through_a_link_that_is_cut_again_and_again() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let (proxy, _agent) = world.agent_behind_proxy(&controller, "web-1").await?;
        let container = world.docker().run("count", counting_script()).await?;
        let follow = start_follow(&controller, &container).await?;
        follow.wait_for_lines(50).await?;
        for _ in 0..3 {
            proxy.cut();
            goes_on(&follow).await?;
        }
        Ok(())
    });
}

#[test]
fn a_follow_goes_on_through_kill_9_of_the_controller() {
    scenario(async |world| {
        let mut controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let container = world.docker().run("count", counting_script()).await?;
        let follow = start_follow(&controller, &container).await?;
        follow.wait_for_lines(50).await?;
        controller.process.kill9()?;
        controller.start_again().await?;
        goes_on(&follow).await
    });
}

#[test]
fn a_follow_goes_on_through_kill_9_of_the_agent() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let container = world.docker().run("count", counting_script()).await?;
        let follow = start_follow(&controller, &container).await?;
        follow.wait_for_lines(50).await?;
        agent.process.kill9()?;
        controller.await_state("web-1", AgentState::Offline).await?;
        agent.start_again().await?;
        goes_on(&follow).await
    });
}

#[test]
fn who_hangs_up_frees_the_engine() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let docker = world.docker();
        let proxy = DockerProxy::start(docker.host()).await?;
        let _agent = world.agent_at(&controller, "web-1", &proxy.url()).await?;
        let container = docker.run("count", counting_script()).await?;
        let mut follow = start_follow(&controller, &container).await?;
        follow.wait_for_lines(10).await?;
        ensure!(proxy.open_follows() == 1, "{} follows at the engine", proxy.open_follows());
        follow.kill9()?;
        await_until("the engine's call to end", LONG, async || {
            Ok((proxy.open_follows() == 0).then_some(()))
        })
        .await
    });
}

#[test]
fn without_an_agent_the_logs_of_all_hosts_are_merged_and_one_that_goes_away_is_told() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _one = world.agent(&controller, "web-1").await?;
        let mut two = world.agent(&controller, "web-2").await?;
        let container = world.docker().run("count", counting_script()).await?;
        let mut api = controller.admin().await?.containers();
        let request = StreamLogsRequest {
            container: container.name.clone(),
            follow: true,
            ..Default::default()
        };
        let mut stream = api.stream_logs(request).await?.into_inner();
        let mut logs = std::collections::BTreeMap::<String, Vec<u8>>::new();
        let mut killed = false;
        loop {
            let Some(message) = stream.message().await? else {
                anyhow::bail!("the merged stream ended");
            };
            if let Some(notice) = message.notice {
                ensure!(killed && message.agent == "web-2", "{}: {notice:?}", message.agent);
                break;
            }
            let log = logs.entry(message.agent).or_default();
            log.extend(message.records.iter().flat_map(|r| r.data.iter()));
            let enough = logs.len() == 2 && logs.values().all(|l| l.len() > 500);
            if enough && !killed {
                two.process.kill9()?;
                killed = true;
            }
        }
        for log in logs.values() {
            consecutive_lines(log)?;
        }
        // The other's lines still come.
        loop {
            let message = stream.message().await?;
            if message.is_some_and(|m| m.agent == "web-1" && !m.records.is_empty()) {
                return Ok(());
            }
        }
    });
}
