//! `dockctl start -a -i`: a container that is there runs again with this terminal or these pipes, and its exit
//! code is ours.

use anyhow::{Result, ensure};
use dockctl_tests::{Docker, IMAGE, Terminal, scenario};

/// A container that was made and never started.
async fn created(docker: &Docker, flags: &[&str], name: &str, script: &str) -> Result<String> {
    let (key, value) = docker.label();
    let (name, label) = (format!("{value}-{name}"), format!("{key}={value}"));
    let create = ["create", "--network", "none", "--name", &name, "--label", &label];
    docker.cli(&[&create[..], flags, &[IMAGE, "sh", "-c", script]].concat()).await?;
    Ok(name)
}

#[test]
fn its_output_and_exit_code_are_ours_each_time_it_runs() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let name = created(&docker, &[], "again", "echo out; echo err >&2; exit 7").await?;
        let at_host = format!("web-1/{name}");
        // The second time it has ended before.
        for round in 1..=3 {
            let ran = dockctl.run(&["start", "-a", &at_host]).await?;
            ensure!(ran.code == 7, "{round}: {ran:?}");
            ensure!(ran.stdout == b"out\n" && ran.stderr == "err\n", "{round}: {ran:?}");
        }
        let theirs = docker.raw(&["start", "-a", &name]).await?;
        ensure!(theirs.code == 7 && theirs.stdout == b"out\n", "{theirs:?}");

        let name = created(&docker, &["-i"], "reads", "cat; exit 3").await?;
        let at_host = format!("web-1/{name}");
        let ran = dockctl.run_with_input(&["start", "-ai", &at_host], "to it\n").await?;
        ensure!(ran.code == 3 && ran.stdout == b"to it\n", "{ran:?}");

        let said =
            dockctl.run(&["container", "start", "-a", "web-1/a", "web-1/b"]).await?.failed(1)?;
        ensure!(said.contains("you cannot start and attach multiple containers at once"), "{said}");
        let said = dockctl.run(&["start", "-a", "web-1/nosuch"]).await?.failed(125)?;
        ensure!(said.contains("web-1/nosuch: No such container: nosuch"), "{said}");
        Ok(())
    });
}

#[test]
fn a_shell_that_was_left_can_be_come_back_to() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let name = created(&docker, &["-it"], "shell", "exec sh").await?;
        let reference = format!("web-1/{name}");
        let start = ["start", "-ai", "--detach-keys", "ctrl-x", &reference];
        for _ in 0..2 {
            let mut terminal = Terminal::start(&dockctl.command(&start)?, 33, 101)?;
            terminal.wait_for("# ").await?;
            terminal.type_keys("\x18")?;
            ensure!(terminal.exit_code().await? == 0, "{}", terminal.shown());
            ensure!(docker.inspect(&name, "{{.State.Status}}").await? == "running");
        }
        let mut terminal = Terminal::start(&dockctl.command(&start)?, 33, 101)?;
        terminal.wait_for("# ").await?;
        terminal.type_keys("exit 42\n")?;
        ensure!(terminal.exit_code().await? == 42, "{}", terminal.shown());
        Ok(())
    });
}
