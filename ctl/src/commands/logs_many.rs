//! `logs` of many containers at once: each line begins with its host and container, in a colour of its
//! own, and none is torn by another's. A followed selection takes in what starts later and fits.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    pin::pin,
    rc::Rc,
};

use bytes::Bytes;
use dockctl_api::v1::{Container, LogStream, StreamLogsRequest};
use futures_util::{StreamExt, stream::FuturesUnordered};
use prost_types::Timestamp;
use tokio::sync::mpsc;
use unicode_width::UnicodeWidthStr;

use super::{
    Ctx, act,
    logs::{Sink, gather, object, output_of, request, resumed},
};
use crate::{
    args::{self, Format},
    error::{Error, Exit, Result},
    moment,
    output::{
        clean,
        escape::Sanitizer,
        printer::{Printer, To},
    },
    refs::Ref,
    resolve::{self, Target},
    resume::{Resume, Shape},
    retry::Retry,
    select::{self, Selection},
    watch::{self, News, is_up},
};

/// Logs that are read at the same time, at most.
const MOST: usize = 256;
/// A line that does not end is shown in parts of this size, bytes: that many may be held for each log.
const LONGEST: usize = 64 * 1024;
/// The widest prefix that others are aligned with, characters.
const WIDEST: usize = 40;
/// News that wait to be looked at, at most.
const QUEUE: usize = 64;
/// Colours that are read well on black and on white.
const COLORS: [&str; 12] = ["36", "33", "32", "35", "34", "31", "96", "93", "92", "95", "94", "91"];

/// The logs of several containers, named one by one: it ends when all have ended.
pub(super) async fn named(ctx: &Ctx, args: &args::Logs) -> Result<()> {
    too_many(args.containers.len())?;
    let find = |target: Target| async { Ok(target) };
    let results = act::each(ctx, &args.containers, find, |_, _| ()).await;
    let mut failures = Vec::new();
    let printer = Printer::start(ctx.term, args.raw)?;
    let many = ManyLogs::new(ctx, args, &printer);
    let mut streams = FuturesUnordered::new();
    for (wanted, result) in args.containers.iter().zip(results) {
        match result {
            Ok(target) => {
                let who = Who { shown: target.shown(), target };
                streams.push(many.read(who, many.fresh(request)));
            }
            Err(error) => failures.push(error.about(wanted.to_string())),
        }
    }
    let mut over = Ok(());
    while let Some(done) = streams.next().await {
        match done.result {
            Err(error @ Error::Told(_)) => {
                let error = resolve::explain(&ctx.session, &done.who.target, error).await;
                failures.push(error);
            }
            Err(error) => {
                over = Err(error);
                break;
            }
            Ok(()) => {}
        }
    }
    drop(streams);
    printer.finish(over)?;
    act::fail(ctx, failures)
}

/// The logs of a selection; followed, it takes in what starts later.
pub(super) async fn selected(ctx: &Ctx, args: &args::Logs) -> Result<()> {
    let selector = &args.selector;
    let selecting =
        Selection::new(&ctx.session, selector.on.as_ref(), &selector.label, &args.containers);
    let selection = ctx.wait("looking for the containers", selecting).await?;
    let found = ctx.wait("looking for the containers", selection.list(&ctx.session, "")).await?;
    if let Some(unmet) = selection.unmet(&found).next() {
        return Err(select::nothing(Some(unmet)));
    }
    let wanted: Vec<&Container> = found.iter().filter(|c| is_wanted(args, c)).collect();
    too_many(wanted.len())?;
    if wanted.is_empty() && !args.follow {
        let error = select::nothing(None);
        return Err(match found.len() {
            0 => error,
            n => error.hint(format!("{n} that do not run would fit with --all")),
        });
    }
    let printer = Printer::start(ctx.term, args.raw)?;
    let many = ManyLogs::new(ctx, args, &printer);
    let result = match args.follow {
        true => many.follow(&selection).await,
        false => many.once(&wanted).await,
    };
    let failures = printer.finish(result)?;
    act::fail(ctx, failures)
}

/// Whether a selected container's log is shown from the start: that of one named plainly always is.
fn is_wanted(args: &args::Logs, c: &Container) -> bool {
    let is_named = |r: &Ref| !select::is_glob(&r.container) && r.container == c.name;
    args.all || is_up(c) || args.containers.iter().any(is_named)
}

fn too_many(count: usize) -> Result<()> {
    match count {
        ..=MOST => Ok(()),
        _ => {
            Err(Error::usage(format!("{count} logs at once are too many: at most {MOST} are read"))
                .hint("select fewer, with -l, --on or a narrower glob"))
        }
    }
}

