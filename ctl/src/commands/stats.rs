//! `stats`: the resource use of containers in docker's columns: redrawn in place for people, a line for
//! each sample when piped.

use std::{
    collections::BTreeMap,
    future::ready,
    time::{Duration, Instant},
};

use dockctl_api::v1::{
    StreamStatsRequest, StreamStatsResponse, container_service_client::ContainerServiceClient,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::Value;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{Ctx, act};
use crate::{
    args::{self, Format},
    error::{Error, Result},
    output::{
        human, json,
        printer::{Printer, To},
        table::{Cell, Table},
    },
    resolve,
    retry::Retry,
};

const COLUMNS: [&str; 9] = [
    "HOST",
    "CONTAINER ID",
    "NAME",
    "CPU %",
    "MEM USAGE / LIMIT",
    "MEM %",
    "NET I/O",
    "BLOCK I/O",
    "PIDS",
];
/// Widths that most values fit in, so that lines which come one by one are aligned.
const WIDTHS: [usize; 9] = [8, 12, 16, 7, 21, 6, 15, 15, 4];
/// Samples that wait to be shown, at most.
const QUEUE: usize = 64;
/// How often a terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(500);
/// A row without a sample for this long has stopped; samples come about once a second.
const GONE: Duration = Duration::from_secs(5);

/// `dockctl stats [REF...]`.
pub(crate) async fn run(ctx: &Ctx, args: args::Stats) -> Result<()> {
    let requests = requests(ctx, &args).await?;
    let (samples, incoming) = mpsc::channel(QUEUE);
    let streams: FuturesUnordered<_> =
        requests.into_iter().map(|request| follow(ctx, request, samples.clone())).collect();
    drop(samples);
    let failures = streams.filter_map(|result| ready(result.err())).collect::<Vec<Error>>();

    let mut printer = Printer::start(ctx.term, false)?;
    let screen = Screen::new(ctx, args.no_stream);
    // Streams that have all ended end the output; output that fails ends the streams.
    let both = tokio::try_join!(
        async { Ok::<_, Error>(failures.await) },
        show(screen, incoming, &mut printer)
    );
    let (failures, ()) = printer.finish(both)?;
    act::fail(ctx, failures)
}

/// One request for each agent that was named, or one for the whole fleet.
async fn requests(ctx: &Ctx, args: &args::Stats) -> Result<Vec<StreamStatsRequest>> {
    let mut by_agent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for wanted in &args.containers {
        let resolving = resolve::resolve(&ctx.session, wanted);
        let target = ctx.wait("looking for the containers", resolving).await?;
        by_agent.entry(target.agent).or_default().push(target.container);
    }
    if by_agent.is_empty() {
        by_agent.insert(String::new(), Vec::new());
    }
    let request = |(agent, containers)| StreamStatsRequest {
        agent,
        containers,
        no_stream: args.no_stream,
        ..StreamStatsRequest::default()
    };
    Ok(by_agent.into_iter().map(request).collect())
}

/// One agent's samples (or the fleet's), through lost links. Samples only tell of now, so that nothing
/// needs to be resumed.
async fn follow(
    ctx: &Ctx,
    request: StreamStatsRequest,
    samples: Sender<StreamStatsResponse>,
) -> Result<()> {
    let who = if request.agent.is_empty() { "the controller" } else { &request.agent };
    let mut retry = Retry::new(ctx.term, who);
    loop {
        let opening = ctx.session.call(None, |channel| {
            let request = request.clone();
            async move { ContainerServiceClient::new(channel).stream_stats(request).await }
        });
        let error = match opening.await {
            Err(error) => error,
            Ok(mut stream) => {
                retry.opened();
                loop {
                    match stream.message().await {
                        Ok(Some(sample)) => {
                            retry.alive();
                            if samples.send(sample).await.is_err() {
                                return Ok(()); // the output has ended and says why
                            }
                        }
                        Ok(None) => return Ok(()),
                        Err(status) => break Error::from(status),
                    }
                }
            }
        };
        let result = if request.no_stream { Err(error) } else { retry.after(error).await };
        if let Err(error) = result {
            return Err(match request.agent.as_str() {
                "" => error,
                agent => resolve::explain_agent(&ctx.session, agent, error).await,
            });
        }
    }
}

async fn show(
    mut screen: Screen<'_>,
    mut incoming: Receiver<StreamStatsResponse>,
    printer: &mut Printer,
) -> Result<()> {
    let mut tick = tokio::time::interval(REDRAW);
    loop {
        let (text, over) = tokio::select! {
            sample = incoming.recv() => match sample {
                Some(sample) => (screen.sample(sample)?, false),
                None => (screen.last()?, true),
            },
            _ = tick.tick(), if screen.live => (screen.draw(Instant::now()), false),
        };
        if !text.is_empty() {
            printer.send_own(To::Out, text).await?;
        }
        if over {
            return Ok(());
        }
    }
}

/// What has been seen, and how it is shown.
struct Screen<'a> {
    ctx: &'a Ctx,
    /// Redrawn in place.
    live: bool,
    /// Shown once, at the end.
    once: bool,
    drawn: bool,
    rows: BTreeMap<(String, String), (StreamStatsResponse, Instant)>,
}

