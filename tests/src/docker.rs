//! The scenario's own containers on the tests' engine, and private engines that may be restarted.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    cli::output_of,
    netns::Netns,
    process::Process,
    wait::{LONG, await_until},
    world::World,
};

/// The image that deploy/scripts/images.sh makes: a static busybox.
pub const IMAGE: &str = "dockctl/busybox:test";

/// The URL of the engine that the tests use.
pub(crate) fn docker_host() -> String {
    env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned())
}

/// One engine, worked with docker's own client. The scenario's containers on it go with the scenario.
#[derive(Debug, Clone)]
pub struct Docker {
    host: String,
    prefix: String,
}

/// One of the scenario's containers.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name, which no other scenario uses.
    pub name: String,
    /// Its id, 64 hexadecimal digits.
    pub id: String,
}

impl World {
    /// The tests' engine.
    pub fn docker(&self) -> Docker {
        self.uses_docker();
        self.docker_at(&docker_host())
    }

    /// The engine at a URL.
    pub fn docker_at(&self, host: &str) -> Docker {
        Docker { host: host.to_owned(), prefix: self.prefix().to_owned() }
    }
}

impl Docker {
    /// The engine's URL.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The label of the scenario's containers, key and value.
    pub fn label(&self) -> (&'static str, &str) {
        ("dockctl.test", &self.prefix)
    }

    /// That label as filters and options have it: `key=value`.
    pub fn selector(&self) -> String {
        let (key, value) = self.label();
        format!("{key}={value}")
    }

    /// Runs `docker ARGUMENTS` and gives its standard output.
    ///
    /// # Errors
    /// When it fails.
    pub async fn cli(&self, arguments: &[&str]) -> Result<String> {
        Ok(output_of(self.command(arguments), "").await?.done()?.trim_end().to_owned())
    }

    /// Runs `docker ARGUMENTS` and gives standard output and error as they are.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn raw(&self, arguments: &[&str]) -> Result<crate::Output> {
        output_of(self.command(arguments), "").await
    }

    /// Starts `docker ARGUMENTS`, such as `docker events`, and goes on.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, world: &World, arguments: &[&str]) -> Result<Process> {
        Process::spawn("docker", self.command(arguments), world.logs())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.host]).args(arguments);
        command
    }

    /// Runs a container whose first process is that shell script. Its name gets the scenario's prefix.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn run(&self, name: &str, script: &str) -> Result<Container> {
        self.run_with(&[], name, script).await
    }

    /// The same with further options of `docker run`.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn run_with(&self, options: &[&str], name: &str, script: &str) -> Result<Container> {
        self.started(&[&["--network", "none"], options].concat(), name, script).await
    }

    /// The same on a network of that kind, such as `bridge` or `container:NAME`.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn run_on(&self, network: &str, name: &str, script: &str) -> Result<Container> {
        self.started(&["--network", network], name, script).await
    }

    async fn started(&self, options: &[&str], name: &str, script: &str) -> Result<Container> {
        let (name, label) = (format!("{}-{name}", self.prefix), self.selector());
        let first = ["run", "-d", "--init", "--label", &label, "--name", &name];
        let last = [IMAGE, "sh", "-c", script];
        let id = self.cli(&[&first[..], options, &last].concat()).await?;
        Ok(Container { name, id })
    }

    /// A field of `docker inspect`, as a Go template.
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn inspect(&self, container: &str, template: &str) -> Result<String> {
        self.cli(&["inspect", "--type", "container", "-f", template, container]).await
    }
}

/// Removes what scenarios with that prefix have left on the tests' engine.
pub(crate) fn remove_containers(prefix: &str) {
    let docker = Docker { host: docker_host(), prefix: prefix.to_owned() };
    let label = format!("label={}", docker.selector());
    let Ok(listed) = docker.command(&["ps", "-aq", "--filter", &label]).output() else { return };
    let ids = String::from_utf8_lossy(&listed.stdout).into_owned();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if !ids.is_empty() {
        // What is left over now is removed at the end of `make test`.
        let _ = docker.command(&[&["rm", "-f", "-v"], &ids[..]].concat()).output();
    }
}

/// A dockerd of the scenario's own, with the test image: own socket, data, containerd; no bridge.
#[derive(Debug)]
pub struct PrivateDockerd<'w> {
    docker: Docker,
    process: Process,
    world: &'w World,
    spec: DockerdSpec,
}

#[derive(Debug)]
struct DockerdSpec {
    data: PathBuf,
    run: PathBuf,
    /// The command that gives it its network.
    network: Vec<String>,
    options: Vec<String>,
}