/// A container whose log is read.
struct Who {
    /// As calls name it.
    target: Target,
    /// As people do.
    shown: String,
}

impl Who {
    fn of(c: &Container) -> Self {
        let target = Target { agent: c.agent.clone(), container: c.id.clone() };
        Self { target, shown: select::shown(c) }
    }
}

/// A log that has come to its end, and how far it was read.
struct Done {
    who: Who,
    resume: Resume,
    result: Result<()>,
}

/// What all logs of one command share.
struct ManyLogs<'a> {
    ctx: &'a Ctx,
    args: &'a args::Logs,
    printer: &'a Printer,
    started: Timestamp,
    /// The width of prefixes by now.
    width: Cell<usize>,
    /// What was said last of each host's link, so that it is not said for each log.
    links: Rc<RefCell<HashMap<String, String>>>,
}

impl<'a> ManyLogs<'a> {
    fn new(ctx: &'a Ctx, args: &'a args::Logs, printer: &'a Printer) -> Self {
        let started = moment::timestamp_now();
        Self { ctx, args, printer, started, width: Cell::default(), links: Rc::default() }
    }

    /// A log from where the flags say.
    fn fresh(
        &self,
        request: impl Fn(&args::Logs, &Target) -> StreamLogsRequest,
    ) -> impl FnOnce(&Who) -> Resume {
        let json = self.ctx.format != Format::Table;
        let shape = Shape { stamps: self.args.timestamps || json, whole: true, longest: LONGEST };
        let (args, started) = (self.args, self.started);
        move |who| Resume::new(request(args, &who.target), started, shape)
    }

    /// Reads one log to its end.
    async fn read(&self, who: Who, resume: impl FnOnce(&Who) -> Resume) -> Done {
        let shown = clean(&who.shown);
        self.width.set(self.width.get().max(shown.width().min(WIDEST)));
        let mut resume = resume(&who);
        let term = self.ctx.term;
        let (links, agent) = (self.links.clone(), who.target.agent.clone());
        let retry = Retry::telling(agent.clone(), move |text| {
            if links.borrow_mut().insert(agent.clone(), text.to_owned()).as_deref() != Some(text) {
                term.notice(text);
            }
        });
        let sanitizer = |person: bool| (person && !self.args.raw).then(Sanitizer::default);
        let mut lines = Prefixed {
            many: self,
            color: color_of(&shown),
            shown,
            agent: &who.target.agent,
            sanitizers: [sanitizer(term.out), sanitizer(term.err)],
            pending: Vec::new(),
        };
        let result = resumed(self.ctx, &mut resume, retry, &mut lines).await;
        Done { who, resume, result }
    }

    /// Each log once, and the failures.
    async fn once(&self, wanted: &[&Container]) -> Result<Vec<Error>> {
        let mut failures = Vec::new();
        let mut streams: FuturesUnordered<_> =
            wanted.iter().map(|c| self.read(Who::of(c), self.fresh(request))).collect();
        while let Some(done) = streams.next().await {
            match done.result {
                Err(Error::BrokenPipe) => return Err(Error::BrokenPipe),
                Err(error) => failures.push(error.about(done.who.shown)),
                Ok(()) => {}
            }
        }
        Ok(failures)
    }

    /// Follows a selection until it is interrupted.
    async fn follow(&self, selection: &Selection) -> Result<Vec<Error>> {
        let (news, mut incoming) = mpsc::channel(QUEUE);
        let retry = Retry::new(self.ctx.term, "the controller");
        let mut watching = pin!(watch::watch(&self.ctx.session, selection, retry, news));
        let mut members = Members::default();
        let mut streams = FuturesUnordered::new();
        loop {
            let joining = tokio::select! {
                result = &mut watching => return result.map(|()| Vec::new()),
                Some(news) = incoming.recv() => members.take(news, self.args),
                Some(done) = streams.next(), if !streams.is_empty() => {
                    self.left(done, &mut members)?.into_iter().collect()
                }
            };
            for (who, from) in joining {
                if streams.len() >= MOST {
                    let name = clean(&who.shown);
                    self.ctx.term.notice(&format!("{name} is left out: {MOST} logs are followed"));
                    members.reading.remove(&who.target);
                    continue;
                }
                let resume = move |who: &Who| match from {
                    From::Flags => self.fresh(request)(who),
                    From::Start => self.fresh(|args, target| StreamLogsRequest {
                        tail: None,
                        ..request(args, target)
                    })(who),
                    From::Time(time) => self.fresh(|args, target| StreamLogsRequest {
                        tail: None,
                        since: later(args.since.map(|t| t.0), time),
                        ..request(args, target)
                    })(who),
                    From::Where(resume) => *resume,
                };
                streams.push(self.read(who, resume));
            }
        }
    }

