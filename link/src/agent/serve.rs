//! Serves one call: runs it against the local services and brings the answer up, inline or on a Serve
//! stream. Dropping the future ends the call's work.

use std::time::{Duration, Instant};

use bytes::Bytes;
use dockctl_api::{
    VERSION,
    error::{self, reason, status},
    link::v1::{
        Call, CallResult, ConnectRequest, End, ServeRequest, ServeResponse,
        connect_request::Frame as Up,
    },
};
use futures_util::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::ServiceExt as _;

use super::dedupe::{Claim, Dedupe, Outcome};
use crate::{
    channel::Channel,
    framing,
    parts::{self, Parts},
    wire,
};

/// Largest body piece in one ServeRequest, bytes.
const PIECE: usize = 1024 * 1024;
/// How much later than the controller the agent cuts an answer that is on its way; the controller's
/// own deadline tells the user.
const GRACE: Duration = Duration::from_secs(1);

/// Who asks, in the extensions of each request that the services get.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Names the user's request where it changes something; else empty.
    pub request_id: String,
    /// The user.
    pub principal: String,
    /// When the caller gives up; None for never.
    pub deadline: Option<Instant>,
}

/// What serving needs; cheap to clone.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) routes: Routes,
    pub(super) up: mpsc::Sender<ConnectRequest>,
    pub(super) channel: Channel,
    pub(super) dedupe: Dedupe,
}

impl Server {
    /// Answers `call`, which arrived at `arrived`; `late_ms` says how long it was on its way.
    pub(super) async fn answer(self, call: Call, arrived: Instant, late: Duration) {
        let call_id = call.call_id;
        let left = match call.timeout_ms {
            0 => None,
            ms => match Duration::from_millis(ms).checked_sub(late) {
                Some(left) if !left.is_zero() => Some(arrived + left),
                _ => {
                    let late = status(
                        Code::DeadlineExceeded,
                        reason::DEADLINE,
                        "the call reached the agent after its time and was not run",
                        &[(error::RAN, error::NOT_SENT)],
                    );
                    return self.reply(call_id, result(&late)).await;
                }
            },
        };
        let inline = call.inline_allowed;
        if call.request_id.is_empty() || !inline {
            return self.run(call, left, None).await;
        }
        match self.dedupe.claim(&call.request_id) {
            Claim::Run(ticket) => self.run(call, left, Some(ticket)).await,
            Claim::Seen(mut seen) => {
                let outcome = seen.wait_for(|o| *o != Outcome::Running).await;
                let first = match outcome.map(|o| o.clone()) {
                    Ok(Outcome::Ran(first)) => first,
                    _ => result(&status(
                        Code::Aborted,
                        reason::LINK_LOST,
                        "this request came before and was cut off while it ran",
                        &[(error::RAN, error::MAYBE_RAN)],
                    )),
                };
                self.reply(call_id, first).await;
            }
        }
    }

    /// What only some calls need is boxed, so that starting a small one does not copy the room for it.
    async fn run(self, call: Call, left: Option<Instant>, ticket: Option<super::dedupe::Ticket>) {
        let (call_id, inline) = (call.call_id, call.inline_allowed);
        if call.request_open {
            return Box::pin(self.run_open(call, left)).await;
        }
        let body = Body::new(Full::new(framing::frame(&call.message)).map_err(|e| match e {}));
        let work = async {
            let mut response = self.call_routes(&call, left, body).await;
            if let Some(end) = framing::end_in(response.headers()) {
                return Ok(CallResult { end: Some(end), ..Default::default() });
            }
            if !inline {
                return Err((Bytes::new(), response.into_body()));
            }
            collect(&mut response).await.map_err(|first| (first, response.into_body()))
        };
        let done = match left {
            Some(at) => time::timeout_at(at.into(), work).await,
            None => Ok(work.await),
        };
        let ended = match done {
            Ok(Ok(result)) => result,
            Err(_) => result(&status(
                Code::DeadlineExceeded,
                reason::DEADLINE,
                "the call did not end in time",
                &[(error::RAN, error::MAYBE_RAN)],
            )),
            Ok(Err((first, body))) => {
                return Box::pin(self.serve(pieces(call_id, first, body), None, left)).await;
            }
        };
        if let Some(ticket) = ticket {
            ticket.ran(ended.clone());
        }
        self.reply(call_id, ended).await;
    }

