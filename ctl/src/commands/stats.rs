//! `stats`: the resource use of containers in docker's columns: redrawn in place for people, a line for
//! each sample when piped.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    pin::pin,
    time::{Duration, Instant},
};

use dockctl_api::v1::{
    Container, ListContainersRequest, StreamStatsRequest, StreamStatsResponse,
    container_service_client::ContainerServiceClient,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::Value;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{Ctx, act, host};
use crate::{
    args::{self, Format},
    error::{Error, Exit, Result},
    format::{Row, Template},
    output::{
        clean, human, json,
        printer::{Printer, To},
        table::{Cell, Table},
    },
    resolve,
    retry::Retry,
    select::{On, Selection},
    watch::{self, News},
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
/// How long `--no-stream` waits for several hosts; an engine needs two seconds to measure.
const ONCE: Duration = Duration::from_secs(4);
/// A row without a sample for this long has stopped; samples come about once a second.
const GONE: Duration = Duration::from_secs(5);

/// `dockctl stats [REF...]`, or of a selection.
pub(crate) async fn run(ctx: &Ctx, args: args::Stats) -> Result<()> {
    let (on, labels) = (args.selector.on.as_ref(), &args.selector.label);
    // One agent as a whole is asked for, not selected.
    let whole = args.containers.is_empty() && labels.is_empty();
    let agent = On::agent(on).filter(|_| whole);
    let template = Template::of_list(args.format.as_deref())?;
    if args.all && agent.is_none() {
        return Err(Error::usage("--all needs --on HOST, and names no containers"));
    }
    let selection = match agent.is_none() && Selection::is_one(on, labels, &args.containers) {
        true => Some(Selection::new(&ctx.session, on, labels, &args.containers).await?),
        false => None,
    };
    let requests = match (&selection, agent) {
        (None, None) => requests(ctx, &args).await?,
        (_, Some(agent)) if args.all => {
            let all = ListContainersRequest {
                agent: agent.to_owned(),
                all: true,
                ..ListContainersRequest::default()
            };
            let listing = resolve::list(&ctx.session, all);
            let listed = ctx.wait("listing containers", listing).await;
            let listed = match listed {
                Ok(listed) => listed.containers,
                Err(error) => return Err(host::told(ctx, agent, error).await),
            };
            vec![request(agent, listed.into_iter().map(|c| c.id).collect(), &args)]
        }
        (_, agent) => vec![request(agent.unwrap_or_default(), Vec::new(), &args)],
    };
    let known = Known::default();
    let choose = |sample: &StreamStatsResponse| match &selection {
        _ if sample.container_id.is_empty() => selection
            .as_ref()
            .is_none_or(|s| sample.agent.is_empty() || s.hosts().fits(&sample.agent)),
        None => true,
        Some(selection) if selection.has_labels() => known.has(sample),
        Some(selection) => {
            let (id, name) = (&sample.container_id, &sample.container_name);
            selection.fits(&sample.agent, id, name, &HashMap::new())
        }
    };
    let labelled = selection.as_ref().filter(|s| s.has_labels());
    if let Some(selection) = labelled {
        known.add(ctx.wait("looking for the containers", selection.list(&ctx.session, "")).await?);
    }
    // One host that hangs must not keep all others' answers back.
    let fleet = requests.iter().any(|r| r.agent.is_empty());
    let several = fleet || requests.len() > 1;
    let deadline = (several && args.no_stream).then(|| Instant::now() + ONCE);
    let named = requests.iter().map(|r| r.agent.clone()).filter(|agent| !agent.is_empty());
    let unheard = RefCell::new(named.collect::<BTreeSet<String>>());
    let failures = RefCell::new(Vec::new());
    let (samples, incoming) = mpsc::channel(QUEUE);
    let (chosen, pending, failed) = (&choose, &unheard, &failures);
    let stream = |request: StreamStatsRequest| {
        let who = if request.agent.is_empty() { "the controller" } else { &request.agent };
        let retry = Retry::new(ctx.term, who);
        let (agent, samples) = (request.agent.clone(), samples.clone());
        async move {
            let result = follow(ctx, request, retry, chosen, samples).await;
            pending.borrow_mut().remove(&agent);
            failed.borrow_mut().extend(result.err());
        }
    };
    let streams: FuturesUnordered<_> = requests.into_iter().map(stream).collect();
    drop(samples);

    let mut printer = Printer::start(ctx.term, false)?;
    let screen = Screen::new(ctx, &args, template);
    // Streams that have all ended end the output; output that ends or fails ends the streams.
    let both = async {
        let mut shown = pin!(show(screen, incoming, &mut printer, deadline));
        let mut all = pin!(streams.collect::<Vec<()>>());
        let mut ended = false;
        loop {
            tokio::select! {
                result = &mut shown => return result,
                _ = &mut all, if !ended => ended = true,
            }
        }
    };
    let both = match labelled.filter(|_| !args.no_stream) {
        None => both.await,
        Some(selection) => tokio::select! {
            both = both => both,
            Err(error) = known.keep(ctx, selection) => Err(error),
        },
    };
    let answered = printer.finish(both)?;
    let mut failures: Vec<Error> = failures.take();
    if let Some(answered) = answered {
        let hosts = match fleet {
            true => silent(ctx, selection.as_ref(), &answered).await?,
            false => unheard.take(),
        };
        failures.extend(hosts.iter().map(|host| {
            let sentence = format!("no statistics within {} s", ONCE.as_secs());
            Error::new(Exit::Failed, sentence).about(clean(host))
        }));
    }
    act::fail(ctx, failures)
}

/// The hosts that have containers running and have not answered.
async fn silent(
    ctx: &Ctx,
    selection: Option<&Selection>,
    answered: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    let listed = resolve::list(&ctx.session, ListContainersRequest::default()).await?;
    let running = listed.containers.into_iter().filter(|c| !c.stale);
    let wanted = running.filter(|c| selection.is_none_or(|s| s.has(c)));
    Ok(wanted.map(|c| c.agent).filter(|agent| !answered.contains(agent)).collect())
}

/// The containers that labels select, by agent and id: samples do not tell labels.
#[derive(Default)]
struct Known(RefCell<HashSet<(String, String)>>);

impl Known {
    fn has(&self, sample: &StreamStatsResponse) -> bool {
        self.0.borrow().contains(&(sample.agent.clone(), sample.container_id.clone()))
    }

    fn add(&self, list: Vec<Container>) {
        self.0.borrow_mut().extend(list.into_iter().map(|c| (c.agent, c.id)));
    }

    /// Keeps up with what starts and goes.
    async fn keep(&self, ctx: &Ctx, selection: &Selection) -> Result<()> {
        let (news, mut incoming) = mpsc::channel(QUEUE);
        // Its streams' losses are told already.
        let retry = Retry::telling("the controller", |_| ());
        let taking = async {
            while let Some(news) = incoming.recv().await {
                match news {
                    News::All(list, _) => {
                        self.0.borrow_mut().clear();
                        self.add(list);
                    }
                    News::Host(_, list) => self.add(list),
                    News::Offline(_) => {}
                    News::Event(agent, event) if event.action == "destroy" => {
                        self.0.borrow_mut().remove(&(agent, event.actor_id));
                    }
                    News::Event(agent, event) => {
                        self.0.borrow_mut().insert((agent, event.actor_id));
                    }
                }
            }
        };
        tokio::join!(watch::watch(&ctx.session, selection, retry, news), taking).0
    }
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
    Ok(by_agent.into_iter().map(|(agent, names)| request(&agent, names, args)).collect())
}

fn request(agent: &str, containers: Vec<String>, args: &args::Stats) -> StreamStatsRequest {
    StreamStatsRequest {
        agent: agent.to_owned(),
        containers,
        no_stream: args.no_stream,
        ..StreamStatsRequest::default()
    }
}

/// One agent's samples (or the fleet's), through lost links. Samples only tell of now, so that nothing
/// needs to be resumed.
pub(super) async fn follow(
    ctx: &Ctx,
    request: StreamStatsRequest,
    mut retry: Retry,
    choose: impl Fn(&StreamStatsResponse) -> bool,
    samples: Sender<StreamStatsResponse>,
) -> Result<()> {
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
                            if !choose(&sample) {
                                continue;
                            }
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

/// Shows samples as they come, or at the end. The agents that have answered where it did not wait for all.
async fn show(
    mut screen: Screen<'_>,
    mut incoming: Receiver<StreamStatsResponse>,
    printer: &mut Printer,
    deadline: Option<Instant>,
) -> Result<Option<BTreeSet<String>>> {
    let late = async {
        match deadline {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    };
    let mut late = pin!(late);
    let mut answered = None;
    let mut tick = tokio::time::interval(REDRAW);
    loop {
        let (text, over) = tokio::select! {
            sample = incoming.recv() => match sample {
                Some(sample) => (screen.sample(sample)?, false),
                None => (screen.last()?, true),
            },
            () = &mut late => {
                answered = Some(screen.rows.keys().map(|(agent, _)| agent.clone()).collect());
                (screen.last()?, true)
            }
            _ = tick.tick(), if screen.live => (screen.draw(Instant::now())?, false),
        };
        if !text.is_empty() {
            printer.send_own(To::Out, text).await?;
        }
        if over {
            return Ok(answered);
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
    /// Whole ids.
    whole: bool,
    template: Option<Template>,
    rows: BTreeMap<(String, String), (StreamStatsResponse, Instant)>,
}

impl<'a> Screen<'a> {
    fn new(ctx: &'a Ctx, args: &args::Stats, template: Option<Template>) -> Self {
        let (once, whole) = (args.no_stream, args.no_trunc);
        let live = !once && ctx.term.out && (ctx.format == Format::Table || template.is_some());
        Self { ctx, live, once, drawn: false, whole, template, rows: BTreeMap::new() }
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
        if let Some(template) = &self.template {
            let first = !std::mem::replace(&mut self.drawn, true) && template.is_table();
            let header = if first { template.header(&FIELDS)? } else { String::new() };
            return Ok(self.ctx.safe(header + &template.row(&row(&sample, self.whole))?));
        }
        if self.ctx.format == Format::Table {
            let mut table = Table::bare(&WIDTHS);
            if !std::mem::replace(&mut self.drawn, true) {
                table.row(COLUMNS.map(Cell::from).into());
            }
            table.row(cells(&sample, self.whole));
            return Ok(table.render(false));
        }
        let value = json::value("StreamStatsResponse", &sample)?;
        Ok(self.ctx.safe(json::item(self.ctx.format, &value)?))
    }

    /// The whole screen anew.
    fn draw(&mut self, now: Instant) -> Result<String> {
        self.rows.retain(|_, (_, seen)| now.duration_since(*seen) < GONE);
        let clear = if std::mem::replace(&mut self.drawn, true) { "" } else { "\x1b[2J" };
        let text = match self.ctx.term.size() {
            _ if self.template.is_some() => self.made()?,
            Some((width, height)) => fit(&self.table().fit(self.ctx.term.color(), width), height),
            None => self.table().render(self.ctx.term.color()),
        };
        // Line by line over what stands there: no flicker.
        Ok(format!("{clear}\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))
    }

    /// What is to be printed at the end.
    fn last(&mut self) -> Result<String> {
        match self.ctx.format {
            _ if !self.once => Ok(String::new()),
            _ if self.template.is_some() => self.made(),
            Format::Table => Ok(self.table().show(self.ctx.term)),
            format => {
                let all = self.rows.values().map(|(s, _)| json::value("StreamStatsResponse", s));
                let document = json::document(format, &all.collect::<Result<Value>>()?)?;
                Ok(self.ctx.safe(document))
            }
        }
    }

    /// What the template makes of all rows.
    fn made(&self) -> Result<String> {
        let Some(template) = &self.template else { return Ok(String::new()) };
        let rows: Vec<Row> = self.rows.values().map(|(s, _)| row(s, self.whole)).collect();
        Ok(self.ctx.safe(template.rows(&FIELDS, &rows)?))
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&COLUMNS).giving_way(&[1, 4, 6, 7, 2, 0]);
        self.rows.values().for_each(|(sample, _)| table.row(cells(sample, self.whole)));
        table
    }
}

/// The lines that a window of this height has room for, the last of which says what is left out. The
/// cursor takes one more.
fn fit(text: &str, height: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let room = height.saturating_sub(1).max(2);
    if lines.len() <= room {
        return text.to_owned();
    }
    let shown: String = lines[..room - 1].iter().flat_map(|line| [line, "\n"]).collect();
    format!("{shown}… and {} more: `dockctl top` scrolls\n", lines.len() - (room - 1))
}

/// docker's names for what COLUMNS show.
const FIELDS: [(&str, &str); 10] = [
    ("Agent", "HOST"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
    ("Container", "CONTAINER"),
];

/// A sample under docker's names.
fn row(s: &StreamStatsResponse, whole: bool) -> Row {
    let mut texts = texts(s, whole).into_iter().chain([s.container_name.clone()]);
    let fields = FIELDS.map(|(name, _)| (name, texts.next().unwrap_or_default()));
    Row::new(fields, &HashMap::new())
}

fn cells(s: &StreamStatsResponse, whole: bool) -> Vec<Cell> {
    texts(s, whole).into_iter().map(Cell::from).collect()
}

fn texts(s: &StreamStatsResponse, whole: bool) -> [String; 9] {
    let percent = match s.memory_limit {
        0 => 0.0,
        limit => s.memory_usage as f64 / limit as f64 * 100.0,
    };
    let pair = |a, b| format!("{} / {}", human::decimal_size(a, 3), human::decimal_size(b, 3));
    [
        s.agent.clone(),
        if whole { s.container_id.clone() } else { human::short_id(&s.container_id).to_owned() },
        s.container_name.clone(),
        format!("{:.2}%", s.cpu_percent),
        format!("{} / {}", human::binary_size(s.memory_usage), human::binary_size(s.memory_limit)),
        format!("{percent:.2}%"),
        pair(s.network_received, s.network_sent),
        pair(s.block_read, s.block_written),
        s.pids.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_window_has_no_room_for_is_counted() {
        assert_eq!(fit("h\na\nb\nc\n", 5), "h\na\nb\nc\n");
        assert_eq!(fit("h\na\nb\nc\n", 4), "h\na\n… and 2 more: `dockctl top` scrolls\n");
        assert_eq!(fit("h\na\nb\nc\n", 0), "h\n… and 3 more: `dockctl top` scrolls\n");
    }

    #[test]
    fn rows_read_as_dockers() {
        let mut table = Table::new(&COLUMNS);
        table.row(cells(
            &StreamStatsResponse {
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
            },
            false,
        ));
        assert_eq!(
            table.render(false).lines().nth(1).unwrap(),
            "web-1   0123456789ab   nginx   12.35%   21.45MiB / 2GiB     1.05%   1.2MB / 648B   0B / 0B     5"
        );
    }
}
