//! What deploy/ starts is what the programs take: the commands of the systemd units, the Dockerfiles
//! and the compose files, run as they stand there but for the directory and the ports.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use dockctl_api::v1::{AgentState, CreateJoinTokenRequest};
use dockctl_tests::{
    AgentSpec, Controller, Docker, LONG, Process, Signal, World, await_until, scenario,
};
use serde_json::Value;

fn deploy(file: &str) -> Result<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// A command as a file of deploy/ has it.
#[derive(Debug, Default)]
struct Started {
    program: String,
    arguments: Vec<String>,
    env: BTreeMap<String, String>,
}

impl Started {
    fn env(&mut self, pairs: &str) -> Result<()> {
        for pair in pairs.split_whitespace() {
            let (name, value) = pair.split_once('=').with_context(|| pair.to_owned())?;
            self.env.insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }

    fn of_unit(file: &str) -> Result<Self> {
        let mut started = Self::default();
        for line in deploy(file)?.lines() {
            if let Some(command) = line.strip_prefix("ExecStart=") {
                let mut words = command.split_whitespace().map(str::to_owned);
                let program = words.next().context("no program")?;
                started.program = program.trim_start_matches("/usr/local/bin/").to_owned();
                started.arguments = words.collect();
            } else if let Some(pairs) = line.strip_prefix("Environment=") {
                started.env(pairs)?;
            }
        }
        Ok(started)
    }

    fn of_dockerfile(file: &str) -> Result<Self> {
        let mut started = Self::default();
        for line in deploy(file)?.lines() {
            if let Some(program) = line.strip_prefix("ENTRYPOINT ") {
                let [program] = serde_json::from_str::<[String; 1]>(program)?;
                started.program = program;
            } else if let Some(arguments) = line.strip_prefix("CMD ") {
                started.arguments = serde_json::from_str(arguments)?;
            } else if let Some(pairs) = line.strip_prefix("ENV ") {
                started.env(pairs)?;
            }
        }
        Ok(started)
    }

    /// The command with its data elsewhere and ports of the system's choice.
    fn command(mut self, world: &World, data_dir: &Path) -> Result<Command> {
        let at = self.arguments.iter().position(|a| a == "--data-dir").context("no --data-dir")?;
        self.arguments[at + 1] = data_dir.to_str().context("a path in UTF-8")?.to_owned();
        for address in self.env.values_mut().filter(|v| v.starts_with("0.0.0.0:")) {
            *address = "127.0.0.1:0".to_owned();
        }
        let mut command = world.binary(&self.program)?;
        command.args(&self.arguments).envs(&self.env).env("DOCKCTL_READY_JSON", "true");
        Ok(command)
    }
}

#[test]
fn the_controllers_unit_and_image_start_a_controller_that_others_can_reach() {
    scenario(async |world| {
        for started in [
            Started::of_unit("systemd/dockctl-controller.service")?,
            Started::of_dockerfile("docker/Dockerfile.controller")?,
        ] {
            // Each names both ports, on every address.
            for (name, port) in [("DOCKCTL_LISTEN", "7443"), ("DOCKCTL_AGENT_LISTEN", "7444")] {
                let wanted = format!("0.0.0.0:{port}");
                ensure!(started.env.get(name) == Some(&wanted), "{started:?}");
            }
            let mut command = started.command(world, &world.dir("controller")?)?;
            command.env("DOCKCTL_METRICS_LISTEN", "127.0.0.1:0");
            let mut controller = Process::spawn("controller", command, world.logs())?;
            let ready: Value = controller.ready().await?;
            ensure!(ready["ca_fingerprint"].is_string(), "{ready}");
            ensure!(controller.terminate().await?.success(), "{}", controller.tail());
        }
        Ok(())
    });
}

#[test]
fn the_agents_unit_and_image_start_an_agent_that_only_joined_before() {
    scenario(async |world| {
        let controller = world.controller().await?;
        for (name, started) in [
            ("unit", Started::of_unit("systemd/dockctl-agent.service")?),
            ("image", Started::of_dockerfile("docker/Dockerfile.agent")?),
        ] {
            let spec = AgentSpec::new(world, &controller, name)?;
            let request = CreateJoinTokenRequest::default();
            let token = controller.join_token(request).await?.token;
            // As the comment at the head of the unit and of the compose file says.
            let mut join = spec.join_command(&token)?;
            join.arg("--only-join");
            let mut join = Process::spawn("join", join, world.logs())?;
            ensure!(join.exit_code().await? == 0, "{}", join.tail());
            let command = started.command(world, &spec.data_dir)?;
            let mut agent = Process::spawn(name, command, world.logs())?;
            let ready: Value = agent.ready().await?;
            ensure!(ready["agent"] == name, "{ready}");
            controller.await_state(name, AgentState::Connected).await?;
        }
        Ok(())
    });
}

#[test]
fn the_systemd_units_let_the_programs_live_without_root() {
    for unit in ["systemd/dockctl-controller.service", "systemd/dockctl-agent.service"] {
        let text = deploy(unit).expect("the unit");
        for line in ["User=dockctl", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "UMask=0077"]
        {
            assert!(text.lines().any(|l| l == line), "{unit} lacks {line}");
        }
    }
}

/// The images of deploy/docker, built from this machine's own files. Removed when dropped.
struct Images {
    host: String,
    name: String,
}

impl Images {
    fn build(docker: &Docker, world: &World) -> Result<Self> {
        let dockctl = world.binary("dockctl")?;
        let programs = Path::new(dockctl.get_program()).parent().context("no directory")?;
        let images = Self { host: docker.host().to_owned(), name: world.prefix().to_owned() };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("images.sh");
        let mut build = Command::new(script);
        build.arg(&images.name).arg(programs).env("DOCKER_HOST", docker.host());
        let built = build.output()?;
        ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Ok(images)
    }

