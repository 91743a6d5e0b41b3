//! `top`: a live full-screen table of the fleet's containers. Here is what has to do with the outside:
//! the terminal, the streams, and what keys ask to be done; what is shown is `model`'s, how is `view`'s.

mod columns;
mod model;
mod view;

use std::{io, process::Stdio, time::Duration};

use crossterm::event::{Event as Input, EventStream, KeyEventKind};
use dockctl_api::v1::{LogStream, StreamLogsRequest, StreamStatsRequest, StreamStatsResponse};
use futures_util::{
    StreamExt,
    future::{Either, pending},
    stream::FuturesUnordered,
};
use ratatui::DefaultTerminal;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::{self, Receiver, Sender},
    time::Instant,
};

use self::model::{Effect, Model};
use super::{
    Ctx, act,
    logs::{Sink, resumed},
    look, stats,
};
use crate::{
    args::{self, Global},
    error::{Error, Exit, Result},
    moment,
    resolve::Target,
    resume::{Resume, Shape},
    retry::Retry,
    select::{On, Selection},
    watch::{self, News},
};

/// The shortest time between two drawings.
const REDRAW: Duration = Duration::from_millis(100);
/// What waits to be taken in, at most, of each kind.
const QUEUE: usize = 256;
/// Lines of a log that are shown of its past, and the part of a line that is.
const PAST: u32 = 200;
const LONGEST: usize = 4 * 1024;

/// `dockctl top`, of the fleet, of a selection, or of one container's processes.
pub(crate) async fn run(ctx: &Ctx, global: &Global, args: args::Top) -> Result<()> {
    if let Some((wanted, options)) = args.words.split_first() {
        return look::top(ctx, wanted, options).await;
    }
    if !ctx.term.out || !ctx.term.input {
        return Err(Error::usage("top needs a terminal")
            .hint("for scripts there are `dockctl stats --no-stream` and `dockctl ps`"));
    }
    let (on, labels) = (args.selector.on.as_ref(), &args.selector.label);
    let selecting = Selection::new(&ctx.session, on, labels, &[]);
    let selection = ctx.wait("looking for the agents", selecting).await?;

    let (says, said) = mpsc::channel(QUEUE);
    let (news, incoming) = mpsc::channel(QUEUE);
    let (samples, sampled) = mpsc::channel(QUEUE);
    let (lines, logged) = mpsc::channel(QUEUE);
    let watching = watch::watch(&ctx.session, &selection, retry("the controller", &says), news);
    // Samples are chosen by what the model knows, but for hosts: those may be many that do not count.
    let wanted = |sample: &StreamStatsResponse| selection.hosts().fits(&sample.agent);
    let request = StreamStatsRequest {
        agent: On::agent(on).unwrap_or_default().to_owned(),
        ..StreamStatsRequest::default()
    };
    let silent = Retry::telling("the controller", |_| ()); // `watching` tells
    let sampling = stats::follow(ctx, request, silent, wanted, samples);
    let signals =
        [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(signal);
    let [terminate, hangup, interrupt] = signals;
    let mut sources =
        Sources { said, incoming, sampled, logged, signals: [terminate?, hangup?, interrupt?] };
    let streams = async {
        // Without samples the table still tells states.
        let sampling = async {
            let error = sampling.await.err();
            if let Some(failure) = error.as_ref().and_then(Error::told) {
                let _ = says.send(failure.message.clone()).await;
            }
            pending::<()>().await;
        };
        tokio::join!(watching, sampling).0
    };
    let top = Top { ctx, global, says: &says, lines };
    let result = tokio::select! {
        result = top.run(&mut sources) => result,
        Err(error) = streams => Err(error),
    };
    ratatui::restore();
    result
}

/// One that says on the screen that its link is lost, or back.
fn retry(who: &str, says: &Sender<String>) -> Retry {
    let says = says.clone();
    // What finds no room on the screen is not worth waiting for.
    Retry::telling(who, move |text| drop(says.try_send(text.to_owned())))
}

/// What comes from outside, but for keys.
struct Sources {
    said: Receiver<String>,
    incoming: Receiver<News>,
    sampled: Receiver<StreamStatsResponse>,
    logged: Receiver<String>,
    signals: [Signal; 3],
}

impl Sources {
    /// Waits for something and puts it into the model, with whatever else is there already. False when
    /// a signal asks to end.
    async fn take(&mut self, model: &mut Model) -> bool {
        let [terminate, hangup, interrupt] = &mut self.signals;
        tokio::select! {
            _ = terminate.recv() => return false,
            _ = hangup.recv() => return false,
            _ = interrupt.recv() => return false,
            Some(news) = self.incoming.recv() => model.news(news),
            Some(text) = self.said.recv() => model.say(&text),
            Some(line) = self.logged.recv() => model.log_line(&line),
            Some(sample) = self.sampled.recv() => model.sample(sample),
            else => return false,
        }
        while let Ok(news) = self.incoming.try_recv() {
            model.news(news);
        }
        for _ in 0..QUEUE {
            let Ok(sample) = self.sampled.try_recv() else { break };
            model.sample(sample);
        }
        true
    }
}

struct Top<'a> {
    ctx: &'a Ctx,
    global: &'a Global,
    says: &'a Sender<String>,
    lines: Sender<String>,
}

