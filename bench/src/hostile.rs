//! How much one agent that does what harm it can slows the calls of a thousand others (THREATS, row
//! 7). In turns it is quiet and not; what it sends is made in this process, on a thread of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dockctl_api::{
    link::v1::{
        CallResult, ConnectRequest, Hello, Inventory, Pong, ServeRequest,
        agent_link_client::AgentLinkClient, connect_request::Frame as Up,
        connect_response::Frame as Down,
    },
    new_id,
    v1::{Container, Event},
};
use dockctl_link::{agent::Host as _, channel::Channel};
use futures_util::stream;
use tokio::{runtime::Builder, sync::mpsc, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    api::Ping,
    fake_agent::Identity,
    harness::{Bench, Controller},
    measure::{Caller as _, Series, ms},
    report::{Figure, Goal},
};

/// Enrolments at once.
const AT_ONCE: usize = 32;
/// Between two calls.
const PACE: Duration = Duration::from_millis(2);
/// Serve streams of calls that nobody made, open at once.
const STREAMS: u64 = 64;

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let others = bench.pick(1_000, 20);
    let controller = Controller::start(bench, &[]).await?;
    let token = controller.join_token_for(others + 1).await?;
    let _fleet = fleet(&controller, &token, others).await?;
    let hostile = Hostile::start(Identity::enroll(controller.agents(), &token, "hostile").await?)?;
    let client = controller.client().await?.system();
    let mut pings: Vec<_> =
        (0..others).map(|n| Ping { client: client.clone(), agent: name(n) }).collect();

    let (rounds, span) = bench.pick((6, Duration::from_secs(5)), (1, Duration::from_secs(1)));
    let (mut without, mut with) = (Series::default(), Series::default());
    paced(&mut pings, Duration::from_millis(200)).await?; // Warms up.
    controller.daemon.forget_peak()?;
    for _ in 0..rounds {
        hostile.be(false);
        without.extend(paced(&mut pings, span).await?);
        hostile.be(true);
        let sent = hostile.sent.load(Ordering::Relaxed);
        with.extend(paced(&mut pings, span).await?);
        ensure!(hostile.sent.load(Ordering::Relaxed) > sent, "the hostile agent did nothing");
    }
    hostile.be(false);

    let at = |q| (Series::from(without.quantile(q)), Series::from(with.quantile(q)));
    let ((p50, p50_with), (p99, p99_with)) = (at(0.5), at(0.99));
    Ok(vec![
        Figure::ratio("ping beside a hostile agent, p50", "ms", ("without", &p50), &p50_with),
        Figure::ratio("ping beside a hostile agent, p99", "ms", ("without", &p99), &p99_with)
            .goal(Goal::AtMost(2.0)),
        Figure::alone(
            "controller's peak beside a hostile agent",
            "MiB",
            &controller.daemon.peak()?.into(),
        ),
    ])
}

fn name(n: u32) -> String {
    format!("honest-{n}")
}

/// Enrols and connects the honest ones.
async fn fleet(controller: &Controller, token: &str, count: u32) -> Result<Vec<DropGuard>> {
    let mut identities = Vec::new();
    for n in 0..count {
        identities.push(Identity::enroll(controller.agents(), token, &name(n)).await?);
    }
    let (mut starting, mut agents) = (JoinSet::new(), Vec::new());
    for identity in identities {
        if starting.len() >= AT_ONCE {
            agents.push(starting.join_next().await.context("none starts")???);
        }
        starting.spawn(identity.start());
    }
    while let Some(started) = starting.join_next().await {
        agents.push(started??);
    }
    Ok(agents)
}

/// Calls one after the other for that long, pausing between calls; gives milliseconds.
async fn paced(pings: &mut [Ping], span: Duration) -> Result<Series> {
    let (end, mut series) = (Instant::now() + span, Series::default());
    for n in (0..pings.len()).cycle() {
        if Instant::now() >= end {
            break;
        }
        let start = Instant::now();
        pings[n].call().await?;
        series.push(ms(start.elapsed()));
        tokio::time::sleep(PACE).await;
    }
    Ok(series)
}