    /// A followed log has ended: with its container, as a rule. It goes on if that has started again.
    fn left(&self, done: Done, members: &mut Members) -> Result<Option<(Who, From)>> {
        let Done { who, mut resume, result } = done;
        members.reading.remove(&who.target);
        match result {
            Err(Error::BrokenPipe) => return Err(Error::BrokenPipe),
            // It was removed.
            Err(error) if error.code() == Exit::NotFound as u8 => return Ok(None),
            Err(error) => {
                if let Some(failure) = error.about(clean(&who.shown)).told() {
                    self.ctx.term.notice(&format!("dockctl: {failure}"));
                }
            }
            Ok(()) => {}
        }
        resume.cut();
        members.ended.insert(who.target.clone(), resume);
        match members.again.remove(&who.target) {
            true => Ok(members.join(who, None)),
            false => Ok(None),
        }
    }
}

/// The later of two times.
fn later(asked: Option<Timestamp>, time: Timestamp) -> Option<Timestamp> {
    let order = |t: &Timestamp| (t.seconds, t.nanos);
    asked.filter(|asked| order(asked) > order(&time)).or(Some(time))
}

/// Where a log that joins is read from.
enum From {
    /// Where the flags say.
    Flags,
    /// Its beginning.
    Start,
    /// A time.
    Time(Timestamp),
    /// Where it ended before.
    Where(Box<Resume>),
}

/// Which containers of a followed selection are known.
#[derive(Default)]
struct Members {
    begun: bool,
    reading: HashSet<Target>,
    /// Those that were there before and whose log was not read.
    old: HashSet<Target>,
    /// Those that have started again before the log of their last run was read to its end.
    again: HashSet<Target>,
    /// Those whose log was read to an end: they may start again.
    ended: HashMap<Target, Resume>,
}

impl Members {
    /// Which logs join now.
    fn take(&mut self, news: News, args: &args::Logs) -> Vec<(Who, From)> {
        match news {
            News::All(list, _) | News::Host(_, list) => {
                let first = !std::mem::replace(&mut self.begun, true);
                let mut joining = Vec::new();
                for c in &list {
                    let who = Who::of(c);
                    if first && is_wanted(args, c) {
                        self.reading.insert(who.target.clone());
                        joining.push((who, From::Flags));
                    } else if first {
                        self.old.insert(who.target);
                    } else if is_up(c) {
                        joining.extend(self.join(who, None));
                    }
                }
                joining
            }
            News::Offline(_) => Vec::new(),
            News::Event(agent, event) => {
                let name = event.attributes.get("name").filter(|n| !n.is_empty());
                let shown = format!("{agent}/{}", name.unwrap_or(&event.actor_id));
                let target = Target { agent, container: event.actor_id };
                match event.action.as_str() {
                    "start" if self.reading.contains(&target) => drop(self.again.insert(target)),
                    "start" => {
                        let joining = self.join(Who { target, shown }, event.time);
                        return joining.into_iter().collect();
                    }
                    "destroy" => {
                        self.ended.remove(&target);
                        self.old.remove(&target);
                    }
                    _ => {}
                }
                Vec::new()
            }
        }
    }

    /// One that has started at a time of its engine, if that is known.
    fn join(&mut self, who: Who, time: Option<Timestamp>) -> Option<(Who, From)> {
        let target = &who.target;
        if !self.reading.insert(target.clone()) {
            return None;
        }
        let from = match (self.ended.remove(target), self.old.remove(target), time) {
            (Some(resume), ..) => From::Where(Box::new(resume)),
            // Its first lines may be a little older than the event.
            (None, true, Some(Timestamp { seconds, nanos })) => {
                From::Time(Timestamp { seconds: seconds.saturating_sub(1), nanos })
            }
            _ => From::Start,
        };
        Some((who, from))
    }
}

/// One log's lines with their prefix.
struct Prefixed<'a> {
    many: &'a ManyLogs<'a>,
    agent: &'a str,
    shown: String,
    color: &'static str,
    sanitizers: [Option<Sanitizer>; 2],
    pending: Vec<(To, Vec<u8>)>,
}

