//! The accept loop of every port: limits on handshakes, HTTP/2 settings, bounded drain. It serves any
//! tower service and tells it who the peer is by a [`Peer`] in the request's extensions.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::body::Body;
use tower::ServiceExt as _;

use super::{
    gate::{Counted, Gate, Place},
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
    /// Whether a request came.
    asked: AtomicBool,
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
        Self {
            address,
            identity,
            cut,
            close,
            session: Default::default(),
            asked: AtomicBool::new(false),
            pace,
        }
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

/// What a connection takes up, in the extensions of its requests: whoever takes the connection over, as WebSockets
/// do, keeps it until its end.
#[derive(Debug, Clone)]
pub struct Connected(
    #[allow(dead_code)] Arc<(OwnedSemaphorePermit, Arc<Counted>, TaskTrackerToken)>,
);

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
    /// TLS; None serves in the clear, for loopback only.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether HTTP/1.1 is spoken too, for browsers and curl.
    pub http1: bool,
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
    http1: bool,
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
        let gate = Gate::new(self.max_connections);
        let connections = Arc::new(Semaphore::new(self.max_connections));
        let tasks = TaskTracker::new();
        let cut_all = CancellationToken::new();
        let shared = Shared {
            tls: self.tls,
            http1: self.http1,
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
                tracing::debug!(%address, "too many connections of its address; closed");
                continue;
            };
            let Ok(slot) = connections.clone().try_acquire_owned() else {
                shared.traffic.refused();
                tracing::warn!(%address, "too many connections; closed");
                continue;
            };
            let (shared, cut) = (shared.clone(), cut_all.child_token());
            let connected = Connected(Arc::new((slot, place.counted(), tasks.token())));
            tasks.spawn(serve_connection(tcp, address, place, shared, cut, connected));
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
    connected: Connected,
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
        let peer = Arc::new(Peer::new(address, None, cut, close));
        return Box::pin(serve_http(tcp, peer, !shared.http1, shared, connected)).await;
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
    let is_http2 = !shared.http1 || stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let peer = Arc::new(Peer::new(address, identity, cut, close));
    serve_http(stream, peer, is_http2, shared, connected).await;
}

/// Our settings for either kind of builder, which share no trait.
macro_rules! http2_settings {
    ($builder:expr) => {
        $builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(wire::STREAM_WINDOW)
            .initial_connection_window_size(wire::CONNECTION_WINDOW)
            .max_concurrent_streams(wire::MAX_STREAMS)
            .max_frame_size(wire::MAX_HTTP2_FRAME)
            .max_header_list_size(wire::MAX_HEADERS)
            .max_pending_accept_reset_streams(wire::MAX_PENDING_RESETS)
            .keep_alive_interval(wire::KEEPALIVE_INTERVAL)
            .keep_alive_timeout(wire::KEEPALIVE_TIMEOUT)
    };
}

async fn serve_http<S, IO>(
    io: IO,
    peer: Arc<Peer>,
    is_http2: bool,
    shared: Shared<S>,
    connected: Connected,
) where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    S: tower::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let (address, asking) = (peer.address, peer.clone());
    let service = shared.service.map_request(move |mut request: Request<Incoming>| {
        asking.asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(asking.clone());
        request.extensions_mut().insert(connected.clone());
        request
    });
    let service = TowerToHyperService::new(service);
    let ending = Ending { peer, session_within: shared.session_within, shutdown: shared.shutdown };
    let result = if is_http2 {
        let (io, end_of_turn) = turn::split(io);
        let connection = http2_settings!(http2::Builder::new(TokioExecutor::new()))
            .serve_connection(TokioIo::new(io), service);
        let stop = |connection: Pin<&mut _>| http2::Connection::graceful_shutdown(connection);
        drive(connection, stop, end_of_turn, ending).await
    } else {
        // What begins as HTTP/2 without having said so before is taken for that too.
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(wire::HEADERS_WITHIN)
            .max_buf_size(wire::MAX_HTTP1_HEADERS);
        http2_settings!(builder.http2());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        let stop =
            |connection: Pin<&mut _>| auto::UpgradeableConnection::graceful_shutdown(connection);
        // Boxed, so that the many connections of agents have no room for it.
        Box::pin(drive(connection, stop, std::future::pending(), ending)).await
    };
    if let Err(error) = result {
        tracing::debug!(%address, %error, "connection ended");
    }
}

/// What ends a connection but itself.
struct Ending {
    peer: Arc<Peer>,
    session_within: Option<Duration>,
    shutdown: CancellationToken,
}

/// Serves a connection to its end.
async fn drive<C, E>(
    connection: C,
    stop: impl FnOnce(Pin<&mut C>),
    broken: impl Future<Output = io::Error>,
    ending: Ending,
) -> Result<(), String>
where
    C: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let Ending { peer, session_within, shutdown } = ending;
    let unused = unused(session_within, peer.clone());
    tokio::pin!(connection, broken, unused);
    tokio::select! {
        biased; // The connection's turn comes first, then its end.
        result = &mut connection => return result.map_err(|error| error.to_string()),
        error = &mut broken => return Err(error.to_string()),
        () = peer.cut.cancelled() => return Ok(()),
        why = &mut unused => return Err(why.to_owned()),
        () = shutdown.cancelled() => {}
    }
    stop(connection.as_mut());
    tokio::select! {
        biased;
        result = &mut connection => result.map_err(|error| error.to_string()),
        error = &mut broken => Err(error.to_string()),
        () = peer.cut.cancelled() => Ok(()),
    }
}

/// Resolves with the reason when a connection has had its time and did not do what it is there for.
async fn unused(session_within: Option<Duration>, peer: Arc<Peer>) -> &'static str {
    if let Some(within) = session_within {
        tokio::time::sleep(within).await;
        if peer.session.get().is_none() {
            return "it has opened no session; closed";
        }
    } else {
        tokio::time::sleep(wire::ASKS_WITHIN).await;
        if !peer.asked.load(Ordering::Relaxed) {
            return "it has asked nothing; closed";
        }
    }
    std::future::pending().await
}
