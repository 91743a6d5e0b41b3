//! One request on its way to the engine, over a connection of its own: judged if the host is confined,
//! then passed on as it is, with bodies as streams and hijacked connections as bytes both ways. All that
//! ever reaches the engine of a confined host comes through [`pass`]: requests of Docker clients from
//! `tunnel`, and those of every rpc from [`Confined`], which stands in for their connections.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
};
use http_body_util::{BodyExt as _, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1 as client,
    server::conn::http1 as server,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    endpoint::{Endpoint, Io},
    existing::look,
    lock,
    wire::{Body, TIMEOUT},
};
use crate::guard::{
    confine,
    existing::{Lean, body_by_id, line_by_id},
    line::Line,
};

/// How what a confined host says begins; an engine never says that.
pub(super) const REFUSED: &str = "dockctl: this host is confined";

/// What is buffered of a connection, each way, bytes.
pub(super) const BUFFER: usize = 256 << 10;
/// How much is copied at once on a hijacked connection.
const COPY: usize = 64 << 10;
/// What is read of a refused request's body, bytes: most clients read the answer only after they have
/// sent all.
const DRAIN: usize = 1 << 20;
/// Bodies that are read into memory at the same time, each of at most [`confine::MAX_BODY`].
static READING: Semaphore = Semaphore::const_new(16);

/// Why a request has no answer of the engine.
pub(super) enum Failed {
    /// The host is confined; what it does not allow.
    Refused(String),
    /// Something that the request names is not there; the engine's words.
    Absent(String),
    /// There is no connection to the engine.
    Down(io::Error),
    /// The connection broke, or what answers is no engine.
    Lost(hyper::Error),
}

/// A connection that both ends have agreed to use as they like.
pub(super) struct Hijack {
    client: OnUpgrade,
    engine: OnUpgrade,
}

impl Hijack {
    /// Copies both ways, a half-close too, until the engine has said all.
    pub(super) async fn copy(self) {
        let (Ok(client), Ok(engine)) = tokio::join!(self.client, self.engine) else { return };
        let (client, engine) = (TokioIo::new(client), TokioIo::new(engine));
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_engine, mut to_engine) = tokio::io::split(engine);
        let up = async {
            copy(&mut from_client, &mut to_engine).await;
            // The engine's end is what ends it.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = copy(&mut from_engine, &mut to_client) => {}
            () = up => {}
        }
    }
}

/// Copies to the end, and closes there.
async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let mut from = BufReader::with_capacity(COPY, from);
    // A broken connection ends like a closed one: its other end can be told no more.
    while let Ok(piece) = from.fill_buf().await
        && !piece.is_empty()
    {
        let length = piece.len();
        if to.write_all(piece).await.is_err() || to.flush().await.is_err() {
            break;
        }
        from.consume(length);
    }
    let _ = to.shutdown().await;
}

/// Passes a request on over the connection that is given, and gives the engine's answer. When `gone` is cancelled the client has closed its
/// side; the engine is then told so by the same means, since it ends some calls at that.
pub(super) async fn pass(
    endpoint: &Endpoint,
    line: &Line,
    request: Request<Incoming>,
    connect: impl Future<Output = io::Result<Box<dyn Io>>>,
    gone: CancellationToken,
) -> Result<(Response<Incoming>, Option<Hijack>), Failed> {
    let mut request = request;
    let protocol = hijacks(line, request.headers());
    let client = protocol.as_ref().map(|_| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    let (line, body) = match endpoint.confined {
        true => judged(endpoint, line, &mut headers, body).await?,
        false => (line.clone(), Coming::Stream(body)),
    };
    of_this_hop(&mut headers);
    headers.entry(HOST).or_insert(HeaderValue::from_static("docker"));
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    let sent = CancellationToken::new();
    let spelt = |e: http::Error| Failed::Refused(e.to_string());
    let mut onward = Request::builder()
        .method(Method::from_bytes(line.method.as_bytes()).map_err(|e| spelt(e.into()))?)
        .uri(line.target())
        .version(parts.version)
        .body(body.until(sent.clone()))
        .map_err(spelt)?;
    *onward.headers_mut() = headers;

    let io = connect.await.map_err(Failed::Down)?;
    let io = match client {
        None => Watched::new(io, sent, gone),
        Some(_) => Watched { io, gone: None, stuck: false },
    };
    let (mut sender, connection) =
        client::handshake(TokioIo::new(io)).await.map_err(Failed::Lost)?;
    // Ends by itself: with the answer's end, with its drop, or as a hijacked connection.
    tokio::spawn(connection.with_upgrades());
    let mut response = sender.send_request(onward).await.map_err(Failed::Lost)?;
    let mut hijack = None;
    let upgrade = response.headers().get(UPGRADE).cloned();
    of_this_hop(response.headers_mut());
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(client)) = (response.status(), client) {
        hijack = Some(Hijack { client, engine: hyper::upgrade::on(&mut response) });
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Some(upgrade) = upgrade {
            response.headers_mut().insert(UPGRADE, upgrade);
        }
    }
    Ok((response, hijack))
}

