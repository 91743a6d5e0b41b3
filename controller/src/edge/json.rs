//! JSON for every rpc, by proto3's own mapping: the request's JSON becomes the message, each answer becomes JSON.
//! Generic over the descriptors; it knows no rpc. An unary answer is one object, a stream one object a line or,
//! where the caller accepts `text/event-stream`, one event each. An error is a google.rpc.Status.

use std::{collections::HashMap, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use dockctl_api::{
    error::{bad_field, reason, retry_after, status},
    policy::{self, PolicyError},
};
use dockctl_link::{framing, wire};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::{Value, json};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;

use super::messages::{self, Messages};

/// What JSON is called.
pub(super) const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";
/// Largest request, bytes: what it becomes has its own limit.
pub(super) const MAX_REQUEST: usize = 4 * wire::MAX_REQUEST;
/// Largest message of an answer, bytes.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// How long a stream's answer waits for its first message, so that what fails at once fails with its own HTTP
/// status.
const FIRST: Duration = Duration::from_millis(250);
/// Headers that mean the same to gRPC.
const PASSED: [&str; 5] =
    ["authorization", "grpc-timeout", "dockctl-request-id", "x-forwarded-for", "user-agent"];

/// Every rpc by path.
pub struct Json {
    methods: HashMap<String, MethodDescriptor>,
}

impl Json {
    /// For all rpcs of `dockctl.v1`.
    pub fn new() -> Result<Self, PolicyError> {
        let pool = policy::pool()?;
        let services = pool.services().filter(|s| s.package_name() == "dockctl.v1");
        let methods = services.flat_map(|service| {
            let methods: Vec<_> = service.methods().collect();
            methods
                .into_iter()
                .map(|m| (format!("/{}/{}", m.parent_service().full_name(), m.name()), m))
        });
        Ok(Self { methods: methods.collect() })
    }

    /// The rpc at a path.
    pub(super) fn method(&self, path: &str) -> Option<&MethodDescriptor> {
        self.methods.get(path)
    }

    /// For the fuzzer: what of `text` is a request of the n-th rpc comes back as the same message, and `message`
    /// is an answer or an error.
    #[cfg(fuzzing)]
    pub fn fuzz(&self, n: usize, text: &[u8], message: &[u8]) {
        let mut paths: Vec<_> = self.methods.keys().collect();
        paths.sort();
        let method = &self.methods[paths[n % paths.len()]];
        if let Ok(request) = encode(&method.input(), text) {
            let shown = decode(&method.input(), request.clone().into()).unwrap_or_default();
            let again = encode(&method.input(), &shown).unwrap_or_default();
            let decoded = |bytes: &[u8]| DynamicMessage::decode(method.input(), bytes).ok();
            assert_eq!(decoded(&request), decoded(&again));
        }
        let _ = decode(&method.output(), message.to_vec().into());
    }

    /// The gRPC request that a JSON request is. Its body is read and understood only when it is asked for, after
    /// it is known who asks. Errors: NOT_FOUND, UNIMPLEMENTED.
    pub(super) fn request(&self, head: &Parts, body: Body) -> Result<Request<Body>, Status> {
        let path = head.uri.path();
        let Some(method) = self.method(path) else {
            let message = format!("there is no rpc {path}");
            return Err(status(Code::NotFound, reason::NOT_FOUND, message, &[]));
        };
        if method.is_client_streaming() {
            let message = "this rpc takes a stream: use gRPC, or a WebSocket at /ws";
            return Err(Status::unimplemented(message));
        }
        let input = method.input();
        let message = async move {
            let whole = Limited::new(body, MAX_REQUEST).collect().await.map_err(|error| {
                let message = format!("the request cannot be read: {error}");
                status(Code::InvalidArgument, reason::BAD_FIELD, message, &[])
            })?;
            Ok::<_, Status>(Frame::data(framing::frame(&encode(&input, &whole.to_bytes())?)))
        };
        let body = Body::new(StreamBody::new(stream::once(Box::pin(message))));
        Ok(messages::call(head, head.uri.clone(), &PASSED, body))
    }

    /// The JSON answer that a gRPC answer is.
    pub(super) async fn response(&self, head: &Parts, answer: Response<Body>) -> Response<Body> {
        let Some(method) = self.method(head.uri.path()) else {
            return error(&Status::unimplemented("there is no such rpc"));
        };
        let messages = Messages::of(answer, MAX_MESSAGE);
        let accept = head.headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
        match method.is_server_streaming() {
            false => one(messages, &method.output()).await,
            true => {
                let as_events = accept.is_some_and(|a| a.contains(EVENTS));
                many(messages, method.output(), as_events).await
            }
        }
    }
}

/// Reads the JSON of a message; nothing at all is an empty one. Errors: BAD_FIELD.
pub(super) fn encode(input: &MessageDescriptor, json: &[u8]) -> Result<Vec<u8>, Status> {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let wrong =
        |error: serde_json::Error| bad_field("", format!("this is no {}: {error}", input.name()));
    let mut reader = serde_json::Deserializer::from_slice(json);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(input.clone(), &mut reader, &options)
        .map_err(wrong)?;
    reader.end().map_err(wrong)?;
    Ok(message.encode_to_vec())
}

/// Writes a message as JSON. Errors: INTERNAL for what is no such message.
pub(super) fn decode(output: &MessageDescriptor, message: Bytes) -> Result<Vec<u8>, Status> {
    let malformed = |error: String| {
        tracing::warn!(message = output.full_name(), %error, "an answer cannot be shown as JSON");
        status(Code::Internal, reason::INTERNAL, "the answer cannot be shown as JSON", &[])
    };
    let message = DynamicMessage::decode(output.clone(), message)
        .map_err(|error| malformed(error.to_string()))?;
    serde_json::to_vec(&message).map_err(|error| malformed(error.to_string()))
}

/// The next message as JSON.
async fn next(
    messages: &mut Messages,
    output: &MessageDescriptor,
) -> Result<Option<Vec<u8>>, Status> {
    messages.next().await?.map(|message| decode(output, message)).transpose()
}

async fn one(mut messages: Messages, output: &MessageDescriptor) -> Response<Body> {
    let first = match next(&mut messages, output).await {
        Ok(first) => first.unwrap_or_else(|| b"{}".to_vec()),
        Err(status) => return error(&status),
    };
    // What comes after it says whether it counts.
    match messages.next().await {
        Ok(_) => answer(StatusCode::OK, JSON, Full::from(first)),
        Err(status) => error(&status),
    }
}

async fn many(
    mut messages: Messages,
    output: MessageDescriptor,
    as_events: bool,
) -> Response<Body> {
    let first = match tokio::time::timeout(FIRST, next(&mut messages, &output)).await {
        Ok(Err(status)) => return error(&status),
        Ok(Ok(first)) => Some(first),
        Err(_) => None,
    };
    let state = Some((messages, output, first));
    let pieces = stream::unfold(state, move |state| async move {
        let (mut messages, output, first) = state?;
        let next = match first {
            Some(first) => Ok(first),
            None => next(&mut messages, &output).await,
        };
        let (piece, state) = match next {
            Ok(Some(message)) => (piece(as_events, "", &message), Some((messages, output, None))),
            Ok(None) if as_events => (piece(as_events, "end", b"{}"), None),
            Ok(None) => return None,
            Err(status) => {
                let status = rpc_status(&status);
                let told = if as_events { status } else { json!({ "error": status }) };
                (piece(as_events, "error", told.to_string().as_bytes()), None)
            }
        };
        Some((Ok::<_, Status>(Frame::data(piece)), state))
    });
    let kind = if as_events { EVENTS } else { LINES };
    let mut response = answer(StatusCode::OK, kind, StreamBody::new(pieces.boxed()));
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would keep a stream back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A line, or an event of a kind.
fn piece(as_events: bool, kind: &str, json: &[u8]) -> Bytes {
    let mut piece = BytesMut::with_capacity(json.len() + 24);
    if as_events && !kind.is_empty() {
        piece.put_slice(format!("event: {kind}\n").as_bytes());
    }
    if as_events {
        piece.put_slice(b"data: ");
    }
    piece.put_slice(json);
    piece.put_slice(if as_events { b"\n\n" } else { b"\n" });
    piece.freeze()
}

/// A refusal of what is no call: an HTTP status, and the google.rpc.Status that JSON's readers expect.
pub(super) fn refusal(code: StatusCode, grpc: Code, message: &str) -> Response<Body> {
    answer(code, JSON, Full::from(rpc_status(&Status::new(grpc, message)).to_string()))
}

/// An error as the answer to a JSON request.
pub(super) fn error(status: &Status) -> Response<Body> {
    let code = http_status(status.code());
    let mut response = answer(code, JSON, Full::from(rpc_status(status).to_string()));
    if let Some(wait) = retry_after(status) {
        let seconds = wait.as_secs_f64().ceil().max(1.0);
        if let Ok(value) = HeaderValue::from_str(&format!("{seconds}")) {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
    }
    if code == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

/// A google.rpc.Status as JSON.
pub(super) fn rpc_status(status: &Status) -> Value {
    let mut details = Vec::new();
    if let Some(info) = status.get_details_error_info() {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": info.reason,
            "domain": info.domain,
            "metadata": info.metadata,
        }));
    }
    if let Some(wait) = retry_after(status) {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{}s", wait.as_secs_f64()),
        }));
    }
    json!({ "code": status.code() as i32, "message": status.message(), "details": details })
}

