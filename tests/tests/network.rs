//! A network that swallows packets, all, one way or some, or that is slow: what both ends notice, what
//! they must not take for a dead host, and what calls answer meanwhile.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use dockctl_api::{
    error::reason_of,
    v1::{AgentState, ListContainersRequest, StreamLogsRequest, WatchAgentsRequest},
};
use dockctl_tests::{
    Agent, AgentSpec, Api, Container, Controller, LONG, Netns, Way, World, rounds, scenario,
};
use tokio::time::{interval, timeout};
use tonic::{Code, Status};

/// Time between two calls of a caller: more would measure the machine.
const PACE: Duration = Duration::from_millis(200);
/// How long a caller lets the mesh try.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_link_that_swallows_all_packets_is_noticed_by_both_ends_and_comes_back() {
    scenario(async |world| noticed_by_both_ends(world, Way::Both).await);
}

#[test]
fn a_link_that_swallows_what_the_agent_says_is_noticed_by_both_ends_and_comes_back() {
    scenario(async |world| noticed_by_both_ends(world, Way::Out).await);
}

#[test]
fn a_link_that_swallows_what_the_controller_says_is_noticed_by_both_ends_and_comes_back() {
    scenario(async |world| noticed_by_both_ends(world, Way::In).await);
}

#[test]
fn with_5_percent_of_packets_lost_no_agent_is_taken_for_offline() {
    scenario(async |world| stays_online_with_loss(world, 5).await);
}

#[test]
fn with_10_percent_of_packets_lost_no_agent_is_taken_for_offline() {
    scenario(async |world| stays_online_with_loss(world, 10).await);
}

#[test]
fn with_30_percent_of_packets_lost_calls_end_honestly_and_the_agent_is_there_afterwards() {
    scenario(async |world| {
        let far = Far::new(world).await?;
        far.netns.lose(30)?;
        let tally = far.call_for(Duration::from_secs(rounds(20, 5 * 60))).await?;
        far.netns.heal()?;
        let record = far.controller.await_state("web-1", AgentState::Connected).await?;
        ensure!(record.id == far.agent.id, "it came back as another");
        far.list(&far.controller.admin().await?).await.context("a call after the loss")?;
        println!("30 % lost: {tally:?}; sessions: {}", record.epoch);
        Ok(())
    });
}

#[test]
fn on_256_kbit_a_large_log_comes_whole_while_the_agent_stays_online_and_answers() {
    scenario(async |world| {
        let far = Far::new(world).await?;
        let bytes: usize = rounds(512 * 1024, 2 * 1024 * 1024);
        let docker = world.docker();
        let script = format!("yes 'a line of a large log' | head -c {bytes}");
        let large = docker.run("large", &script).await?;
        docker.cli(&["wait", &large.name]).await?;
        far.netns.throttle(256)?;
        let dockctl = far.controller.dockctl().await?;
        let mut pull = dockctl.start(&["logs", &format!("web-1/{}", large.name)])?;
        let pulled = async {
            let mut tally = Tally::default();
            while pull.is_running()? {
                far.call_once(&far.controller.admin().await?, &mut tally).await?;
            }
            anyhow::Ok(tally)
        };
        let tally = far.stays_online(Box::pin(pulled)).await?;
        ensure!(pull.exit_code().await? == 0, "{}", pull.tail());
        ensure!(pull.stdout()? == docker.raw(&["logs", &large.name]).await?.stdout, "not whole");
        ensure!(tally.failed.is_empty(), "calls beside it failed: {tally:?}");
        println!("256 kbit, {bytes} bytes of log: {tally:?}");
        Ok(())
    });
}

async fn noticed_by_both_ends(world: &World, way: Way) -> Result<()> {
    let far = Far::new(world).await?;
    let dockctl = far.controller.dockctl().await?;
    let begin = Instant::now();
    far.netns.blackhole(way)?;
    let ((record, here), (lost, there)) = tokio::try_join!(
        async {
            let record = far.controller.await_state("web-1", AgentState::Offline).await?;
            anyhow::Ok((record, begin.elapsed()))
        },
        async {
            let line = far.agent.process.wait_for_log("no link").await?;
            anyhow::Ok((line, begin.elapsed()))
        }
    )?;
    ensure!(lost.contains("WARN"), "{lost}");
    ensure!(!record.cause.is_empty(), "it is offline without a cause");
    ensure!(record.round_trip.is_none(), "an offline agent has a round trip");
    let listed = dockctl.json(&["agents", "ls"]).await?;
    ensure!(listed[0]["state"] == "AGENT_STATE_OFFLINE", "{listed}");
    println!("{way:?}: noticed by the controller in {here:.1?}, by the agent in {there:.1?}");

    far.netns.heal()?;
    let record = far.controller.await_state("web-1", AgentState::Connected).await?;
    ensure!(record.id == far.agent.id && record.cause.is_empty(), "{record:?}");
    Ok(())
}

