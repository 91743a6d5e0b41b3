//! A whole log of 100 MB: curl on the engine's socket, `docker logs`, dockctl's API and `dockctl logs`,
//! one after the other in every round; and what memory the daemons need for it, also for a reader who is
//! slow. MB are of the log itself, without anyone's framing.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dockctl_api::v1::{StreamLogsRequest, StreamLogsResponse};
use tokio::time::MissedTickBehavior;
use tonic::Streaming;

use crate::{
    api::Api,
    engine::PREFIX,
    harness::{AGENT, Bench, Fleet, timed},
    lines::LineCheck,
    measure::Series,
    report::{Figure, Goal},
};

/// Bytes of a line, its end counted.
const LINE: u64 = 100;
/// Bytes that the engine's framing adds to a line.
const FRAMING: u64 = 8;
/// What the daemons may need, MiB.
const MEMORY: Goal = Goal::AtMost(64.0);
const NAME: &str = "log";
/// A slow reader's pause between two messages.
const SLOW: Duration = Duration::from_millis(50);

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let lines = bench.pick(1_000_000, 20_000);
    let bytes = lines * LINE;
    let script = format!(
        "exec awk 'BEGIN {{ pad = sprintf(\"%88s\", \"\"); \
         for (i = 1; i <= {lines}; i++) printf \"%010d %s\\n\", i, pad }}'"
    );
    let id = bench.engine.run_to_end(NAME, &script).await?;
    let fleet = Fleet::start(bench).await?;
    let config = fleet.controller.dockctl_login(bench).await?;
    let api = fleet.controller.client().await?;

    // Not timed: proves that nothing is lost, and warms the page cache.
    let mut check = LineCheck::default();
    read(open(&api).await?, |data| check.feed(data)).await?;
    let came = check.finish()?;
    ensure!(came == lines, "{came} lines came of {lines}");
    whole_through_dockctl(bench, &config, lines).await?;

    let speed = |took: Duration| bytes as f64 / 1e6 / took.as_secs_f64();
    let [mut curl, mut docker, mut grpc, mut dockctl, mut agent, mut controller] =
        std::array::from_fn(|_| Series::default());
    for _ in 0..bench.pick(3, 1) {
        curl.push(speed(through_curl(bench, &id, bytes + lines * FRAMING).await?));

        fleet.agent.forget_peak()?;
        fleet.controller.daemon.forget_peak()?;
        let (start, mut came) = (Instant::now(), 0);
        read(open(&api).await?, |data| {
            came += data.len() as u64;
            Ok(())
        })
        .await?;
        grpc.push(speed(start.elapsed()));
        ensure!(came == bytes, "{came} bytes came of {bytes}");
        agent.push(fleet.agent.peak()?);
        controller.push(fleet.controller.daemon.peak()?);

        let mut command = bench.docker();
        command.args(["logs", &id]);
        docker.push(speed(timed(&mut command, Stdio::null()).await?.0));
        let mut command = bench.program("dockctl")?;
        command.env("DOCKCTL_CONFIG", &config).args(["logs", &reference()]);
        dockctl.push(speed(timed(&mut command, Stdio::null()).await?.0));
    }

    fleet.agent.forget_peak()?;
    fleet.controller.daemon.forget_peak()?;
    read_slowly(open(&api).await?, bench.pick(10, 1)).await?;
    let slow_agent = fleet.agent.peak()?.into();
    let slow_controller = fleet.controller.daemon.peak()?.into();

    let (curl, docker) = (("curl", &curl), ("docker logs", &docker));
    let peak =
        |name, series: &Series| Figure::alone(name, "MiB", &series.max().into()).goal(MEMORY);
    Ok(vec![
        Figure::ratio("whole log, API", "MB/s", curl, &grpc).goal(Goal::AtLeast(0.95)),
        Figure::ratio("whole log, API", "MB/s", docker, &grpc).goal(Goal::MoreThan(1.0)),
        Figure::ratio("whole log, `dockctl logs`", "MB/s", curl, &dockctl),
        Figure::ratio("whole log, `dockctl logs`", "MB/s", docker, &dockctl)
            .goal(Goal::MoreThan(1.0)),
        peak("agent's peak memory meanwhile", &agent),
        peak("controller's peak memory meanwhile", &controller),
        peak("agent's peak memory, slow reader", &slow_agent),
        peak("controller's peak memory, slow reader", &slow_controller),
    ])
}

fn reference() -> String {
    format!("{AGENT}/{PREFIX}{NAME}")
}

async fn through_curl(bench: &Bench, id: &str, bytes: u64) -> Result<Duration> {
    let mut curl = bench.curl(&format!("/containers/{id}/logs?stdout=1&stderr=1"));
    curl.args(["-o", "/dev/null", "-w", "%{size_download}"]);
    let (took, counted) = timed(&mut curl, Stdio::piped()).await?;
    let counted: u64 = String::from_utf8_lossy(&counted).parse().context("curl counts no bytes")?;
    ensure!(counted == bytes, "curl read {counted} bytes of {bytes}");
    Ok(took)
}

/// Checks what `dockctl logs` prints.
async fn whole_through_dockctl(bench: &Bench, config: &Path, lines: u64) -> Result<()> {
    let mut command = bench.program("dockctl")?;
    command.env("DOCKCTL_CONFIG", config).args(["logs", &reference()]);
    let (_, printed) = timed(&mut command, Stdio::piped()).await?;
    let mut check = LineCheck::default();
    check.feed(&printed)?;
    let came = check.finish()?;
    ensure!(came == lines, "`dockctl logs` printed {came} lines of {lines}");
    Ok(())
}

async fn open(api: &Api) -> Result<Streaming<StreamLogsResponse>> {
    let (agent, container) = (AGENT.to_owned(), format!("{PREFIX}{NAME}"));
    let request = StreamLogsRequest { agent, container, ..Default::default() };
    Ok(api.containers().stream_logs(request).await?.into_inner())
}

async fn read(
    mut stream: Streaming<StreamLogsResponse>,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    while let Some(message) = stream.message().await? {
        ensure!(message.notice.is_none(), "{:?}", message.notice);
        for record in message.records {
            take(&record.data)?;
        }
    }
    Ok(())
}

/// Reads a message each 50 ms for that many seconds, then hangs up.
async fn read_slowly(mut stream: Streaming<StreamLogsResponse>, seconds: u64) -> Result<()> {
    let mut ticks = tokio::time::interval(SLOW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        ticks.tick().await;
        if stream.message().await?.is_none() {
            break;
        }
    }
    Ok(())
}
