//! Clients as people write them: the examples of docs/clients, each in its own language with the library that its
//! people use, see what the engine says.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use dockctl_tests::{
    ADMIN_PASSWORD, Agent, Container, Controller, Docker, IMAGE, LONG, Process, World, await_until,
    inventory_is_dockers, scenario,
};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/clients");
const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
/// Where `make test` puts what the examples need.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools");
/// Two lines at once, and the third when it is told to end.
const SCRIPT: &str = "echo one; echo two; until [ -e /go ]; do sleep 0.1; done; echo three";

/// A controller, an agent web-1, and what its engine has: a container that runs and one that has ended.
struct Fleet<'w> {
    world: &'w World,
    controller: Controller<'w>,
    _agent: Agent<'w>,
    docker: Docker,
    container: Container,
}

impl<'w> Fleet<'w> {
    async fn start(world: &'w World, arguments: &[&str]) -> Result<Self> {
        let controller = world.controller_with(arguments, "127.0.0.1:0").await?;
        let agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let container = docker.run("c", SCRIPT).await?;
        let gone = docker.run("gone", "exit 3").await?;
        docker.cli(&["wait", &gone.name]).await?;
        inventory_is_dockers(&controller, &docker).await?;
        Ok(Self { world, controller, _agent: agent, docker, container })
    }

    /// A program with the variables that every example reads, and its own path of tools before the system's.
    fn command(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(program.as_ref());
        command
            .args(arguments)
            .env("DOCKCTL_URL", format!("https://{}", self.controller.api))
            .env("DOCKCTL_CA_FILE", self.controller.data_dir.join("ca.crt"))
            .env("DOCKCTL_USERNAME", "admin")
            .env("DOCKCTL_PASSWORD", ADMIN_PASSWORD)
            .env_remove("DOCKCTL_TOKEN")
            .env("HOME", self.world.dir("home")?);
        Ok(command)
    }

    /// An API token of an admin.
    async fn token(&self) -> Result<String> {
        let dockctl = self.controller.dockctl().await?;
        let made = dockctl.json(&["tokens", "create", "example", "--role", "admin"]).await?;
        Ok(made["token"].as_str().context("no token")?.to_owned())
    }

    /// Runs an example that ends with the log that it follows. The log ends once the example has printed `seen`.
    /// Gives what it printed: without the log, whose lines it checks, and without containers of others.
    async fn follow(&self, command: Command, seen: &str, times: usize) -> Result<Vec<String>> {
        let mut example = Process::spawn("example", command, self.world.logs())?;
        await_until(&format!("the example to print {seen:?}"), LONG, async || {
            let printed = String::from_utf8(example.stdout()?)?;
            Ok((printed.contains(seen) || !example.is_running()?).then_some(()))
        })
        .await?;
        self.docker.cli(&["exec", &self.container.name, "touch", "/go"]).await?;
        let code = example.exit_code().await?;
        ensure!(code == 0, "it ended with {code}: {}", example.tail());
        let printed = String::from_utf8(example.stdout()?)?;
        let log = self.docker.cli(&["logs", &self.container.name]).await? + "\n";
        let before = printed.strip_suffix(&log.repeat(times));
        let before = before.with_context(|| format!("{log:?} is not the end of {printed:?}"))?;
        let (all, own) = ("container ", format!("container web-1/{}-", self.world.prefix()));
        let lines = before.lines().filter(|l| !l.starts_with(all) || l.starts_with(&own));
        Ok(lines.map(str::to_owned).collect())
    }

    /// The user and the containers as the examples print them.
    async fn listed(&self) -> Result<Vec<String>> {
        let filter = format!("label={}", self.docker.selector());
        let format = "container web-1/{{.Names}} {{.State}}";
        let list = ["ps", "-a", "--filter", &filter, "--format", format];
        let listed = self.docker.cli(&list).await?;
        let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
        lines.sort();
        lines.insert(0, "user admin".to_owned());
        Ok(lines)
    }

    fn target(&self) -> [&str; 2] {
        ["web-1", &self.container.name]
    }
}

/// A copy of an example's directory, as whoever begins with it has one. `tools` is where its packages are.
fn copied(world: &World, name: &str) -> Result<(PathBuf, PathBuf)> {
    let (dir, tools) = (world.dir(name)?, Path::new(TOOLS).join("clients").join(name));
    ensure!(tools.exists(), "{} is missing: run `make test`", tools.display());
    for entry in fs::read_dir(Path::new(EXAMPLES).join(name))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), dir.join(entry.file_name()))?;
        }
    }
    let packages = tools.join("node_modules");
    if packages.exists() {
        symlink(packages, dir.join("node_modules"))?;
    }
    Ok((dir, tools))
}

/// Runs a command to its end, which must be a good one, and gives its output.
fn done(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{command:?}: run `make test`"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    Ok(out)
}

/// Puts something before the directories where programs are looked for.
fn with_path(command: &mut Command, first: &str) {
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{first}:{path}"));
}

