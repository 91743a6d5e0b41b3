//! Commands in containers: what they print, read and end with is docker's own, and none outlives its
//! caller.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use dockctl_api::v1::CreateJoinTokenRequest;
use dockctl_tests::{
    AgentSpec, Container, Dockctl, Docker, LONG, Nobody, Process, Signal, await_until, scenario,
};
use tokio::task::spawn_blocking;

/// A container that lives until it is removed.
async fn idle(docker: &Docker) -> Result<Container> {
    docker.run("app", "exec sleep 100000").await
}

/// Waits until a container runs that many processes which have that text in their command line.
async fn processes(docker: &Docker, container: &str, text: &str, count: usize) -> Result<()> {
    await_until(&format!("{count} processes with {text}"), LONG, async || {
        let top = docker.cli(&["top", container]).await?;
        let found = top.lines().filter(|line| line.contains(text)).count();
        ensure!(found == count, "{top}");
        Ok(Some(()))
    })
    .await
}

#[test]
fn output_and_exit_code_are_dockers_own() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let app = idle(&docker).await?.name;
        let at_host = format!("web-1/{app}");
        fs::write(world.logs().join("env"), "# comment\nFILE=from the file\nBOTH=file\n")?;
        let env_file = world.logs().join("env");
        let env_file = env_file.to_str().context("a path in UTF-8")?;
        let nasty =
            "printf 'no \\000 text \\377'; echo err >&2; echo; printf '\\033[31m' >&2; exit 3";
        for (flags, command) in [
            (&[][..], &["true"][..]),
            (&[], &["sh", "-c", nasty]),
            (&[], &["sh", "-c", "kill -TERM $$"]),
            (&[], &["nosuch"]),
            (&[], &["/etc/passwd"]),
            (&["-w", "/nosuch"], &["true"]),
            (&["-u", "nobodyatall"], &["true"]),
            (&["-u", "12:34", "-w", "/tmp"], &["sh", "-c", "id; pwd"]),
            (&["-e", "A=1", "-e", "NOT_SET_ANYWHERE", "-e", "BOTH=flag"], &["env"]),
            (&["--env-file", env_file, "-e", "BOTH=flag"], &["env"]),
            (&["--privileged"], &["grep", "CapEff", "/proc/self/status"]),
            (&["-t"], &["sh", "-c", "echo on a terminal; exit 4"]),
            (&["-i"], &["cat"]),
        ] {
            let theirs = docker.raw(&[&["exec"], flags, &[&app], command].concat()).await?;
            let ours = dockctl.run(&[&["exec"], flags, &[&at_host], command].concat()).await?;
            ensure!(
                (ours.code, &ours.stdout, &ours.stderr)
                    == (theirs.code, &theirs.stdout, &theirs.stderr),
                "{flags:?} {command:?}:\n{ours:?}\n{theirs:?}"
            );
        }

        // A command may close its output long before its end; docker's client then says 0.
        let closed = "exec >&- 2>&-; sleep 1; exit 9";
        ensure!(dockctl.run(&["exec", &at_host, "sh", "-c", closed]).await?.code == 9);
        dockctl.ok(&["exec", "-d", &at_host, "sleep", "4711"]).await?;
        processes(&docker, &app, "sleep 4711", 1).await
    });
}

