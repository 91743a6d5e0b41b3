//! One child process: its output goes to files, and it ends with its handle.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use crate::wait::{LONG, await_until};

static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running program. Dropped, it gets SIGTERM and, two seconds later, SIGKILL.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    out: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with standard output and error in files of `dir` that carry `name`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(name: &str, mut command: Command, dir: &Path) -> Result<Self> {
        command.stdin(Stdio::null());
        Self::spawn_with_input(name, command, dir)
    }

    /// The same with the standard input that `command` has.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn_with_input(name: &str, mut command: Command, dir: &Path) -> Result<Self> {
        let n = STARTED.fetch_add(1, Ordering::Relaxed);
        let out = dir.join(format!("{n:02}-{name}.out"));
        let log = dir.join(format!("{n:02}-{name}.log"));
        command.stdout(File::create(&out)?).stderr(File::create(&log)?);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, name: name.to_owned(), out, log })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many sockets it holds open now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn sockets(&self) -> Result<usize> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid()))?;
        let targets = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        Ok(targets.filter(|to| to.to_string_lossy().starts_with("socket:")).count())
    }

    /// How many files, sockets among them, it has open.
    ///
    /// # Errors
    /// When it has ended.
    pub fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// The most memory that it has held, MiB.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
        Ok(kib.parse::<u64>()? / 1024)
    }

    /// What it has written to standard output so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stdout(&self) -> Result<Vec<u8>> {
        Ok(fs::read(&self.out)?)
    }

    /// What it has written to standard error so far: the daemons' log.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.log)?).into_owned())
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends a signal; a process that has ended is no error.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.is_running()? {
            kill_process(Pid::from_child(&self.child), signal)?;
        }
        Ok(())
    }

    /// `kill -9`, and waits till it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.ended().await
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        await_until(&what, LONG, async || Ok(self.child.try_wait()?)).await
    }

    /// Waits for its end and gives the exit code; -N for a death by signal N.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn exit_code(&mut self) -> Result<i32> {
        let status = self.ended().await?;
        Ok(status.code().unwrap_or_else(|| -status.signal().unwrap_or_default()))
    }

    /// Waits for the line of JSON that `--ready-json` promises.
    ///
    /// # Errors
    /// When the process ends first, or the line is not what it should be.
    pub async fn ready<T: DeserializeOwned>(&mut self) -> Result<T> {
        let what = format!("{} to be ready", self.name);
        let line = await_until(&what, LONG, async || {
            let text = String::from_utf8(self.stdout()?)?;
            if let Some((line, _)) = text.split_once('\n') {
                return Ok(Some(Ok(line.to_owned())));
            }
            Ok(self.child.try_wait()?.map(Err))
        })
        .await?;
        match line {
            Ok(line) => serde_json::from_str(&line).with_context(|| format!("ready line {line:?}")),
            Err(status) => {
                bail!("{} ended ({status}) before it was ready: {}", self.name, self.tail())
            }
        }
    }

    /// Waits for a line on standard error that holds `text`, and gives that line.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn wait_for_log(&self, text: &str) -> Result<String> {
        let what = format!("{text:?} in the log of {}", self.name);
        await_until(&what, LONG, async || {
            Ok(self.log()?.lines().find(|line| line.contains(text)).map(str::to_owned))
        })
        .await
    }

    /// Waits until standard output holds at least `count` whole lines, and gives all of it.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn wait_for_lines(&self, count: usize) -> Result<Vec<u8>> {
        let what = format!("{count} lines from {}", self.name);
        await_until(&what, LONG, async || {
            let bytes = self.stdout()?;
            Ok((bytes.iter().filter(|b| **b == b'\n').count() >= count).then_some(bytes))
        })
        .await
    }

    /// SIGTERM, and SIGKILL when it has not ended within `grace`. For destructors, which cannot await.
    pub(crate) fn end(&mut self, grace: Duration) {
        let _ = self.signal(Signal::TERM);
        let end = Instant::now() + grace;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The last lines of its log, for messages.
    pub fn tail(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// `inner`, with its environment, run by `outer`.
pub(crate) fn wrapped(mut outer: Command, inner: &Command) -> Command {
    outer.arg(inner.get_program()).args(inner.get_args());
    for (key, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(key, value),
            None => outer.env_remove(key),
        };
    }
    outer
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(Duration::from_secs(2));
    }
}
