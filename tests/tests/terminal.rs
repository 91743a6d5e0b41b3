//! Sessions on a terminal, which must feel as if the container were here.

use anyhow::{Result, ensure};
use dockctl_tests::{LONG, Signal, Terminal, await_until, scenario};

#[test]
fn a_shell_on_a_terminal_has_its_size_its_keys_and_its_exit_code() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let app = docker.run("app", "exec sleep 100000").await?.name;
        let shell = dockctl.command(&["exec", "-it", &format!("web-1/{app}"), "sh"])?;
        let mut terminal = Terminal::start(&shell, 33, 101)?;
        terminal.wait_for("# ").await?;
        ensure!(terminal.is_raw()?, "keys wait here for the end of a line");
        // The engine of API 1.41 learns the size a moment after the shell has begun.
        terminal.type_keys("until stty size | grep '33 10[1]'; do :; done; echo s''een\n")?;
        terminal.wait_for("33 101").await?;
        terminal.wait_for("seen").await?;
        terminal.resize(44, 120)?;
        terminal.type_keys("until stty size | grep '44 12[0]'; do :; done; echo s''een\n")?;
        terminal.wait_for("44 120").await?;
        terminal.wait_for("seen").await?;

        // A key is there before its line ends.
        terminal.type_keys("echo a''b")?;
        terminal.wait_for("echo a''b").await?;
        terminal.type_keys("\n")?;
        terminal.wait_for("ab").await?;
        // ^C is the program's.
        terminal.type_keys("sleep 4713; echo code $?\n")?;
        terminal.wait_for("echo code $?").await?;
        await_until("the command", LONG, async || {
            Ok(docker.cli(&["top", &app]).await?.contains("sleep 4713").then_some(()))
        })
        .await?;
        terminal.type_keys("\x03")?;
        terminal.type_keys("echo i''nterrupted\n")?;
        terminal.wait_for("interrupted").await?;
        // ^D is the end of its input.
        terminal.type_keys("(exit 42)\n\x04")?;
        ensure!(terminal.exit_code().await? == 42, "{}", terminal.shown());
        ensure!(!terminal.is_raw()?, "the terminal stays raw");
        Ok(())
    });
}

#[test]
fn detach_keys_leave_the_command_running() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let app = docker.run_with(&["-dit"], "app", "exec sh").await?.name;
        let at_host = format!("web-1/{app}");
        let left = async |words: &[&str], keys: &str| -> Result<()> {
            let mut terminal = Terminal::start(&dockctl.command(words)?, 24, 80)?;
            terminal.wait_for("# ").await?;
            terminal.type_keys(&format!("echo $((40+2)){keys}"))?;
            terminal.wait_for("read escape sequence").await?;
            // As docker's.
            ensure!(terminal.exit_code().await? == 1, "{}", terminal.shown());
            ensure!(!terminal.is_raw()?, "the terminal stays raw");
            Ok(())
        };
        let alive = async |n: usize, when: &str| -> Result<()> {
            let top = docker.cli(&["top", &app]).await?;
            let shells = top.lines().filter(|line| line.ends_with(" sh") && !line.contains("init"));
            ensure!(shells.count() == n, "{when}: {top}");
            Ok(())
        };
        left(&["exec", "-it", &at_host, "sh"], "\n\x10\x11").await?;
        left(&["exec", "-it", "--detach-keys", "ctrl-x,y", &at_host, "sh"], "\x10\x11\n\x18y")
            .await?;
        alive(3, "second").await?;
        left(&["attach", &at_host], "\n\x10\x11").await?;
        alive(3, "third").await?;
        // The shell that was left is there still, and shows its prompt to who attaches again.
        left(&["attach", "--detach-keys", "ctrl-a", &at_host], "\n\x01").await
    });
}

#[test]
fn whatever_ends_a_session_the_terminal_is_as_it_was() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let (proxy, _agent) = world.agent_behind_proxy(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let app = docker.run_with(&["-it"], "app", "exec sh").await?.name;
        let at_host = format!("web-1/{app}");
        for (words, says) in [
            (&["exec", "-it", &at_host, "sh"][..], "the agent ends the command"),
            (&["attach", &at_host], "the container runs on"),
        ] {
            let session = async || {
                let mut terminal = Terminal::start(&dockctl.command(words)?, 24, 80)?;
                terminal.wait_for("# ").await?;
                ensure!(terminal.is_raw()?, "{words:?}: it is not raw");
                anyhow::Ok(terminal)
            };
            for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
                let mut terminal = session().await?;
                terminal.signal(signal)?;
                ensure!(terminal.exit_code().await? == code, "{words:?}: {}", terminal.shown());
                ensure!(!terminal.is_raw()?, "{words:?}: the terminal stays raw");
            }
            let mut terminal = session().await?;
            proxy.cut();
            terminal.wait_for("the session broke off").await?;
            terminal.wait_for(says).await?;
            ensure!(terminal.exit_code().await? == 125, "{words:?}: {}", terminal.shown());
            ensure!(!terminal.is_raw()?, "{words:?}: the terminal stays raw");
            dockctl.await_host("web-1").await?;
        }
        Ok(())
    });
}
