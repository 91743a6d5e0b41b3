//! The four rpcs of AgentLink at the controller. Who calls is taken from the connection's [`Peer`],
//! never from a message.

use std::{
    convert::Infallible,
    future::ready,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use dockctl_api::{
    VERSION,
    error::{reason, status},
    link::v1::{
        ConnectRequest, ConnectResponse, DesiredState, End, EnrollRequest, EnrollResponse,
        RenewRequest, RenewResponse, ServeRequest, ServeResponse, Welcome,
        agent_link_server::{AgentLink, AgentLinkServer},
        connect_request,
        connect_response::Frame as Down,
    },
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming, body::Body, service::Routes};
use tower::ServiceExt as _;

use super::{
    Host,
    inbound::Inbound,
    listener::Peer,
    session::{self, Served, Session},
};
use crate::{
    framing,
    identity::PeerIdentity,
    parts::{self, Parts},
    protocol, wire,
};

/// The agents' services, for a [`super::listener::Port`].
pub fn router(host: Arc<dyn Host>) -> Router {
    let server = AgentLinkServer::new(Service { host: host.clone() })
        .max_decoding_message_size(wire::MAX_FRAME);
    Router { service: Service { host }, others: Routes::new(server).prepare() }
}

/// Connect and Serve, and the other rpcs through tonic; see [`Inbound`] and [`Parts`].
#[derive(Clone)]
pub struct Router {
    service: Service,
    others: Routes,
}

impl<B> tower::Service<http::Request<B>> for Router
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.service.clone();
        let peer = request.extensions().get::<Arc<Peer>>().cloned().ok_or_else(no_peer);
        match request.uri().path() {
            wire::CONNECT => Box::pin(async move {
                let inbound = Inbound::new(Body::new(request.into_body()));
                Ok(service.connected(peer, inbound).await.unwrap_or_else(Status::into_http))
            }),
            wire::SERVE => Box::pin(async move {
                let inbound = Parts::new(Body::new(request.into_body()));
                Ok(answered(peer, inbound).await.unwrap_or_else(Status::into_http))
            }),
            _ => Box::pin(self.others.clone().oneshot(request.map(Body::new))),
        }
    }
}

#[derive(Clone)]
struct Service {
    host: Arc<dyn Host>,
}

impl Service {
    /// Admits an agent and opens its session.
    async fn connected(
        &self,
        peer: Result<Arc<Peer>, Status>,
        mut inbound: Inbound,
    ) -> Result<http::Response<Body>, Status> {
        let peer = peer?;
        let identity = identity(&peer)?;
        if identity.not_after <= SystemTime::now() {
            return Err(status(
                Code::Unauthenticated,
                reason::CERTIFICATE_EXPIRED,
                "the certificate has ended; renew it",
                &[],
            ));
        }
        let hello = match timeout(wire::HANDSHAKE_TIMEOUT, inbound.message()).await {
            Ok(Ok(Some(ConnectRequest { frame: Some(connect_request::Frame::Hello(hello)) }))) => {
                hello
            }
            Ok(Ok(_)) => return Err(Status::failed_precondition("the first frame must be Hello")),
            Ok(Err(status)) => return Err(status),
            Err(_) => return Err(Status::deadline_exceeded("no Hello came")),
        };
        let theirs = (hello.min_protocol, hello.max_protocol);
        let Some(protocol) = protocol::negotiate((protocol::MIN, protocol::MAX), theirs) else {
            return Err(status(
                Code::FailedPrecondition,
                reason::PROTOCOL_MISMATCH,
                format!(
                    "this controller ({VERSION}) speaks link protocol {} to {}, the agent ({}) {} to {}",
                    protocol::MIN,
                    protocol::MAX,
                    hello.version,
                    theirs.0,
                    theirs.1
                ),
                &[],
            ));
        };
        let admission = self.host.admit(&identity, &hello, peer.address).await?;
        let welcome = Welcome {
            protocol,
            epoch: admission.epoch,
            agent_id: identity.agent_id.clone(),
            name: admission.name.clone(),
            version: VERSION.to_owned(),
            now: Some(SystemTime::now().into()),
            heartbeat_interval_ms: u32::try_from(admission.heartbeat.as_millis())
                .unwrap_or(u32::MAX),
            renew_after_seconds: admission.renew_after.as_secs(),
        };
        let (session, down) = Session::new(identity.agent_id, &admission, hello, &peer);
        if peer.session.set(session.clone()).is_err() {
            return Err(Status::failed_precondition("this connection has a session already"));
        }
        session.begin([Down::Welcome(welcome), Down::DesiredState(DesiredState { revision: 1 })]);
        self.host.opened(session.clone());
        let host = self.host.clone();
        tokio::spawn(session::run(session.clone(), inbound, admission.heartbeat, host));
        let frames = StreamBody::new(session::frames(session, down));
        Ok(framing::response(Body::new(frames)))
    }
}

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AgentLink for Service {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let peer = peer(&request)?;
        peer.keep_pace().await;
        let from = peer.address;
        Ok(Response::new(self.host.enroll(request.into_inner(), from).await?))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let peer = peer(&request)?;
        let identity = identity(&peer)?;
        peer.keep_pace().await;
        Ok(Response::new(self.host.renew(identity, request.into_inner()).await?))
    }

    async fn connect(
        &self,
        _: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Frames<ConnectResponse>>, Status> {
        Err(Status::internal("the router answers Connect itself"))
    }

    async fn serve(
        &self,
        _: Request<Streaming<ServeRequest>>,
    ) -> Result<Response<Frames<ServeResponse>>, Status> {
        Err(Status::internal("the router answers Serve itself"))
    }
}

