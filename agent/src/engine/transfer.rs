//! Long requests: bytes that are streamed to the engine or from it, and answers that come for as long as
//! the work takes, as lines of JSON that become `Progress`. Used by `images`, `build` and `containers`. Each
//! has a connection of its own that ends when its answer is dropped, and with it the engine's work; a
//! request's bytes are taken from the caller only as fast as the engine takes them.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use dockctl_api::{
    error::{reason, status},
    v1::Progress,
};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderValue, Method, Request, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};

use super::{
    Engine,
    fault::{Call, Fault},
    raw::{MAX_LINE, next_line},
    wire::{self, Body, Open, Wire, decode},
};

/// Frames that are handed on as one piece; hyper makes none that is longer than 408 KiB.
const GATHERED: usize = 2;

/// How far work is, as it comes.
pub(crate) type Told = Pin<Box<dyn Stream<Item = Result<Progress, Status>> + Send>>;

/// A long request, without its body.
pub(super) struct Post<'a> {
    pub(super) call: Call<'a>,
    /// Path and query below the API version.
    pub(super) path: String,
    /// Further headers. Their values may be secret and are never shown.
    pub(super) headers: Vec<(&'static str, HeaderValue)>,
}

/// An answer that still comes.
struct Answer {
    body: Incoming,
    wire: Arc<Wire>,
    _connection: AbortOnDropHandle<()>,
    _open: Open,
}

impl Engine {
    /// Posts without a body; the answer is progress.
    pub(super) async fn post(&self, post: Post<'_>) -> Result<Told, Status> {
        let (headers, path) = (post.headers, post.path);
        let ask = || open(&self.wire, Method::POST, &path, &headers, empty());
        let answer = self.wire.retried(ask).await;
        self.progress(post.call, answer)
    }

    /// Posts a stream of bytes. One that fails ends the request unfinished, so that the engine never
    /// takes a part for the whole. The answer, which may begin before the request's end, is progress.
    pub(super) async fn post_bytes(
        &self,
        post: Post<'_>,
        bytes: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
    ) -> Result<Told, Status> {
        let frames = bytes.map(|piece| piece.map(Frame::data).map_err(Into::into));
        let body = UnsyncBoxBody::new(StreamBody::new(frames));
        let mut headers = post.headers;
        headers.push(("content-type", HeaderValue::from_static("application/x-tar")));
        let answer = open(&self.wire, Method::POST, &post.path, &headers, body).await;
        if let Err(fault) = &answer {
            // The bytes are gone, so that only the next call speaks the new version.
            self.wire.renegotiates(fault);
        }
        self.progress(post.call, answer)
    }

    /// Gets bytes, in pieces of up to 1 MiB as they come; `limit` is how long the head of the answer may
    /// take. A connection that breaks is an error, never an end.
    pub(super) async fn get_bytes(
        &self,
        call: Call<'_>,
        path: &str,
        limit: Option<Duration>,
    ) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + 'static + use<>, Status> {
        let asked = self.wire.retried(|| open(&self.wire, Method::GET, path, &[], empty()));
        let answer = match limit {
            Some(limit) => wire::within(limit, asked).await,
            None => asked.await,
        };
        let Answer { body, wire, _connection, _open } =
            answer.map_err(|fault| self.wire.status(&fault, call))?;
        let (name, container) = (call.name, call.container.to_owned());
        Ok(body.into_data_stream().ready_chunks(GATHERED).map(move |frames| {
            let _ = (&_connection, &_open);
            let frames: Result<Vec<Bytes>, _> = frames.into_iter().collect();
            let told = |e| wire.status(&wire::fault(&e), Call::on(name, &container));
            Ok(match frames.map_err(told)?.as_slice() {
                [one] => one.clone(),
                many => many.concat().into(),
            })
        }))
    }

    fn progress(&self, call: Call<'_>, answer: Result<Answer, Fault>) -> Result<Told, Status> {
        let name = call.name;
        let answer = answer.map_err(|fault| self.wire.status(&fault, call))?;
        let lines = Lines { answer, buffer: BytesMut::new() };
        Ok(Box::pin(futures_util::stream::unfold(Some(lines), move |lines| async move {
            let mut lines = lines?;
            let item = match lines.next().await? {
                Ok(message) => progress(message),
                Err(fault) => Err(lines.answer.wire.status(&fault, Call::new(name))),
            };
            let more = item.is_ok();
            Some((item, more.then_some(lines)))
        })))
    }
}

