//! How far a copy is: a bar for whoever has a terminal at stderr, which is redrawn in one line.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use dockctl_tests::{Dockctl, LONG, await_until, scenario};
use tokio::task::spawn_blocking;

/// Runs dockctl with stderr on a terminal of 80 columns, and stdout in that file; what the terminal was sent.
async fn errors_of(dockctl: &Dockctl<'_>, arguments: &[&str], out: &str) -> Result<String> {
    let inner = dockctl.command(arguments)?;
    let words = [inner.get_program()].into_iter().chain(inner.get_args());
    let words: Vec<String> = words.map(|w| format!("'{}'", w.to_string_lossy())).collect();
    let line = format!("stty cols 80 rows 24; exec {} >'{out}'", words.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
    for (key, value) in inner.get_envs() {
        script.env(key, value.unwrap_or_default());
    }
    let output = spawn_blocking(move || script.output()).await??;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{arguments:?}: {text}");
    for line in text.split(['\r', '\n']) {
        let line = line.replace("\x1b[2K", "").replace("\x1b[K", "").replace("\x1b[J", "");
        ensure!(!line.contains('\x1b'), "{arguments:?} sends {line:?}");
        // One that fills the last column would already wrap.
        ensure!(line.starts_with("Success") || line.chars().count() < 80, "it wraps: {line:?}");
    }
    Ok(text)
}

#[test]
fn a_copy_shows_how_far_it_is_in_one_line_where_stderr_is_a_terminal() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _web = world.agent(&controller, "web-1").await?;
        let _db = world.agent(&controller, "db-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let script =
            "mkdir /in; head -c 50000000 /dev/zero > /in/large; touch /ready; exec sleep 100000";
        let name = docker.run("c", script).await?.name;
        let other = docker.run("other", "exec sleep 100000").await?.name;
        await_until("the large file", LONG, async || {
            Ok(docker.cli(&["exec", &name, "ls", "/ready"]).await.ok())
        })
        .await?;
        let dir = world.dir("copies")?;
        let path = |name: &str| dir.join(name).display().to_string();
        let (local, remote) = (path("large"), format!("web-1/{name}:/in/large"));

        let of_the_whole = async |arguments: &[&str]| -> Result<()> {
            let text = errors_of(&dockctl, arguments, "/dev/null").await?;
            ensure!(text.contains("\r\x1b[2Kcopying [") && text.contains("/50MB "), "{text:?}");
            // It is taken away before the last word.
            let last = text.rfind("\r\x1b[2K").context("no line is taken away")?;
            ensure!(text[last..].starts_with("\r\x1b[2KSuccessfully copied 50MB to "), "{text:?}");
            Ok(())
        };
        of_the_whole(&["cp", &remote, &local]).await?;
        ensure!(fs::metadata(&local)?.len() == 50_000_000);
        of_the_whole(&["cp", &local, &format!("web-1/{name}:/in/again")]).await?;
        of_the_whole(&["cp", &remote, &format!("db-1/{other}:/there")]).await?;

        // Of a directory the whole is not known.
        let tree = ["cp", &format!("web-1/{name}:/in"), &path("tree")];
        let text = errors_of(&dockctl, &tree, "/dev/null").await?;
        ensure!(text.contains("\r\x1b[2Kcopying ") && !text.contains("copying ["), "{text:?}");

        // An archive on stdout leaves stderr to the bar.
        let text = errors_of(&dockctl, &["cp", &remote, "-"], &path("archive.tar")).await?;
        ensure!(text.contains("copying [") && text.ends_with("\r\x1b[2K"), "{text:?}");
        ensure!(fs::metadata(dir.join("archive.tar"))?.len() > 50_000_000);

        // Nobody who does not want it sees it, and no script.
        let text = errors_of(&dockctl, &["cp", "-q", &remote, &local], "/dev/null").await?;
        ensure!(text.is_empty(), "{text:?}");
        let output = dockctl.run(&["cp", &remote, &local]).await?;
        ensure!(output.code == 0 && output.stderr.is_empty() && output.stdout.is_empty());
        Ok(())
    });
}

#[test]
fn what_is_saved_is_shown_in_one_line_however_long_its_hosts_name_is() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let host = "a-host-with-a-very-long-name-".repeat(2) + "1";
        let _agent = world.agent(&controller, &host).await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let name = docker.run("c", "exec sleep 100000").await?.name;
        let archive = world.dir("archives")?.join("a.tar").display().to_string();
        let save = ["save", "-o", &archive, dockctl_tests::IMAGE];
        let text = errors_of(&dockctl, &save, "/dev/null").await?;
        ensure!(text.contains("saving from a-host") && text.contains('…'), "{text:?}");
        let export = ["export", "-o", &archive, &name];
        let text = errors_of(&dockctl, &export, "/dev/null").await?;
        ensure!(text.contains("\r\x1b[2Kexporting ") && text.ends_with("\r\x1b[2K"), "{text:?}");
        Ok(())
    });
}
