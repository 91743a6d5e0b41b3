//! `dockctl pull -l`: the images of the containers that are selected, each once on each of their hosts.

use anyhow::{Context, ensure};
use dockctl_tests::{IMAGE, LONG, await_until, scenario};

#[test]
fn the_images_of_a_selection_are_pulled_once_on_each_host() {
    scenario(async |world| {
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        let registry = world.registry(false).await?;
        let image = format!("{}/{}:1", registry.address, world.own("selected"));
        docker.cli(&["tag", IMAGE, &image]).await?;
        docker.cli(&["push", "-q", &image]).await?;
        let (key, value) = docker.label();
        let label = format!("{key}={value}");
        for name in ["one", "two"] {
            let name = format!("{value}-{name}");
            docker.cli(&["create", "--name", &name, "--label", &label, &image, "true"]).await?;
        }
        let controller = world.controller().await?;
        let _web_1 = world.agent(&controller, "web-1").await?;
        let _web_2 = world.agent(&controller, "web-2").await?;
        let _db_1 = world.agent(&controller, "db-1").await?;
        let dockctl = controller.dockctl().await?;
        await_until("the fleet's list", LONG, async || {
            let all = dockctl.json(&["ps", "-a", "-l", &label]).await?;
            Ok((all.as_array().context("no list")?.len() == 6).then_some(()))
        })
        .await?;

        let said = dockctl.run(&["pull", "--yes", "--on", "web-*", "-l", &label]).await?;
        let stdout = String::from_utf8(said.stdout)?;
        let mut done: Vec<_> = stdout.lines().collect();
        done.sort_unstable();
        let wanted = [format!("web-1: {image}"), format!("web-2: {image}")];
        ensure!(said.code == 0 && done == wanted, "{stdout}{}", said.stderr);
        ensure!(said.stderr.contains("pulled 2 of 2"), "{}", said.stderr);
        for host in ["web-1", "web-2"] {
            let line = format!("{host}: Image is up to date for {image}");
            ensure!(said.stderr.lines().filter(|l| **l == line).count() == 1, "{}", said.stderr);
        }
        let nothing = dockctl.run(&["pull", "-l", "dockctl.test=nobody"]).await?.failed(4)?;
        ensure!(nothing.contains("no container fits"), "{nothing}");
        dockctl.run(&["pull", "-l", &label, &image]).await?.failed(2)?;
        Ok(())
    });
}
