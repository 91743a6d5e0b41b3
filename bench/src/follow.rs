//! A container that prints numbered lines as fast as it can, followed while it does: by curl on the
//! engine's socket and by dockctl, a new container each time. Every line must come, in order.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dockctl_api::v1::StreamLogsRequest;
use tokio::io::AsyncReadExt as _;

use crate::{
    api::Api,
    engine::PREFIX,
    harness::{AGENT, Bench, Fleet},
    lines::{Demux, LineCheck},
    measure::Series,
    report::{Figure, Goal},
};

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let fleet = Fleet::start(bench).await?;
    let api = fleet.controller.client().await?;
    let (mut direct, mut dockctl) = (Series::default(), Series::default());
    for round in 0..bench.pick(3, 1) {
        direct.push(followed(bench, &format!("follow-{round}-engine"), None).await?);
        dockctl.push(followed(bench, &format!("follow-{round}-dockctl"), Some(&api)).await?);
    }
    let figure = Figure::ratio("follow of a flat-out log", "lines/s", ("curl", &direct), &dockctl);
    Ok(vec![figure.goal(Goal::AtLeast(0.95))])
}

/// Starts a printer, follows it to its end, through dockctl where there is a client; gives lines a second
/// from the first to the last.
async fn followed(bench: &Bench, name: &str, api: Option<&Api>) -> Result<f64> {
    let seconds = bench.pick(10, 2);
    let script = format!(
        "exec awk 'BEGIN {{ end = systime() + {seconds}; \
         for (i = 1; ; i++) {{ print i; if (i % 4096 == 0 && systime() >= end) exit }} }}'"
    );
    let id = bench.engine.create(name, &script).await?;
    bench.engine.start(&id).await?;
    let (lines, took) = match api {
        None => through_curl(bench, &id).await?,
        Some(api) => through_dockctl(api, name).await?,
    };
    let last = format!("/containers/{id}/logs?stdout=1&stderr=1&tail=1");
    let printed = Demux::only_number(&bench.engine.connect().await?.get(&last).await?)?;
    ensure!(lines == printed, "{lines} lines came of {printed} that were printed");
    bench.engine.remove(&id).await?; // Its log has some hundred megabytes.
    Ok(lines as f64 / took.as_secs_f64())
}

async fn through_curl(bench: &Bench, id: &str) -> Result<(u64, Duration)> {
    let mut curl = bench.curl(&format!("/containers/{id}/logs?stdout=1&stderr=1&follow=1"));
    curl.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut curl = curl.spawn()?;
    let mut output = curl.stdout.take().context("no standard output")?;
    let (mut demux, mut check, mut first) = (Demux::default(), LineCheck::default(), None);
    loop {
        demux.buffer.reserve(64 << 10);
        if output.read_buf(&mut demux.buffer).await? == 0 {
            break;
        }
        first.get_or_insert_with(Instant::now);
        while let Some(entry) = demux.next() {
            check.feed(&entry)?;
        }
    }
    ensure!(curl.wait().await?.success(), "curl failed");
    Ok((check.finish()?, first.context("no line came")?.elapsed()))
}

async fn through_dockctl(api: &Api, name: &str) -> Result<(u64, Duration)> {
    let (agent, container) = (AGENT.to_owned(), format!("{PREFIX}{name}"));
    let request = StreamLogsRequest { agent, container, follow: true, ..Default::default() };
    let mut stream = api.containers().stream_logs(request).await?.into_inner();
    let (mut check, mut first) = (LineCheck::default(), None);
    while let Some(message) = stream.message().await? {
        first.get_or_insert_with(Instant::now);
        ensure!(message.notice.is_none(), "{:?}", message.notice);
        for record in message.records {
            check.feed(&record.data)?;
        }
    }
    Ok((check.finish()?, first.context("no line came")?.elapsed()))
}
