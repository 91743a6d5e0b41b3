//! `dockctl create` and `dockctl run`: docker's flags make what docker makes of them, and a program's end is
//! told as docker tells it.

use anyhow::{Context, Result, ensure};
use dockctl_tests::{
    Dockctl, Docker, IMAGE, LONG, Output, Signal, Terminal, await_until, scenario,
};
use serde_json::Value;

const IDLE: [&str; 3] = [IMAGE, "sleep", "100000"];

/// What the engine knows of a container that does not differ between two of the same making.
async fn made(docker: &Docker, id: &str) -> Result<Value> {
    let text = docker.cli(&["inspect", "--type", "container", id]).await?;
    let mut all: Value = serde_json::from_str(&text)?;
    let mut one = all[0].take();
    let config = one["Config"].as_object_mut().context("no Config")?;
    if config["Hostname"].as_str().is_some_and(|name| id.starts_with(name)) {
        config.remove("Hostname");
    }
    // Which the engine merges with the image's in no order.
    if let Some(env) = config.get_mut("Env").and_then(Value::as_array_mut) {
        env.sort_by_key(ToString::to_string);
    }
    let mut networks = one["NetworkSettings"]["Networks"].take();
    for (_, network) in networks.as_object_mut().into_iter().flatten() {
        // The engine adds the beginning of the id.
        if let Some(aliases) = network["Aliases"].as_array_mut() {
            aliases.retain(|alias| alias.as_str().is_some_and(|alias| !id.starts_with(alias)));
        }
    }
    let mut kept = serde_json::json!({
        "Config": one["Config"], "HostConfig": one["HostConfig"], "Networks": networks,
        "Path": one["Path"], "Args": one["Args"],
    });
    forget_defaults(&mut kept);
    Ok(kept)
}

/// Takes out what an engine does not tell from absent.
fn forget_defaults(value: &mut Value) {
    let Value::Object(object) = value else { return };
    object.values_mut().for_each(forget_defaults);
    let nothing = ["null", "false", "0", "\"\"", "[]", "{}"];
    object.retain(|_, value| !nothing.contains(&value.to_string().as_str()));
    if object.get("MemorySwappiness").is_some_and(|s| *s == -1) {
        object.remove("MemorySwappiness");
    }
}

#[test]
fn a_container_is_what_docker_makes_of_the_same_flags() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let env_file = world.dir("files")?.join("env");
        std::fs::write(&env_file, "# c\nFROM_FILE=1 2\nPATH\n")?;
        let env_file = env_file.to_str().context("a path in UTF-8")?;
        let label = docker.selector();
        for flags in [
            &[][..],
            &["-it", "--init", "--rm", "-u", "1:2", "-w", "/tmp", "-h", "web", "--domainname", "d"],
            &[
                "-e",
                "A=1",
                "-e",
                "NOT_SET",
                "--env-file",
                env_file,
                "-l",
                "tier=front",
                "-l",
                "bare",
            ],
            &["-v", "/tmp:/host:ro", "-v", "/anonymous", "--tmpfs", "/run:size=1m", "--read-only"],
            &[
                "--mount",
                "type=bind,src=/tmp,dst=/b,readonly",
                "--mount",
                "type=tmpfs,dst=/t,tmpfs-size=1m",
            ],
            &["-p", "127.0.0.1:18080:80", "-p", "53/udp", "--expose", "90-91", "-P"],
            &[
                "--cpus",
                "0.5",
                "-c",
                "512",
                "--cpuset-cpus",
                "0",
                "-m",
                "64m",
                "--memory-swap",
                "-1",
            ],
            &[
                "--memory",
                "64m",
                "--memory-reservation",
                "32m",
                "--pids-limit",
                "50",
                "--shm-size",
                "8m",
            ],
            &["--restart", "on-failure:3", "--stop-signal", "INT", "--stop-timeout", "3"],
            &["--health-cmd", "true", "--health-interval", "1m30s", "--health-retries", "2"],
            &["--no-healthcheck", "--entrypoint", "echo"],
            &["--cap-add", "net_admin", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"],
            &[
                "--privileged",
                "--ipc",
                "host",
                "--pid",
                "host",
                "--uts",
                "host",
                "--cgroupns",
                "host",
            ],
            &[
                "--ulimit",
                "nofile=64:128",
                "--ulimit",
                "core=0",
                "--sysctl",
                "net.core.somaxconn=64",
            ],
            &["--device", "/dev/null:/dev/zilch:r", "--group-add", "5", "--oom-score-adj", "7"],
            &["--blkio-weight-device", "/dev/null:300", "--isolation", "default"],
            &["--device-read-bps", "/dev/null:1mb", "--device-write-bps", "/dev/zero:2k"],
            &["--device-read-iops", "/dev/null:10", "--device-write-iops", "/dev/zero:20"],
            &["-a", "stdout", "-a", "STDERR", "-i"],
            &["--attach=stdin", "-i", "--init=true", "--read-only=false", "--rm=0"],
            &["--dns", "10.0.0.1", "--dns-search", "example", "--dns-option", "ndots:2"],
            &["--add-host", "a:10.0.0.2", "--network", "none"],
            &["--network", "host"],
            &["--log-driver", "json-file", "--log-opt", "max-size=1m", "--userns", "host"],
        ] {
            let all = [&["create", "--label", &label], flags].concat();
            let theirs = docker.cli(&[&all[..], &IDLE].concat()).await?;
            let ours = dockctl.ok(&[&all[..], &IDLE].concat()).await?;
            let (theirs, ours) = (made(&docker, &theirs).await?, made(&docker, ours.trim()).await?);
            ensure!(ours == theirs, "{flags:?}\n  dockctl {ours}\n  docker  {theirs}");
        }
        // docker's own client refuses to say this to an engine of API 1.41.
        let mac = ["create", "--label", &label, "--mac-address", "02:42:ac:11:00:77"];
        let id = dockctl.ok(&[&mac[..], &IDLE].concat()).await?;
        let told = docker.inspect(id.trim(), "{{.Config.MacAddress}}").await?;
        ensure!(told == "02:42:ac:11:00:77", "{told}");
        Ok(())
    });
}

