//! Nothing that a host's images, volumes, networks, processes, files and engine say steers the terminal of
//! the person who looks; `many.rs` has the same for lists of containers and their logs.

use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt as _};

use anyhow::{Context, Result, ensure};
use dockctl_tests::{Dockctl, Docker, IMAGE, LONG, World, await_until, scenario};

/// Clears the screen, sets the title, and clears again with a control character of C1.
const EVIL: &str = "\x1b[2J\x1b]0;x\x07\u{9b}2Jevil";

/// Runs dockctl on a terminal, and fails where anything but its own redrawing of lines reaches it.
async fn shown(dockctl: &Dockctl<'_>, arguments: &[&str]) -> Result<String> {
    let arguments = [&["--no-color"], arguments].concat();
    let output = dockctl.on_a_terminal(&arguments, "", true).await?;
    let text = String::from_utf8(output.stdout).with_context(|| format!("{arguments:?}"))?;
    let mut plain = String::new();
    let mut parts = text.split('\x1b');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let cleared = ["[2K", "[K", "[J"].into_iter().find_map(|own| part.strip_prefix(own));
        let own = cleared.or_else(|| {
            let moved = part.strip_prefix('[')?.trim_start_matches(|c: char| c.is_ascii_digit());
            moved.strip_prefix(['A', 'B'])
        });
        plain.push_str(own.with_context(|| format!("{arguments:?} sends ESC and {part:?}"))?);
    }
    let bad = plain.chars().find(|c| c.is_control() && !matches!(c, '\r' | '\n' | '\t'));
    ensure!(bad.is_none(), "{arguments:?} sends {bad:?} to the terminal: {plain:?}");
    Ok(plain)
}

/// As [`shown`], of what is to mention the hostile thing.
async fn told(dockctl: &Dockctl<'_>, arguments: &[&str]) -> Result<String> {
    let text = shown(dockctl, arguments).await?;
    ensure!(text.contains("evil"), "{arguments:?} does not show it: {text}");
    Ok(text)
}

/// A directory with a Dockerfile whose every part is hostile.
fn context(world: &World, docker: &Docker) -> Result<std::path::PathBuf> {
    let (key, value) = docker.label();
    let dir = world.dir("context")?;
    let dockerfile = format!(
        "FROM {IMAGE}\nLABEL {key}={value} evil=\"{EVIL}\"\n\
         RUN printf '\\033[2J\\033]0;x\\007\\302\\2332Jevil output\\n'; printf '\\033]0;t\\007evil error\\n' >&2\n\
         CMD echo \"{EVIL}\"\n"
    );
    fs::write(dir.join("Dockerfile"), dockerfile)?;
    Ok(dir)
}

#[test]
fn what_images_builds_and_archives_say_never_steers_a_terminal() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let _tidy = world.tidy(&docker);
        let dir = context(world, &docker)?;
        let path = dir.to_str().context("UTF-8")?;
        let image = format!("{}:1", world.own("hostile"));

        let text = told(&dockctl, &["build", "--no-cache", "-t", &image, path]).await?;
        ensure!(text.contains("evil output") && text.contains("evil error"), "{text}");
        told(&dockctl, &["history", "--no-trunc", &image]).await?;
        told(&dockctl, &["history", "--no-trunc", "-o", "json", &image]).await?;
        told(&dockctl, &["images", "inspect", &image]).await?;
        told(&dockctl, &["images", "-o", "json"]).await?;
        shown(&dockctl, &["images"]).await?;

        // Saved, loaded and imported under a hostile name of its own.
        let archive = dir.join(EVIL.replace('/', "")).display().to_string();
        shown(&dockctl, &["save", "-o", &archive, &image]).await?;
        shown(&dockctl, &["load", "-i", &archive]).await?;
        let (message, label) = (format!("a {EVIL} message"), format!("LABEL evil=\"{EVIL}\""));
        let imported = format!("{}:1", world.own("imported"));
        let import = ["import", "-m", &message, "-c", &label, &archive, &imported];
        shown(&dockctl, &import).await?;
        told(&dockctl, &["history", "--no-trunc", &imported]).await?;
        let missing = format!("{archive}-missing");
        for arguments in [
            &["load", "-i", &missing][..],
            &["import", &missing],
            &["save", "-o", path, &image],
            &["build", &missing],
            &["build", "-f", &missing, path],
            &["images", "inspect", EVIL],
            &["rmi", EVIL],
            &["pull", EVIL],
            &["tag", &image, EVIL],
            &["images", "transfer", "web-1", EVIL, &image],
        ] {
            let text = shown(&dockctl, arguments).await?;
            ensure!(text.contains("dockctl: "), "{arguments:?}: {text}");
        }

        // A file of the context cannot be sent, and is named.
        fs::write(dir.join("Dockerfile"), format!("FROM {EVIL}\n"))?;
        shown(&dockctl, &["build", path]).await?;
        let name = OsString::from_vec(b"\x1b]0;x\x07evil-name-\xff".to_vec());
        fs::write(dir.join(name), "")?;
        let text = shown(&dockctl, &["build", path]).await?;
        ensure!(text.contains("evil-name-") && text.contains("is not UTF-8"), "{text}");
        Ok(())
    });
}

