//! What Prometheus reads of a controller, and that the dashboard in deploy/ shows nothing that it does not.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use dockctl_api::v1::AgentState;
use dockctl_tests::{Signal, scenario};
use serde_json::Value;

const DASHBOARD: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/grafana/dockctl.json"));

/// The names of ours in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !word(c)).filter(|name| name.starts_with("dockctl_")).collect()
}

/// The value of one line.
fn value(metrics: &str, line: &str) -> Result<f64> {
    let found = metrics.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
    Ok(found.with_context(|| format!("no {line}: {metrics}"))?.parse()?)
}

#[test]
fn the_dashboard_shows_metrics_that_exist_from_the_start_and_all_of_them() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let metrics = controller.read_metrics().await?;
        let series = metrics.lines().filter(|line| !line.starts_with('#'));
        let told: BTreeSet<&str> =
            series.flat_map(|line| names(line).into_iter().take(1)).collect();

        let dashboard: Value = serde_json::from_str(DASHBOARD)?;
        let panels = dashboard["panels"].as_array().context("no panels")?;
        let targets = panels.iter().flat_map(|panel| panel["targets"].as_array()).flatten();
        let exprs: Vec<&str> = targets.filter_map(|target| target["expr"].as_str()).collect();
        let shown: BTreeSet<&str> = exprs.iter().flat_map(|expr| names(expr)).collect();
        let missing: Vec<_> = shown.difference(&told).collect();
        ensure!(missing.is_empty(), "the dashboard shows {missing:?}, and there are {told:?}");
        let parts = ["_bucket", "_count", "_sum"];
        let whole = |name: &&str| {
            parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name).to_owned()
        };
        let shown: BTreeSet<String> = shown.iter().map(whole).collect();
        let told: BTreeSet<String> = told.iter().map(whole).collect();
        let hidden: Vec<_> = told.difference(&shown).collect();
        ensure!(hidden.is_empty(), "no panel shows {hidden:?}");

        // Prometheus's conventions, and no name without its type.
        for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').context("no type")?;
            ensure!((kind == "counter") == name.ends_with("_total"), "{line}");
        }
        Ok(())
    });
}

#[test]
fn metrics_count_what_happens() {
    scenario(async |world| {
        let (controller, mut agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = docker.run("c", "exec sleep 100000").await?.name;
        dockctl.ok(&["inspect", &format!("web-1/{name}")]).await?;
        dockctl.run(&["logs", "web-1/no-such"]).await?.failed(4)?;
        let metrics = controller.read_metrics().await?;
        ensure!(value(&metrics, "dockctl_agents{state=\"connected\"}")? == 1.0);
        ensure!(value(&metrics, "dockctl_connections{port=\"agents\"}")? == 1.0);
        ensure!(value(&metrics, "dockctl_agent_sessions_total")? == 1.0);
        let inspected =
            "dockctl_calls_total{method=\"ContainerService/InspectContainer\",code=\"Ok\"}";
        ensure!(value(&metrics, inspected)? >= 1.0);
        ensure!(metrics.contains("code=\"NotFound\""), "{metrics}");
        for bytes in ["dockctl_received_bytes_total", "dockctl_sent_bytes_total"] {
            ensure!(value(&metrics, &format!("{bytes}{{port=\"agents\"}}"))? > 1_000.0);
        }
        for line in [
            "dockctl_store_seconds_count{kind=\"write\"}",
            "dockctl_call_seconds_count{method=\"ContainerService/InspectContainer\"}",
        ] {
            ensure!(value(&metrics, line)? >= 1.0);
        }

        // A stream is open while somebody reads it.
        let mut events = dockctl.start(&["events"])?;
        let open = "dockctl_calls_open{method=\"SystemService/StreamEvents\"}";
        dockctl_tests::await_until("an open stream", dockctl_tests::LONG, async || {
            let metrics = controller.read_metrics().await?;
            let watchers = value(&metrics, "dockctl_event_watchers")?;
            Ok((value(&metrics, open)? == 1.0 && watchers == 1.0).then_some(()))
        })
        .await?;
        events.signal(Signal::INT)?;
        dockctl_tests::await_until("no open stream", dockctl_tests::LONG, async || {
            Ok((value(&controller.read_metrics().await?, open)? == 0.0).then_some(()))
        })
        .await?;

        // A stranger who speaks no TLS.
        tokio::net::TcpStream::connect(controller.agents).await?.set_zero_linger()?;
        agent.process.terminate().await?;
        controller.await_state("web-1", AgentState::Offline).await?;
        dockctl_tests::await_until("a failed handshake", dockctl_tests::LONG, async || {
            let metrics = controller.read_metrics().await?;
            let failed = value(&metrics, "dockctl_handshake_failures_total{port=\"agents\"}")?;
            let offline = value(&metrics, "dockctl_agents{state=\"offline\"}")?;
            Ok((failed == 1.0 && offline == 1.0).then_some(()))
        })
        .await?;
        Ok(())
    });
}