/// The protocol that a request may change to, if it wants to. Elsewhere the wish is left out, so that no
/// connection becomes one on which requests are not read.
pub(super) fn hijacks(line: &Line, headers: &HeaderMap) -> Option<HeaderValue> {
    let parts: Vec<&str> = line.parts.iter().map(String::as_str).collect();
    let wanted = match (line.method.as_str(), parts.as_slice()) {
        ("POST", ["exec", _, "start"] | ["containers", _, "attach"]) => "tcp",
        ("GET", ["containers", _, "attach", "ws"]) => "websocket",
        ("POST", ["session" | "grpc"]) => "h2c",
        _ => return None,
    };
    let asked = headers.get(UPGRADE)?;
    asked.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()).then(|| asked.clone())
}

/// Removes the headers that belong to one connection.
fn of_this_hop(headers: &mut HeaderMap) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// A request's body.
enum Coming {
    Stream(Incoming),
    Read(Bytes),
}

impl Coming {
    /// The guard's verdict on the request itself.
    async fn judge(&mut self, line: &Line, headers: &mut HeaderMap) -> Result<Vec<Lean>, String> {
        let Self::Stream(body) = self else { return Err("its body is read".to_owned()) };
        let is_form = |value: &HeaderValue| value.to_str().map_or(true, confine::is_form);
        if headers.get_all(CONTENT_TYPE).iter().any(is_form) && !body.is_end_stream() {
            return Err("its body is a form".to_owned());
        }
        if !confine::reads_body(line) {
            return confine::judge(line, &[]);
        }
        let bytes = read(body).await?;
        headers.remove(CONTENT_LENGTH);
        let verdict = confine::judge(line, &bytes);
        *self = Self::Read(bytes);
        verdict
    }

    /// As it is sent; `sent` is cancelled when it needs no more.
    fn until(self, sent: CancellationToken) -> Body {
        let guard = sent.drop_guard();
        match self {
            Self::Stream(body) => {
                UnsyncBoxBody::new(body.map_err(Into::into).map_frame(move |frame| {
                    let _held = &guard;
                    frame
                }))
            }
            Self::Read(bytes) => {
                UnsyncBoxBody::new(Full::new(bytes).map_err(|never| match never {}))
            }
        }
    }
}

/// Judges a request of a confined host, and what is there already that it leans on. Gives it with the ids
/// of that in place of names, and with its body, which is read where it decides.
async fn judged(
    endpoint: &Endpoint,
    line: &Line,
    headers: &mut HeaderMap,
    body: Incoming,
) -> Result<(Line, Coming), Failed> {
    let mut coming = Coming::Stream(body);
    let verdict = match coming.judge(line, headers).await {
        Ok(leans) if leans.is_empty() => return Ok((line.clone(), coming)),
        Ok(leans) => look(endpoint, leans).await,
        Err(why) => Err(Failed::Refused(why)),
    };
    match (verdict, &mut coming) {
        (Ok(ids), Coming::Stream(_)) => Ok((line_by_id(line, &ids), coming)),
        (Ok(ids), Coming::Read(bytes)) => {
            if let Some(by_id) = body_by_id(bytes, &ids) {
                *bytes = by_id.into();
            }
            Ok((line_by_id(line, &ids), coming))
        }
        (Err(failed), Coming::Stream(body)) => {
            drain(body).await;
            Err(failed)
        }
        (Err(failed), Coming::Read(_)) => Err(failed),
    }
}