impl Sink for Prefixed<'_> {
    fn add(&mut self, stream: LogStream, text: &[u8]) {
        let ctx = self.many.ctx;
        if ctx.format != Format::Table {
            let container = self.shown.split_once('/').map_or(&*self.shown, |(_, name)| name);
            let line = object(ctx.format, self.agent, container, stream, text);
            return self.pending.push((To::Out, ctx.safe(line).into_bytes()));
        }
        let to = output_of(stream);
        let person = if to == To::Out { ctx.term.out } else { ctx.term.err };
        let color = (person && ctx.term.colors).then_some(self.color);
        let mut line = prefix(&self.shown, self.many.width.get(), color).into_bytes();
        match &mut self.sanitizers[to as usize] {
            Some(sanitizer) => sanitizer.push(text, &mut line),
            None => line.extend_from_slice(text),
        }
        // A part of a very long line, or the last one: the next line is another container's.
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        gather(&mut self.pending, to, &line);
    }

    async fn print(&mut self) -> Result<()> {
        for (to, text) in self.pending.drain(..) {
            self.many.printer.send_own(to, Bytes::from(text)).await?;
        }
        Ok(())
    }
}

/// What a line begins with.
fn prefix(shown: &str, width: usize, color: Option<&str>) -> String {
    let pad = " ".repeat(width.saturating_sub(shown.width()));
    match color {
        Some(code) => format!("\x1b[{code}m{shown}{pad} |\x1b[0m "),
        None => format!("{shown}{pad} | "),
    }
}

/// A container's colour: always the same, so that people know it again (FNV-1a).
fn color_of(shown: &str) -> &'static str {
    let hash = shown.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    COLORS[usize::try_from(hash % COLORS.len() as u64).unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, state: &str) -> Container {
        let (id, state) = (id.to_owned(), state.to_owned());
        Container {
            agent: "web-1".to_owned(),
            name: format!("n-{id}"),
            id,
            state,
            ..Container::default()
        }
    }

    fn args() -> args::Logs {
        args::Logs {
            follow: true,
            tail: args::Tail(None),
            since: None,
            until: None,
            details: false,
            timestamps: false,
            raw: false,
            all: false,
            selector: Default::default(),
            containers: Vec::new(),
        }
    }

    fn started(id: &str, seconds: i64) -> News {
        let event = dockctl_api::v1::Event {
            action: "start".to_owned(),
            actor_id: id.to_owned(),
            time: Some(Timestamp { seconds, nanos: 0 }),
            ..Default::default()
        };
        News::Event("web-1".to_owned(), event)
    }

    #[test]
    fn prefixes_are_aligned_and_coloured_by_container() {
        assert_eq!(prefix("a/b", 5, None), "a/b   | ");
        assert_eq!(prefix("a/b", 3, Some("36")), "\x1b[36ma/b |\x1b[0m ");
        assert_eq!(color_of("web-1/app"), color_of("web-1/app"));
        let colors: HashSet<&str> = (0..40).map(|n| color_of(&format!("web-{n}/app"))).collect();
        assert!(colors.len() > 6, "{colors:?}");
    }

    #[test]
    fn what_starts_later_joins_and_is_read_once() {
        let mut members = Members::default();
        let list = vec![container("a", "running"), container("b", "exited")];
        let joining = members.take(News::All(list.clone(), Vec::new()), &args());
        assert_eq!(joining.len(), 1);
        assert!(matches!(joining[0].1, From::Flags));
        assert!(members.take(News::All(list, Vec::new()), &args()).is_empty());
        // One that was there before shows nothing of its past.
        let joining = members.take(started("b", 100), &args());
        assert!(matches!(joining[0].1, From::Time(Timestamp { seconds: 99, .. })));
        assert!(members.take(started("b", 100), &args()).is_empty());
        let joining = members.take(started("c", 101), &args());
        assert!(matches!(joining[0].1, From::Start));
        assert_eq!(joining[0].0.shown, "web-1/c");
        // One that starts again goes on where its log ended.
        let a = Target { agent: "web-1".to_owned(), container: "a".to_owned() };
        assert!(members.take(started("a", 102), &args()).is_empty() && members.again.contains(&a));
        members.reading.remove(&a);
        let resume = Resume::new(
            StreamLogsRequest::default(),
            Timestamp::default(),
            Shape { stamps: false, whole: true, longest: LONGEST },
        );
        members.ended.insert(a, resume);
        let joining = members.take(started("a", 102), &args());
        assert!(matches!(joining[0].1, From::Where(_)));
    }
}
