//! Thousands of agents in one process: the real link with a certificate and a TLS connection each, an
//! inventory that changes, and services that answer at once. No engine. They run on a thread of their
//! own, so that whoever measures does not wait behind them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use dockctl_api::{
    link::v1::{Certificate, Inventory, connect_request::Frame},
    v1::{Container, EngineStatus, Event, Port},
};
use dockctl_link::agent::{Connector, Host, HostResult, Status, Updates};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use prost_types::Timestamp;
use rustls::ClientConfig;
use tokio::{
    runtime::{Builder, Handle},
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;

use crate::{fake_agent::Identity, harness::Controller};

/// Enrolments, and first connections, under way at once.
const AT_ONCE: usize = 64;
/// Changes of containers are made in bursts this far apart.
const TICK: Duration = Duration::from_millis(10);

/// The agents.
pub(crate) struct Simulator {
    handle: Handle,
    containers: usize,
    agents: Vec<Arc<Simulated>>,
    statuses: Vec<watch::Receiver<Status>>,
    /// What ends each one's connection.
    stops: Vec<DropGuard>,
    /// How many took another one's place.
    replaced: usize,
    _thread: DropGuard,
}

impl Simulator {
    /// None yet; each will have so many containers.
    pub(crate) fn start(containers: usize) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone();
        thread::Builder::new()
            .name("agents".to_owned())
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok(Self {
            handle,
            containers,
            agents: Vec::new(),
            statuses: Vec::new(),
            stops: Vec::new(),
            replaced: 0,
            _thread: stop.drop_guard(),
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.agents.len()
    }

    /// The name of one.
    pub(crate) fn name(&self, n: usize) -> &str {
        &self.agents[n % self.agents.len()].name
    }

    /// Enrols more with one token until there are `count`; gives how long that took.
    pub(crate) async fn enroll(
        &mut self,
        controller: &Controller,
        token: &str,
        count: usize,
    ) -> Result<Duration> {
        let begin = Instant::now();
        let enrolling = stream::iter(self.agents.len()..count)
            .map(|n| self.enrolled(controller, token, n, format!("sim-{n:05}")));
        let enrolled: Vec<_> = enrolling.buffered(AT_ONCE).try_collect().await?;
        self.agents.extend(enrolled);
        Ok(begin.elapsed())
    }

    /// Enrols one as the agent of this number.
    fn enrolled(
        &self,
        controller: &Controller,
        token: &str,
        number: usize,
        name: String,
    ) -> impl Future<Output = Result<Arc<Simulated>>> + use<> {
        let (address, fingerprint) = controller.agents();
        let (address, fingerprint) = (address.to_owned(), fingerprint.to_owned());
        let (token, containers) = (token.to_owned(), self.containers);
        let enrolling = self.handle.spawn(async move {
            let identity = Identity::enroll((&address, &fingerprint), &token, &name).await?;
            anyhow::Ok(Arc::new(Simulated::new(identity, name, number, containers)))
        });
        async move { enrolling.await? }
    }

    /// Connects those that are not connected yet, each from an address of its own, and keeps them so.
    pub(crate) async fn connect(&mut self) -> Result<()> {
        for batch in self.agents[self.statuses.len()..].chunks(AT_ONCE) {
            let first = self.statuses.len();
            for agent in batch {
                let (status, stop) = begin(&self.handle, agent);
                self.statuses.push(status);
                self.stops.push(stop);
            }
            for status in &mut self.statuses[first..] {
                let connected = status.wait_for(is_connected);
                tokio::time::timeout(Duration::from_secs(60), connected)
                    .await
                    .context("an agent did not come up")??;
            }
        }
        Ok(())
    }

    /// How many are connected now.
    pub(crate) fn connected(&self) -> usize {
        self.statuses.iter().filter(|status| is_connected(&status.borrow())).count()
    }

    /// Ends an agent's process and starts it again.
    pub(crate) fn restart(&mut self, n: usize) {
        let n = n % self.agents.len();
        (self.statuses[n], self.stops[n]) = begin(&self.handle, &self.agents[n]);
    }

    /// Puts a new agent in the place of one, which is to be deleted before.
    pub(crate) async fn replace(
        &mut self,
        n: usize,
        controller: &Controller,
        token: &str,
    ) -> Result<()> {
        self.replaced += 1;
        let number = self.agents[n].number;
        let name = format!("sim-{number:05}-{}", self.replaced);
        self.agents[n] = self.enrolled(controller, token, number, name).await?;
        self.restart(n);
        Ok(())
    }

    /// Starts and stops containers all over the fleet, so many a second, for that long. Gives how many.
    pub(crate) fn churn(
        &self,
        rate: usize,
        span: Duration,
    ) -> impl Future<Output = Result<usize>> + Send + use<> {
        let (agents, containers) = (self.agents.clone(), self.containers);
        let each = (rate as f64 * TICK.as_secs_f64()).max(1.0) as usize;
        let ticks = span.as_millis() / TICK.as_millis();
        let churning = self.handle.spawn(async move {
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut made = 0;
            for _ in 0..ticks {
                tick.tick().await;
                for _ in 0..each {
                    // A stride that meets all of them, in an order that is no agent's own.
                    let n = made * 7919;
                    agents[n % agents.len()].toggle(n / agents.len() % containers);
                    made += 1;
                }
            }
            made
        });
        async move { Ok(churning.await?) }
    }

    /// Checks a list of the whole fleet against what the agents have.
    pub(crate) fn ensure_same(&self, listed: &[Container]) -> Result<()> {
        let mut wanted: Vec<(String, String, &str)> = Vec::new();
        for agent in &self.agents {
            let live = agent.live();
            let states = live.running.iter().map(|running| state(*running));
            wanted.extend(
                states.enumerate().map(|(m, state)| (agent.name.clone(), service(m), state)),
            );
        }
        ensure!(listed.len() == wanted.len(), "{} listed of {}", listed.len(), wanted.len());
        for (listed, (agent, name, state)) in listed.iter().zip(&wanted) {
            ensure!(
                (&listed.agent, &listed.name, listed.state.as_str()) == (agent, name, state)
                    && !listed.stale,
                "{agent}/{name} is {state}, and listed is {listed:?}"
            );
        }
        Ok(())
    }
}

/// Connects an agent and keeps it so.
fn begin(handle: &Handle, agent: &Arc<Simulated>) -> (watch::Receiver<Status>, DropGuard) {
    let connector =
        Connector::new(agent.identity.controller.clone(), agent.clone() as Arc<dyn Host>)
            .from_address(agent.address());
    let (status, stop) = (connector.status(), CancellationToken::new());
    handle.spawn(connector.run(stop.clone()));
    (status, stop.drop_guard())
}

fn is_connected(status: &Status) -> bool {
    matches!(status, Status::Connected { .. })
}

/// One agent.
struct Simulated {
    identity: Identity,
    name: String,
    number: usize,
    live: Mutex<Live>,
}

/// What changes.
struct Live {
    running: Vec<bool>,
    session: Option<mpsc::UnboundedSender<Frame>>,
}

impl Simulated {
    fn new(identity: Identity, name: String, number: usize, containers: usize) -> Self {
        let live = Live { running: vec![true; containers], session: None };
        Self { identity, name, number, live: Mutex::new(live) }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of 62,500 of loopback.
    fn address(&self) -> SocketAddr {
        let byte = |n: usize| u8::try_from(n % 250).unwrap_or(0);
        (Ipv4Addr::new(127, 1, byte(self.number / 250), byte(self.number) + 1), 0).into()
    }

    /// Stops or starts a container and tells it, as an agent does: the event, then what has changed.
    fn toggle(&self, container: usize) {
        let mut live = self.live();
        live.running[container] = !live.running[container];
        let now = self.container(container, live.running[container]);
        let event = Event {
            r#type: "container".to_owned(),
            action: if live.running[container] { "start" } else { "die" }.to_owned(),
            actor_id: now.id.clone(),
            attributes: [("name", &now.name), ("image", &now.image)]
                .map(|(key, value)| (key.to_owned(), value.clone()))
                .into(),
            time: Some(SystemTime::now().into()),
            inferred: false,
        };
        if let Some(session) = &live.session {
            // None listens between two sessions; the next one begins with all there is.
            let _ = session.send(Frame::Event(event));
            let change = Inventory { containers: vec![now], ..Default::default() };
            let _ = session.send(Frame::Inventory(change));
        }
    }

    /// About what an engine tells of a service of a compose file.
    fn container(&self, m: usize, running: bool) -> Container {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Container {
            agent: self.name.clone(),
            id: format!("{:032x}{m:032x}", self.number),
            name: service(m),
            image: "registry.example/team/service:1.42.0".to_owned(),
            image_id: format!("sha256:{m:064x}"),
            command: "/usr/local/bin/service --config /etc/service.toml".to_owned(),
            created_at: at(1_795_000_000),
            state: state(running).to_owned(),
            status: if running { "Up 5 hours" } else { "Exited (0) 5 hours ago" }.to_owned(),
            ports: vec![Port {
                host_ip: "0.0.0.0".to_owned(),
                host_port: 8080,
                container_port: 80,
                protocol: "tcp".to_owned(),
            }],
            labels: [
                label("com.docker.compose.project", "shop"),
                label("com.docker.compose.service", "web"),
                label("com.docker.compose.container-number", "1"),
            ]
            .into(),
            networks: vec!["shop_default".to_owned()],
            started_at: at(1_795_000_000),
            mounts: vec!["shop_data".to_owned()],
            local_volumes: 1,
            ..Default::default()
        }
    }
}

fn service(m: usize) -> String {
    format!("shop-service-{m:03}")
}

fn state(running: bool) -> &'static str {
    if running { "running" } else { "exited" }
}

#[async_trait::async_trait]
impl Host for Simulated {
    fn tls(&self) -> HostResult<ClientConfig> {
        self.identity.tls()
    }

    async fn begin_renewal(&self) -> HostResult<Vec<u8>> {
        self.identity.begin_renewal().await
    }

    async fn finish_renewal(&self, certificate: Certificate) -> HostResult<()> {
        self.identity.finish_renewal(certificate).await
    }

    fn routes(&self) -> Routes {
        self.identity.routes()
    }

    fn updates(&self) -> Updates {
        let mut live = self.live();
        let (session, changes) = mpsc::unbounded_channel();
        live.session = Some(session);
        let containers = live.running.iter().enumerate();
        let all = containers.map(|(m, running)| self.container(m, *running)).collect();
        let begin = [
            Frame::Engine(EngineStatus {
                available: true,
                version: "29.0.0".to_owned(),
                api_version: "1.52".to_owned(),
                ..Default::default()
            }),
            Frame::Inventory(Inventory {
                full: true,
                complete: true,
                containers: all,
                ..Default::default()
            }),
        ];
        let changes = stream::unfold(changes, |mut changes| async move {
            let frame = changes.recv().await?;
            Some((frame, changes))
        });
        Box::pin(stream::iter(begin).chain(changes))
    }
}
