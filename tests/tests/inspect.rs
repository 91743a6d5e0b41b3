//! `dockctl inspect` of all that an engine knows, and docker's long names of its verbs.

use anyhow::{Result, ensure};
use dockctl_tests::{IMAGE, scenario};
use serde_json::Value;

#[test]
fn whatever_is_named_is_shown_as_docker_shows_it() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let app = docker.run("app", "exec sleep 100000").await?.name;
        let volume = format!("{}-volume", world.prefix());
        docker.cli(&["volume", "create", &volume]).await?;
        // Other scenarios' containers come to and go from the bridge.
        let network = format!("{}-network", world.prefix());
        docker.cli(&["network", "create", &network]).await?;
        let compared = async || -> Result<()> {
            let names = [&app, IMAGE, &network, &volume];
            for (kind, name) in ["container", "image", "network", "volume"].iter().zip(names) {
                let theirs: Value =
                    serde_json::from_str(&docker.cli(&["inspect", "--type", kind, name]).await?)?;
                let there = format!("web-1/{name}");
                for words in [
                    &["inspect", &there][..],
                    &["inspect", "--on", "web-1", name],
                    &["inspect", "--type", kind, &there],
                    &["container", "inspect", "--type", kind, "--on", "web-1", name],
                ] {
                    let ours: Value = serde_json::from_str(&dockctl.ok(words).await?)?;
                    ensure!(ours == theirs, "{words:?}: {ours}");
                }
            }
            let wrong = ["inspect", "--type", "network", &format!("web-1/{volume}")];
            let said = dockctl.run(&wrong).await?;
            ensure!(said.code == 4 && said.stdout == b"[]\n", "{said:?}");
            // All of them at once, in the order named.
            let all = dockctl.ok(&["inspect", "--on", "web-1", IMAGE, &app, &network]).await?;
            let all: Value = serde_json::from_str(&all)?;
            ensure!(
                all[1]["Name"] == format!("/{app}") && all[2]["Name"] == network.as_str(),
                "{all}"
            );
            let sized = dockctl.ok(&["inspect", "-s", &format!("web-1/{app}")]).await?;
            let sized: Value = serde_json::from_str(&sized)?;
            ensure!(sized[0]["SizeRootFs"].is_i64(), "{sized}");
            let said = dockctl.run(&["inspect", "web-1/nosuch"]).await?;
            ensure!(said.code == 4 && said.stdout == b"[]\n", "{said:?}");
            ensure!(said.stderr.contains("web-1: No such object: nosuch"), "{said:?}");
            let said = dockctl.run(&["inspect", "nosuch"]).await?;
            ensure!(said.code == 4 && said.stderr.contains("nosuch"), "{said:?}");
            Ok(())
        };
        let result = compared().await;
        docker.cli(&["volume", "rm", &volume]).await?;
        docker.cli(&["network", "rm", &network]).await?;
        result
    });
}

#[test]
fn dockers_long_names_are_its_short_ones() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let (key, value) = docker.label();
        let (label, name) = (format!("{key}={value}"), format!("{}-long", world.prefix()));
        let run = ["container", "run", "-d", "--name", &name, "--label", &label];
        dockctl.ok(&[&run[..], &[IMAGE, "sleep", "100000"]].concat()).await?;
        let at_host = format!("web-1/{name}");
        let ran = dockctl.run(&["container", "exec", &at_host, "sh", "-c", "exit 9"]).await?;
        ensure!(ran.code == 9, "{ran:?}");
        for list in [&["container", "ls"][..], &["container", "ps"], &["container", "list"]] {
            let listed = dockctl.ok(&[list, &["--on", "web-1"]].concat()).await?;
            ensure!(listed.contains(&name), "{listed}");
        }
        dockctl.ok(&["container", "stop", "-t", "0", &at_host]).await?;
        dockctl.ok(&["container", "start", &at_host]).await?;
        dockctl.ok(&["container", "rm", "-f", &at_host]).await?;
        let events = ["system", "events", "--on", "web-1", "--since", "1h", "--until", "0s"];
        let events = dockctl.ok(&[&events[..], &["-l", &label]].concat()).await?;
        ensure!(events.contains("destroy"), "{events}");
        Ok(())
    });
}
