//! Volumes of a host, and what its disk holds.

use anyhow::{Context, ensure};
use dockctl_tests::scenario;
use serde_json::Value;

#[test]
fn volumes_are_made_shown_and_removed_in_dockers_words() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let name = world.own("data");
        let label = docker.selector();

        let said = dockctl.ok(&["volumes", "create", "--label", &label, &name]).await?;
        ensure!(said == format!("{name}\n"), "{said}");
        // Again is no error.
        dockctl.ok(&["volume", "create", "--label", &label, &name, "--on", "web-1"]).await?;
        let shown = dockctl.json(&["volumes", "inspect", &name]).await?;
        let direct: Value =
            serde_json::from_str(&docker.cli(&["volume", "inspect", &name]).await?)?;
        ensure!(shown == direct, "{shown} / {direct}");
        let filter = format!("label={label}");
        let listed = dockctl.ok(&["volumes", "ls", "--filter", &filter]).await?;
        ensure!(listed == format!("DRIVER   VOLUME NAME\nlocal    {name}\n"), "{listed}");
        let quiet = dockctl.ok(&["volume", "ls", "-q", "-f", &filter]).await?;
        ensure!(quiet == format!("{name}\n"), "{quiet}");
        let json = dockctl.json(&["volumes", "ls", "-f", &filter]).await?;
        ensure!(json[0]["agent"] == "web-1" && json[0]["created_at"].is_string(), "{json}");

        let mount = format!("{name}:/data");
        let container = docker.run_with(&["-v", &mount], "user", "exec sleep 100000").await?;
        let said = dockctl.run(&["volumes", "rm", &name]).await?.failed(1)?;
        ensure!(said.contains("web-1: ") && said.contains("volume is in use"), "{said}");
        docker.cli(&["rm", "-f", &container.name]).await?;
        let said = dockctl.ok(&["volumes", "rm", &name]).await?;
        ensure!(said == format!("{name}\n"), "{said}");
        let said = dockctl.run(&["volumes", "inspect", &name]).await?;
        ensure!(said.code == 4 && said.stderr.contains("web-1: "), "{said:?}");
        dockctl.run(&["volumes", "create", "a/b"]).await?.failed(2)?;

        docker.cli(&["volume", "create", "--label", &label, &name]).await?;
        let prune = ["volumes", "prune", "-a", "--filter", &filter];
        let said = dockctl.run(&prune).await?.failed(2)?;
        ensure!(said.contains("pass -f"), "{said}");
        let said = dockctl.ok(&[&prune[..], &["-f"]].concat()).await?;
        ensure!(said.starts_with(&format!("Deleted Volumes:\n{name}\n\n")), "{said}");
        ensure!(said.contains("Total reclaimed space: 0B\n"), "{said}");
        Ok(())
    });
}

#[test]
fn a_system_prune_removes_all_that_is_unused_and_fits() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let label = docker.selector();
        let ended = docker.run("ended", "true").await?;
        docker.cli(&["wait", &ended.name]).await?;
        let runs = docker.run("runs", "exec sleep 100000").await?;
        let (named, network) = (world.own("v"), world.own("n"));
        docker.cli(&["volume", "create", "--label", &label, &named]).await?;
        let volume = docker.cli(&["volume", "create", "--label", &label]).await?;
        docker.cli(&["network", "create", "--internal", "--label", &label, &network]).await?;
        let change = format!("LABEL {label}");
        let empty = world.dir("empty")?.join("empty.tar");
        std::fs::write(&empty, [0; 10240])?;
        let image =
            docker.cli(&["import", "-c", &change, empty.to_str().context("UTF-8")?]).await?;

        let filter = format!("label={label}");
        let said = dockctl.ok(&["system", "prune", "-f", "--volumes", "--filter", &filter]).await?;
        for (kind, name) in [
            ("Containers", &ended.id),
            ("Networks", &network),
            ("Volumes", &volume),
            ("Images", &image),
        ] {
            ensure!(said.contains(&format!("Deleted {kind}:\n")), "{said}");
            ensure!(said.contains(&format!("{name}\n")), "{said}");
        }
        ensure!(said.ends_with("B\n") && said.contains("Total reclaimed space: "), "{said}");
        // What runs is spared, and what has a name.
        docker.inspect(&runs.name, "{{.Id}}").await?;
        docker.cli(&["volume", "inspect", &named]).await?;
        ensure!(!said.contains(&named), "{said}");
        Ok(())
    });
}

#[test]
fn the_disk_is_told_as_the_engine_tells_it() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let name = world.own("measured");
        docker.cli(&["volume", "create", &name]).await?;

        let usage = dockctl.json(&["system", "df"]).await?;
        let volumes = usage["Volumes"].as_array().context("no volumes")?;
        ensure!(volumes.iter().any(|v| v["Name"] == *name), "{usage}");
        ensure!(usage["LayersSize"].is_i64(), "{usage}");
        let table = dockctl.ok(&["system", "df"]).await?;
        for row in ["TYPE ", "Images ", "Containers ", "Local Volumes ", "Build Cache "] {
            ensure!(table.lines().any(|line| line.starts_with(row)), "{table}");
        }
        let all = dockctl.ok(&["system", "df", "-v"]).await?;
        ensure!(all.contains(&format!("{name} ")) && all.contains("UNIQUE SIZE"), "{all}");

        let info = dockctl.ok(&["system", "info"]).await?;
        ensure!(info == dockctl.ok(&["info", "web-1"]).await?, "{info}");

        // Nothing is as old as that.
        let said = dockctl.ok(&["builder", "prune", "-f", "--filter", "until=100000h"]).await?;
        ensure!(said == "Total reclaimed space: 0B\n", "{said}");
        let said = dockctl.run(&["system", "prune", "--volumes"]).await?.failed(2)?;
        ensure!(said.contains("pass -f"), "{said}");
        Ok(())
    });
}