#[test]
fn curl_calls_in_json_and_reads_a_stream_as_lines_and_as_events() {
    scenario(async |world| {
        let fleet = Fleet::start(world, &[]).await?;
        let listed = fleet.listed().await?;
        let command = fleet.command(format!("{EXAMPLES}/curl.sh"), &fleet.target())?;
        let printed = fleet.follow(command, "two\n", 2).await?;
        ensure!(printed == listed, "{printed:?} and not {listed:?}");
        Ok(())
    });
}

#[test]
fn grpcurl_needs_a_proto_file_for_the_login_only() {
    scenario(async |world| {
        let fleet = Fleet::start(world, &[]).await?;
        let mut listed = fleet.listed().await?;
        let mut command = fleet.command(format!("{EXAMPLES}/grpcurl.sh"), &fleet.target())?;
        with_path(&mut command, &format!("{TOOLS}/bin"));
        let printed = fleet.follow(command, "two\n", 1).await?;
        ensure!(printed.iter().any(|l| l == "dockctl.v1.ContainerService"), "{printed:?}");
        ensure!(printed.iter().any(|l| l.starts_with("rpc StreamLogs")), "{printed:?}");
        // It says no user.
        let listed = listed.split_off(1);
        ensure!(printed.ends_with(&listed), "{printed:?} and not {listed:?}");
        Ok(())
    });
}

#[test]
fn python_with_generated_stubs_speaks_grpc() {
    scenario(async |world| {
        let fleet = Fleet::start(world, &[]).await?;
        let (dir, packages) = copied(world, "python")?;
        let listed = fleet.listed().await?;
        let mut generate = fleet.command("python3", &["-m", "grpc_tools.protoc", "-I", PROTO])?;
        generate.args(["--python_out=.", "--grpc_python_out=."]);
        for file in fs::read_dir(format!("{PROTO}/dockctl/v1"))? {
            generate.arg(file?.path());
        }
        done(generate.current_dir(&dir).env("PYTHONPATH", &packages))?;
        let mut command = fleet.command("python3", &["follow.py"])?;
        command.args(fleet.target()).current_dir(&dir).env("PYTHONPATH", &packages);
        let printed = fleet.follow(command, "two\n", 1).await?;
        ensure!(printed == listed, "{printed:?} and not {listed:?}");
        Ok(())
    });
}

#[test]
fn node_with_connect_speaks_grpc_web() {
    scenario(async |world| {
        let fleet = Fleet::start(world, &[]).await?;
        let (dir, _) = copied(world, "node")?;
        let listed = fleet.listed().await?;
        let mut buf = fleet.command(dir.join("node_modules/.bin/buf"), &["generate", PROTO])?;
        done(buf.current_dir(&dir))?;
        let mut command = fleet.command("node", &["follow.js"])?;
        // An API token serves as well as a login.
        command.args(fleet.target()).current_dir(&dir).env("DOCKCTL_TOKEN", fleet.token().await?);
        let printed = fleet.follow(command, "two\n", 1).await?;
        ensure!(printed == listed, "{printed:?} and not {listed:?}");
        Ok(())
    });
}

#[test]
fn a_page_in_a_browser_logs_in_lists_follows_and_has_a_terminal() {
    scenario(async |world| {
        let (dir, _) = copied(world, "browser")?;
        let serve = ["-u", "-m", "http.server", "--bind", "127.0.0.1", "0", "--directory"];
        let mut command = Command::new("python3");
        command.args(serve).arg(&dir);
        let server = Process::spawn("pages", command, world.logs())?;
        let said = String::from_utf8(server.wait_for_lines(1).await?)?;
        let page = said.split(['(', ')']).nth(1).with_context(|| said.clone())?;

        let origin = page.trim_end_matches('/');
        let fleet = Fleet::start(world, &["--allow-origin", origin]).await?;
        let mut listed = fleet.listed().await?;
        let mut buf = fleet.command(dir.join("node_modules/.bin/buf"), &["generate", PROTO])?;
        done(buf.current_dir(&dir))?;
        let mut build = fleet.command("npm", &["run", "--silent", "build"])?;
        done(build.current_dir(&dir))?;
        let mut command = fleet.command("node", &["drive.js", page])?;
        command.args(fleet.target()).current_dir(&dir);
        let printed = fleet.follow(command, "exit code", 1).await?;
        listed.push("terminal 24 80, 42, exit code 3".to_owned());
        ensure!(printed == listed, "{printed:?} and not {listed:?}");
        Ok(())
    });
}

#[test]
fn what_the_controller_answers_is_what_its_openapi_description_says() {
    scenario(async |world| {
        let fleet = Fleet::start(world, &[]).await?;
        let (dir, packages) = copied(world, "schemathesis")?;
        let mut command = fleet.command(dir.join("run.sh"), &[])?;
        with_path(&mut command, &packages.join("bin").display().to_string());
        command
            .env("PYTHONPATH", &packages)
            .env("DOCKCTL_TOKEN", fleet.token().await?)
            .env("DOCKCTL_TEST_AGENT", "web-1")
            .env("DOCKCTL_TEST_CONTAINER", &fleet.container.name)
            .env("DOCKCTL_TEST_IMAGE", IMAGE);
        let said = done(&mut command)?;
        // And not for want of rpcs to call.
        let tested = said.lines().find_map(|line| line.trim().strip_prefix("Tested: "));
        ensure!(tested.and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n > 60), "{said}");
        Ok(())
    });
}