#[test]
fn what_docker_refuses_is_refused_with_the_hosts_name() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let stopped = docker.run("stopped", "true").await?.name;
        docker.cli(&["wait", &stopped]).await?;
        let at_host = format!("web-1/{stopped}");
        // With a code that no program has by chance, as `docker run` does.
        for verb in [&["exec", &at_host, "true"][..], &["attach", &at_host]] {
            let said = dockctl.run(verb).await?.failed(125)?;
            ensure!(said.contains(&at_host), "{said}");
            ensure!(said.contains("not running") || said.contains("stopped container"), "{said}");
        }
        for verb in [&["exec", "web-1/nosuch", "true"][..], &["attach", "web-1/nosuch"]] {
            let said = dockctl.run(verb).await?.failed(125)?;
            ensure!(said.contains("web-1/nosuch: No such container: nosuch"), "{said}");
        }
        let said = dockctl.run(&["exec", "web-9/app", "true"]).await?.failed(125)?;
        ensure!(said.contains("web-9"), "{said}");
        let app = idle(&docker).await?.name;
        let at_host = format!("web-1/{app}");
        let said = dockctl.run(&["exec", "-it", &at_host, "sh"]).await?.failed(1)?;
        ensure!(said.contains("the input device is not a TTY"), "{said}");
        let keys = ["exec", "--detach-keys", "ctrl-1", &at_host, "true"];
        let said = dockctl.run(&keys).await?.failed(125)?;
        ensure!(said.contains("invalid detach keys"), "{said}");
        docker.cli(&["pause", &app]).await?;
        let said = dockctl.run(&["exec", &at_host, "true"]).await?.failed(125)?;
        docker.cli(&["unpause", &app]).await?;
        ensure!(said.contains("paused"), "{said}");
        Ok(())
    });
}

/// Runs dockctl with files for its standard input and output.
async fn with_files(dockctl: &Dockctl<'_>, words: &[&str], from: &Path, to: &Path) -> Result<i32> {
    let mut command = dockctl.command(words)?;
    command.stdin(File::open(from)?).stdout(File::create(to)?).stderr(Stdio::inherit());
    let status = spawn_blocking(move || command.status()).await??;
    status.code().context("it was killed")
}

#[test]
fn fifty_megabytes_of_output_come_whole_with_and_without_a_terminal() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let at_host = format!("web-1/{}", idle(&world.docker()).await?.name);
        let (nothing, to) = (Path::new("/dev/null"), world.logs().join("output"));
        let script = "yes 'a line like all the others' | head -c 50000000";
        for (flags, end) in [("-i", "\n"), ("-t", "\r\n")] {
            let words = ["exec", flags, &at_host, "sh", "-c", script];
            ensure!(with_files(&dockctl, &words, nothing, &to).await? == 0, "{flags}");
            let line = format!("a line like all the others{end}");
            let came = fs::read(&to)?;
            let lines = 50_000_000 / (line.len() - end.len() + 1);
            ensure!(came.len() >= lines * line.len(), "{flags}: {} bytes came", came.len());
            ensure!(came.chunks(line.len()).all(|l| line.as_bytes().starts_with(l)), "{flags}");
        }
        Ok(())
    });
}

#[test]
fn the_end_of_the_input_reaches_the_command_and_its_output_goes_on() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let at_host = format!("web-1/{}", idle(&world.docker()).await?.name);
        let (from, to) = (world.logs().join("input"), world.logs().join("output"));
        let bytes: Vec<u8> = (0..20_000_000u32).map(|n| (n ^ (n >> 8)) as u8).collect();
        fs::write(&from, &bytes)?;
        let cat = ["exec", "-i", &at_host, "cat"];
        ensure!(with_files(&dockctl, &cat, &from, &to).await? == 0, "cat");
        ensure!(fs::read(&to)? == bytes, "what went in does not come out");
        let count =
            ["exec", "-i", &at_host, "sh", "-c", "wc -c; usleep 200000; echo after; exit 5"];
        ensure!(with_files(&dockctl, &count, &from, &to).await? == 5, "wc");
        ensure!(fs::read_to_string(&to)? == "20000000\nafter\n", "{:?}", fs::read(&to)?);
        // One that reads nothing of it.
        ensure!(with_files(&dockctl, &["exec", "-i", &at_host, "true"], &from, &to).await? == 0);
        Ok(())
    });
}

/// Says that it is there, does not mind a terminal that is closed, and has a child.
const STUBBORN: &str = "trap '' HUP TERM; echo ready; while :; do sleep 1; done";

