//! What the host's owner forbids, and the audit log.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Result, ensure};
use dockctl_tests::{
    Docker, IMAGE, LONG, World, await_until, consecutive_lines, counting_script, rounds, scenario,
};

use super::{Socket, agent_with};

/// Sends a request as it is written and gives the answer's status and message.
pub(super) fn ask(path: &str, request: &str) -> Result<(u16, String)> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default();
    Ok((status, answer))
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

#[test]
fn an_agent_can_refuse_the_docker_api_wholly() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = agent_with(world, &controller, &[("DOCKCTL_NO_DOCKER_API", "true")]).await?;
        let dockctl = controller.dockctl().await?;
        let socket = Socket::open(world, &dockctl).await?;
        let said = socket.docker.raw(&["ps"]).await?;
        ensure!(said.code == 1 && said.stderr.contains("--no-docker-api"), "{said:?}");
        let said = dockctl.run(&["docker", "web-1", "--", "ps"]).await?.failed(1)?;
        ensure!(said.contains("--no-docker-api"), "{said}");
        // Everything else goes on.
        dockctl.ok(&["ps", "--on", "web-1"]).await?;
        Ok(())
    });
}

#[test]
fn an_allow_list_lets_nothing_else_by_in_any_spelling() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let rules = "GET /_ping,HEAD /_ping,GET /version,GET /containers/json,* /containers/*/logs";
        let env = [("DOCKCTL_DOCKER_API_ALLOW", rules)];
        let agent = agent_with(world, &controller, &env).await?;
        let container = world.docker().run("c", counting_script()).await?;
        let socket = Socket::open(world, &controller.dockctl().await?).await?;

        ensure!(socket.docker.cli(&["ps"]).await?.contains(&container.name), "ps");
        let said = socket.docker.raw(&["stop", &container.name]).await?;
        let wanted = format!(
            "Error response from daemon: dockctl: this host does not allow POST \
             /containers/{}/stop",
            container.name
        );
        ensure!(said.code == 1 && said.stderr.contains(&wanted), "{said:?}");
        let running = world.docker().inspect(&container.name, "{{.State.Running}}").await?;
        ensure!(running == "true", "it was stopped");

        for spelling in [
            "/info",
            "/v1.41/info",
            "//info",
            "/./info",
            "/%69nfo",
            "/%2e/info",
            "/containers/../info",
            "/containers/%2e%2e/info",
            "/containers/x%2f..%2f..%2finfo",
            "/containers/json/../../info",
            "/v1.41/containers/json/..%2f..%2finfo",
            "http://docker/info",
            "http://docker/v1.41/containers/../info",
            "/containers/json/",
            "/containers//json",
        ] {
            let (status, answer) = ask(&socket.path, &get(spelling))?;
            // The last two are what is allowed, in other spellings.
            let allowed = spelling.ends_with("json/") || spelling.ends_with("//json");
            ensure!(status == if allowed { 200 } else { 403 }, "{spelling}: {answer}");
            ensure!(allowed || answer.contains(r#"{"message":"dockctl: "#), "{spelling}: {answer}");
        }
        for odd in ["/..", "/../containers/json", "/containers/json%00", "/%zz", "*"] {
            let (status, answer) = ask(&socket.path, &get(odd))?;
            ensure!(status == 403 || status == 400, "{odd}: {answer}");
        }
        // An upgrade to a protocol in which nobody would read requests does not happen.
        let upgrade = "GET /containers/json HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, \
                       HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
        let next = get("/info");
        let (status, answer) = ask(&socket.path, &format!("{upgrade}{next}"))?;
        ensure!(status == 200 && answer.contains("HTTP/1.1 403"), "{answer}");

        // The connection goes on after a refusal.
        let (_, answer) = ask(
            &socket.path,
            &format!(
                "POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello{}",
                get("/_ping")
            ),
        )?;
        ensure!(answer.contains("HTTP/1.1 403") && answer.contains("HTTP/1.1 200"), "{answer}");

        let refused = agent.process.wait_for_log("path=\"/info\"").await?;
        ensure!(refused.contains("allowed=false status=403"), "{refused}");
        Ok(())
    });
}

/// Builds with that client on a host that is limited so, and gives what docker says of it.
fn build(world: &World, docker: &Docker, buildkit: &str) -> Result<Output> {
    let context = world.dir("context")?;
    fs::write(context.join("Dockerfile"), format!("FROM {IMAGE}\nCOPY file /\n"))?;
    fs::write(context.join("file"), "file")?;
    // Debian's client has BuildKit built in; a newer one, first in the path, may lack its plugin.
    let debians = "/usr/bin/docker";
    let client = if Path::new(debians).exists() { debians } else { "docker" };
    let mut command = Command::new(client);
    command.args(["-H", docker.host(), "build", "-q", "--network", "none"]).arg(context);
    Ok(command.env("DOCKER_BUILDKIT", buildkit).output()?)
}

