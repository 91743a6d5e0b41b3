//! dockctl as people and scripts run it.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    process::{Process, wrapped},
    wait::{LONG, await_until},
    world::World,
};

/// dockctl with a configuration file of its own.
#[derive(Debug)]
pub struct Dockctl<'w> {
    world: &'w World,
    /// The configuration file.
    pub config: PathBuf,
    /// Further variables of its environment.
    pub env: Vec<(String, String)>,
}

/// A dockctl that runs on, such as `logs -f`.
pub type Running = Process;

/// What one run of dockctl gave.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; -1 for a death by signal.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl<'w> Dockctl<'w> {
    /// dockctl with no login yet.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn new(world: &'w World) -> Result<Self> {
        Ok(Self { world, config: world.dir("dockctl")?.join("config.toml"), env: Vec::new() })
    }

    /// The command, not started.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.world.binary("dockctl")?;
        command.args(arguments).env("DOCKCTL_CONFIG", &self.config).envs(self.env.iter().cloned());
        Ok(command)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.run_with_input(arguments, "").await
    }

    /// Runs it to its end with that standard input.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn run_with_input(
        &self,
        arguments: &[&str],
        input: impl AsRef<[u8]>,
    ) -> Result<Output> {
        output_of(self.command(arguments)?, input).await
    }

    /// Runs it to its end with these variables set.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn run_with_env(&self, arguments: &[&str], env: &[(&str, &str)]) -> Result<Output> {
        let mut command = self.command(arguments)?;
        command.envs(env.iter().copied());
        output_of(command, "").await
    }

    /// Runs it to its end; that file is its standard input.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn run_with_stdin(&self, arguments: &[&str], input: File) -> Result<Output> {
        let mut command = self.command(arguments)?;
        command.stdin(input);
        finished(command, Vec::new()).await
    }

    /// Runs it to its end, which must be exit code 0, and gives its standard output.
    ///
    /// # Errors
    /// When it fails.
    pub async fn ok(&self, arguments: &[&str]) -> Result<String> {
        self.run(arguments).await?.done()
    }

    /// The same for `-o json`.
    ///
    /// # Errors
    /// When it fails or its output is no JSON.
    pub async fn json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let text = self.ok(&[arguments, &["-o", "json"]].concat()).await?;
        serde_json::from_str(&text).with_context(|| format!("{arguments:?} printed {text}"))
    }

    /// Runs it to its end, which must be exit code 0, and gives the most memory that it held, MiB.
    ///
    /// # Errors
    /// When it fails.
    pub async fn peak_memory(&self, arguments: &[&str]) -> Result<u64> {
        let report = self.world.dir("peak")?.join("kib");
        // By time(1): when a process has ended, only whoever waited for it can tell.
        let mut time = Command::new("time");
        time.args(["-f", "%M", "-o"]).arg(&report);
        output_of(wrapped(time, &self.command(arguments)?), "").await?.done()?;
        Ok(fs::read_to_string(&report)?.trim().parse::<u64>()? / 1024)
    }

    /// Waits until a host answers through the fleet, such as when its link was cut.
    ///
    /// # Errors
    /// When it does not.
    pub async fn await_host(&self, agent: &str) -> Result<()> {
        await_until(&format!("{agent} to answer"), LONG, async || {
            self.ok(&["ping", agent]).await.map(|_| Some(()))
        })
        .await
    }

    /// Starts it and goes on.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Running> {
        Process::spawn("dockctl", self.command(arguments)?, self.world.logs())
    }
}

impl Output {
    /// Standard output of a run that went well.
    ///
    /// # Errors
    /// When the exit code is not 0.
    pub fn done(self) -> Result<String> {
        if self.code != 0 {
            bail!("{} ended with {}: {}", self.command, self.code, self.stderr);
        }
        Ok(String::from_utf8(self.stdout)?)
    }

    /// Standard error of a run that failed with that exit code and printed no data.
    ///
    /// # Errors
    /// When it did something else.
    pub fn failed(self, code: i32) -> Result<String> {
        if self.code != code || !self.stdout.is_empty() {
            let stdout = String::from_utf8_lossy(&self.stdout);
            bail!(
                "{} should end with {code}, and ended with {}: {} / {stdout}",
                self.command,
                self.code,
                self.stderr
            );
        }
        Ok(self.stderr)
    }
}

/// Runs any command to its end with that standard input.
pub(crate) async fn output_of(mut command: Command, input: impl AsRef<[u8]>) -> Result<Output> {
    command.stdin(Stdio::piped());
    finished(command, input.as_ref().to_owned()).await
}

/// Runs a command to its end. If its standard input is a pipe, `input` goes in.
async fn finished(mut command: Command, input: Vec<u8>) -> Result<Output> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let pid = rustix::process::Pid::from_child(&child);
    if let Some(mut stdin) = child.stdin.take() {
        // Beside the reading of what it says meanwhile. One that does not read its input is no error here.
        thread::spawn(move || stdin.write_all(&input));
    }
    let Ok(output) = timeout(LONG, spawn_blocking(move || child.wait_with_output())).await else {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        bail!("{shown} did not end within {LONG:?}");
    };
    let output = output??;
    Ok(Output {
        command: shown,
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