#[test]
fn what_stores_processes_and_files_are_called_never_steers_a_terminal() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let _tidy = world.tidy(&docker);
        let (key, value) = docker.label();
        let (mine, evil) = (format!("{key}={value}"), format!("evil={EVIL}"));
        let name = world.own("store");
        let labels = ["--label", &mine, "--label", &evil, &name];
        docker.cli(&[&["volume", "create"], &labels[..]].concat()).await?;
        docker.cli(&[&["network", "create", "--internal"], &labels[..]].concat()).await?;
        let script = "mkdir /t; touch \"/t/$EVIL\" \"/$EVIL\"; touch /ready; exec sleep 100000";
        let variable = format!("EVIL={}", EVIL.replace('/', ""));
        let options = ["-e", &variable, "--label", &evil];
        let container = docker.run_with(&options, "c", script).await?.name;
        await_until("the container's files", LONG, async || {
            Ok(docker.cli(&["exec", &container, "ls", "/ready"]).await.ok())
        })
        .await?;
        let one = format!("web-1/{container}");
        let spin = ["exec", "-d", &container, "sh", "-c", "while :; do sleep 1; done", EVIL];
        docker.cli(&spin).await?;

        for arguments in [
            &["volumes", "inspect", &name][..],
            &["volumes", "ls", "-o", "json"],
            &["networks", "inspect", &name],
            &["networks", "ls", "-o", "json"],
            &["diff", &one],
            &["diff", "-o", "json", &one],
            &["top", &one],
            &["inspect", &one],
            &["exec", &one, EVIL],
            &["run", "--rm", "--on", "web-1", "--label", &mine, IMAGE, EVIL],
        ] {
            told(&dockctl, arguments).await?;
        }
        let file = format!("{one}:/t/{EVIL}");
        let (dir, here) = (world.dir("copies")?, world.dir("here")?);
        let (dir, here) = (dir.to_str().context("UTF-8")?, here.to_str().context("UTF-8")?);
        let local = format!("{here}/{EVIL}");
        let text = told(&dockctl, &["cp", &file, &local]).await?;
        ensure!(text.contains("Successfully copied"), "{text}");
        told(&dockctl, &["cp", &local, &format!("{one}:/t/{EVIL}-again")]).await?;
        // Where a directory of its name is, it cannot go.
        fs::create_dir(format!("{dir}/{EVIL}"))?;
        let text = told(&dockctl, &["cp", &format!("{one}:/t/."), dir]).await?;
        ensure!(text.contains("cannot overwrite a directory"), "{text}");
        for arguments in [
            &[
                "cp",
                &format!("{local}-missing"),
                &one.replace(&container, &format!("{container}:/")),
            ][..],
            &["cp", &format!("{file}-missing"), dir],
            &["cp", &local, &format!("{one}:/missing/{EVIL}/")],
        ] {
            let text = shown(&dockctl, arguments).await?;
            ensure!(text.contains("dockctl: "), "{arguments:?}: {text}");
        }

        for arguments in [
            &["volumes", "ls"][..],
            &["volumes", "create", EVIL],
            &["volumes", "rm", EVIL],
            &["volumes", "create", "-d", EVIL],
            &["networks", "ls"],
            &["networks", "create", "-d", EVIL, "x"],
            &["networks", "rm", EVIL],
            &["system", "df"],
            &["system", "df", "-v"],
            &["port", &one],
            &["port", &one, EVIL],
            &["top", &one, "-o", EVIL],
            &["rename", &one, EVIL],
            &["kill", "-s", EVIL, &one],
            &["cp", &file, &format!("{EVIL}/{EVIL}")],
            &["docker-socket", EVIL, "--listen", &format!("unix:///missing/{EVIL}")],
        ] {
            shown(&dockctl, arguments).await?;
        }
        docker.cli(&["kill", &container]).await?;
        let text = shown(&dockctl, &["wait", &one]).await?;
        ensure!(text.contains("137"), "{text}");
        Ok(())
    });
}
