//! One HTTP/2 connection to the controller, as the service that the generated clients are built over.
//! Adds the caller's token and deadline to each request. Knows nothing of logins; `session` does.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, Uri,
    header::{AUTHORIZATION, USER_AGENT},
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
    rt::{Read, Write},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{io::BufReader, net::TcpStream};
use tokio_rustls::TlsConnector;
use tonic::{body::Body, codegen::Service};

use crate::{
    endpoint::Endpoint,
    error::{Error, Exit, Result},
    output::clean,
};

/// How long connecting and the TLS handshake may take together, at most.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);
/// Flow control: what may be under way unread, on one stream and on all, bytes.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Largest HTTP/2 frame: one for a whole batch of log lines.
const FRAME: u32 = 64 * 1024;
/// What one system call reads, and what TLS takes to be sent at once: a frame is a little more than itself.
const BUFFER: usize = 2 * FRAME as usize;
/// A dead peer is noticed after both: a silent time, then a ping without answer.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_ANSWER: Duration = Duration::from_secs(5);
/// The largest answer taken, bytes: a page of a fleet list is a few MiB.
pub(crate) const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// An open connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Channel {
    sender: SendRequest<Body>,
    scheme: Scheme,
    authority: Authority,
    bearer: Option<HeaderValue>,
    deadline: Option<HeaderValue>,
}

/// A fresh connection and the certificates that the controller showed, its own first.
pub(crate) struct Connected {
    /// The connection, without a token.
    pub(crate) channel: Channel,
    /// Empty for plain HTTP.
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing answers, or what answers is no controller.
    Unreachable(Error),
    /// Something answers that is not trusted.
    Untrusted(rustls::Error),
}

/// Connects within `limit`; `tls` must be there for a secure endpoint.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    tls: Option<ClientConfig>,
    limit: Duration,
) -> std::result::Result<Connected, Failure> {
    // Boxed, as a handshake is large and seldom: each call's future would hold room for it.
    match tokio::time::timeout(limit, Box::pin(open(endpoint, tls))).await {
        Ok(result) => result,
        Err(_) => {
            let why = format!("it did not answer within {} s", limit.as_secs_f32());
            Err(unreachable(endpoint, &why))
        }
    }
}

async fn open(
    endpoint: &Endpoint,
    tls: Option<ClientConfig>,
) -> std::result::Result<Connected, Failure> {
    let failed = |error: io::Error| unreachable(endpoint, &error.to_string());
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let Some(config) = tls.filter(|_| endpoint.secure) else {
        return Ok(Connected { channel: http2(endpoint, tcp).await?, chain: Vec::new() });
    };
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|_| unreachable(endpoint, "its name is no host name"))?;
    let tcp = BufReader::with_capacity(BUFFER, tcp);
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(
        |error| match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(e @ rustls::Error::InvalidCertificate(_)) => Failure::Untrusted(e.clone()),
            _ => unreachable(endpoint, &format!("it does not speak TLS as it should: {error}")),
        },
    )?;
    stream.get_mut().1.set_buffer_limit(Some(BUFFER));
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|c| c.clone().into_owned()).collect();
    Ok(Connected { channel: http2(endpoint, stream).await?, chain })
}

async fn http2<T>(endpoint: &Endpoint, stream: T) -> std::result::Result<Channel, Failure>
where
    TokioIo<T>: Read + Write + Unpin + Send + 'static,
{
    let failed = |why: String| unreachable(endpoint, &why);
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed(format!("it does not speak HTTP/2: {e}")))?;
    // Ends with the connection; its calls are told why by themselves.
    tokio::spawn(async move { drop(connection.await) });
    let authority = endpoint.authority().parse().map_err(|e| failed(format!("{e}")))?;
    let scheme = if endpoint.secure { Scheme::HTTPS } else { Scheme::HTTP };
    Ok(Channel { sender, scheme, authority, bearer: None, deadline: None })
}

fn unreachable(endpoint: &Endpoint, why: &str) -> Failure {
    let url = endpoint.url();
    Failure::Unreachable(
        Error::new(Exit::Unreachable, format!("no connection to {url}: {}", clean(why)))
            .hint("check the URL and that dockctl-controller runs there"),
    )
}

impl Channel {
    /// The same connection with a token on each call.
    pub(crate) fn with_token(mut self, token: &str) -> Result<Self> {
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
            Error::usage("the access token has characters that no token has")
                .hint("check DOCKCTL_TOKEN")
        })?;
        value.set_sensitive(true);
        self.bearer = Some(value);
        Ok(self)
    }

    /// The same connection with a deadline told to the controller on each call.
    pub(crate) fn with_deadline(mut self, deadline: Option<Duration>) -> Self {
        // At most 8 digits, says the gRPC specification: 27 hours in milliseconds.
        let text = |d: Duration| format!("{}m", d.as_millis().min(99_999_999));
        self.deadline = deadline.and_then(|d| HeaderValue::try_from(text(d)).ok());
        self
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path_and_query().cloned();
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        if let Ok(uri) = uri.build() {
            *request.uri_mut() = uri;
        }
        let headers = request.headers_mut();
        let agent = HeaderValue::from_static(concat!("dockctl/", env!("CARGO_PKG_VERSION")));
        headers.insert(USER_AGENT, agent);
        if let Some(bearer) = &self.bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        if let Some(deadline) = &self.deadline {
            headers.insert("grpc-timeout", deadline.clone());
        }
        Box::pin(self.sender.send_request(request))
    }
}
