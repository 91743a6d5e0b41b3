//! WebSocket for what browsers need both ways: any rpc at `/ws/dockctl.v1.SERVICE/RPC?ticket=TICKET`. Each text
//! message of the page is a request message in JSON, each binary one a request message in protobuf; an empty one
//! ends the requests. Answers come in the kind of the first message. At the end comes a close frame: 1000, or 4000
//! and the gRPC code, after the error as `{"error": google.rpc.Status}` where the page speaks JSON.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::extract::{
    FromRequestParts as _,
    ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
};
use bytes::Bytes;
use dockctl_link::{
    controller::listener::{Connected, Peer},
    framing,
};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{self, SplitSink, SplitStream},
};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::StreamBody;
use prost_reflect::MethodDescriptor;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};

use super::{
    gateway::Gateway,
    json::{self, MAX_REQUEST, rpc_status},
    messages::{self, Messages},
};

/// Where WebSockets are.
pub(super) const PATH: &str = "/ws/";
/// Messages of the page that may wait.
const QUEUE: usize = 8;
/// How often the page's browser is asked whether it is there, and how long it may say nothing.
const PING: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(60);
/// Largest message of an answer, bytes.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Longest reason in a close frame, bytes; the protocol allows 123.
const MAX_REASON: usize = 120;

/// Answers the request for a WebSocket.
pub(super) async fn open(gateway: Gateway, request: Request<Body>) -> Response<Body> {
    let (mut head, _) = request.into_parts();
    let Ok(path) = head.uri.path()[PATH.len() - 1..].parse::<Uri>() else {
        return json::refusal(StatusCode::NOT_FOUND, Code::NotFound, "there is no such rpc");
    };
    let Some(method) = gateway.json.method(path.path()).cloned() else {
        return json::refusal(StatusCode::NOT_FOUND, Code::NotFound, "there is no such rpc");
    };
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut head, &()).await {
        Ok(upgrade) => upgrade,
        Err(_) => {
            let message = "this is for WebSockets";
            return json::refusal(StatusCode::UPGRADE_REQUIRED, Code::InvalidArgument, message);
        }
    };
    let ticket = head
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("ticket="));
    let Some(bearer) = ticket.and_then(|ticket| gateway.api.auth.redeem(ticket)) else {
        let message =
            "open it with a ticket of AuthService/CreateTicket; each is good for 30 s and once";
        return json::refusal(StatusCode::UNAUTHORIZED, Code::Unauthenticated, message);
    };
    let Ok(bearer) = HeaderValue::from_str(&bearer) else {
        return json::error(&Status::internal("a ticket holds no header"));
    };
    let (up, requests) = mpsc::channel(QUEUE);
    let requests = Body::new(StreamBody::new(ReceiverStream::new(requests)));
    let mut call = messages::call(&head, path, &["x-forwarded-for"], requests);
    call.headers_mut().insert(header::AUTHORIZATION, bearer);
    let peer = head.extensions.get::<Arc<Peer>>().map(|peer| peer.cut.clone());
    let cut = peer.unwrap_or_default();
    let talk = Talk { gateway, method, call, up, cut, _connected: head.extensions.remove() };
    let upgrade = upgrade.max_message_size(MAX_REQUEST).max_frame_size(MAX_REQUEST);
    let upgraded = upgrade.on_upgrade(|ws| talk.run(ws));
    upgraded.map(Body::new)
}

struct Talk {
    gateway: Gateway,
    method: MethodDescriptor,
    call: Request<Body>,
    up: mpsc::Sender<Result<Frame<Bytes>, Status>>,
    /// Cancelled when the port cuts its connections.
    cut: CancellationToken,
    /// It is one of the port's connections until its end.
    _connected: Option<Connected>,
}

impl Talk {
    async fn run(self, socket: WebSocket) {
        let (mut sink, source) = socket.split();
        let Self { gateway, method, call, up, cut, _connected } = self;
        let as_json = Arc::new(AtomicBool::new(true));
        let reading = read(source, &method, up, as_json.clone());
        let answer = gateway.api.call(call);
        let answering = write(&mut sink, answer, &method, &as_json);
        let end = tokio::select! {
            end = answering => end,
            // The page is gone: dropping the call cancels it.
            end = reading => end,
            () = cut.cancelled() => return,
        };
        let Err(status) = end else { return };
        let mut reason = status.message().to_owned();
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        let code = match status.code() {
            Code::Ok => 1000,
            code => 4000 + u16::try_from(code as i32).unwrap_or(2),
        };
        if code != 1000 && as_json.load(Ordering::Relaxed) {
            let told = serde_json::json!({ "error": rpc_status(&status) }).to_string();
            let _ = sink.send(Message::Text(told.into())).await;
        }
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = sink.send(Message::Close(Some(frame))).await;
    }
}

/// Takes the page's messages. Ends with Ok when the page is gone, with the status of a message that is none.
async fn read(
    mut source: SplitStream<WebSocket>,
    method: &MethodDescriptor,
    up: mpsc::Sender<Result<Frame<Bytes>, Status>>,
    as_json: Arc<AtomicBool>,
) -> Result<(), Status> {
    let (input, mut up, mut is_first) = (method.input(), Some(up), true);
    loop {
        let message = match tokio::time::timeout(SILENCE, source.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(_)) | None) | Err(_) => return Ok(()),
        };
        let (message, is_json) = match &message {
            Message::Text(text) => (text.as_bytes(), true),
            Message::Binary(bytes) => (&**bytes, false),
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return Ok(()),
        };
        if std::mem::take(&mut is_first) {
            as_json.store(is_json, Ordering::Relaxed);
        } else if message.is_empty() {
            up = None;
            continue;
        }
        let Some(up) = &up else {
            return Err(Status::invalid_argument("a message came after the end of the requests"));
        };
        let framed = match is_json {
            true => framing::frame(&json::encode(&input, message)?),
            false => framing::frame(message),
        };
        if up.send(Ok(Frame::data(framed))).await.is_err() {
            // The call has ended, which is being told.
            std::future::pending::<()>().await;
        }
    }
}

/// Sends the answers; ends with the call's status.
async fn write(
    sink: &mut SplitSink<WebSocket, Message>,
    answer: impl Future<Output = Response<Body>>,
    method: &MethodDescriptor,
    as_json: &AtomicBool,
) -> Result<(), Status> {
    let output = method.output();
    let messages = |answer| Messages::of(answer, MAX_MESSAGE).stream();
    let mut messages = pin!(stream::once(answer).flat_map(messages));
    let mut pings = tokio::time::interval(PING);
    loop {
        let message = tokio::select! {
            message = messages.next() => match message.transpose()? {
                None => return Err(Status::new(Code::Ok, "")),
                Some(message) if as_json.load(Ordering::Relaxed) => {
                    let text = String::from_utf8(json::decode(&output, message)?);
                    Message::Text(text.unwrap_or_default().into())
                }
                Some(message) => Message::Binary(message),
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return Ok(());
        }
    }
}