/// Hands an answer over to who waits for it, and sends what more there is of the request.
async fn answered(
    peer: Result<Arc<Peer>, Status>,
    mut inbound: Parts<ServeRequest>,
) -> Result<http::Response<Body>, Status> {
    let peer = peer?;
    let session = peer
        .session
        .get()
        .ok_or_else(|| Status::failed_precondition("open Connect on this connection first"))?;
    let first = match timeout(wire::HANDSHAKE_TIMEOUT, inbound.try_next()).await {
        Ok(Ok(Some(first))) => first,
        Ok(Ok(None)) => return Err(Status::invalid_argument("the stream names no call")),
        Ok(Err(status)) => return Err(status),
        Err(_) => return Err(Status::deadline_exceeded("the stream names no call")),
    };
    let Some(mut waiter) = session.take_call(first.call_id) else {
        peer.keep_pace().await; // Cancelled, or made up.
        return Err(Status::not_found("no such call waits for an answer"));
    };
    let rest = waiter.rest.take();
    let done = CancellationToken::new();
    waiter.serve(Served { first, inbound, done: done.clone().drop_guard() });
    let trailers = |end: &End| Ok::<_, Status>(Frame::trailers(framing::trailers(end)));
    let request = parts::frames(request_body(rest, done))
        .or_else(move |status| ready(trailers(&framing::end_of(&status))));
    let body = request.chain(stream::iter([trailers(&End::default())]));
    Ok(framing::response(Body::new(StreamBody::new(body))))
}

/// The further request body, then nothing until the answer is done: half-closing earlier would look
/// like the end of the call to some HTTP/2 stacks.
fn request_body(
    rest: Option<Body>,
    done: CancellationToken,
) -> impl Stream<Item = Result<ServeResponse, Status>> {
    let pieces = stream::iter(rest).flat_map(|body| {
        let data = body.into_data_stream().map(|piece| match piece {
            Ok(body) => Ok(ServeResponse { body, end_of_request: false }),
            Err(error) => Err(Status::cancelled(format!("the caller went away: {error}"))),
        });
        let end = ServeResponse { end_of_request: true, ..Default::default() };
        data.chain(stream::iter([Ok(end)]))
    });
    let until = done.clone();
    pieces
        .chain(
            stream::once(async move {
                until.cancelled().await;
            })
            .filter_map(|()| async { None }),
        )
        .take_until(async move { done.cancelled().await })
}

#[allow(clippy::result_large_err)] // tonic's own error type
fn peer<T>(request: &Request<T>) -> Result<Arc<Peer>, Status> {
    let peer = request.extensions().get::<Arc<Peer>>();
    peer.cloned().ok_or_else(no_peer)
}

fn no_peer() -> Status {
    Status::internal("the connection has no peer")
}

#[allow(clippy::result_large_err)] // tonic's own error type
fn identity(peer: &Peer) -> Result<PeerIdentity, Status> {
    peer.identity.clone().ok_or_else(|| {
        status(
            Code::Unauthenticated,
            reason::NOT_LOGGED_IN,
            "this needs an agent's certificate; enrol first",
            &[],
        )
    })
}