impl<'a> Screen<'a> {
    fn new(ctx: &'a Ctx, once: bool) -> Self {
        let live = !once && ctx.term.out && ctx.format == Format::Table;
        Self { ctx, live, once, drawn: false, rows: BTreeMap::new() }
    }

    /// Takes a sample; returns what is to be printed for it at once.
    fn sample(&mut self, sample: StreamStatsResponse) -> Result<String> {
        if let Some(notice) = &sample.notice {
            self.ctx.tell(&sample.agent, notice);
        }
        if sample.container_id.is_empty() {
            return Ok(String::new());
        }
        if self.live || self.once {
            let key = (sample.agent.clone(), sample.container_name.clone());
            self.rows.insert(key, (sample, Instant::now()));
            return Ok(String::new());
        }
        if self.ctx.format == Format::Table {
            let mut table = Table::bare(&WIDTHS);
            table.row(cells(&sample));
            return Ok(table.render(false));
        }
        let value = json::value("StreamStatsResponse", &sample)?;
        Ok(self.ctx.safe(json::item(self.ctx.format, &value)?))
    }

    /// The whole screen anew.
    fn draw(&mut self, now: Instant) -> String {
        self.rows.retain(|_, (_, seen)| now.duration_since(*seen) < GONE);
        let clear = if std::mem::replace(&mut self.drawn, true) { "" } else { "\x1b[2J" };
        // Line by line over what stands there: no flicker.
        format!("{clear}\x1b[H{}\x1b[J", self.table().replace('\n', "\x1b[K\n"))
    }

    /// What is to be printed at the end.
    fn last(&mut self) -> Result<String> {
        match self.ctx.format {
            _ if !self.once => Ok(String::new()),
            Format::Table => Ok(self.table()),
            format => {
                let all = self.rows.values().map(|(s, _)| json::value("StreamStatsResponse", s));
                let document = json::document(format, &all.collect::<Result<Value>>()?)?;
                Ok(self.ctx.safe(document))
            }
        }
    }

    fn table(&self) -> String {
        let mut table = Table::new(&COLUMNS);
        self.rows.values().for_each(|(sample, _)| table.row(cells(sample)));
        table.render(self.ctx.term.color())
    }
}

fn cells(s: &StreamStatsResponse) -> Vec<Cell> {
    let percent = match s.memory_limit {
        0 => 0.0,
        limit => s.memory_usage as f64 / limit as f64 * 100.0,
    };
    let pair = |a, b| format!("{} / {}", human::decimal_size(a, 3), human::decimal_size(b, 3));
    [
        s.agent.clone(),
        human::short_id(&s.container_id).to_owned(),
        s.container_name.clone(),
        format!("{:.2}%", s.cpu_percent),
        format!("{} / {}", human::binary_size(s.memory_usage), human::binary_size(s.memory_limit)),
        format!("{percent:.2}%"),
        pair(s.network_received, s.network_sent),
        pair(s.block_read, s.block_written),
        s.pids.to_string(),
    ]
    .into_iter()
    .map(Cell::from)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_as_dockers() {
        let mut table = Table::new(&COLUMNS);
        table.row(cells(&StreamStatsResponse {
            agent: "web-1".to_owned(),
            container_id: "0123456789abcdef".to_owned(),
            container_name: "nginx".to_owned(),
            cpu_percent: 12.345,
            memory_usage: 22_491_955,
            memory_limit: 2_147_483_648,
            network_received: 1_200_000,
            network_sent: 648,
            pids: 5,
            ..StreamStatsResponse::default()
        }));
        assert_eq!(
            table.render(false).lines().nth(1).unwrap(),
            "web-1   0123456789ab   nginx   12.35%   21.45MiB / 2GiB     1.05%   1.2MB / 648B   0B / 0B     5"
        );
    }
}