async fn stays_online_with_loss(world: &World, percent: u32) -> Result<()> {
    let far = Far::new(world).await?;
    far.netns.lose(percent)?;
    let time = Duration::from_secs(rounds(40, 30 * 60));
    let tally = far.stays_online(Box::pin(far.call_for(time))).await?;
    println!("{percent} % lost for {time:?}: {tally:?}");
    Ok(())
}

/// An agent at the other end of a network that can be broken, and a container beside it.
struct Far<'w> {
    netns: Netns,
    agent: Agent<'w>,
    controller: Controller<'w>,
    container: Container,
}

/// How a caller's calls ended.
#[derive(Debug, Default)]
#[allow(dead_code)] // it is printed
struct Tally {
    answered: usize,
    failed: BTreeMap<String, usize>,
    slowest: Duration,
}

impl<'w> Far<'w> {
    async fn new(world: &'w World) -> Result<Self> {
        let netns = Netns::new()?;
        let controller = world.controller_with(&[], &format!("{}:0", netns.host())).await?;
        let spec = AgentSpec::new(world, &controller, "web-1")?.inside(&netns);
        let agent = world.join(&controller, spec).await?;
        let container = world.docker().run("c", "echo hello; exec sleep 100000").await?;
        Ok(Self { netns, agent, controller, container })
    }

    /// Lists containers through the agent: one small answer.
    async fn list(&self, api: &Api) -> Result<(), Status> {
        let agent = "web-1".to_owned();
        let mut request =
            tonic::Request::new(ListContainersRequest { agent, all: true, ..Default::default() });
        request.set_timeout(PATIENCE);
        api.containers().list_containers(request).await.map(drop)
    }

    /// Reads a log: a stream of its own.
    async fn log(&self, api: &Api) -> Result<(), Status> {
        let (agent, container) = ("web-1".to_owned(), self.container.name.clone());
        let mut request =
            tonic::Request::new(StreamLogsRequest { agent, container, ..Default::default() });
        request.set_timeout(PATIENCE);
        let mut stream = api.containers().stream_logs(request).await?.into_inner();
        while stream.message().await?.is_some() {}
        Ok(())
    }

    /// Makes each kind of call once. Each must end, with an answer or with an error that says what
    /// happened.
    async fn call_once(&self, api: &Api, tally: &mut Tally) -> Result<()> {
        for which in ["list", "log"] {
            let begin = Instant::now();
            let call = async {
                match which {
                    "list" => self.list(api).await,
                    _ => self.log(api).await,
                }
            };
            let ended = timeout(LONG, call).await.with_context(|| format!("{which} hangs"))?;
            tally.slowest = tally.slowest.max(begin.elapsed());
            let Err(status) = ended else {
                tally.answered += 1;
                continue;
            };
            let honest = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
            let Some(reason) = reason_of(&status).filter(|_| honest) else {
                bail!("{which} failed with {status:?}");
            };
            *tally.failed.entry(reason).or_default() += 1;
        }
        Ok(())
    }

    /// Calls for so long.
    async fn call_for(&self, time: Duration) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut pace = interval(PACE);
        let end = Instant::now() + time;
        while Instant::now() < end {
            // A login ends after 15 minutes.
            let api = self.controller.admin().await?;
            for _ in 0..100 {
                pace.tick().await;
                self.call_once(&api, &mut tally).await?;
                if Instant::now() >= end {
                    break;
                }
            }
        }
        Ok(tally)
    }

    /// Watches the agent while `work` is done: it is never offline, and never had to connect again.
    async fn stays_online<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let before = self.controller.agent_record("web-1").await?.epoch;
        let suspected = AtomicUsize::new(0);
        let done = tokio::select! {
            done = work => done?,
            ended = Box::pin(self.is_told_offline(&suspected)) => {
                ended?;
                bail!("the watch has ended");
            }
        };
        let after = self.controller.agent_record("web-1").await?.epoch;
        ensure!(after == before, "it had to connect again: epoch {before}, then {after}");
        println!("suspect {} times, offline never", suspected.into_inner());
        Ok(done)
    }

    /// Ends with an error when the agent is told to be offline.
    async fn is_told_offline(&self, suspected: &AtomicUsize) -> Result<()> {
        loop {
            let mut api = self.controller.admin().await?.agents();
            let mut watch = api.watch_agents(WatchAgentsRequest::default()).await?.into_inner();
            // It ends with its login, after 15 minutes.
            while let Ok(Some(change)) = watch.message().await {
                let agent = change.agent.context("no agent")?;
                match agent.state() {
                    AgentState::Offline => bail!("it is taken for offline: {}", agent.cause),
                    AgentState::Suspect => {
                        suspected.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => {}
                }
            }
        }
    }
}