    /// A call whose caller streams: Serve opens at once, since the request comes on it.
    async fn run_open(self, call: Call, left: Option<Instant>) {
        let (request, received) = mpsc::channel(1);
        let first = stream::once(std::future::ready(Ok(framing::frame(&call.message))));
        let body = first.chain(caller(received)).map_ok(http_body::Frame::data);
        let body = Body::new(StreamBody::new(body));
        let call_id = call.call_id;
        let this = self.clone();
        let answer = async move {
            let response = this.call_routes(&call, left, body).await;
            match framing::end_in(response.headers()) {
                Some(end) => stream::iter([ServeRequest { end: Some(end), ..Default::default() }])
                    .left_stream(),
                None => pieces(0, Bytes::new(), response.into_body()).skip(1).right_stream(),
            }
        };
        let name = ServeRequest { call_id, ..Default::default() };
        let outbound = stream::iter([name]).chain(answer.into_stream().flatten());
        self.serve(outbound, Some(request), left).await;
    }

    async fn call_routes(
        &self,
        call: &Call,
        deadline: Option<Instant>,
        body: Body,
    ) -> Response<Body> {
        let context = CallContext {
            request_id: call.request_id.clone(),
            principal: call.principal.clone(),
            deadline,
        };
        let request = Request::post(call.path.as_str())
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .extension(context)
            .body(body);
        match request {
            Ok(request) => match self.routes.clone().oneshot(request).await {
                Ok(response) if is_unknown(response.headers()) => unknown(&call.path).into_http(),
                Ok(response) => response.map(Body::new),
                Err(never) => match never {},
            },
            Err(_) => Status::invalid_argument("the call's path is malformed").into_http(),
        }
    }

    async fn reply(&self, call_id: u64, result: CallResult) {
        let frame = Up::Result(CallResult { call_id, ..result });
        // A session that is over has nobody to tell.
        let _ = self.up.send(ConnectRequest { frame: Some(frame) }).await;
    }

    /// Brings an answer up on its own stream until the controller has it all or gives it up.
    async fn serve(
        self,
        outbound: impl Stream<Item = ServeRequest> + Send + 'static,
        mut request: Option<mpsc::Sender<Option<Bytes>>>,
        left: Option<Instant>,
    ) {
        // hyper drives the outbound stream in its own task, so dropping this future must end it.
        let over = CancellationToken::new();
        let _over = over.clone().drop_guard();
        let outbound = outbound.take_until(async move { over.cancelled().await });
        let outbound = Body::new(StreamBody::new(parts::frames(outbound.map(Ok))));
        let talk = async {
            let inbound = self.channel.open(wire::SERVE, outbound).await?;
            let mut inbound = Parts::<ServeResponse>::new(inbound);
            while let Some(message) = inbound.try_next().await? {
                if let Some(sender) = &request
                    && !message.body.is_empty()
                    && sender.send(Some(message.body)).await.is_err()
                {
                    request = None; // The service reads no further; what comes is thrown away.
                }
                if message.end_of_request
                    && let Some(sender) = request.take()
                {
                    // A service that reads no further needs no end.
                    let _ = sender.send(None).await;
                }
            }
            Ok::<_, Status>(())
        };
        let ended = match left {
            Some(at) => time::timeout_at((at + GRACE).into(), talk).await.unwrap_or(Ok(())),
            None => talk.await,
        };
        if let Err(status) = ended {
            tracing::debug!(%status, "an answer was not wanted to its end");
        }
    }
}

