//! One HTTP/2 client connection as a tower service for the generated clients.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_util::FutureExt as _;
use http::{
    HeaderValue, Method, Request, Response, Uri,
    header::{CONTENT_TYPE, TE},
    uri::PathAndQuery,
};
use hyper::{body::Incoming, client::conn::http2, rt::Executor};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{io::AsyncWrite, net::TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};
use tower::{Service, ServiceExt as _};

use crate::{
    socket::{Close, Socket},
    turn::{self, EndOfTurn},
    wire,
};

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address cannot be resolved or reached.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// What was dialled.
        address: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// TCP works, TLS does not.
    #[error("TLS with {address} failed: {source}")]
    Tls {
        /// What was dialled.
        address: String,
        /// rustls' word.
        source: std::io::Error,
    },
    /// Nothing happened for `wire::HANDSHAKE_TIMEOUT`.
    #[error("{address} did not answer within {} s", wire::HANDSHAKE_TIMEOUT.as_secs())]
    Timeout {
        /// What was dialled.
        address: String,
    },
    /// HTTP/2 could not begin.
    #[error("HTTP/2 with {address} failed: {source}")]
    Http {
        /// What was dialled.
        address: String,
        /// hyper's word.
        source: hyper::Error,
    },
}

impl DialError {
    /// Whether the other end was refused by our own verification, so that trying again is useless.
    pub fn is_untrusted(&self) -> bool {
        let Self::Tls { source, .. } = self else { return false };
        let inner = source.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
    }
}

/// A connection; cheap to clone. When the last clone is dropped and no stream is open, it closes.
#[derive(Clone)]
pub struct Channel {
    sender: http2::SendRequest<Body>,
    /// Where requests are addressed to, for the generated clients' `with_origin`.
    pub origin: Uri,
    closed: CancellationToken,
    cut: CancellationToken,
    close: Close,
}

impl Channel {
    /// Dials `address` (host:port) with TLS. The connection is driven by a task of its own.
    pub async fn dial(address: &str, tls: ClientConfig) -> Result<Self, DialError> {
        Self::dial_from(address, tls, None).await
    }

    /// As `dial`, from a given source address.
    pub async fn dial_from(
        address: &str,
        tls: ClientConfig,
        source: Option<SocketAddr>,
    ) -> Result<Self, DialError> {
        let timeout = |_| DialError::Timeout { address: address.to_owned() };
        tokio::time::timeout(wire::HANDSHAKE_TIMEOUT, connect(address, tls, source))
            .await
            .map_err(timeout)?
    }

    /// Opens a gRPC call whose messages are framed already. Errors: what the connection says, and a status that
    /// comes instead of an answer.
    pub(crate) async fn open(self, path: &'static str, messages: Body) -> Result<Body, Status> {
        let mut uri = self.origin.clone().into_parts();
        uri.path_and_query = Some(PathAndQuery::from_static(path));
        let mut request = Request::new(messages);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let answer = self.oneshot(request).await.map_err(|e| Status::unavailable(e.to_string()))?;
        match Status::from_header_map(answer.headers()) {
            Some(status) => Err(status),
            None => Ok(Body::new(answer.into_body())),
        }
    }

    /// The other end is taken for dead: cuts the connection at once, whoever has clones and streams.
    pub fn reset(&self) {
        self.close.by_reset();
        self.cut.cancel();
    }

    /// Resolves when the connection has ended.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

async fn connect(
    address: &str,
    tls: ClientConfig,
    source: Option<SocketAddr>,
) -> Result<Channel, DialError> {
    let unreachable = |source| DialError::Unreachable { address: address.to_owned(), source };
    let tcp = match source {
        None => TcpStream::connect(address).await.map_err(unreachable)?,
        Some(source) => {
            let target = tokio::net::lookup_host(address).await.map_err(unreachable)?.next();
            let target = target.ok_or_else(|| unreachable(std::io::ErrorKind::NotFound.into()))?;
            let socket = tokio::net::TcpSocket::new_v4().map_err(unreachable)?;
            socket.bind(source).map_err(unreachable)?;
            socket.connect(target).await.map_err(unreachable)?
        }
    };
    tcp.set_nodelay(true).map_err(unreachable)?;
    let close = Close::default();
    let mut stream = TlsConnector::from(Arc::new(tls))
        .connect(
            ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
            Socket::new(tcp, close.clone()),
        )
        .await
        .map_err(|source| DialError::Tls { address: address.to_owned(), source })?;
    stream.get_mut().1.set_buffer_limit(Some(wire::TLS_BUFFER));
    let (io, end_of_turn) = turn::split(stream);
    let (sender, connection) = http2::Builder::new(Tasks(Arc::new(Mutex::new(Some(end_of_turn)))))
        .timer(TokioTimer::new())
        .initial_stream_window_size(wire::STREAM_WINDOW)
        .initial_connection_window_size(wire::CONNECTION_WINDOW)
        .max_frame_size(wire::MAX_HTTP2_FRAME)
        .max_header_list_size(wire::MAX_HEADERS)
        .keep_alive_interval(wire::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(wire::KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake::<_, Body>(TokioIo::new(io))
        .await
        .map_err(|source| DialError::Http { address: address.to_owned(), source })?;
    let (closed, cut) = (CancellationToken::new(), CancellationToken::new());
    let guard = closed.clone().drop_guard();
    let was_cut = cut.clone();
    tokio::spawn(async move {
        let _guard = guard;
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            },
            () = was_cut.cancelled() => {}
        }
    });
    let origin = Uri::builder()
        .scheme("https")
        .authority(address)
        .path_and_query("/")
        .build()
        .unwrap_or_else(|_| Uri::from_static("https://controller/"));
    Ok(Channel { sender, origin, closed, cut, close })
}

/// Spawns hyper's tasks. The first one that it is given is the connection, which has turns.
struct Tasks<IO>(Arc<Mutex<Option<EndOfTurn<IO>>>>);

impl<IO> Clone for Tasks<IO> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<IO, F> Executor<F> for Tasks<IO>
where
    IO: AsyncWrite + Unpin + Send + 'static,
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        let end_of_turn = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match end_of_turn {
            // Not in an async block, which would hold it twice and copy it for that.
            None => drop(tokio::spawn(task.map(drop))),
            Some(mut end_of_turn) => drop(tokio::spawn(async move {
                tokio::select! {
                    biased; // The connection's turn comes first, then its end.
                    _ = task => {}
                    error = &mut end_of_turn => tracing::debug!(%error, "connection broke"),
                }
            })),
        }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
