//! What calls take of the two daemons and must give back: sockets, pipes and other handles, and tasks.

use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    agent::Agent,
    controller::Controller,
    process::Process,
    wait::{LONG, await_until},
};

/// How much the daemons hold at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The controller's handles and alive tasks.
    controller: [usize; 2],
    /// The agent's.
    agent: [usize; 2],
}

impl Held {
    /// Counts now.
    ///
    /// # Errors
    /// When one of them does not tell.
    pub async fn by(controller: &Controller<'_>, agent: &Agent<'_>) -> Result<Self> {
        Ok(Self {
            controller: [handles(&controller.process)?, controller.tasks().await?],
            agent: [handles(&agent.process)?, agent.tasks().await?],
        })
    }

    /// Waits until they hold no more than this again.
    ///
    /// # Errors
    /// When they go on to hold more.
    pub async fn again(&self, controller: &Controller<'_>, agent: &Agent<'_>) -> Result<()> {
        let now = await_until("no more handles and tasks than before", LONG, async || {
            let now = Self::by(controller, agent).await?;
            let all = |held: &Self| [held.controller, held.agent].concat();
            ensure!(
                all(&now).iter().zip(all(self)).all(|(n, b)| *n <= b),
                "{now:?} after {self:?}"
            );
            Ok(Some(now))
        })
        .await?;
        println!("[handles, tasks] before: {self:?}; after: {now:?}");
        Ok(())
    }
}

/// What a process has open that has no path. Files are not a call's: the store opens some when it is
/// first busy.
fn handles(process: &Process) -> Result<usize> {
    let open = fs::read_dir(format!("/proc/{}/fd", process.pid()))?;
    let targets = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    Ok(targets.filter(|to| to.is_relative()).count())
}

impl Controller<'_> {
    /// How many tasks are alive in it, by its metrics.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn tasks(&self) -> Result<usize> {
        let text = self.read_metrics().await?;
        let tasks = text.lines().find_map(|line| line.strip_prefix("dockctl_tasks "));
        Ok(tasks.with_context(|| text.clone())?.parse()?)
    }

    /// What Prometheus would read.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn read_metrics(&self) -> Result<String> {
        let mut stream = TcpStream::connect(self.metrics).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }
}

impl Agent<'_> {
    /// How many tasks are alive in it, as it logs when it is asked by a signal.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn tasks(&self) -> Result<usize> {
        let told = || -> Result<Vec<usize>> {
            let log = self.process.log()?;
            let counts = log.lines().filter_map(|line| line.split_once(" counted tasks="));
            counts.map(|(_, tasks)| Ok(tasks.parse()?)).collect()
        };
        let before = told()?.len();
        let pid = i32::try_from(self.process.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no pid")?, Signal::USR1)?;
        await_until("the agent to count its tasks", LONG, async || Ok(told()?.get(before).copied()))
            .await
    }
}
