//! The accept loop of every port: limits on handshakes, HTTP/2 settings, bounded drain. It serves any
//! tower service and tells it who the peer is by a [`Peer`] in the request's extensions.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;
use tower::ServiceExt as _;

use super::{
    gate::{Gate, Place},
    session::Session,
    traffic::Traffic,
};
use crate::{
    identity::PeerIdentity,
    quota::Quota,
    socket::{Close, Socket},
    turn, wire,
};

/// How long open streams may go on after the drain began.
const DRAIN: Duration = Duration::from_secs(30);
/// The wait after the system refused a new connection (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection; one for each, shared by its requests.
#[derive(Debug)]
pub struct Peer {
    /// The address it came from.
    pub address: SocketAddr,
    /// The agent in its certificate, proven by TLS.
    pub identity: Option<PeerIdentity>,
    /// Cancel it to cut the connection at once.
    pub cut: CancellationToken,
    /// How a cut closes the connection.
    pub(crate) close: Close,
    /// The session that this connection opened.
    pub(crate) session: std::sync::OnceLock<Arc<Session>>,
    pace: Mutex<Quota>,
}

impl Peer {
    fn new(
        address: SocketAddr,
        identity: Option<PeerIdentity>,
        cut: CancellationToken,
        close: Close,
    ) -> Self {
        let pace = Mutex::new(Quota::new(wire::PACE.0, wire::PACE.1, Instant::now()));
        Self { address, identity, cut, close, session: Default::default(), pace }
    }

    /// Waits where the connection asks too fast for what costs the controller more than itself.
    pub(crate) async fn keep_pace(&self) {
        let pause = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.take(1, Instant::now())
        };
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(fuzzing)]
impl Peer {
    /// For the fuzzer, which has no connection.
    pub fn for_fuzzing(address: SocketAddr, identity: Option<PeerIdentity>) -> Self {
        Self::new(address, identity, CancellationToken::new(), Close::default())
    }
}

/// What a port serves with.
pub struct Port<S> {
    /// The bound socket.
    pub listener: TcpListener,
    /// TLS; None serves HTTP/2 in the clear, for loopback only.
    pub tls: Option<Arc<ServerConfig>>,
    /// What answers; each request has an `Arc<Peer>` extension.
    pub service: S,
    /// Connections at once; beyond it new ones are closed.
    pub max_connections: usize,
    /// Counts what passes.
    pub traffic: Arc<Traffic>,
    /// Connections that have no agent's session after this time are ended; None where there are none.
    pub session_within: Option<Duration>,
}

/// What every connection of a port shares.
#[derive(Clone)]
struct Shared<S> {
    tls: Option<Arc<ServerConfig>>,
    service: S,
    traffic: Arc<Traffic>,
    session_within: Option<Duration>,
    shutdown: CancellationToken,
}

impl<S> Port<S>
where
    S: tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    /// Serves until `shutdown`, then lets open streams end for up to 30 s.
    pub async fn serve(self, shutdown: CancellationToken) {
        let gate = Gate::new();
        let connections = Arc::new(Semaphore::new(self.max_connections));
        let tasks = TaskTracker::new();
        let cut_all = CancellationToken::new();
        let shared = Shared {
            tls: self.tls,
            service: self.service,
            traffic: self.traffic,
            session_within: self.session_within,
            shutdown: shutdown.clone(),
        };
        loop {
            let place = tokio::select! {
                () = shutdown.cancelled() => break,
                place = gate.place() => place,
            };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let (tcp, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = place.and_then(|place| gate.enter(address.ip(), place)) else {
                shared.traffic.refused();
                tracing::debug!(%address, "too many unfinished connections of its address; closed");
                continue;
            };
            let Ok(slot) = connections.clone().try_acquire_owned() else {
                shared.traffic.refused();
                tracing::warn!(%address, "too many connections; closed");
                continue;
            };
            let (shared, cut) = (shared.clone(), cut_all.child_token());
            tasks.spawn(async move {
                let _slot = slot;
                serve_connection(tcp, address, place, shared, cut).await;
            });
        }
        tasks.close();
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            tracing::warn!("streams still open after {} s; cutting them", DRAIN.as_secs());
            cut_all.cancel();
            tasks.wait().await;
        }
    }
}

async fn serve_connection<S>(
    tcp: TcpStream,
    address: SocketAddr,
    place: Place,
    shared: Shared<S>,
    cut: CancellationToken,
) where
    S: tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%address, %error, "cannot set TCP_NODELAY");
    }
    let (close, traffic) = (Close::default(), shared.traffic.clone());
    let _connected = traffic.connected();
    let tcp = Socket::new(tcp, close.clone()).counted(traffic.clone());
    let Some(tls) = shared.tls.clone() else {
        drop(place);
        return serve_http(tcp, close, (address, None), shared, cut).await;
    };
    let accepting = async {
        let _turn = place.turn().await;
        TlsAcceptor::from(tls).accept(tcp).await
    };
    let mut stream = match tokio::time::timeout(wire::HANDSHAKE_TIMEOUT, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            traffic.handshake_failed();
            return tracing::debug!(%address, %error, "TLS handshake failed");
        }
        Err(_) => {
            traffic.handshake_failed();
            return tracing::debug!(%address, "TLS handshake timed out");
        }
    };
    drop(place);
    stream.get_mut().1.set_buffer_limit(Some(wire::TLS_BUFFER));
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let identity = certificate.and_then(|der| PeerIdentity::from_certificate(der));
    serve_http(stream, close, (address, identity), shared, cut).await;
}

async fn serve_http<S, IO>(
    io: IO,
    close: Close,
    (address, identity): (SocketAddr, Option<PeerIdentity>),
    shared: Shared<S>,
    cut: CancellationToken,
) where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    S: tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let peer = Arc::new(Peer::new(address, identity, cut.clone(), close));
    let sessionless = without_session(shared.session_within, peer.clone());
    tokio::pin!(sessionless);
    let service = shared.service.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request
    });
    let (io, mut end_of_turn) = turn::split(io);
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(wire::STREAM_WINDOW)
        .initial_connection_window_size(wire::CONNECTION_WINDOW)
        .max_concurrent_streams(wire::MAX_STREAMS)
        .max_frame_size(wire::MAX_HTTP2_FRAME)
        .max_header_list_size(wire::MAX_HEADERS)
        .max_pending_accept_reset_streams(wire::MAX_PENDING_RESETS)
        .keep_alive_interval(wire::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(wire::KEEPALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let broke = |error| tracing::debug!(%address, %error, "connection broke");
    let result = tokio::select! {
        biased; // The connection's turn comes first, then its end.
        result = &mut connection => result,
        error = &mut end_of_turn => return broke(error),
        () = cut.cancelled() => return,
        () = &mut sessionless => {
            return tracing::debug!(%address, "a connection without a session; closed");
        }
        () = shared.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                result = &mut connection => result,
                error = &mut end_of_turn => return broke(error),
                () = cut.cancelled() => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%address, %error, "connection ended");
    }
}

/// Resolves when a connection has had its time and opened no session; else never.
async fn without_session(within: Option<Duration>, peer: Arc<Peer>) {
    if let Some(within) = within {
        tokio::time::sleep(within).await;
        if peer.session.get().is_none() {
            return;
        }
    }
    std::future::pending().await
}