#[test]
fn a_detached_container_runs_on_and_its_id_is_printed() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let (label, name) = (docker.selector(), format!("{}-runs", world.prefix()));
        let run = ["run", "-d", "--on", "web-1", "--name", &name, "--label", &label];
        let id = dockctl.ok(&[&run[..], &IDLE].concat()).await?;
        let known =
            docker.inspect(&name, "{{.Id}} {{.State.Status}} {{.Config.AttachStdout}}").await?;
        ensure!(known == format!("{} running false", id.trim()), "{known}");

        // The name is taken now, and docker says so.
        let said = dockctl.run(&[&run[..], &IDLE].concat()).await?.failed(125)?;
        ensure!(said.contains("web-1: ") && said.contains("is already in use"), "{said}");
        Ok(())
    });
}

async fn run(dockctl: &Dockctl<'_>, docker: &Docker, words: &[&str]) -> Result<Output> {
    let label = docker.selector();
    dockctl
        .run(&[&["run", "--on", "web-1", "--network", "none", "--label", &label], words].concat())
        .await
}

#[test]
fn a_foreground_container_gives_its_output_and_its_exit_code() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let script = "echo out; echo err >&2; exit 7";
        let ran = run(&dockctl, &docker, &["--rm", IMAGE, "sh", "-c", script]).await?;
        ensure!(ran.code == 7, "{ran:?}");
        ensure!(ran.stdout == b"out\n" && ran.stderr == "err\n", "{ran:?}");
        let label = format!("label={}", docker.selector());
        let left = docker.cli(&["ps", "-aq", "--filter", &label]).await?;
        ensure!(left.is_empty(), "--rm left {left}");

        // Flags after the image are the program's own.
        let ran =
            run(&dockctl, &docker, &["--rm", IMAGE, "echo", "--rm", "-e", "--config", "x"]).await?;
        ensure!(ran.stdout == b"--rm -e --config x\n", "{ran:?}");

        let label = docker.selector();
        let cat = ["run", "-i", "--rm", "--label", &label, "--network", "none", IMAGE, "cat"];
        let ran = dockctl.run_with_input(&cat, "to the container\n").await?;
        ensure!(ran.code == 0 && ran.stdout == b"to the container\n", "{ran:?}");

        let said = dockctl.run(&["run", "-it", IMAGE]).await?.failed(1)?;
        ensure!(said.contains("the input device is not a TTY"), "{said}");
        Ok(())
    });
}

#[test]
fn streams_and_the_id_go_where_they_are_wanted() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let script = "echo out; echo err >&2; exit 7";
        for (stream, out, err) in
            [("stdout", &b"out\n"[..], ""), ("STDERR", b"", "err\n"), ("stdout", b"out\n", "")]
        {
            let words = ["--rm=true", "-a", stream, IMAGE, "sh", "-c", script];
            let ran = run(&dockctl, &docker, &words).await?;
            ensure!(ran.code == 7 && ran.stdout == out && ran.stderr == err, "{ran:?}");
        }
        let file = world.dir("ids")?.join("id");
        let path = file.to_str().context("a path in UTF-8")?;
        // A container that is not made leaves no file.
        let none = run(&dockctl, &docker, &["--cidfile", path, "-m", "x", IMAGE]).await?;
        ensure!(none.code == 125 && !file.exists(), "{none:?}");
        let none = ["--cidfile", path, "--pull", "never", "dockctl/ghost:none"];
        let none = run(&dockctl, &docker, &none).await?;
        ensure!(none.code == 125 && !file.exists(), "{none:?}");
        let id = run(&dockctl, &docker, &["-d", "--cidfile", path, IMAGE, "true"]).await?;
        ensure!(id.code == 0 && std::fs::read(&file)? == id.stdout.trim_ascii_end(), "{id:?}");
        let again = ["run", "--cidfile", path, IMAGE, "true"];
        let said = dockctl.run(&again).await?.failed(125)?;
        let theirs = docker.raw(&again).await?;
        let sentence =
            "container ID file found, make sure the other container isn't running or delete";
        ensure!(said.contains(sentence) && theirs.stderr.contains(sentence), "{said}{theirs:?}");
        Ok(())
    });
}

