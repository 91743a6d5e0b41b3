//! Bad flags and refused operations say what docker says, with the host's name in front.

use anyhow::{Context, Result, ensure};
use dockctl_tests::{IMAGE, scenario};

/// What docker says, without its name in front of it.
fn theirs(stderr: &str) -> Result<String> {
    let line =
        stderr.lines().find(|line| !line.trim().is_empty()).context("docker said nothing")?;
    let mut line = line;
    for head in ["docker: ", "Error response from daemon: ", "Error: "] {
        line = line.strip_prefix(head).unwrap_or(line);
    }
    Ok(line.replace("'docker ", "'dockctl ").replace(" docker ", " dockctl ").to_lowercase())
}

/// What dockctl says behind the host, or the container on it, that it is about.
fn ours(stderr: &str) -> Result<(bool, String)> {
    let line = stderr.lines().next().context("dockctl said nothing")?;
    let line = line.strip_prefix("dockctl: ").with_context(|| line.to_owned())?;
    let about = line.strip_prefix("web-1").and_then(|rest| rest.split_once(": "));
    Ok(match about {
        Some((_, rest)) => (true, rest.to_lowercase()),
        None => (false, line.to_lowercase()),
    })
}

#[test]
fn a_wrong_line_is_told_as_docker_tells_it() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        for line in [
            "run",
            "run --nope x",
            "run -Z x",
            "run -dZ x",
            "run --cpus",
            "run -e",
            "run --rm=maybe x",
            "create --nope x",
            "create",
            "start",
            "stop",
            "stop --nope x",
            "stop -t x y",
            "stop -t",
            "restart",
            "kill",
            "rm",
            "rm --force=maybe x",
            "pause",
            "unpause",
            "wait",
            "rename a",
            "rename a b c",
            "exec",
            "exec a",
            "exec --nope a b",
            "attach",
            "attach a b",
            "commit",
            "commit a b c",
            "diff",
            "port",
            "update",
            "export",
            "inspect",
            "cp a",
            "tag a",
            "rmi",
            "history",
            "push",
            "save",
            "ps x",
            "ps --all=maybe",
            "nope",
            "--nope ps",
            "-Z ps",
            "system prune x",
            "network connect a",
            "container stop",
            "container nope",
            "container ls --nope",
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            let their = docker.raw(&words).await?;
            let our = dockctl.run(&words).await?;
            let (about_host, said) = ours(&our.stderr)?;
            // A verb is told by its short name, and a noun by ours.
            let said = said.replace("dockctl networks", "dockctl network");
            ensure!(said == theirs(&their.stderr)?, "{line}:\n{}\n{}", our.stderr, their.stderr);
            ensure!(!about_host, "{line} is about no host: {}", our.stderr);
            ensure!(our.stderr.contains("\n\nUsage:  dockctl"), "{line}: {}", our.stderr);
            ensure!(our.stderr.contains("\nSee 'dockctl"), "{line}: {}", our.stderr);
            let code = match words[0] {
                "exec" | "attach" => 125,
                "run" | "create" if their.code == 125 => 125,
                _ => 2,
            };
            ensure!(our.code == code, "{line} ended with {}", our.code);
        }
        Ok(())
    });
}

#[test]
fn a_refused_operation_is_told_as_docker_tells_it_behind_the_host() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let app = docker.run("app", "exec sleep 100000").await?.name;
        let other = docker.run("other", "exec sleep 100000").await?.name;
        let run = ["run", "--name", &app, IMAGE, "true"];
        for (words, code) in [
            (&["stop", "nosuch"][..], 4),
            (&["logs", "nosuch"], 4),
            (&["rm", "nosuch"], 4),
            (&["exec", "nosuch", "ls"], 125),
            (&["attach", "nosuch"], 125),
            (&["start", "-a", "nosuch"], 125),
            (&["rm", &app], 1),
            (&["unpause", &app], 1),
            (&["rename", &app, &other], 1),
            (&["kill", "-s", "nope", &app], 1),
            (&["exec", "-e", "=x", &app, "true"], 125),
            (&["update", "-m", "x", &app], 2),
            (&["update", &app], 2),
            (&["run", "-m", "x", IMAGE], 125),
            (&["run", "--device-read-bps", "x", IMAGE], 125),
            (&["run", "--blkio-weight-device", "/dev/null:5", IMAGE], 125),
            (&["run", "--device-write-iops", "/dev/null:x", IMAGE], 125),
            (&["run", "-a", "nope", IMAGE], 125),
            (&["run", "-a", "stdout", "-d", IMAGE], 125),
            (&["create", "--memory", "1k", IMAGE], 1),
            (&["run", "--pull", "never", "dockctl/ghost:none"], 125),
            (&["run", "-p", "99999:80", IMAGE], 125),
            (&run, 125),
            (&["rmi", "dockctl/ghost:none"], 4),
            (&["tag", "dockctl/ghost:none", "x"], 4),
            (&["volume", "rm", "dockctl-nosuch"], 4),
            (&["network", "rm", "dockctl-nosuch"], 4),
        ] {
            let their = docker.raw(words).await?;
            let on_host = |word: &&str| match *word {
                "nosuch" => "web-1/nosuch".to_owned(),
                word if word == app && words[0] != "run" => format!("web-1/{app}"),
                word => word.to_owned(),
            };
            let all: Vec<String> = words.iter().map(on_host).collect();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let our = dockctl.run(&all).await?;
            let (about_host, said) = ours(&our.stderr)?;
            let their = theirs(&their.stderr)?;
            ensure!(said == their, "{words:?}:\n{}\n{their}", our.stderr);
            ensure!(about_host, "{words:?} names no host: {}", our.stderr);
            ensure!(our.code == code, "{words:?} ended with {}", our.code);
        }
        // docker's own code for this, too.
        for words in [&["run", "-it", IMAGE][..], &["exec", "-it", &app, "sh"]] {
            let (their, our) = (docker.raw(words).await?, dockctl.run(words).await?);
            ensure!(ours(&our.stderr)?.1 == theirs(&their.stderr)?, "{our:?} {their:?}");
            ensure!(our.code == their.code, "{our:?} {their:?}");
        }
        Ok(())
    });
}