/// The HTTP status of a gRPC code, as google/rpc/code.proto has it.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // nginx's own "client closed request".
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An answer of some kind.
pub(super) fn answer<B>(code: StatusCode, kind: &'static str, body: B) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = code;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use dockctl_api::v1::{ListContainersRequest, StreamLogsRequest};
    use proptest::prelude::*;

    use super::*;

    fn input(rpc: &str) -> MessageDescriptor {
        Json::new().unwrap().method(&format!("/dockctl.v1.{rpc}")).unwrap().input()
    }

    #[test]
    fn json_becomes_the_message_and_comes_back() {
        let list = input("ContainerService/ListContainers");
        for text in [r#"{"all":true,"pageSize":7}"#, r#"{"all":true,"page_size":7}"#] {
            let message = encode(&list, text.as_bytes()).unwrap();
            let read = ListContainersRequest::decode(&*message).unwrap();
            assert!(read.all && read.page_size == 7);
            let back: Value =
                serde_json::from_slice(&decode(&list, message.into()).unwrap()).unwrap();
            assert_eq!(back, json!({ "all": true, "pageSize": 7 }));
        }
        for nothing in ["", " \n", "{}"] {
            assert!(encode(&list, nothing.as_bytes()).unwrap().is_empty());
        }
        let logs = input("ContainerService/StreamLogs");
        let since = encode(&logs, br#"{"since":"2026-11-24T10:00:00.5Z"}"#).unwrap();
        let since = StreamLogsRequest::decode(&*since).unwrap().since.unwrap();
        assert_eq!((since.seconds, since.nanos), (1_795_514_400, 500_000_000));
    }

    #[test]
    fn what_is_no_request_is_told() {
        let list = input("ContainerService/ListContainers");
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for text in [
            "x",
            "[]",
            "null 1",
            "{\"nothing\":1}",
            "{\"all\":\"yes\"}",
            "{} {}",
            "{\"all\":true",
            &deep,
        ] {
            let refused = encode(&list, text.as_bytes()).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{text}");
        }
    }

    #[test]
    fn an_error_is_a_status_in_json() {
        let status = dockctl_api::error::too_many("slowly", Duration::from_millis(1_500));
        let response = error(&status);
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        let told = rpc_status(&status);
        assert_eq!((&told["code"], &told["message"]), (&json!(8), &json!("slowly")));
        assert_eq!(told["details"][0]["reason"], "TOO_MANY");
        assert_eq!(told["details"][1]["retryDelay"], "1.5s");
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[{}\\[\\]:,\"a-z0-9 ]{0,60}") {
            let list = input("ContainerService/CreateContainer");
            let _ = encode(&list, &bytes);
            let _ = encode(&list, text.as_bytes());
            let _ = decode(&list, bytes.into());
        }
    }
}
