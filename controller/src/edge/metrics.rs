//! Metrics and health on loopback: `/metrics` for Prometheus, `/healthz` (the process lives),
//! `/readyz` (it can do its work), `/version`. What is counted as it happens is counted where it happens;
//! what has a value at any time is read here when somebody asks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use dockctl_link::controller::traffic::Traffic;
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{api::MAX_UNARY, pages::Pages};
use crate::{fleet::registry::Registry, store};

/// Upper bounds of the histograms, seconds.
const BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The process's recorder, made at the first call: what asks for a metric before has none.
pub fn recorder() -> anyhow::Result<PrometheusHandle> {
    // Where a process has two controllers (tests do), it counts for both.
    static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut made = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*made {
        return Ok(handle.clone());
    }
    let buckets = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(buckets, &BUCKETS);
    let recorder = builder.context("the histograms' buckets")?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).context("the process has another recorder")?;
    for never in ["dockctl_agent_sessions_total", "dockctl_audit_failures_total"] {
        counter!(never).increment(0);
    }
    counter!("dockctl_identities_locked_total").increment(0);
    drop(histogram!("dockctl_heartbeat_seconds"));
    Ok(made.insert(handle).clone())
}

/// Folds what the histograms have gathered into their buckets: where nobody reads the metrics, it would
/// grow for ever.
pub async fn keep_small(recorder: PrometheusHandle) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        recorder.run_upkeep();
    }
}

/// What the port shows.
#[derive(Clone)]
pub struct Metrics {
    /// The recorder's output.
    pub recorder: PrometheusHandle,
    /// The live fleet.
    pub registry: Registry,
    /// The store.
    pub store: store::Handle,
    /// Knows whether the controller is ready.
    pub pages: Pages,
    /// A permit for each unary call under way.
    pub unary: Arc<Semaphore>,
    /// What the ports carry, by their names.
    pub traffic: [(&'static str, Arc<Traffic>); 2],
}

impl Metrics {
    /// Serves until `shutdown`.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/version", get(|| async { concat!(env!("CARGO_PKG_VERSION"), "\n") }))
            .with_state(self);
        let end = async move { shutdown.cancelled().await };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
            tracing::error!(%error, "the metrics port ended");
        }
    }

    /// Sets what is not counted as it happens.
    fn read(&self) {
        let agents = self.registry.counts();
        for (state, count) in [
            ("connected", agents.connected),
            ("suspect", agents.suspect),
            ("offline", agents.offline),
            ("kept_out", agents.kept_out),
        ] {
            gauge!("dockctl_agents", "state" => state).set(number(count));
        }
        gauge!("dockctl_agent_calls").set(number(agents.calls));
        gauge!("dockctl_event_watchers").set(number(self.registry.watchers()));
        let unary = MAX_UNARY.saturating_sub(self.unary.available_permits());
        gauge!("dockctl_unary_calls").set(number(unary));
        gauge!("dockctl_store_writes_waiting").set(number(self.store.writes_waiting()));
        // What calls have left, if they have, is seen here.
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        gauge!("dockctl_tasks").set(number(tasks));
        for (port, traffic) in &self.traffic {
            let carried = traffic.read();
            gauge!("dockctl_connections", "port" => *port).set(carried.connections as f64);
            for (name, value) in [
                ("dockctl_connections_refused_total", carried.refused),
                ("dockctl_handshake_failures_total", carried.handshakes_failed),
                ("dockctl_received_bytes_total", carried.received),
                ("dockctl_sent_bytes_total", carried.sent),
            ] {
                counter!(name, "port" => *port).absolute(value);
            }
        }
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

async fn metrics(State(this): State<Metrics>) -> String {
    this.read();
    this.recorder.run_upkeep();
    this.recorder.render()
}

async fn ready(State(this): State<Metrics>) -> (StatusCode, String) {
    this.pages.ready().await
}
