//! `logs`: a container's log, whole and as fast as it comes, or followed through lost links. What has
//! been delivered, and so what to ask for next, is `resume`'s business.

use bytes::Bytes;
use dockctl_api::v1::{
    LogRecord, LogStream, StreamLogsRequest, StreamLogsResponse,
    container_service_client::ContainerServiceClient,
};
use serde_json::json;
use tonic::Streaming;

use super::Ctx;
use crate::{
    args::{self, Format},
    client::LARGEST_ANSWER,
    error::{Error, Result},
    moment,
    output::{
        json,
        printer::{Printer, To},
    },
    resolve::{self, Target},
    resume::{self, Resume, Shape},
    retry::Retry,
};

/// `dockctl logs REF`.
pub(crate) async fn run(ctx: &Ctx, args: args::Logs) -> Result<()> {
    let resolving = resolve::resolve(&ctx.session, &args.container);
    let target = ctx.wait("looking for the container", resolving).await?;
    let request = StreamLogsRequest {
        agent: target.agent.clone(),
        container: target.container.clone(),
        follow: args.follow,
        tail: args.tail.0,
        since: args.since.map(|t| t.0),
        until: args.until.map(|t| t.0),
        timestamps: args.timestamps,
        ..StreamLogsRequest::default()
    };
    let mut printer = Printer::start(ctx.term, args.raw)?;
    let result = match ctx.format {
        Format::Table if !args.follow => whole(ctx, request, &mut printer).await,
        format => {
            let shape = Shape { stamps: args.timestamps, whole: false };
            let mut lines = Lines { target: &target, format, pending: Vec::new() };
            let shape = match format {
                Format::Table => shape,
                _ => Shape { stamps: true, whole: true },
            };
            let resume = Resume::new(request, moment::timestamp_now(), shape);
            resumed(ctx, resume, &mut lines, &mut printer).await
        }
    };
    match printer.finish(result) {
        Err(error @ Error::Told(_)) => Err(resolve::explain(&ctx.session, &target, error).await),
        done => done,
    }
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

/// The log line by line, opened again where a lost link ended it.
async fn resumed(
    ctx: &Ctx,
    mut resume: Resume,
    lines: &mut Lines<'_>,
    printer: &mut Printer,
) -> Result<()> {
    let mut retry = Retry::new(ctx.term, lines.target.agent.clone());
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
                            lines.print(printer).await?;
                        }
                        Ok(None) => {
                            resume.finish(&mut |id, text| lines.add(id, text));
                            return lines.print(printer).await;
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
fn output_of(stream: LogStream) -> To {
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
}

impl Lines<'_> {
    fn add(&mut self, stream: LogStream, text: &[u8]) {
        if self.format != Format::Table {
            let line = self.object(stream, text);
            self.pending.push((To::Out, line.into_bytes()));
            return;
        }
        let to = output_of(stream);
        match self.pending.last_mut() {
            Some((same, pending)) if *same == to => pending.extend_from_slice(text),
            _ => self.pending.push((to, text.to_vec())),
        }
    }

    /// A line as an object of its own.
    fn object(&self, stream: LogStream, text: &[u8]) -> String {
        let (time, line) = match resume::parse_stamp(text) {
            Some((_, length)) => text.split_at(length),
            None => (&[][..], text),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let value = json!({
            "agent": self.target.agent,
            "container": self.target.container,
            "stream": match stream {
                LogStream::Stderr => "stderr",
                LogStream::Tty => "tty",
                _ => "stdout",
            },
            "time": text(time).trim_end(),
            "line": text(line).trim_end_matches(['\n', '\r']),
        });
        json::item(self.format, &value).unwrap_or_else(|_| format!("{value}\n"))
    }

    async fn print(&mut self, printer: &mut Printer) -> Result<()> {
        for (to, text) in self.pending.drain(..) {
            printer.send(to, Bytes::from(text)).await?;
        }
        Ok(())
    }
}
