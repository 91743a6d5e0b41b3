//! The Docker API itself over the mesh: docker, docker compose and docker-py do on a host what they do on
//! its engine's socket; the host's owner may refuse it, in part or wholly; and it leaves nothing behind.

mod guard;
mod guard_owners;
mod hang_ups;
mod hijacks;
mod socket;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use dockctl_tests::{
    Agent, AgentSpec, Controller, Dockctl, Docker, IMAGE, Process, Signal, World, scenario,
};

/// The directory of the scripts.
const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker_api");

/// An open docker-socket.
struct Socket {
    process: Process,
    path: String,
    /// docker's own client on it.
    docker: Docker,
}

impl Socket {
    async fn open(world: &World, dockctl: &Dockctl<'_>) -> Result<Self> {
        let path = world.dir("socket")?.join("docker.sock").display().to_string();
        let url = format!("unix://{path}");
        let process = dockctl.start(&["docker-socket", "web-1", "--listen", &url, "--ready"])?;
        process.wait_for_log(&format!("ready {url}")).await?;
        Ok(Self { process, path, docker: world.docker_at(&url) })
    }
}

/// An agent web-1 with those variables in its environment.
async fn agent_with<'w>(
    world: &'w World,
    controller: &Controller<'_>,
    env: &[(&str, &str)],
) -> Result<Agent<'w>> {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    world.join(controller, AgentSpec { env, ..AgentSpec::new(world, controller, "web-1")? }).await
}

/// Runs a script on an engine and gives its standard output.
fn script(program: &str, docker: &Docker, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    if program == "python3" {
        // Not for docker-compose, which brings a docker-py of its own.
        command.env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/python"));
    }
    let output = command
        .args(arguments)
        .env("DOCKER_HOST", docker.host())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} is missing: run `make test`"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{program} on {}: {out}\n{err}", docker.host());
    Ok(out)
}

/// Runs a shell script on the engine's socket and through the mesh: it prints the same, and these words.
async fn compare(world: &World, name: &str, words: &[&str]) -> Result<()> {
    let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
    let socket = Socket::open(world, &dockctl).await?;
    let program = format!("{HERE}/{name}");
    let run = |docker: &Docker| {
        let dir = world.dir("script")?;
        script(&program, docker, &[world.prefix(), IMAGE, dir.to_str().context("UTF-8")?])
    };
    let direct = run(&docker)?;
    ensure!(words.iter().all(|word| direct.contains(word)), "{direct}");
    let through = run(&socket.docker)?;
    ensure!(direct == through, "directly:\n{direct}\n\nthrough the mesh:\n{through}");
    Ok(())
}

#[test]
fn docker_and_compose_do_the_same_through_the_mesh_as_on_the_socket() {
    scenario(async |world| compare(world, "script.sh", &["code 42", "typed"]).await);
}

#[test]
fn the_newest_compose_does_the_same_through_the_mesh_as_on_the_socket() {
    scenario(async |world| compare(world, "compose.sh", &["version v5.", "code 3"]).await);
}

#[test]
fn buildkit_builds_the_same_through_the_mesh_as_on_the_socket() {
    scenario(async |world| compare(world, "buildkit.sh", &["built", "the same", "code 1"]).await);
}

#[test]
fn docker_py_does_the_same_through_the_mesh_as_on_the_socket() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let socket = Socket::open(world, &controller.dockctl().await?).await?;
        let program = format!("{HERE}/script.py");
        let run = |docker: &Docker| script("python3", docker, &[&program, world.prefix(), IMAGE]);
        let direct = run(&world.docker())?;
        ensure!(direct.contains("half-close 3 True 0"), "{direct}");
        let through = run(&socket.docker)?;
        ensure!(direct == through, "directly:\n{direct}\n\nthrough the mesh:\n{through}");
        Ok(())
    });
}

#[test]
fn dockctl_docker_is_docker_on_that_host() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let container = world.docker().run("c", "exec sleep 100000").await?;
        let docker = |words: &[&str]| {
            let mut command = dockctl.command(&[&["docker", "web-1", "--"], words].concat())?;
            // What would lead docker elsewhere.
            command.env("DOCKER_CONTEXT", "elsewhere").env("DOCKER_TLS_VERIFY", "1");
            command.env("DOCKER_HOST", "tcp://192.0.2.1:2375").env("TMPDIR", world.dir("tmp")?);
            anyhow::Ok(command)
        };
        let name = container.name.as_str();
        let listed = docker(&["ps", "--format", "{{.Names}}"])?.output()?;
        ensure!(String::from_utf8_lossy(&listed.stdout).contains(name), "{listed:?}");

        // Input, both outputs and the exit code.
        let input = world.dir("input")?.join("input");
        fs::write(&input, "one\ntwo\n")?;
        let sorting = "sort -r; echo done >&2; exit 42";
        let mut sorted = docker(&["exec", "-i", name, "sh", "-c", sorting])?;
        let sorted = sorted.stdin(fs::File::open(&input)?).output()?;
        ensure!(sorted.status.code() == Some(42), "{sorted:?}");
        ensure!(sorted.stdout == b"two\none\n" && sorted.stderr == b"done\n", "{sorted:?}");
        for (words, code) in [(&["no-such-verb"][..], 1), (&["exec", name, "/none"], 126)] {
            let ended = docker(words)?.output()?;
            let direct = Command::new("docker").args(words).output()?;
            ensure!(ended.status.code() == direct.status.code(), "{ended:?}");
            ensure!(ended.status.code().is_some_and(|c| c == code || c == 127), "{ended:?}");
        }

        // A signal reaches docker, and the socket's directory goes with it.
        let command = docker(&["events"])?;
        let tmp = command.get_envs().find_map(|(k, v)| (k == "TMPDIR").then_some(v)).flatten();
        let tmp = Path::new(tmp.context("a directory")?).to_owned();
        let count = || anyhow::Ok(fs::read_dir(&tmp)?.count());
        let mut events = Process::spawn("docker-events", command, world.logs())?;
        dockctl_tests::await_until("an event", dockctl_tests::LONG, async || {
            world.docker().cli(&["kill", "-s", "WINCH", name]).await?;
            Ok(String::from_utf8(events.stdout()?)?.contains("container kill").then_some(()))
        })
        .await?;
        ensure!(count()? == 1, "no directory");
        events.signal(Signal::TERM)?;
        let code = events.exit_code().await?;
        ensure!(code != 0, "docker's own code of a SIGTERM, not {code}");
        ensure!(count()? == 0, "its directory is left");

        // Where there is no docker client, it says what to do.
        let none = docker(&["ps"])?.env("PATH", "/nonexistent").output()?;
        let said = String::from_utf8_lossy(&none.stderr).into_owned();
        ensure!(none.status.code() == Some(1) && said.contains("apt-get install docker"), "{said}");
        // A host that is none is told in docker's words, and only in them.
        let none = dockctl.run(&["docker", "web-9", "--", "ps"]).await?.failed(1)?;
        ensure!(none.starts_with("Error response from daemon: dockctl: web-9"), "{none}");
        ensure!(none.lines().filter(|line| line.contains("web-9")).count() == 1, "{none}");
        Ok(())
    });
}
