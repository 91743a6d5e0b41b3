//! What a person sees and is asked at a terminal, which `script` makes.

use std::{io::Write as _, process::Command, process::Stdio};

use anyhow::{Context, Result, ensure};
use dockctl_tests::{Dockctl, IMAGE, scenario};

/// Runs dockctl at a terminal with these keys; what the terminal showed, and the exit code.
async fn at_terminal(
    dockctl: &Dockctl<'_>,
    arguments: &[&str],
    keys: &str,
) -> Result<(String, i32)> {
    let inner = dockctl.command(arguments)?;
    let words = [inner.get_program()].into_iter().chain(inner.get_args());
    let words: Vec<String> = words.map(|w| format!("'{}'", w.to_string_lossy())).collect();
    let mut command = Command::new("script");
    command.args(["-qefc", &words.join(" "), "/dev/null"]);
    for (key, value) in inner.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    let mut child =
        command.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(keys.as_bytes())?;
    // The terminal stays until dockctl has ended.
    let output = tokio::task::spawn_blocking(move || {
        let output = child.wait_with_output();
        drop(stdin);
        output
    })
    .await??;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((shown, output.status.code().unwrap_or(-1)))
}

#[test]
fn layers_are_redrawn_in_place() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        let registry = world.registry(false).await?;
        let image = format!("{}/{}:1", registry.address, world.own("seen"));
        docker.cli(&["tag", IMAGE, &image]).await?;
        let (shown, code) = at_terminal(&dockctl, &["push", &image], "").await?;
        ensure!(code == 0, "{shown}");
        // The layer's line was written first, then gone back to and written anew.
        ensure!(shown.contains(": Preparing") && shown.contains("\x1b[1A"), "{shown:?}");
        ensure!(shown.contains(": Pushed"), "{shown:?}");

        let (shown, code) = at_terminal(&dockctl, &["save", IMAGE], "").await?;
        ensure!(code == 2 && shown.contains("cowardly refusing to save"), "{shown}");
        Ok(())
    });
}

#[test]
fn a_prune_says_what_it_will_remove_and_takes_no_for_an_answer() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let docker = world.docker();
        let _tidy = world.tidy(&docker);
        let name = world.own("asked");
        let (key, value) = docker.label();
        docker.cli(&["volume", "create", "--label", &format!("{key}={value}"), &name]).await?;
        let filter = format!("label={key}={value}");
        let prune = ["volumes", "prune", "-a", "--filter", &filter];

        let (shown, code) = at_terminal(&dockctl, &prune, "n\n").await?;
        ensure!(shown.contains("WARNING! This will remove all local volumes not used"), "{shown}");
        ensure!(shown.contains("on web-1.") && shown.contains("[y/N]"), "{shown}");
        ensure!(code == 1 && shown.contains("nothing was changed"), "{shown}");
        docker.cli(&["volume", "inspect", &name]).await?;

        let (shown, code) = at_terminal(&dockctl, &prune, "y\n").await?;
        ensure!(code == 0 && shown.contains("Deleted Volumes:"), "{shown}");
        ensure!(docker.raw(&["volume", "inspect", &name]).await?.code != 0, "it is still there");

        let (shown, _) = at_terminal(&dockctl, &["system", "prune"], "n\n").await?;
        ensure!(shown.contains("- all stopped containers"), "{shown}");
        ensure!(shown.contains("- unused build cache"), "{shown}");
        Ok(())
    });
}