#[test]
fn buildkit_is_refused_in_a_sentence_where_the_host_is_limited() {
    scenario(async |world| {
        for (variable, value, says) in [
            (
                "DOCKCTL_CONFINE",
                "true",
                "does not allow POST /build: a build with BuildKit (set DOCKER_BUILDKIT=0)",
            ),
            (
                "DOCKCTL_DOCKER_API_ALLOW",
                "GET /**,HEAD /_ping",
                "this host does not allow POST /build",
            ),
        ] {
            let controller = world.controller().await?;
            let agent = agent_with(world, &controller, &[(variable, value)]).await?;
            let socket = Socket::open(world, &controller.dockctl().await?).await?;
            for _ in 0..rounds(3, 50) {
                let refused = build(world, &socket.docker, "1")?;
                let said = String::from_utf8_lossy(&refused.stderr);
                ensure!(
                    !refused.status.success() && said.contains(says),
                    "{variable}: {refused:?}"
                );
            }
            let session = agent.process.wait_for_log("path=\"/session\"").await?;
            ensure!(session.contains("allowed=false status=403"), "{session}");
            if variable == "DOCKCTL_CONFINE" {
                let done = build(world, &socket.docker, "0")?;
                ensure!(done.status.success(), "as docker of old builds: {done:?}");
                let image = String::from_utf8(done.stdout)?;
                world.docker().cli(&["rmi", image.trim()]).await?;
            }
        }
        Ok(())
    });
}

#[test]
fn every_request_is_audited_and_no_secret_is() {
    scenario(async |world| {
        let controller = world.controller().await?;
        // Even where nothing else is logged.
        let agent = agent_with(world, &controller, &[("DOCKCTL_LOG", "error")]).await?;
        let socket = Socket::open(world, &controller.dockctl().await?).await?;
        let context = world.dir("context")?;
        fs::write(context.join("Dockerfile"), format!("FROM {IMAGE}\nARG TOKEN\n"))?;
        let context = context.display().to_string();
        let tag = format!("{}-audit", world.prefix());
        let build = [
            "build",
            "-q",
            "--network",
            "none",
            "--build-arg",
            "TOKEN=s3cret",
            "-t",
            &tag,
            &context,
        ];
        socket.docker.cli(&build).await?;
        socket.docker.cli(&["rmi", &tag]).await?;
        let name = format!("{}-audited", world.prefix());
        let label = world.docker().selector();
        let run = ["run", "--rm", "--network", "none", "--label", &label, "--name", &name];
        let rest = ["-e", "PASSWORD=s3cret", IMAGE, "echo", "s3cret"];
        socket.docker.cli(&[&run[..], &rest].concat()).await?;
        let (status, _) = ask(&socket.path, &get("/auth?x=s3cret%0a"))?;
        ensure!(status == 404, "{status}");

        let removed = agent.process.wait_for_log("path=\"/auth\"").await?;
        ensure!(removed.contains("status=404"), "{removed}");
        let log = agent.process.log()?;
        let create = log.lines().find(|l| l.contains("path=\"/containers/create\""));
        let create = create.unwrap_or_default();
        for part in [
            "audit",
            "principal=\"admin\"",
            "method=\"POST\"",
            "allowed=true status=201",
            &format!("name={name}"),
        ] {
            ensure!(create.contains(part), "{part} is not in {create:?}");
        }
        for path in ["/build", "/attach\"", "/start\"", "/wait\"", "/_ping"] {
            ensure!(log.contains(path), "{path}: {log}");
        }
        ensure!(!log.contains("s3cret"), "{log}");
        Ok(())
    });
}

