//! How long after the engine's own timestamp an event is known: to a subscriber on its socket, and to
//! dockctl's subscribers of the host and of the fleet. All three see the same events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use dockctl_api::v1::StreamEventsRequest;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use crate::{
    api::Api,
    engine::{Connection, PREFIX},
    harness::{AGENT, Bench, Fleet},
    measure::Series,
    report::{Figure, Goal},
};

/// How soon an event shall be known, milliseconds.
const GOAL: Goal = Goal::AtMost(3.0);
/// Events made until a new subscriber must have seen one.
const ATTEMPTS: u32 = 25;
/// How long an event may take before it counts as lost.
const LOST: Duration = Duration::from_secs(5);

/// The new name of a renamed container, and how long the news took, milliseconds.
struct Seen {
    name: String,
    after: f64,
}

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let fleet = Fleet::start(bench).await?;
    let id = bench.engine.create("event", "true").await?;
    let body = bench.engine.connect().await?.stream("/events").await?;
    let mut subscribers = [
        Subscriber::new("engine", |seen| from_engine(body, id.clone(), seen)),
        Subscriber::new("host", {
            let api = fleet.controller.client().await?;
            |seen| from_dockctl(api, AGENT, id.clone(), seen)
        }),
        Subscriber::new("fleet", {
            let api = fleet.controller.client().await?;
            |seen| from_dockctl(api, "", id.clone(), seen)
        }),
    ];

    let mut engine = bench.engine.connect().await?;
    // An answer's head does not say that the engine listens already, so all must have seen something.
    for subscriber in &mut subscribers {
        subscriber.await_first(&mut engine, &id).await?;
    }
    let mut series = [Series::default(), Series::default(), Series::default()];
    for n in 0..bench.pick(200, 20) {
        let name = rename(&mut engine, &id, &format!("event-{n}")).await?;
        for (subscriber, series) in subscribers.iter_mut().zip(&mut series) {
            series.push(subscriber.await_name(&name).await?);
        }
    }
    let [engine, host, fleet] = &series;
    let base = ("engine", engine);
    Ok(vec![
        Figure::beside("event of a host, after it happened", "ms", base, host).goal(GOAL),
        Figure::beside("event of the fleet, after it happened", "ms", base, fleet).goal(GOAL),
    ])
}

async fn rename(engine: &mut Connection, id: &str, name: &str) -> Result<String> {
    let name = format!("{PREFIX}{name}");
    engine.post(&format!("/containers/{id}/rename?name={name}"), String::new()).await?;
    Ok(name)
}

/// A reader of events in a task of its own, which ends with this.
struct Subscriber {
    name: &'static str,
    seen: mpsc::Receiver<Seen>,
    task: JoinHandle<Result<()>>,
}

impl Subscriber {
    fn new<F>(name: &'static str, reader: impl FnOnce(mpsc::Sender<Seen>) -> F) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (sender, seen) = mpsc::channel(64);
        Self { name, seen, task: tokio::spawn(reader(sender)) }
    }

    /// Makes events until one is seen.
    async fn await_first(&mut self, engine: &mut Connection, id: &str) -> Result<()> {
        for attempt in 0..ATTEMPTS {
            rename(engine, id, &format!("{}-{attempt}", self.name)).await?;
            if let Ok(seen) = timeout(Duration::from_millis(200), self.seen.recv()).await {
                return seen.context("a stream of events ended").map(drop);
            }
        }
        bail!("the subscriber of the {} sees no events", self.name)
    }

    /// Waits for the news of that name; gives how long it took, milliseconds.
    async fn await_name(&mut self, name: &str) -> Result<f64> {
        loop {
            let seen = timeout(LOST, self.seen.recv()).await;
            let seen = seen.with_context(|| format!("{} lost the event of {name}", self.name))?;
            let seen = seen.context("a stream of events ended")?;
            if seen.name == name {
                return Ok(seen.after);
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
    #[serde(rename = "timeNano")]
    nanos: u64,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: std::collections::HashMap<String, String>,
}

async fn from_engine(mut body: Incoming, id: String, seen: mpsc::Sender<Seen>) -> Result<()> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let now = now();
        text.extend(frame?.into_data().ok().iter().flatten());
        while let Some(end) = text.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let event: Event = serde_json::from_slice(&line)?;
            if event.action == "rename" && event.actor.id == id {
                let name = event.actor.attributes.get("name").cloned().unwrap_or_default();
                let after = (now - Duration::from_nanos(event.nanos).as_secs_f64()) * 1e3;
                seen.send(Seen { name, after }).await?;
            }
        }
    }
    Ok(())
}

async fn from_dockctl(
    api: Api,
    agent: &'static str,
    id: String,
    seen: mpsc::Sender<Seen>,
) -> Result<()> {
    let request = StreamEventsRequest { agent: agent.to_owned(), ..Default::default() };
    let mut stream = api.system().stream_events(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        let now = now();
        let Some(mut event) = message.event else { continue };
        if event.action == "rename" && event.actor_id == id && !event.inferred {
            let name = event.attributes.remove("name").unwrap_or_default();
            let time = event.time.context("an event without a time")?;
            let time = time.seconds as f64 + f64::from(time.nanos) * 1e-9;
            seen.send(Seen { name, after: (now - time) * 1e3 }).await?;
        }
    }
    Ok(())
}

/// Seconds since 1970; a double still tells 0.3 µs apart.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