async fn read(body: &mut Incoming) -> Result<Bytes, String> {
    let reading = async {
        let _turn = READING.acquire().await.ok();
        Limited::new(body, confine::MAX_BODY).collect().await
    };
    match tokio::time::timeout(TIMEOUT, reading).await {
        Ok(Ok(bytes)) => Ok(bytes.to_bytes()),
        Ok(Err(_)) => Err("its body is longer than 1 MiB, or broke off".to_owned()),
        Err(_) => Err("its body did not come".to_owned()),
    }
}

/// Reads what a refused request still sends, up to a bound.
pub(super) async fn drain(body: &mut Incoming) {
    let mut left = DRAIN;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// A connection to the engine that closes its own side once the client has closed its.
struct Watched {
    io: Box<dyn Io>,
    /// The request is sent and the client has closed its side.
    gone: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    /// What was to be written has not been taken.
    stuck: bool,
}

impl Watched {
    fn new(io: Box<dyn Io>, sent: CancellationToken, gone: CancellationToken) -> Self {
        let both = async move {
            sent.cancelled().await;
            gone.cancelled().await;
        };
        Self { io, gone: Some(Box::pin(both)), stuck: false }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(gone) = &mut this.gone
            && gone.as_mut().poll(cx).is_ready()
            && !this.stuck
        {
            this.gone = None;
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        Pin::new(&mut this.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, data);
        self.stuck = written.is_pending();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What stands in for a connection to the engine of a confined host: a pipe to a server of one request,
/// which judges it and passes it on. Its end is the connection's.
pub(super) struct Confined {
    pipe: DuplexStream,
    _server: AbortOnDropHandle<()>,
}

impl Confined {
    /// Before a connection on which nothing was sent yet.
    pub(super) fn new(io: Box<dyn Io>, endpoint: Endpoint) -> Self {
        let (pipe, other) = tokio::io::duplex(BUFFER);
        let server = AbortOnDropHandle::new(tokio::spawn(Box::pin(confined(other, io, endpoint))));
        Self { pipe, _server: server }
    }
}

async fn confined(pipe: DuplexStream, io: Box<dyn Io>, endpoint: Endpoint) {
    let endpoint = Arc::new(endpoint);
    let io = Arc::new(std::sync::Mutex::new(Some(io)));
    let hijack = Arc::new(std::sync::Mutex::new(None));
    let kept = hijack.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (io, kept, endpoint) = (io.clone(), kept.clone(), endpoint.clone());
        async move {
            let Some(io) = lock(&io).take() else {
                return Err(io::Error::from(io::ErrorKind::NotConnected));
            };
            let line = Line::new(request.method(), request.uri()).map_err(io::Error::other)?;
            let connect = std::future::ready(Ok(io));
            match pass(&endpoint, &line, request, connect, CancellationToken::new()).await {
                Ok((response, hijack)) => {
                    *lock(&kept) = hijack;
                    Ok(response.map(|body| UnsyncBoxBody::new(body.map_err(Into::into))))
                }
                Err(Failed::Refused(why)) => {
                    let call = format!("{} {}", line.method, line.path());
                    Ok(message(StatusCode::FORBIDDEN, &refusal(&call, &why)))
                }
                Err(Failed::Absent(why)) => Ok(message(StatusCode::NOT_FOUND, &why)),
                // The caller sees its connection break, as it would without a guard.
                Err(Failed::Down(error)) => Err(error),
                Err(Failed::Lost(error)) => Err(io::Error::other(error)),
            }
        }
    });
    let mut server = server::Builder::new();
    let server = server.keep_alive(false).serve_connection(TokioIo::new(pipe), service);
    if server.with_upgrades().await.is_ok() {
        let hijack = lock(&hijack).take();
        if let Some(hijack) = hijack {
            hijack.copy().await;
        }
    }
}

/// What a confined host says to a call.
pub(super) fn refusal(call: &str, why: &str) -> String {
    format!("{REFUSED} and does not allow {call}: {why}")
}

/// An answer as the engine gives it: a status and a message.
pub(super) fn message(status: StatusCode, text: &str) -> Response<Body> {
    let json = serde_json::json!({ "message": text }).to_string();
    let body = Full::new(Bytes::from(json)).map_err(|never| match never {});
    let mut response = Response::new(UnsyncBoxBody::new(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

impl Io for Confined {
    /// The pipe gathers by itself.
    fn gather(&mut self) {}
}

impl AsyncRead for Confined {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Confined {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
