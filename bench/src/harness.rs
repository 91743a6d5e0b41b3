//! The programs under test: a controller and an agent on loopback, dockctl beside them, their memory.
//! A program ends with its handle.

use std::{
    fs::{self, File},
    ops::Deref,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use dockctl_api::{
    tls::Trust,
    v1::{Agent as Record, CreateJoinTokenRequest, GetAgentRequest, ListContainersRequest},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{
    api::Api,
    engine::{Engine, TWENTY},
};

/// The agent's name.
pub(crate) const AGENT: &str = "bench";
const PASSWORD: &str = "a password for the benchmarks only";
/// How long a daemon may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// What every benchmark beside an engine is given.
pub(crate) struct Bench {
    /// The engine beside which the agents run.
    pub(crate) engine: Engine,
    /// The programs under test.
    pub(crate) programs: Programs,
    /// Whether to make it short.
    pub(crate) quick: bool,
}

impl Bench {
    /// The first for a run that counts, the second for a quick one.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// docker's own client, at the same engine.
    pub(crate) fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.engine.url());
        command
    }

    /// curl, set to GET a path of the engine.
    pub(crate) fn curl(&self, path: &str) -> Command {
        let mut command = Command::new("curl");
        command.args(["-sSfN", "--unix-socket"]).arg(&self.engine.socket);
        command.arg(format!("http://docker{path}"));
        command
    }
}

impl Deref for Bench {
    type Target = Programs;

    fn deref(&self) -> &Programs {
        &self.programs
    }
}

/// The programs under test and where they may write.
pub(crate) struct Programs {
    /// Where they are.
    pub(crate) bin_dir: PathBuf,
    /// For data and logs; removed after a good run.
    pub(crate) dir: PathBuf,
}

impl Programs {
    /// One of the programs under test, without settings of the person who runs this.
    pub(crate) fn program(&self, name: &str) -> Result<Command> {
        let path = self.bin_dir.join(name);
        ensure!(path.exists(), "{} is missing: `make bench` builds it", path.display());
        let mut command = Command::new(path);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"DOCKCTL_") {
                command.env_remove(name);
            }
        }
        Ok(command)
    }

    fn fresh_dir(&self, name: &str) -> Result<PathBuf> {
        Ok(tempfile::Builder::new().prefix(name).tempdir_in(&self.dir)?.keep())
    }
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    // Kept open, or its next line would end it.
    _stdout: BufReader<ChildStdout>,
}

impl Daemon {
    /// Starts it and reads its line of JSON.
    pub(crate) async fn start<T: DeserializeOwned>(
        mut command: Command,
        log: &Path,
    ) -> Result<(Self, T)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?);
        let mut child = command.kill_on_drop(true).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut line = String::new();
        let read = timeout(READY, stdout.read_line(&mut line)).await;
        let ready = || format!("it did not become ready: {}", tail(log));
        read.with_context(ready)??;
        let told = serde_json::from_str(&line).with_context(ready)?;
        Ok((Self { child, _stdout: stdout }, told))
    }

    /// Resident memory now, MiB.
    pub(crate) fn memory(&self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// The most resident memory since `forget_peak`, MiB.
    pub(crate) fn peak(&self) -> Result<f64> {
        self.status("VmHWM:")
    }

    /// Begins the peak anew.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(self.proc("clear_refs")?, "5")?) // proc(5): 5 resets the peak.
    }

    /// Processor time that it has used, seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        cpu(&self.proc("stat")?)
    }

    /// Begins to measure its processor time; what is returned gives percent of one processor since.
    pub(crate) fn load(&self) -> Result<impl Fn() -> Result<f64>> {
        let (begin, before) = (Instant::now(), self.cpu()?);
        Ok(move || Ok(100.0 * (self.cpu()? - before) / begin.elapsed().as_secs_f64()))
    }

    /// How many files and sockets it has open.
    pub(crate) fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(self.proc("fd")?)?.count())
    }

    /// Ends it as a crash would, and waits for that.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    fn status(&self, key: &str) -> Result<f64> {
        let status = fs::read_to_string(self.proc("status")?)?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no such line")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }

    fn proc(&self, file: &str) -> Result<String> {
        Ok(format!("/proc/{}/{file}", self.child.id().context("the process has ended")?))
    }
}

