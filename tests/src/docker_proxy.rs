//! A socket proxy before a Docker engine, as people put one there to limit an agent: GET passes, every
//! other method is refused with 403.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1 as client,
    header::{CONNECTION, HeaderValue},
    server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream, UnixStream},
    task::JoinHandle,
};

type Body = BoxBody<Bytes, hyper::Error>;

/// Listens on loopback and forwards to an engine's unix socket. Ends when dropped.
#[derive(Debug)]
pub struct DockerProxy {
    address: SocketAddr,
    follows: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl DockerProxy {
    /// Starts it before the engine at `host`, a `unix://` URL.
    ///
    /// # Errors
    /// When `host` is something else.
    pub async fn start(host: &str) -> Result<Self> {
        let socket = PathBuf::from(host.strip_prefix("unix://").context("a unix:// engine")?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let follows = Arc::new(AtomicUsize::new(0));
        let counter = follows.clone();
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(serve(tcp, socket.clone(), counter.clone()));
            }
        });
        Ok(Self { address, follows, task })
    }

    /// How many connections that carry the follow of a log are open now.
    pub fn open_follows(&self) -> usize {
        self.follows.load(Ordering::SeqCst)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, for `--docker`.
    pub fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }
}

impl Drop for DockerProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(tcp: TcpStream, socket: PathBuf, follows: Arc<AtomicUsize>) {
    let follow = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        let uri = request.uri();
        let query = uri.query().unwrap_or_default();
        if uri.path().ends_with("/logs")
            && (query.contains("follow=1") || query.contains("follow=true"))
        {
            follow.store(true, Ordering::SeqCst);
            follows.fetch_add(1, Ordering::SeqCst);
        }
        let socket = socket.clone();
        async move { Ok::<_, Infallible>(answer(request, socket).await) }
    });
    // The agent hanging up is an ordinary end.
    let _ = server::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
    if follow.load(Ordering::SeqCst) {
        follows.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(request: Request<Incoming>, socket: PathBuf) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return plain(StatusCode::FORBIDDEN, "Request forbidden by administrative rules.\n");
    }
    match forward(request, socket).await {
        Ok(response) => response.map(BodyExt::boxed),
        Err(error) => {
            let mut response = plain(StatusCode::BAD_GATEWAY, "the engine does not answer\n");
            if let Ok(value) = HeaderValue::from_str(&error.to_string()) {
                response.headers_mut().insert("x-cause", value);
            }
            response
        }
    }
}

async fn forward(request: Request<Incoming>, socket: PathBuf) -> Result<Response<Incoming>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut send, connection) = client::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (parts, _) = request.into_parts();
    let mut request = Request::builder()
        .method(parts.method)
        .uri(parts.uri)
        .header("host", "docker")
        .body(Empty::<Bytes>::new())?;
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let mut response = send.send_request(request).await?;
    // Between the agent and this proxy the connection may stay.
    response.headers_mut().remove(CONNECTION);
    Ok(response)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|e: Infallible| match e {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
}