impl Top<'_> {
    async fn run(&self, sources: &mut Sources) -> Result<()> {
        let mut model = Model::new();
        let mut terminal = screen()?;
        let mut keys = EventStream::new();
        let mut stops = FuturesUnordered::new();
        let mut log = Box::pin(Either::Left(pending::<()>()));
        let mut drawn = Instant::now() - REDRAW;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(drawn + REDRAW), if model.is_dirty() => {
                    model.take_dirty();
                    terminal.draw(|frame| view::draw(frame, &mut model, self.ctx.term.colors))?;
                    drawn = Instant::now();
                }
                go_on = sources.take(&mut model) => if !go_on { return Ok(()) },
                Some(said) = stops.next(), if !stops.is_empty() => {
                    let said: String = said;
                    model.say(&said);
                }
                () = &mut log => log = Box::pin(Either::Left(pending())),
                input = keys.next() => {
                    let effect = match input {
                        None => return Ok(()), // the terminal has gone
                        Some(Err(error)) => return Err(error.into()),
                        Some(Ok(Input::Key(key))) if key.kind != KeyEventKind::Release => model.key(key),
                        Some(Ok(Input::Resize(..))) => {
                            model.touch();
                            None
                        }
                        Some(Ok(_)) => None,
                    };
                    match effect {
                        None => {}
                        Some(Effect::Quit) => return Ok(()),
                        Some(Effect::Stop(target, shown)) => stops.push(self.stop(target, shown)),
                        Some(Effect::Log(None)) => log = Box::pin(Either::Left(pending())),
                        Some(Effect::Log(Some(target))) => {
                            while sources.logged.try_recv().is_ok() {} // of the log before
                            log = Box::pin(Either::Right(self.log(target)));
                        }
                        Some(Effect::Shell(target, shown)) => {
                            // It must not read a key that is the shell's.
                            drop(keys);
                            ratatui::restore();
                            let said = self.shell(&target, &shown, sources, &mut model).await;
                            terminal = screen()?;
                            keys = EventStream::new();
                            model.say(&said);
                        }
                    }
                }
            }
        }
    }

    async fn stop(&self, target: Target, shown: String) -> String {
        match act::stop_one(self.ctx, target, None, "").await {
            Ok(()) => format!("{shown} is stopped"),
            Err(error) => {
                let why = error.told().map_or("", |f| f.message.as_str());
                format!("{shown} is not stopped: {why}")
            }
        }
    }

    /// Follows a log until it ends.
    async fn log(&self, target: Target) {
        let request = StreamLogsRequest {
            agent: target.agent.clone(),
            container: target.container.clone(),
            follow: true,
            tail: Some(PAST),
            ..StreamLogsRequest::default()
        };
        let shape = Shape { stamps: false, whole: true, longest: LONGEST };
        let mut resume = Resume::new(request, moment::timestamp_now(), shape);
        let mut pane = Pane { lines: &self.lines, pending: Vec::new() };
        let retry = retry(&target.agent, self.says);
        let result = resumed(self.ctx, &mut resume, retry, &mut pane).await;
        let said = match result.as_ref().err().and_then(Error::told) {
            Some(failure) => failure.message.clone(),
            None => "the log has ended".to_owned(),
        };
        // It ends with the screen at the latest.
        let _ = self.says.send(said).await;
    }

    /// Runs `dockctl exec -it REF sh` on the terminal as it was, and says how it went.
    async fn shell(
        &self,
        target: &Target,
        shown: &str,
        sources: &mut Sources,
        model: &mut Model,
    ) -> String {
        let mut child = match self.exec(target) {
            Ok(child) => child,
            Err(error) => return format!("no shell: {error}"),
        };
        loop {
            tokio::select! {
                // A signal that is the shell's, or comes while it runs, is not ours.
                _ = sources.take(model) => {}
                ended = child.wait() => return match ended {
                    Ok(status) if status.success() => format!("the shell in {shown} has ended"),
                    Ok(status) => format!("the shell in {shown} has ended: {status}"),
                    Err(error) => format!("the shell in {shown}: {error}"),
                },
            }
        }
    }

    fn exec(&self, target: &Target) -> io::Result<tokio::process::Child> {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.args(["exec", "-it", &target.shown(), "sh"]);
        command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        command.kill_on_drop(true);
        // As variables: `ps` shows nobody a token.
        let given = self.global;
        let path = |p: &Option<std::path::PathBuf>| p.as_ref().map(|p| p.clone().into_os_string());
        let text = |t: &Option<String>| t.as_ref().map(std::ffi::OsString::from);
        for (name, value) in [
            ("DOCKCTL_CONFIG", path(&given.config)),
            ("DOCKCTL_URL", text(&given.url)),
            ("DOCKCTL_TOKEN", text(&given.token)),
            ("DOCKCTL_CA_FINGERPRINT", text(&given.ca_fingerprint)),
            ("DOCKCTL_CA_FILE", path(&given.ca_file)),
            ("DOCKCTL_TIMEOUT", given.patience().map(|t| format!("{}ms", t.as_millis()).into())),
            ("DOCKCTL_NO_COLOR", given.no_color.then(|| "true".into())),
        ] {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.spawn()
    }
}

/// The terminal for us alone. It is given back by `ratatui::restore`, after a panic too.
fn screen() -> Result<DefaultTerminal> {
    ratatui::try_init().map_err(|error| {
        ratatui::restore();
        Error::new(Exit::Failed, format!("this terminal cannot show it: {error}"))
    })
}

/// Where the lines of the log go.
struct Pane<'a> {
    lines: &'a Sender<String>,
    pending: Vec<String>,
}

impl Sink for Pane<'_> {
    fn add(&mut self, _: LogStream, text: &[u8]) {
        self.pending.push(String::from_utf8_lossy(text).into_owned());
    }

    async fn print(&mut self) -> Result<()> {
        for line in self.pending.drain(..) {
            self.lines.send(line).await.map_err(|_| Error::BrokenPipe)?;
        }
        Ok(())
    }
}
