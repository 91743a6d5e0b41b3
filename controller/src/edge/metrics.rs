//! Metrics and health on loopback: `/metrics` for Prometheus, `/healthz` (the process lives),
//! `/readyz` (it can do its work), `/version`.

use axum::{Router, extract::State, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{fleet::registry::Registry, store};

/// What the port shows.
#[derive(Clone)]
pub struct Metrics {
    /// The recorder's output.
    pub recorder: PrometheusHandle,
    /// The live fleet.
    pub registry: Registry,
    /// The store, asked by `/readyz`.
    pub store: store::Handle,
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
}

async fn metrics(State(this): State<Metrics>) -> String {
    let (connected, all) = this.registry.counts();
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    metrics::gauge!("dockctl_agents", "state" => "connected").set(count(connected));
    metrics::gauge!("dockctl_agents", "state" => "offline").set(count(all - connected));
    // What calls have left, if they have, is seen here.
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    metrics::gauge!("dockctl_tasks").set(count(tasks));
    this.recorder.run_upkeep();
    this.recorder.render()
}

async fn ready(State(this): State<Metrics>) -> (StatusCode, String) {
    match this.store.has_users().await {
        Ok(_) => (StatusCode::OK, "ready\n".to_owned()),
        Err(error) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the store does not answer: {error}\n"))
        }
    }
}