#[test]
fn a_command_ends_when_its_caller_has_gone() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let (proxy, _agent) = world.agent_behind_proxy(&controller, "web-1").await?;
        let (docker, dockctl) = (world.docker(), controller.dockctl().await?);
        let app = idle(&docker).await?.name;
        let at_host = format!("web-1/{app}");
        for flags in [&["exec"][..], &["exec", "-t"]] {
            let words = [flags, &[&at_host, "sh", "-c", STUBBORN]].concat();
            let mut caller = dockctl.start(&words)?;
            caller.wait_for_lines(1).await?;
            caller.kill9()?;
            processes(&docker, &app, "trap", 0).await?;

            let mut caller = dockctl.start(&words)?;
            caller.wait_for_lines(1).await?;
            proxy.cut();
            ensure!(caller.exit_code().await? == 125, "{}", caller.tail());
            let said = caller.log()?;
            ensure!(said.contains(&at_host) && said.contains("the session broke off"), "{said}");
            processes(&docker, &app, "trap", 0).await?;
            dockctl.await_host("web-1").await?;
        }
        Ok(())
    });
}

#[test]
fn an_agent_without_any_right_ends_commands_as_well() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let docker = world.docker();
        let socket = docker.host().strip_prefix("unix://").context("a socket")?;
        let user = Nobody::with_group_of(Some(Path::new(socket)))?;
        let spec = AgentSpec::new(world, &controller, "web-1")?;
        let spec = AgentSpec { data_dir: user.data_dir(), ..spec };
        let token = controller.join_token(CreateJoinTokenRequest::default()).await?.token;
        let agent = user.runs(&spec.join_command(&token)?);
        let mut agent = Process::spawn("web-1", agent, world.logs())?;
        agent.ready::<serde_json::Value>().await?;

        let dockctl = controller.dockctl().await?;
        let app = idle(&docker).await?.name;
        let mut caller = dockctl.start(&["exec", &format!("web-1/{app}"), "sh", "-c", STUBBORN])?;
        caller.wait_for_lines(1).await?;
        caller.kill9()?;
        processes(&docker, &app, "trap", 0).await
    });
}

#[test]
fn a_signal_is_the_commands() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let app = idle(&docker).await?.name;
        let at_host = format!("web-1/{app}");
        let polite = "trap 'echo told; exit 7' INT; echo ready; while :; do sleep 0.1; done";
        let mut caller = dockctl.start(&["exec", &at_host, "sh", "-c", polite])?;
        caller.wait_for_lines(1).await?;
        caller.signal(Signal::INT)?;
        ensure!(caller.exit_code().await? == 7, "{}", caller.tail());
        ensure!(caller.stdout()? == b"ready\ntold\n", "{:?}", caller.stdout()?);

        // Its input has ended, so that no signal goes up any more: going ends it as well.
        let mut caller = dockctl.start(&["exec", "-i", &at_host, "sh", "-c", STUBBORN])?;
        caller.wait_for_lines(1).await?;
        caller.signal(Signal::INT)?;
        ensure!(caller.exit_code().await? == 128 + 2, "{}", caller.tail());
        processes(&docker, &app, "trap", 0).await?;

        // Behind input that nobody takes the first one is stuck; the second one is dockctl's own.
        let words = ["exec", "-i", &at_host, "sh", "-c", "echo ready; exec sleep 4712"];
        let dockctl = dockctl.command(&words)?;
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" < /dev/zero", "sh"]).arg(dockctl.get_program());
        shell.args(dockctl.get_args());
        shell.envs(dockctl.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let mut caller = Process::spawn("dockctl", shell, world.logs())?;
        caller.wait_for_lines(1).await?;
        await_until("its end", LONG, async || {
            caller.signal(Signal::TERM)?;
            Ok((!caller.is_running()?).then_some(()))
        })
        .await?;
        ensure!(caller.exit_code().await? == 128 + 15, "{}", caller.tail());
        processes(&docker, &app, "sleep 4712", 0).await
    });
}