#[test]
fn no_exit_code_is_lost_however_soon_a_program_ends() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        for round in 1..=10 {
            let script = format!("exit {round}");
            let ran = run(&dockctl, &docker, &["--rm", IMAGE, "sh", "-c", &script]).await?;
            ensure!(ran.code == round, "{ran:?}");
        }
        Ok(())
    });
}

#[test]
fn what_cannot_run_is_told_in_dockers_words_and_codes() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let label = docker.selector();
        for (flags, words, code, says) in [
            (&[][..], &[IMAGE, "no-such-program"][..], 127, "executable file not found"),
            (&["-d"], &[IMAGE, "no-such-program"], 127, "executable file not found"),
            (&[], &[IMAGE, "/etc"], 126, ""),
            (&["--pull", "never"], &["dockctl/ghost:none"], 125, "No such image"),
            (
                &["--memory", "x"],
                &[IMAGE],
                125,
                "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'",
            ),
            (&["-p", "99999:80"], &[IMAGE], 125, "invalid hostPort: 99999"),
            (
                &["--restart", "always", "--rm"],
                &[IMAGE],
                125,
                "cannot specify both --restart and --rm",
            ),
            (&["--network", "no-such-network"], &[IMAGE], 125, "no-such-network not found"),
            (&["--env-file", "/ghost"], &[IMAGE], 125, "open /ghost: no such file or directory"),
            (&["-v", "./here:/x"], &[IMAGE], 125, "write the path on the host"),
        ] {
            let all = [&["run", "--label", &label], flags, words].concat();
            let said = dockctl.run(&all).await?.failed(code)?;
            ensure!(said.contains("web-1: ") && said.contains(says), "{all:?}: {said}");
            // docker ends with the same code, but for what it allows and we do not.
            if !says.contains("on the host") {
                let theirs = docker.raw(&all).await?;
                ensure!(theirs.code == code, "{all:?}: docker ends with {}", theirs.code);
            }
        }
        let said = dockctl.run(&["create", "--cpus", "abc", IMAGE]).await?.failed(125)?;
        ensure!(said.contains("failed to parse abc as a rational number"), "{said}");
        dockctl.run(&["run", "--no-such-flag", IMAGE]).await?.failed(125)?;
        dockctl.run(&["run"]).await?.failed(2)?;
        Ok(())
    });
}

#[test]
fn the_host_must_be_named_where_there_are_several() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _one = world.agent(&controller, "web-1").await?;
        let _two = world.agent(&controller, "web-2").await?;
        let dockctl = controller.dockctl().await?;
        let said = dockctl.run(&["create", IMAGE]).await?.failed(2)?;
        for word in ["--on AGENT", "web-1", "web-2"] {
            ensure!(said.contains(word), "{said}");
        }
        let said = dockctl.run(&["create", "--on", "web-9", IMAGE]).await?.failed(4)?;
        ensure!(said.contains("web-9"), "{said}");
        Ok(())
    });
}

#[test]
fn a_signal_reaches_the_program_of_a_foreground_container() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let (label, name) = (docker.selector(), format!("{}-trap", world.prefix()));
        let script = "trap 'exit 9' TERM; echo ready; while :; do usleep 100000; done";
        let mut running = dockctl.start(&[
            "run", "--on", "web-1", "--name", &name, "--label", &label, IMAGE, "sh", "-c", script,
        ])?;
        await_until("the program to listen", LONG, async || {
            Ok(running.stdout()?.starts_with(b"ready").then_some(()))
        })
        .await?;
        running.signal(Signal::TERM)?;
        let code = running.exit_code().await?;
        ensure!(code == 9, "it ended with {code}");
        Ok(())
    });
}

#[test]
fn a_shell_on_a_terminal_is_local_and_detaching_leaves_it_running() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let (label, name) = (docker.selector(), format!("{}-shell", world.prefix()));
        let run = ["run", "-it", "--label", &label];
        let shell = dockctl.command(&[&run[..], &["--rm", IMAGE, "sh"]].concat())?;
        let mut terminal = Terminal::start(&shell, 33, 101)?;
        terminal.wait_for("# ").await?;
        ensure!(terminal.is_raw()?, "keys wait here for the end of a line");
        terminal.type_keys("(exit 42)\n\x04")?;
        ensure!(terminal.exit_code().await? == 42, "{}", terminal.shown());

        let shell = dockctl.command(&[&run[..], &["--name", &name, IMAGE, "sh"]].concat())?;
        let mut terminal = Terminal::start(&shell, 33, 101)?;
        terminal.wait_for("# ").await?;
        terminal.type_keys("\x10\x11")?;
        ensure!(terminal.exit_code().await? == 0, "{}", terminal.shown());
        ensure!(docker.inspect(&name, "{{.State.Status}}").await? == "running");
        Ok(())
    });
}