    fn of(&self, program: &str) -> String {
        format!("{}-{program}", self.name)
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        let docker = |arguments: &[&str]| {
            let _ = Command::new("docker").args(["-H", &self.host]).args(arguments).output();
        };
        docker(&["rm", "-fv", &self.of("box"), &self.of("blind"), &self.of("controller")]);
        docker(&["volume", "rm", &self.of("box"), &self.of("blind")]);
        for image in ["agent", "controller", "dockctl", "base"] {
            docker(&["rmi", &self.of(image)]);
        }
    }
}

/// What the compose files give every service.
const CONFINED: [&str; 4] =
    ["--read-only", "--cap-drop=ALL", "--security-opt", "no-new-privileges"];

async fn run_confined(docker: &Docker, options: &[&str], rest: &[&str]) -> Result<String> {
    docker.cli(&[&["run"], &CONFINED[..], options, rest].concat()).await
}

/// Joins and starts an agent as deploy/compose/agent.yml has it, beside the controller of this scenario.
async fn agent(
    docker: &Docker,
    images: &Images,
    controller: &Controller<'_>,
    name: &str,
    options: &[&str],
) -> Result<()> {
    let socket = docker.host().strip_prefix("unix://").context("a socket")?;
    let group = fs::metadata(socket)?.gid().to_string();
    let (own, agent) = (images.of(name), images.of("agent"));
    let sockets = format!("{socket}:/var/run/docker.sock");
    let state = format!("{own}:/var/lib/dockctl-agent");
    let beside = ["--network=host", "--group-add", &group, "-v", &sockets, "-v", &state];
    let token = controller.join_token(CreateJoinTokenRequest::default()).await?.token;
    let address = controller.agents.to_string();
    let join = [&agent, "join", &address, "--token", &token, "--name", name];
    let kept = ["--data-dir", "/var/lib/dockctl-agent", "--only-join"];
    run_confined(docker, &[&["--rm"], &beside[..]].concat(), &[&join[..], &kept].concat()).await?;
    let options = [&["-d", "--name", &own], options, &beside].concat();
    run_confined(docker, &options, &[&agent]).await?;
    controller.await_state(name, AgentState::Connected).await.map(drop)
}

/// A command that minds no closed terminal ends with its caller, and gets its signals.
async fn commands_end(docker: &Docker, controller: &Controller<'_>, app: &str) -> Result<()> {
    let dockctl = controller.dockctl().await?;
    let stubborn = "trap '' HUP TERM; trap 'exit 7' INT; echo ready; while :; do sleep 0.2; done";
    let words = ["exec", app, "sh", "-c", stubborn];
    let container = app.split_once('/').context("a host")?.1;
    let mut told = dockctl.start(&words)?;
    told.wait_for_lines(1).await?;
    let mut killed = dockctl.start(&words)?;
    killed.wait_for_lines(1).await?;
    told.signal(Signal::INT)?;
    ensure!(told.exit_code().await? == 7, "{}", told.tail());
    let running = async || {
        Ok::<_, anyhow::Error>(docker.cli(&["top", container]).await?.matches("sh -c trap").count())
    };
    ensure!(running().await? == 1, "the other one runs on");
    killed.kill9()?;
    await_until("no command", LONG, async || Ok((running().await? == 0).then_some(()))).await
}

#[test]
fn the_images_build_and_run_read_only_without_any_capability() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let docker = world.docker();
        let images = Images::build(&docker, world)?;
        let image = images.of("dockctl");
        let version = run_confined(&docker, &["--rm"], &[&image, "--version"]).await?;
        ensure!(version.starts_with("dockctl "), "{version}");

        ensure!(deploy("compose/agent.yml")?.contains("\n    pid: host\n"), "no pid: host");
        agent(&docker, &images, &controller, "box", &["--pid=host"]).await?;
        let dockctl = controller.dockctl().await?;
        let listed = dockctl.ok(&["ps", "--on", "box"]).await?;
        ensure!(listed.contains(&images.of("box")), "{listed}");
        let app = docker.run("app", "exec sleep 100000").await?.name;
        commands_end(&docker, &controller, &format!("box/{app}")).await?;

        // One that does not see the processes of its host, as that of an engine elsewhere.
        agent(&docker, &images, &controller, "blind", &[]).await?;
        commands_end(&docker, &controller, &format!("blind/{app}")).await?;
        let bare = docker.run("bare", "rm /bin/sh; exec sleep 100000").await?.name;
        let mut caller =
            dockctl.start(&["exec", &format!("blind/{bare}"), "tail", "-f", "/proc/version"])?;
        caller.wait_for_lines(1).await?;
        caller.signal(Signal::INT)?;
        ensure!(caller.exit_code().await? == 125, "{}", caller.tail());
        let said = caller.log()?;
        ensure!(said.contains("no signal reaches this command"), "{said}");

        // The controller as deploy/compose/controller.yml has it.
        let (image, name) = (images.of("controller"), images.of("controller"));
        let options = ["-d", "--network=none", "--name", &name, "-e", "DOCKCTL_READY_JSON=true"];
        run_confined(&docker, &options, &[&image]).await?;
        await_until("the controller in its container", LONG, async || {
            let said = docker.cli(&["logs", &name]).await?;
            Ok(said.contains("\"ca_fingerprint\"").then_some(()))
        })
        .await
    });
}