#[test]
fn a_confined_host_gives_nobody_root() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = agent_with(world, &controller, &[("DOCKCTL_CONFINE", "true")]).await?;
        let dockctl = controller.dockctl().await?;
        let socket = Socket::open(world, &dockctl).await?;
        let docker = &socket.docker;
        let label = world.docker().selector();
        for escape in [
            &["--privileged"][..],
            &["--cap-add", "SYS_ADMIN"],
            &["--cap-add", "ALL"],
            &["--device", "/dev/null"],
            &["--device-cgroup-rule", "a *:* rwm"],
            &["--gpus", "all"],
            &["-v", "/:/host"],
            &["--mount", "type=bind,src=/,dst=/host"],
            &[
                "--mount",
                "type=volume,dst=/host,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/",
            ],
            &["--pid", "host"],
            &["--ipc", "host"],
            &["--network", "host"],
            &["--uts", "host"],
            &["--userns", "host"],
            &["--cgroupns", "host"],
            &["--cgroup-parent", "/x"],
            &["--security-opt", "seccomp=unconfined"],
            &["--security-opt", "apparmor=unconfined"],
            &["--security-opt", "label=disable"],
            &["--security-opt", "systempaths=unconfined"],
            &["--sysctl", "kernel.msgmax=1"],
            &["--runtime", "other"],
            &["--oom-score-adj", "-1000"],
            &["--volume-driver", "other", "-v", "x:/x"],
        ] {
            let create = [&["create", "--label", &label], escape, &[IMAGE, "true"]].concat();
            let said = docker.raw(&create).await?;
            ensure!(said.code != 0, "{escape:?} was let through");
            ensure!(said.stderr.contains("dockctl: this host is confined"), "{escape:?}: {said:?}");
            // dockctl's own verb leads the same way.
            let create =
                [&["create", "--on", "web-1", "--label", &label], escape, &[IMAGE, "true"]];
            let said = dockctl.run(&create.concat()).await?;
            ensure!(said.code != 0, "{escape:?} was let through dockctl create");
            ensure!(said.stderr.contains("this host is confined"), "{escape:?}: {said:?}");
        }
        let name = world.docker().run("c", counting_script()).await?.name;
        for escape in [
            &["exec", "--privileged", &name, "true"][..],
            &["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/"],
            &["volume", "create", "-d", "other"],
            &["import", "http://192.0.2.1/x.tar"],
            &["swarm", "init"],
            &["plugin", "ls"],
            &["secret", "ls"],
        ] {
            let said = docker.raw(escape).await?;
            ensure!(said.code != 0, "{escape:?} was let through");
            ensure!(said.stderr.contains("dockctl: this host is confined"), "{escape:?}: {said:?}");
        }
        let at_host = format!("web-1/{name}");
        for escape in [
            &["exec", "--privileged", &at_host, "true"][..],
            &["volumes", "create", "--on", "web-1", "--opt", "o=bind", "--opt", "device=/", "v"],
        ] {
            let said = dockctl.run(escape).await?;
            ensure!(said.code != 0, "{escape:?} was let through");
            ensure!(said.stderr.contains("this host is confined"), "{escape:?}: {said:?}");
        }
        for (target, body) in [
            ("/build?networkmode=host&remote=", ""),
            ("/build?networkmode=%68ost", ""),
            ("//v1.41/containers/create", r#"{"Image":"x","hostConfig":{"pRIVILEGED":true}}"#),
            ("/v1.23/containers/create", r#"{"Image":"x","Privileged":true}"#),
            ("/session", ""),
        ] {
            let length = body.len();
            let (status, answer) = ask(
                &socket.path,
                &format!(
                    "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                     Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                ),
            )?;
            ensure!(status == 403 && answer.contains("is confined"), "{target}: {answer}");
        }
        // A form's fields would be read as the query's.
        let form = "networkmode=host";
        let (status, answer) = ask(
            &socket.path,
            &format!(
                "POST /build HTTP/1.1\r\nHost: x\r\nContent-Type: \
                 application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: \
                 close\r\n\r\n{form}",
                form.len()
            ),
        )?;
        ensure!(status == 403 && answer.contains("a form"), "{answer}");
        Ok(())
    });
}

#[test]
fn on_a_confined_host_the_days_work_goes_on() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = agent_with(world, &controller, &[("DOCKCTL_CONFINE", "true")]).await?;
        let dockctl = controller.dockctl().await?;
        let container = world.docker().run("c", counting_script()).await?;
        let name = container.name.as_str();
        let at_host = format!("web-1/{name}");

        // dockctl's own verbs, which go the same way.
        let events = dockctl.start(&["events", "--on", "web-1"])?;
        ensure!(dockctl.ok(&["ps", "--on", "web-1"]).await?.contains(name), "ps");
        ensure!(dockctl.ok(&["inspect", &at_host]).await?.contains(name), "inspect");
        ensure!(dockctl.ok(&["stats", "--no-stream", &at_host]).await?.contains(name), "stats");
        ensure!(dockctl.ok(&["images", "--on", "web-1"]).await?.contains("busybox"), "images");
        let follow = dockctl.start(&["logs", "-f", &at_host])?;
        consecutive_lines(&follow.wait_for_lines(100).await?)?;
        for verb in ["stop", "start", "kill", "restart"] {
            dockctl.ok(&[verb, &at_host]).await?;
        }
        await_until("an event", LONG, async || {
            Ok(String::from_utf8(events.stdout()?)?.contains(&container.id[..12]).then_some(()))
        })
        .await?;

        let label = world.docker().selector();
        let run = ["run", "--rm", "--on", "web-1", "--network", "none", "--label", &label, IMAGE];
        ensure!(dockctl.ok(&[&run[..], &["echo", "hello"]].concat()).await? == "hello\n", "run");
        ensure!(dockctl.ok(&["exec", &at_host, "echo", "hello"]).await? == "hello\n", "exec");

        // docker and docker compose.
        let socket = Socket::open(world, &dockctl).await?;
        let dir = world.dir("script")?.display().to_string();
        let program = format!("{}/script.sh", super::HERE);
        let said = super::script(&program, &socket.docker, &[world.prefix(), IMAGE, &dir])?;
        ensure!(said.contains("code 42") && said.contains("typed"), "{said}");
        Ok(())
    });
}