/// An agent that floods while it is told to, and comes back whenever it is thrown out.
struct Hostile {
    active: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    _stop: DropGuard,
}

impl Hostile {
    fn start(identity: Identity) -> Result<Self> {
        let (active, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let stop = CancellationToken::new();
        let (harm, stopped) = (Harm { active: active.clone(), sent: sent.clone() }, stop.clone());
        let work = stopped.run_until_cancelled_owned(async move {
            loop {
                if let Err(error) = harm.session(&identity).await {
                    eprintln!("the hostile agent was thrown out: {error:#}");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let runtime = Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || runtime.block_on(work));
        Ok(Self { active, sent, _stop: stop.drop_guard() })
    }

    fn be(&self, hostile: bool) {
        self.active.store(hostile, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct Harm {
    active: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Harm {
    /// One session, until the controller ends it.
    async fn session(&self, identity: &Identity) -> Result<()> {
        let tls = identity.tls().map_err(|error| anyhow::anyhow!(error))?;
        let channel = Channel::dial(&identity.controller, tls).await?;
        let mut link = AgentLinkClient::with_origin(channel.clone(), channel.origin.clone());
        let (up, frames) = mpsc::channel(64);
        let hello =
            Hello { min_protocol: 1, max_protocol: 1, process_id: new_id(), ..Default::default() };
        up.send(ConnectRequest { frame: Some(Up::Hello(hello)) }).await?;
        let frames = stream::unfold(frames, |mut frames| async move {
            let frame = frames.recv().await?;
            Some((frame, frames))
        });
        let mut down = link.connect(frames).await?.into_inner();
        // Everything ends with the session.
        let mut harm = JoinSet::new();
        harm.spawn(self.clone().flood(up.clone()));
        for first in 0..STREAMS {
            harm.spawn(self.clone().made_up_answers(link.clone(), first));
        }
        while let Some(message) = down.message().await? {
            if let Some(Down::Ping(ping)) = message.frame {
                let pong = Pong { seq: ping.seq, now: None };
                let _ = up.try_send(ConnectRequest { frame: Some(Up::Pong(pong)) });
            }
        }
        Ok(())
    }

    async fn pause_while_quiet(&self) {
        while !self.active.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Events, results of calls that nobody made, and now and then an inventory of some megabytes.
    async fn flood(self, up: mpsc::Sender<ConnectRequest>) {
        for n in 0_u64.. {
            self.pause_while_quiet().await;
            let frame = match n % 1_000 {
                0 => Up::Inventory(huge_inventory(n)),
                m if m % 2 == 0 => Up::Result(CallResult { call_id: n, ..Default::default() }),
                _ => Up::Event(Event { action: "x".repeat(1_000), ..Default::default() }),
            };
            if up.send(ConnectRequest { frame: Some(frame) }).await.is_err() {
                return;
            }
        }
    }

    /// Opens Serve streams for calls that nobody made, one after the other.
    async fn made_up_answers(self, mut link: AgentLinkClient<Channel>, first: u64) {
        for n in 0_u64.. {
            self.pause_while_quiet().await;
            let call_id = (1 << 40) + n * STREAMS + first;
            let piece = ServeRequest { call_id, body: vec![0; 1_024].into(), ..Default::default() };
            // NOT_FOUND; once the connection is gone this task ends with the session's others.
            let _ = link.serve(stream::iter([piece])).await;
            tokio::task::yield_now().await;
        }
    }
}

fn huge_inventory(n: u64) -> Inventory {
    let containers = (0..4_000).map(|m| Container {
        id: format!("{n}-{m}"),
        name: "x".repeat(100),
        command: "x".repeat(900),
        ..Default::default()
    });
    Inventory { full: true, complete: true, containers: containers.collect(), ..Default::default() }
}
