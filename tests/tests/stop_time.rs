//! The time that a container has to end is docker's `--timeout`, and not the limit of dockctl's own calls.

use anyhow::{Context, Result, ensure};
use dockctl_tests::{Docker, IMAGE, LONG, await_until, scenario};

/// A container that takes 12 s to end once it is asked to, which is more than it has by default.
async fn slow(docker: &Docker, name: &str) -> Result<String> {
    let script = "trap 'usleep 12000000; exit 7' TERM; echo ready; while :; do usleep 50000; done";
    let (key, value) = docker.label();
    let (name, label) = (format!("{value}-{name}"), format!("{key}={value}"));
    let run = ["run", "-d", "--network", "none", "--name", &name, "--label", &label];
    docker.cli(&[&run[..], &[IMAGE, "sh", "-c", script]].concat()).await?;
    await_until("the trap to be set", LONG, async || {
        Ok(docker.cli(&["logs", &name]).await?.contains("ready").then_some(()))
    })
    .await?;
    Ok(name)
}

#[test]
fn a_slow_container_ends_by_itself_within_the_time_that_it_is_given() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let code = async |name: &str| docker.inspect(name, "{{.State.ExitCode}}").await;
        let long = slow(&docker, "long").await?;
        let for_ever = slow(&docker, "for-ever").await?;
        let at_once = slow(&docker, "at-once").await?;
        let (one, other) = (format!("web-1/{long}"), format!("web-1/{for_ever}"));
        let stop = async |words: &[&str]| dockctl.ok(words).await;
        let (first, second) =
            tokio::join!(async { stop(&["stop", "--timeout", "30", &one]).await }, async {
                stop(&["stop", "-t", "-1", &other]).await
            },);
        ensure!(first? == format!("{one}\n") && second? == format!("{other}\n"));
        ensure!(code(&long).await? == "7" && code(&for_ever).await? == "7", "they were killed");
        dockctl.ok(&["stop", "--time=0", &format!("web-1/{at_once}")]).await?;
        ensure!(code(&at_once).await? == "137");

        // The same of a restart, which tells in an event how the one before has ended.
        docker.cli(&["start", &long]).await?;
        let since = docker.inspect(&long, "{{.State.StartedAt}}").await?;
        await_until("the trap to be set again", LONG, async || {
            let log = docker.cli(&["logs", &long]).await?;
            Ok((log.matches("ready").count() == 2).then_some(()))
        })
        .await?;
        dockctl.ok(&["restart", "--timeout", "30", &one]).await?;
        let now = docker.inspect(&long, "{{.State.StartedAt}}").await?;
        let (filter, format) = (format!("container={long}"), "{{.Actor.Attributes.exitCode}}");
        let events = ["events", "--since", &since, "--until", &now, "--filter", &filter];
        let died = ["--filter", "event=die", "--format", format];
        let codes = docker.cli(&[&events[..], &died].concat()).await?;
        ensure!(codes.lines().last().context("no end was told")? == "7", "{codes}");
        Ok(())
    });
}

#[test]
fn what_docker_takes_is_taken() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let app = docker.run("app", "echo one; echo two; exec sleep 100000").await?.name;
        let at_host = format!("web-1/{app}");
        for tail in ["-1", "all", "1", "0", "+1"] {
            let theirs = docker.raw(&["logs", "--tail", tail, &app]).await?;
            let ours = dockctl.run(&["logs", "--tail", tail, &at_host]).await?;
            ensure!(ours.stdout == theirs.stdout && ours.code == 0, "{tail}: {ours:?} {theirs:?}");
        }
        dockctl.ok(&["kill", "--signal=KILL", &at_host]).await?;
        ensure!(dockctl.ok(&["wait", &at_host]).await? == "137\n");
        ensure!(docker.cli(&["wait", &app]).await? == "137");
        for signal in ["9", "SIGKILL", "sigkill"] {
            docker.cli(&["start", &app]).await?;
            dockctl.ok(&["kill", "-s", signal, &at_host]).await?;
            ensure!(docker.cli(&["wait", &app]).await? == "137", "{signal}");
        }
        Ok(())
    });
}