/// Processor time that this program has used, seconds.
pub(crate) fn own_cpu() -> Result<f64> {
    cpu("/proc/self/stat")
}

fn cpu(stat: &str) -> Result<f64> {
    let stat = fs::read_to_string(stat)?;
    // proc(5): the 14th and 15th fields, the 2nd being the name in parentheses.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let mut ticks = || fields.next().context("too few fields");
    Ok((ticks()?? + ticks()??) / rustix::param::clock_ticks_per_second() as f64)
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

/// A controller with an empty store.
pub(crate) struct Controller {
    /// The process.
    pub(crate) daemon: Daemon,
    /// The API's address.
    pub(crate) api: String,
    /// The agents' address.
    pub(crate) agents: String,
    /// The metrics' address.
    pub(crate) metrics: String,
    /// SHA-256 of its CA's certificate.
    pub(crate) ca_fingerprint: String,
    token: String,
    dir: PathBuf,
    arguments: Vec<String>,
}

#[derive(Deserialize)]
struct Ready {
    api: String,
    agents: String,
    metrics: String,
    ca_fingerprint: String,
}

impl Controller {
    /// Starts it with further arguments and logs in.
    pub(crate) async fn start(programs: &Programs, arguments: &[&str]) -> Result<Self> {
        let dir = programs.fresh_dir("controller")?;
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let any = ["127.0.0.1:0"; 3];
        let (daemon, ready) = Self::serve(programs, &dir, any, &arguments).await?;
        let Ready { api, agents, metrics, ca_fingerprint } = ready;
        let token = String::new();
        let mut controller =
            Self { daemon, api, agents, metrics, ca_fingerprint, token, dir, arguments };
        controller.login().await?;
        Ok(controller)
    }

    async fn serve(
        programs: &Programs,
        dir: &Path,
        [api, agents, metrics]: [&str; 3],
        arguments: &[String],
    ) -> Result<(Daemon, Ready)> {
        let mut command = programs.program("dockctl-controller")?;
        command.args(["serve", "--ready-json", "--listen", api, "--agent-listen", agents]);
        command.args(["--metrics-listen", metrics, "--data-dir"]).arg(dir).args(arguments);
        command.env("DOCKCTL_ADMIN_PASSWORD", PASSWORD);
        // One user is a whole fleet's users here.
        for limit in ["AUTH", "ACTION", "READ", "STREAMS"] {
            command.env(format!("DOCKCTL_LIMIT_{limit}"), "0");
        }
        Daemon::start::<Ready>(command, &dir.with_extension("log")).await.context("the controller")
    }

    /// Starts it again after `daemon.kill()`, with the same data on the same ports.
    pub(crate) async fn start_again(&mut self, programs: &Programs) -> Result<()> {
        let same = [&*self.api, &*self.agents, &*self.metrics];
        self.daemon = Self::serve(programs, &self.dir, same, &self.arguments).await?.0;
        Ok(())
    }

    /// Logs in anew: a token is good for 15 minutes.
    pub(crate) async fn login(&mut self) -> Result<()> {
        let trust = Trust::CaFingerprint(self.ca_fingerprint.clone());
        self.token = Api::connect(&self.api, trust).await?.login("admin", PASSWORD).await?;
        Ok(())
    }

    /// The agents' address and the fingerprint of the CA behind it.
    pub(crate) fn agents(&self) -> (&str, &str) {
        (&self.agents, &self.ca_fingerprint)
    }

    /// A client that is logged in, on a connection of its own.
    pub(crate) async fn client(&self) -> Result<Api> {
        let trust = Trust::CaFingerprint(self.ca_fingerprint.clone());
        Api::connect(&self.api, trust).await?.with_token(&self.token)
    }

    /// Makes a join token for one agent.
    pub(crate) async fn join_token(&self) -> Result<String> {
        self.join_token_for(1).await
    }

    /// Makes a join token for that many agents.
    pub(crate) async fn join_token_for(&self, max_uses: u32) -> Result<String> {
        let request = CreateJoinTokenRequest { max_uses, ..Default::default() };
        Ok(self.client().await?.agents().create_join_token(request).await?.into_inner().token)
    }

    /// A histogram without labels among its metrics: the upper bound of each bucket, and how many values are
    /// not above it.
    pub(crate) async fn histogram(&self, name: &str) -> Result<Vec<(f64, f64)>> {
        let mut stream = TcpStream::connect(&self.metrics).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let bucket = format!("{name}_bucket{{le=\"");
        let lines = text.lines().filter_map(|line| line.strip_prefix(&bucket)?.split_once("\"} "));
        let buckets: Vec<_> =
            lines.map(|(le, count)| Ok((le.parse()?, count.parse()?))).collect::<Result<_>>()?;
        ensure!(!buckets.is_empty(), "no {name} in {text}");
        Ok(buckets)
    }

    /// What the controller knows of an agent.
    pub(crate) async fn record(&self, agent: &str) -> Result<Record> {
        let request = GetAgentRequest { agent: agent.to_owned() };
        let answer = self.client().await?.agents().get_agent(request).await?.into_inner();
        answer.agent.context("an empty GetAgentResponse")
    }

    /// Logs dockctl in; gives its configuration file.
    pub(crate) async fn dockctl_login(&self, bench: &Bench) -> Result<PathBuf> {
        let config = bench.fresh_dir("dockctl")?.join("config.toml");
        let mut command = bench.program("dockctl")?;
        command.env("DOCKCTL_CONFIG", &config).arg("login").arg(format!("https://{}", self.api));
        command.args(["--username", "admin", "--password-stdin", "--ca-fingerprint"]);
        command.arg(&self.ca_fingerprint).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).kill_on_drop(true).spawn()?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        stdin.write_all(PASSWORD.as_bytes()).await?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "dockctl login: {}", complaint.trim_end());
        Ok(config)
    }
}