async fn open(
    wire: &Arc<Wire>,
    method: Method,
    path: &str,
    headers: &[(&'static str, HeaderValue)],
    body: Body,
) -> Result<Answer, Fault> {
    let prefix = wire.prefix().await.map_err(Fault::unsent)?;
    let mut request = Request::builder().method(method).uri(prefix + path);
    request = request.header(HOST, "docker");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(body).map_err(|e| Fault::Garbage(format!("{path}: {e}")))?;
    let io = TokioIo::new(wire.endpoint.connect().await.map_err(Fault::Connect)?);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|e| wire::fault(&e))?;
    let connection = tokio::spawn(async move { drop(connection.await) });
    let connection = AbortOnDropHandle::new(connection);
    // No limit: the engine says nothing until a registry answers or an upload has been read. Whoever
    // waits has a deadline, or hangs up.
    let response = sender.send_request(request).await.map_err(|e| wire::fault(&e))?;
    let status = response.status();
    if !status.is_success() {
        let body = Limited::new(response.into_body(), MAX_LINE).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        return Err(Fault::answer(status.as_u16(), &body));
    }
    let (body, _open) = (response.into_body(), Open::new(wire));
    Ok(Answer { body, wire: wire.clone(), _connection: connection, _open })
}

fn empty() -> Body {
    UnsyncBoxBody::new(Empty::new().map_err(|never| match never {}))
}

struct Lines {
    answer: Answer,
    buffer: BytesMut,
}

impl Lines {
    /// The next message; None at the end.
    async fn next(&mut self) -> Option<Result<Message, Fault>> {
        let mut searched = 0;
        loop {
            if let Some(line) = next_line(&mut self.buffer, &mut searched).transpose() {
                return Some(line.and_then(|line| decode(&line)));
            }
            match self.answer.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Some(Err(wire::fault(&error))),
                None if self.buffer.trim_ascii().is_empty() => return None,
                None => return Some(decode(&std::mem::take(&mut self.buffer))),
            }
        }
    }
}

/// One of the engine's messages about work that takes long.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Message {
    id: Option<String>,
    status: Option<String>,
    stream: Option<String>,
    progress_detail: Option<Detail>,
    aux: Option<Value>,
    error_detail: Option<Said>,
    error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    current: Option<i64>,
    total: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    message: String,
}

fn progress(message: Message) -> Result<Progress, Status> {
    let failed = message.error_detail.map(|said| said.message).filter(|said| !said.is_empty());
    if let Some(said) = failed.or(message.error) {
        return Err(status(Code::FailedPrecondition, reason::DOCKER_ERROR, said, &[]));
    }
    let status = message.status.unwrap_or_default();
    let stream = message.stream.unwrap_or_default();
    let aux = message.aux.unwrap_or_default();
    let made = aux["ID"].as_str().or_else(|| aux["Digest"].as_str()).map(str::to_owned);
    let result = made.or_else(|| told(&status, &stream)).unwrap_or_default();
    let detail = message.progress_detail.unwrap_or_default();
    let bytes = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let (current, total) = (bytes(detail.current), bytes(detail.total));
    Ok(Progress { id: message.id.unwrap_or_default(), status, current, total, stream, result })
}

/// A result that the engine tells only in words: an import's and a quiet build's id, a pull's digest,
/// a loaded image.
fn told(status: &str, stream: &str) -> Option<String> {
    let line = stream.trim_end();
    let id = |text: &str| text.starts_with("sha256:").then(|| text.to_owned());
    let after = |text: &str, head: &str| text.strip_prefix(head).map(str::to_owned);
    id(status)
        .or_else(|| after(status, "Digest: "))
        .or_else(|| id(line))
        .or_else(|| after(line, "Loaded image: "))
        .or_else(|| after(line, "Loaded image ID: "))
}

#[cfg(test)]
mod tests {
    use dockctl_api::error::reason_of;

    use super::*;

    fn read(json: &str) -> Result<Progress, Status> {
        progress(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn messages_become_progress() {
        let p = read(
            r#"{"status":"Downloading","progressDetail":{"current":5,"total":9},"progress":"[=> ]","id":"a1"}"#,
        )
        .unwrap();
        assert_eq!(
            (p.id.as_str(), p.status.as_str(), p.current, p.total),
            ("a1", "Downloading", 5, 9)
        );
        let p = read(r#"{"status":"Extracting","progressDetail":{"current":-1}}"#).unwrap();
        assert_eq!((p.current, p.total), (0, 0));
        assert_eq!(read(r#"{"aux":{"ID":"sha256:1"}}"#).unwrap().result, "sha256:1");
        assert_eq!(read(r#"{"aux":{"Tag":"1","Digest":"sha256:2"}}"#).unwrap().result, "sha256:2");
        assert_eq!(read(r#"{"id":"moby.buildkit.trace","aux":"Cgw"}"#).unwrap().result, "");
        assert_eq!(read(r#"{"status":"sha256:3"}"#).unwrap().result, "sha256:3");
        assert_eq!(read(r#"{"stream":"sha256:4\n"}"#).unwrap().result, "sha256:4");
        assert_eq!(read(r#"{"stream":"Loaded image: a/b:1\n"}"#).unwrap().result, "a/b:1");
        assert_eq!(read(r#"{"status":"Digest: sha256:5"}"#).unwrap().result, "sha256:5");
        assert_eq!(read(r#"{"stream":"Step 1/1 : FROM scratch\n"}"#).unwrap().result, "");
    }

    #[test]
    fn an_error_keeps_the_engines_words() {
        for json in [
            r#"{"errorDetail":{"code":3,"message":"no space"},"error":"no space"}"#,
            r#"{"error":"no space"}"#,
        ] {
            let status = read(json).unwrap_err();
            assert_eq!(status.message(), "no space");
            assert_eq!(reason_of(&status).as_deref(), Some(reason::DOCKER_ERROR));
        }
    }
}