/// The rest of a caller's stream: pieces, then None as its end. Where the sender goes without having
/// said so the caller has hung up, and the service must not take what came for the whole.
fn caller(
    received: mpsc::Receiver<Option<Bytes>>,
) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    stream::unfold(Some(received), |received| async {
        let mut received = received?;
        match received.recv().await {
            Some(Some(piece)) => Some((Ok(piece), Some(received))),
            Some(None) => None,
            None => Some((Err(Status::cancelled("the caller hung up")), None)),
        }
    })
}

/// The whole of a small answer, or what has come of a larger one.
async fn collect(response: &mut Response<Body>) -> Result<CallResult, Bytes> {
    let mut body = Bytes::new();
    while let Some(frame) = response.body_mut().frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) if body.is_empty() => body = data,
            Ok(Ok(data)) => body = [body, data].concat().into(),
            Ok(Err(frame)) => {
                let end = frame.trailers_ref().and_then(framing::end_in);
                return Ok(CallResult { body, end, ..Default::default() });
            }
            Err(status) => return Ok(result(&status)),
        }
        if body.len() > wire::MAX_INLINE {
            return Err(body);
        }
    }
    Ok(result(&Status::internal("the answer has no status")))
}

fn result(status: &Status) -> CallResult {
    CallResult { end: Some(framing::end_of(status)), ..Default::default() }
}

/// An answer as Serve messages: the first names the call, the last has its end.
fn pieces(call_id: u64, first: Bytes, body: Body) -> impl Stream<Item = ServeRequest> + Send {
    enum State {
        Data(Bytes, Body),
        Ended,
    }
    let name = ServeRequest { call_id, ..Default::default() };
    let rest = stream::unfold(State::Data(first, body), |state| async move {
        let State::Data(mut ready, mut body) = state else { return None };
        let end = loop {
            if !ready.is_empty() {
                let piece = ready.split_to(ready.len().min(PIECE));
                let message = ServeRequest { body: piece, ..Default::default() };
                return Some((message, State::Data(ready, body)));
            }
            match body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => ready = data,
                    Err(frame) => break frame.trailers_ref().and_then(framing::end_in),
                },
                Some(Err(status)) => break Some(framing::end_of(&status)),
                None => break None,
            }
        };
        let missing = || framing::end_of(&Status::internal("the answer has no status"));
        let end: End = end.unwrap_or_else(missing);
        Some((ServeRequest { end: Some(end), ..Default::default() }, State::Ended))
    });
    stream::iter([name]).chain(rest)
}

/// Whether this is tonic's answer to an rpc that no service has.
fn is_unknown(headers: &HeaderMap) -> bool {
    framing::end_in(headers)
        .is_some_and(|end| end.code == Code::Unimplemented as i32 && end.details.is_empty())
}

fn unknown(path: &str) -> Status {
    status(
        Code::Unimplemented,
        reason::OLD_AGENT,
        format!("this agent ({VERSION}) does not know {path}; update it"),
        &[("call", path), (error::RAN, error::NOT_SENT)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn heard(said: &[Option<&'static str>]) -> Vec<Result<Bytes, Code>> {
        let (sender, received) = mpsc::channel(8);
        for piece in said {
            sender.send(piece.map(Bytes::from)).await.unwrap();
        }
        drop(sender);
        caller(received).map(|piece| piece.map_err(|status| status.code())).collect().await
    }

    #[tokio::test]
    async fn a_caller_who_goes_without_an_end_has_hung_up() {
        let piece = || Ok(Bytes::from("a"));
        assert_eq!(heard(&[Some("a"), None]).await, [piece()]);
        assert_eq!(heard(&[Some("a")]).await, [piece(), Err(Code::Cancelled)]);
        assert_eq!(heard(&[]).await, [Err(Code::Cancelled)]);
    }
}