impl World {
    /// Starts a private dockerd and gives it the test image. Needs root.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn private_dockerd(&self) -> Result<PrivateDockerd<'_>> {
        // In a network of its own: dockerd without a bridge removes docker0, which is another engine's.
        self.dockerd_in(&["unshare", "--net"], &[]).await
    }

    /// The same in a network that can be reached, with further options.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn private_dockerd_in(
        &self,
        netns: &Netns,
        options: &[&str],
    ) -> Result<PrivateDockerd<'_>> {
        // `ip netns exec` would hide the control groups from it.
        let net = format!("--net=/run/netns/{}", netns.name());
        self.dockerd_in(&["nsenter", &net], options).await
    }

    async fn dockerd_in(&self, network: &[&str], options: &[&str]) -> Result<PrivateDockerd<'_>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // A socket's path has room for 107 bytes, so it cannot be in the scenario's directory.
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let run = PathBuf::from(format!("/run/{}-{n}", self.prefix()));
        fs::create_dir_all(&run)?;
        let data = self.dir("dockerd")?;
        let host = format!("unix://{}", run.join("docker.sock").display());
        let docker = self.docker_at(&host);
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        let spec = DockerdSpec { data, run, network: words(network), options: words(options) };
        let process = dockerd(self, &docker, &spec).await?;

        let archive = spec.data.join("image.tar");
        let archive = archive.to_str().context("a path in UTF-8")?;
        self.docker().cli(&["save", "-o", archive, IMAGE]).await?;
        docker.cli(&["load", "-i", archive]).await?;
        Ok(PrivateDockerd { docker, process, world: self, spec })
    }
}

async fn dockerd(world: &World, docker: &Docker, spec: &DockerdSpec) -> Result<Process> {
    let mut command = Command::new(&spec.network[0]);
    command.args(&spec.network[1..]);
    command.args(["dockerd", "-H", &docker.host, "--bridge", "none", "--iptables=false"]);
    command.args(&spec.options);
    command.args(["--containerd-namespace", world.prefix()]);
    command.args(["--containerd-plugins-namespace", &format!("{}-plugins", world.prefix())]);
    command.arg("--data-root").arg(spec.data.join("root"));
    command.arg("--exec-root").arg(spec.run.join("exec"));
    command.arg("--pidfile").arg(spec.run.join("pid"));
    let mut process = Process::spawn("dockerd", command, world.logs())?;
    await_until("the private dockerd to answer", LONG, async || {
        ensure!(process.is_running()?, "it ended: {}", process.tail());
        Ok(Some(docker.cli(&["version"]).await?))
    })
    .await?;
    Ok(process)
}

impl PrivateDockerd<'_> {
    /// The engine.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Stops the engine; its containers end with it.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.terminate().await?;
        Ok(())
    }

    /// `kill -9`: its containers run on until the engine is back and ends them. It must come back in
    /// this scenario, since a dead one cannot clean up.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()?;
        // Its containerd goes with it; where nobody reaps that one, the next dockerd would wait for it.
        let pid = self.spec.run.join("exec/containerd/containerd.pid");
        if let Some(pid) = fs::read_to_string(&pid)?.trim().parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        Ok(fs::remove_file(&pid)?)
    }

    /// Starts the engine again.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn start(&mut self) -> Result<()> {
        self.process = dockerd(self.world, &self.docker, &self.spec).await?;
        Ok(())
    }
}

impl Drop for PrivateDockerd<'_> {
    fn drop(&mut self) {
        let ids = self.docker.command(&["ps", "-aq"]).output();
        let ids = ids.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            let _ = self.docker.command(&[&["rm", "-f"], &ids[..]].concat()).output();
        }
        // Killed, dockerd would leave its data mounted on itself.
        self.process.end(Duration::from_secs(20));
        kill_shims(&self.spec.run);
        let _ = Command::new("umount").arg(self.spec.data.join("root")).output();
        let _ = fs::remove_dir_all(&self.spec.run);
    }
}

/// Ends what a dockerd that was killed in the middle of a start has left: the shims of its containerd,
/// which name its directory, and their containers.
fn kill_shims(run: &Path) {
    let kill = |pid: &str| {
        if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    };
    let run = format!("{}/exec/", run.display());
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let (path, pid) = (process.path(), process.file_name());
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        if !command.contains("containerd-shim") || !command.contains(&run) {
            continue;
        }
        for thread in fs::read_dir(path.join("task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            children.split_whitespace().for_each(kill);
        }
        pid.to_str().into_iter().for_each(kill);
    }
}

/// A shell script that prints `line 1`, `line 2`, ... a hundred a second, for ever.
pub fn counting_script() -> &'static str {
    "i=0; while :; do i=$((i+1)); echo \"line $i\"; usleep 10000; done"
}

/// Checks that a follow of [`counting_script`] from its beginning has lost and doubled no line, and
/// says how many there are. A last line without its end is left out.
///
/// # Errors
/// Names the first place where a line is lost, doubled or torn.
pub fn consecutive_lines(bytes: &[u8]) -> Result<usize> {
    let text = String::from_utf8_lossy(bytes);
    let mut count = 0;
    for line in text.split_inclusive('\n').filter(|l| l.ends_with('\n')) {
        count += 1;
        let mut wanted = String::new();
        let _ = writeln!(wanted, "line {count}");
        ensure!(line == wanted, "line {count} reads {line:?}");
    }
    Ok(count)
}
