//! Networks of a host, and containers in them.

use anyhow::ensure;
use dockctl_tests::scenario;
use serde_json::Value;

#[test]
fn networks_are_made_shown_used_and_removed_in_dockers_words() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let name = world.own("net");
        let label = docker.selector();

        let id =
            dockctl.ok(&["networks", "create", "--internal", "--label", &label, &name]).await?;
        let id = id.trim();
        let direct: Value =
            serde_json::from_str(&docker.cli(&["network", "inspect", &name]).await?)?;
        ensure!(direct[0]["Id"] == id && direct[0]["Internal"] == true, "{direct}");
        ensure!(dockctl.json(&["network", "inspect", &name]).await? == direct);
        let filter = format!("label={label}");
        let listed = dockctl.ok(&["networks", "ls", "-f", &filter]).await?;
        let row: Vec<&str> = listed.lines().nth(1).unwrap_or_default().split_whitespace().collect();
        ensure!(row == [&id[..12], &name, "bridge", "local"], "{listed}");
        let whole = dockctl.ok(&["networks", "ls", "-q", "--no-trunc", "-f", &filter]).await?;
        ensure!(whole.trim() == id, "{whole}");

        // The harness's containers have no network, and that one allows no other beside it.
        let container = docker.run("c", "exec sleep 100000").await?;
        docker.cli(&["network", "disconnect", "none", &container.name]).await?;
        dockctl.ok(&["networks", "connect", "--alias", "db", &name, &container.name]).await?;
        let aliases = format!("{{{{json (index .NetworkSettings.Networks \"{name}\").Aliases}}}}");
        let shown = docker.inspect(&container.name, &aliases).await?;
        ensure!(shown.contains("\"db\""), "{shown}");
        let said = dockctl.run(&["networks", "rm", &name]).await?;
        ensure!(said.code != 0 && said.stderr.contains("has active endpoints"), "{said:?}");
        dockctl.ok(&["networks", "disconnect", &name, &container.name]).await?;
        let said = dockctl.run(&["networks", "connect", &name, "no-such"]).await?.failed(4)?;
        ensure!(said.contains("web-1"), "{said}");
        let said = dockctl.run(&["networks", "connect", "no-such", &container.name]).await?;
        ensure!(said.code == 4 && said.stderr.contains("network no-such not found"), "{said:?}");

        let said = dockctl.ok(&["networks", "rm", &name]).await?;
        ensure!(said == format!("{name}\n"), "{said}");
        dockctl.run(&["networks", "rm", &name]).await?.failed(4)?;
        dockctl.ok(&["networks", "rm", "-f", &name]).await?;
        dockctl.run(&["networks", "connect", "..", &container.name]).await?.failed(2)?;

        docker.cli(&["network", "create", "--internal", "--label", &label, &name]).await?;
        let said = dockctl.ok(&["networks", "prune", "-f", "--filter", &filter]).await?;
        ensure!(said == format!("Deleted Networks:\n{name}\n\n"), "{said}");
        Ok(())
    });
}

#[test]
fn address_ranges_are_the_users_choice() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let _tidy = world.tidy(&docker);
        let name = world.own("ranged");
        let range = ["--subnet", "10.213.7.0/24", "--gateway", "10.213.7.9"];
        dockctl.ok(&[&["network", "create", "--internal"], &range[..], &[&name]].concat()).await?;
        let template = "{{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}}";
        let shown = docker.cli(&["network", "inspect", "-f", template, &name]).await?;
        ensure!(shown == "10.213.7.0/24 10.213.7.9", "{shown}");
        let again = world.own("again");
        let said = dockctl.run(&[&["network", "create"], &range[..], &[&again]].concat()).await?;
        ensure!(said.code == 1 && said.stderr.contains("web-1: "), "{said:?}");
        dockctl.run(&["network", "create", "--gateway", "10.1.1.1", &again]).await?.failed(2)?;
        Ok(())
    });
}
