//! How much 200 people who open a log and never read it slow the others on the same agent: unary calls,
//! and the link's heartbeat. Calls come at a steady pace, in turns without the readers and with them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use dockctl_api::v1::{StreamLogsRequest, StreamLogsResponse};
use tonic::Streaming;

use crate::{
    api::Ping,
    harness::{AGENT, Bench, Fleet},
    measure::{Caller as _, Series, ms},
    report::{Figure, Goal},
};

const READERS: usize = 200;
const CONNECTIONS: usize = 4;
/// Far more than all windows between the engine and a reader hold.
const LOG: &str = "yes 'a line of a log that nobody reads, one of very many' | head -c 20000000";
/// The controller tells the median of the last 8 heartbeats, which come each second here: after this
/// time there is none of before.
const HEARTBEATS: Duration = Duration::from_secs(9);
/// Between two calls.
const PACE: Duration = Duration::from_millis(5);

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let fleet = Fleet::start_with(bench, &["--heartbeat", "1"]).await?;
    let id = bench.engine.run_to_end("unread", LOG).await?;
    let client = fleet.controller.client().await?.system();
    let mut ping = Ping { client, agent: AGENT.to_owned() };

    let (rounds, span) = bench.pick((3, HEARTBEATS), (1, Duration::from_secs(1)));
    let (mut without, mut with) = (Series::default(), Series::default());
    let (mut heartbeat_without, mut heartbeat_with) = (Series::default(), Series::default());
    let mut slowest: f64 = 0.0;
    paced(&mut ping, Duration::from_millis(200)).await?; // Warms up.
    for _ in 0..rounds {
        without.extend(paced(&mut ping, span).await?);
        heartbeat_without.push(heartbeat(&fleet).await?);
        let readers = open_readers(&fleet, &id).await?;
        let before = fleet.controller.histogram(HEARTBEAT).await?;
        with.extend(paced(&mut ping, span).await?);
        slowest = slowest.max(largest(&before, &fleet.controller.histogram(HEARTBEAT).await?));
        heartbeat_with.push(heartbeat(&fleet).await?);
        drop(readers);
    }

    let at = |q| (Series::from(without.quantile(q)), Series::from(with.quantile(q)));
    let ((p50, p50_with), (p99, p99_with)) = (at(0.5), at(0.99));
    let twice = Goal::AtMost(2.0);
    Ok(vec![
        Figure::ratio("ping beside 200 unread logs, p50", "ms", ("without", &p50), &p50_with)
            .goal(Goal::AtMost(1.1)),
        Figure::ratio("ping beside 200 unread logs, p99", "ms", ("without", &p99), &p99_with)
            .goal(twice),
        Figure::ratio(
            "heartbeat beside 200 unread logs",
            "ms",
            ("without", &heartbeat_without),
            &heartbeat_with,
        )
        .goal(twice),
        // The bound of the slowest one's bucket: with one heartbeat a second, that is the 99th percentile.
        Figure::alone("slowest heartbeat beside them, at most", "ms", &(slowest * 1e3).into())
            .goal(Goal::AtMost(50.0)),
    ])
}

const HEARTBEAT: &str = "dockctl_heartbeat_seconds";

/// The upper bound of the largest value that was counted between two readings of a histogram.
fn largest(before: &[(f64, f64)], after: &[(f64, f64)]) -> f64 {
    let new = |index: usize| after[index].1 - before.get(index).map_or(0.0, |bucket| bucket.1);
    // The buckets count all that is below them.
    let all = new(after.len() - 1);
    (0..after.len()).find(|index| new(*index) >= all).map_or(f64::NAN, |index| after[index].0)
}

/// Opens logs on a few connections, as several people would, and reads one message of each.
async fn open_readers(
    fleet: &Fleet,
    container: &str,
) -> Result<Vec<Streaming<StreamLogsResponse>>> {
    let mut readers = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = fleet.controller.client().await?.containers();
        for _ in 0..READERS / CONNECTIONS {
            let (agent, container) = (AGENT.to_owned(), container.to_owned());
            let request = StreamLogsRequest { agent, container, ..Default::default() };
            let mut stream = client.stream_logs(request).await?.into_inner();
            stream.message().await?.context("an empty log")?;
            readers.push(stream);
        }
    }
    Ok(readers)
}

/// Calls for that long, pausing between calls; gives milliseconds.
async fn paced(ping: &mut Ping, span: Duration) -> Result<Series> {
    let (end, mut series) = (Instant::now() + span, Series::default());
    while Instant::now() < end {
        let start = Instant::now();
        ping.call().await?;
        series.push(ms(start.elapsed()));
        tokio::time::sleep(PACE).await;
    }
    Ok(series)
}

/// The link's round trip as the controller tells it, milliseconds.
async fn heartbeat(fleet: &Fleet) -> Result<f64> {
    let record = fleet.controller.record(AGENT).await?;
    let round_trip = record.round_trip.context("no heartbeat has been answered")?;
    Ok(ms(Duration::try_from(round_trip)?))
}
