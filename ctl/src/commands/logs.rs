//! `logs`: a container's log, whole and as fast as it comes, or followed through lost links. What has
//! been delivered, and so what to ask for next, is `resume`'s business; many logs are `logs_many`'s.

use bytes::Bytes;
use dockctl_api::v1::{
    LogRecord, LogStream, StreamLogsRequest, StreamLogsResponse,
    container_service_client::ContainerServiceClient,
};
use serde_json::json;
use tonic::Streaming;

use super::{Ctx, logs_many};
use crate::{
    args::{self, Format},
    client::LARGEST_ANSWER,
    error::{Error, Result},
    moment,
    output::{
        json,
        printer::{Printer, To},
    },
    refs::Ref,
    resolve::{self, Target},
    resume::{self, LONGEST_HELD, Resume, Shape},
    retry::Retry,
    select::Selection,
};

/// `dockctl logs REF...`, or of a selection.
pub(crate) async fn run(ctx: &Ctx, args: args::Logs) -> Result<()> {
    let selector = &args.selector;
    if Selection::is_one(selector.on.as_ref(), &selector.label, &args.containers) {
        return logs_many::selected(ctx, &args).await;
    }
    match args.containers.as_slice() {
        [one] => single(ctx, &args, one).await,
        _ => logs_many::named(ctx, &args).await,
    }
}

/// One container's log.
async fn single(ctx: &Ctx, args: &args::Logs, wanted: &Ref) -> Result<()> {
    let target = ctx.find(wanted).await?;
    let request = request(args, &target);
    let mut printer = Printer::start(ctx.term, args.raw)?;
    let result = match ctx.format {
        Format::Table if !args.follow => whole(ctx, request, &mut printer).await,
        format => {
            let resume = &mut Resume::new(request, moment::timestamp_now(), shape(args, format));
            let retry = Retry::new(ctx.term, target.agent.clone());
            let printer = &mut printer;
            let mut lines = Lines { target: &target, format, pending: Vec::new(), printer };
            resumed(ctx, resume, retry, &mut lines).await
        }
    };
    match printer.finish(result) {
        Err(error @ Error::Told(_)) => Err(resolve::explain(&ctx.session, &target, error).await),
        done => done,
    }
}

/// The request for a log, as the flags say.
pub(super) fn request(args: &args::Logs, target: &Target) -> StreamLogsRequest {
    StreamLogsRequest {
        agent: target.agent.clone(),
        container: target.container.clone(),
        follow: args.follow,
        tail: args.tail.0,
        since: args.since.map(|t| t.0),
        until: args.until.map(|t| t.0),
        timestamps: args.timestamps,
        details: args.details,
        ..StreamLogsRequest::default()
    }
}

/// How one log's lines are to be delivered.
fn shape(args: &args::Logs, format: Format) -> Shape {
    let people = format == Format::Table;
    Shape { stamps: args.timestamps || !people, whole: !people, longest: LONGEST_HELD }
}

/// The log as it is, bytes unchanged and uncopied.
async fn whole(ctx: &Ctx, request: StreamLogsRequest, printer: &mut Printer) -> Result<()> {
    let mut stream = ctx.wait("opening the log", open(ctx, &request)).await?;
    while let Some(message) = stream.message().await? {
        if let Some(notice) = &message.notice {
            ctx.tell(&message.agent, notice);
        }
        for record in message.records {
            printer.send(output_of(record.stream()), record.data).await?;
        }
    }
    Ok(())
}

/// Where the lines of a log go.
pub(super) trait Sink {
    /// Takes a line in, or a part of a very long one.
    fn add(&mut self, stream: LogStream, text: &[u8]);
    /// Prints what was taken in.
    async fn print(&mut self) -> Result<()>;
}

/// The log line by line, opened again where a lost link ended it.
pub(super) async fn resumed(
    ctx: &Ctx,
    resume: &mut Resume,
    mut retry: Retry,
    lines: &mut impl Sink,
) -> Result<()> {
    loop {
        let error = match open(ctx, &resume.request()).await {
            Err(error) => error,
            Ok(mut stream) => {
                retry.opened();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            retry.alive();
                            if let Some(notice) = &message.notice {
                                ctx.tell(&message.agent, notice);
                            }
                            for LogRecord { stream, data } in message.records {
                                let stream = LogStream::try_from(stream).unwrap_or_default();
                                resume.record(stream, &data, &mut |id, text| lines.add(id, text));
                            }
                            lines.print().await?;
                        }
                        Ok(None) => {
                            resume.finish(&mut |id, text| lines.add(id, text));
                            return lines.print().await;
                        }
                        Err(status) => break Error::from(status),
                    }
                }
            }
        };
        if !resume.request().follow {
            return Err(error);
        }
        resume.cut();
        retry.after(error).await?;
    }
}

async fn open(ctx: &Ctx, request: &StreamLogsRequest) -> Result<Streaming<StreamLogsResponse>> {
    let call = ctx.session.call(None, |channel| {
        let request = request.clone();
        async move {
            ContainerServiceClient::new(channel)
                .max_decoding_message_size(LARGEST_ANSWER)
                .stream_logs(request)
                .await
        }
    });
    call.await
}

/// Where docker prints a stream: a TTY's has only one, which is standard output.
pub(super) fn output_of(stream: LogStream) -> To {
    match stream {
        LogStream::Stderr => To::Err,
        _ => To::Out,
    }
}

/// Gathers one message's lines, so that they are written at once.
struct Lines<'a> {
    target: &'a Target,
    format: Format,
    pending: Vec<(To, Vec<u8>)>,
    printer: &'a mut Printer,
}

impl Sink for Lines<'_> {
    fn add(&mut self, stream: LogStream, text: &[u8]) {
        if self.format != Format::Table {
            let line =
                object(self.format, &self.target.agent, &self.target.container, stream, text);
            self.pending.push((To::Out, line.into_bytes()));
            return;
        }
        gather(&mut self.pending, output_of(stream), text);
    }

    async fn print(&mut self) -> Result<()> {
        for (to, text) in self.pending.drain(..) {
            self.printer.send(to, Bytes::from(text)).await?;
        }
        Ok(())
    }
}

/// Adds text to what waits for the same output.
pub(super) fn gather(pending: &mut Vec<(To, Vec<u8>)>, to: To, text: &[u8]) {
    match pending.last_mut() {
        Some((same, pending)) if *same == to => pending.extend_from_slice(text),
        _ => pending.push((to, text.to_vec())),
    }
}

/// A line as an object of its own.
pub(super) fn object(
    format: Format,
    agent: &str,
    container: &str,
    stream: LogStream,
    text: &[u8],
) -> String {
    let (time, line) = match resume::parse_stamp(text) {
        Some((_, length)) => text.split_at(length),
        None => (&[][..], text),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let value = json!({
        "agent": agent,
        "container": container,
        "stream": match stream {
            LogStream::Stderr => "stderr",
            LogStream::Tty => "tty",
            _ => "stdout",
        },
        "time": text(time).trim_end(),
        "line": text(line).trim_end_matches(['\n', '\r']),
    });
    json::item(format, &value).unwrap_or_else(|_| format!("{value}\n"))
}