/// A controller and an agent that has told its inventory.
pub(crate) struct Fleet {
    /// The controller.
    pub(crate) controller: Controller,
    /// The agent's process.
    pub(crate) agent: Daemon,
}

#[derive(Deserialize)]
struct Joined {
    agent: String,
}

impl Fleet {
    /// Starts both.
    pub(crate) async fn start(bench: &Bench) -> Result<Self> {
        Self::start_with(bench, &[]).await
    }

    /// Starts both, the controller with further arguments.
    pub(crate) async fn start_with(bench: &Bench, arguments: &[&str]) -> Result<Self> {
        let controller = Controller::start(bench, arguments).await?;
        let dir = bench.fresh_dir("agent")?;
        let mut command = bench.program("dockctl-agent")?;
        command.args(["join", &controller.agents, "--ready-json", "--name", AGENT]);
        command.args(["--token", &controller.join_token().await?]);
        command.args(["--docker", &bench.engine.url(), "--data-dir"]).arg(&dir);
        let started = Daemon::start::<Joined>(command, &dir.with_extension("log")).await;
        let (agent, joined) = started.context("the agent")?;
        ensure!(joined.agent == AGENT, "the agent calls itself {}", joined.agent);
        let fleet = Self { controller, agent };
        fleet.await_inventory().await?;
        Ok(fleet)
    }

    async fn await_inventory(&self) -> Result<()> {
        let mut client = self.controller.client().await?.containers();
        let end = Instant::now() + READY;
        loop {
            let request = ListContainersRequest { all: true, ..Default::default() };
            let listed = client.list_containers(request).await?.into_inner().containers.len();
            if listed >= TWENTY {
                return Ok(());
            }
            if Instant::now() >= end {
                let engine = self.controller.record(AGENT).await?.engine.unwrap_or_default().error;
                bail!("the inventory has only {listed} containers {engine}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Runs a program to its end with nothing on standard input and its standard output as told; gives how
/// long it took and what it printed.
pub(crate) async fn timed(command: &mut Command, stdout: Stdio) -> Result<(Duration, Vec<u8>)> {
    let start = Instant::now();
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).kill_on_drop(true);
    let output = command.spawn()?.wait_with_output().await?;
    let took = start.elapsed();
    let (program, complaint) = (command.as_std().get_program(), &output.stderr);
    let complaint = String::from_utf8_lossy(complaint);
    ensure!(output.status.success(), "{}: {}", program.display(), complaint.trim_end());
    Ok((took, output.stdout))
}
