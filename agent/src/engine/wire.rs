//! Requests to the engine: HTTP/1.1 with kept-alive connections and the negotiated API version in the
//! path. `Engine` and, through `docker()`, bollard send everything short over it; streams go over
//! `raw`. It never changes an answer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker, errors::Error as BollardError};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::{
    BodyExt as _, Empty, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody,
};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    endpoint::Endpoint,
    fault::{Call, Fault},
    lock,
};

/// Every short call ends within this, unless its caller waits longer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// Calls that write or delete whole file systems, or walk through them, end within this.
pub(super) const LONG: Duration = Duration::from_secs(600);

/// Idle connections kept; more close after their call.
const MAX_IDLE: usize = 8;
/// Proxies close idle connections after a minute or so; be earlier.
const IDLE_FOR: Duration = Duration::from_secs(20);
/// The longest answer that is read into memory.
const MAX_ANSWER: usize = 64 << 20;

/// The oldest API version that is spoken: Docker 20.10's.
const OLDEST: u32 = 41;
/// The newest API version that is spoken: that of bollard's types.
const NEWEST: u32 = API_DEFAULT_VERSION.minor_version as u32;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What the engine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineVersion {
    /// The engine's version, for example "28.2.2"; empty where a proxy hides it.
    pub version: String,
    /// The negotiated API version, for example "1.47".
    pub api_version: String,
    /// Operating system and architecture, for example "linux/amd64"; empty where a proxy hides it.
    pub platform: String,
}

pub(super) struct Wire {
    pub(super) endpoint: Endpoint,
    /// The negotiated API version is 1.n; 0 before negotiation.
    api: AtomicU32,
    idle: Mutex<Vec<Idle>>,
    /// Streams that are open now.
    streams: AtomicUsize,
}

/// Counts a stream as long as it is open.
pub(super) struct Open(Arc<Wire>);

impl Open {
    pub(super) fn new(wire: &Arc<Wire>) -> Self {
        wire.streams.fetch_add(1, Ordering::Relaxed);
        Self(wire.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    #[serde(default)]
    version: String,
    api_version: String,
    #[serde(rename = "MinAPIVersion", default)]
    min_api_version: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    arch: String,
}

impl Wire {
    pub(super) fn new(endpoint: Endpoint) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            api: AtomicU32::new(0),
            idle: Mutex::default(),
            streams: AtomicUsize::new(0),
        })
    }

    /// A bollard client over this wire. bollard's own time limit covers a stop's grace time as well,
    /// so it is set out of the way: callers have limits of their own.
    pub(super) fn docker(self: &Arc<Self>) -> Result<Docker, BollardError> {
        let wire = self.clone();
        let transport = move |request: BollardRequest| {
            let wire = wire.clone();
            async move {
                let request = request.map(|body| UnsyncBoxBody::new(body.map_err(Into::into)));
                wire.versioned(request)
                    .await
                    .map_err(|fault| BollardError::IOError { err: std::io::Error::other(fault) })
            }
        };
        let forever = u64::from(u32::MAX);
        Docker::connect_with_custom_transport(
            transport,
            Some("http://docker"),
            forever,
            API_DEFAULT_VERSION,
        )
    }

    /// Gets a path (with its query) below the API version and reads the answer, within `limit`.
    pub(super) async fn get(&self, path: &str, limit: Duration) -> Result<Bytes, Fault> {
        let ask = || async { self.whole(self.versioned(get(path)?).await?).await };
        within(limit, self.retried(ask)).await
    }

    /// Like `get`, decoded.
    pub(super) async fn get_json<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: Duration,
    ) -> Result<T, Fault> {
        decode(&self.get(path, limit).await?)
    }

    /// Sends a request that changes something, with this JSON or nothing as its body, and reads the
    /// answer within `limit`.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &str,
        json: Option<&str>,
        limit: Duration,
    ) -> Result<Bytes, Fault> {
        // Outside of the limit, so that a call that never left is not told as one that may have run.
        self.prefix().await.map_err(Fault::unsent)?;
        let ask = || async {
            let request = change(method.clone(), path, json)?;
            self.whole(self.versioned(request).await?).await
        };
        within(limit, self.retried(ask)).await
    }

    /// Asks, and once more in a newly negotiated version where the engine refused that of the first time;
    /// it refused it unseen, so that nothing has run.
    pub(super) async fn retried<T, F>(&self, ask: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        match ask().await {
            Err(fault) if self.renegotiates(&fault) => ask().await,
            other => other,
        }
    }

    /// How many streams are open now.
    pub(super) fn open_streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Agrees with the engine on an API version, as new as both speak. Done again before the next
    /// call whenever the engine was away, since it may have been exchanged.
    pub(super) async fn negotiate(&self) -> Result<EngineVersion, Fault> {
        within(TIMEOUT, async {
            match self.whole(self.send(get("/version")?).await?).await {
                Ok(body) => self.agree(&decode(&body)?),
                // A proxy that hides the version seldom hides the ping.
                Err(Fault::Answer { code: 403, .. }) => self.agree(&self.version_of_ping().await?),
                Err(fault) => Err(fault),
            }
        })
        .await
    }

    /// The path prefix of the negotiated API version, negotiated now where it was not yet.
    pub(super) async fn prefix(&self) -> Result<String, Fault> {
        if self.api.load(Ordering::Relaxed) == 0 {
            self.negotiate().await?;
        }
        Ok(format!("/v1.{}", self.api.load(Ordering::Relaxed)))
    }

    /// The negotiated API version's minor number.
    pub(super) async fn api(&self) -> Result<u32, Fault> {
        self.prefix().await?;
        Ok(self.api.load(Ordering::Relaxed))
    }

    /// Whether a refused call is worth another try, with a newly negotiated version.
    pub(super) fn renegotiates(&self, fault: &Fault) -> bool {
        let refused = fault.is_version_refused();
        if refused {
            self.api.store(0, Ordering::Relaxed);
        }
        refused
    }

    /// What a failed call is told as. An engine that could not be reached may come back as another
    /// one, so the version is forgotten.
    pub(super) fn status(&self, fault: &Fault, call: Call<'_>) -> tonic::Status {
        if fault.is_unreachable() {
            self.api.store(0, Ordering::Relaxed);
        }
        fault.status(call, &self.endpoint.to_string())
    }

    async fn version_of_ping(&self) -> Result<Version, Fault> {
        let response = self.send(get("/_ping")?).await?;
        let header = response.headers().get("api-version").and_then(|v| v.to_str().ok());
        let api_version = header.unwrap_or_default().to_owned();
        self.whole(response).await?;
        let empty = String::new;
        let (version, min_api_version, os, arch) = (empty(), empty(), empty(), empty());
        Ok(Version { version, api_version, min_api_version, os, arch })
    }

    fn agree(&self, engine: &Version) -> Result<EngineVersion, Fault> {
        let newest = minor(&engine.api_version).ok_or_else(|| {
            Fault::Garbage(format!("it names API version {:?}", engine.api_version))
        })?;
        let oldest = minor(&engine.min_api_version).unwrap_or(0);
        if newest < OLDEST {
            return Err(Fault::Version(format!(
                "Docker {} speaks API 1.{newest} at most; dockctl needs 1.{OLDEST}, which is Docker \
                 20.10 or newer",
                engine.version
            )));
        }
        if oldest > NEWEST {
            return Err(Fault::Version(format!(
                "Docker {} speaks API 1.{oldest} at least, this agent 1.{NEWEST} at most: update the \
                 agent",
                engine.version
            )));
        }
        let agreed = newest.min(NEWEST);
        self.api.store(agreed, Ordering::Relaxed);
        let platform = match (engine.os.as_str(), engine.arch.as_str()) {
            ("", _) | (_, "") => String::new(),
            (os, arch) => format!("{os}/{arch}"),
        };
        Ok(EngineVersion {
            version: engine.version.clone(),
            api_version: format!("1.{agreed}"),
            platform,
        })
    }

    /// Sends a request with the negotiated version before its path. bollard 0.21 loses the version
    /// that it puts there itself (`Url::join` with an absolute path replaces the whole path).
    pub(super) async fn versioned(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Fault> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let path = self.prefix().await.map_err(Fault::unsent)? + path;
        *request.uri_mut() = path.parse().map_err(|e| Fault::Garbage(format!("{path}: {e}")))?;
        self.send(request).await
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Fault> {
        // Only reads go over a kept connection: it may have closed unseen, and a read is safe to
        // repeat on a new one.
        if request.method() == Method::GET
            && let Some(sender) = self.checkout()
            && let Ok(response) = self.exchange(sender, get(&request.uri().to_string())?).await
        {
            return Ok(response);
        }
        // Rare and large, so that it is kept out of every caller's future.
        let sender = Box::pin(self.connect()).await?;
        self.exchange(sender, request).await
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Fault> {
        let io = TokioIo::new(self.endpoint.connect().await.map_err(Fault::Connect)?);
        let (sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|e| fault(&e))?;
        // Ends by itself: when the answer is read and the sender is not kept, or when either side is
        // dropped before that.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    async fn exchange(
        &self,
        mut sender: SendRequest<Body>,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Fault> {
        request.headers_mut().insert(HOST, HeaderValue::from_static("docker"));
        let response = sender.send_request(request).await.map_err(|e| fault(&e))?;
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_IDLE {
            // It becomes ready when the body has been read.
            idle.push(Idle { sender, since: Instant::now() });
        }
        Ok(response)
    }

    fn checkout(&self) -> Option<SendRequest<Body>> {
        let mut idle = lock(&self.idle);
        idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE_FOR);
        let ready = idle.iter().position(|idle| idle.sender.is_ready())?;
        Some(idle.swap_remove(ready).sender)
    }

    /// An answer's whole body, or what it says of a failure.
    pub(super) async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, Fault> {
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|e| match e.is::<LengthLimitError>() {
            true => Fault::TooLong(MAX_ANSWER),
            false => Fault::Lost(e.to_string()),
        });
        let body = body?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(Fault::answer(status.as_u16(), &body)) }
    }
}

pub(super) fn get(path: &str) -> Result<Request<Body>, Fault> {
    let body = UnsyncBoxBody::new(Empty::new().map_err(|never| match never {}));
    Request::get(path).body(body).map_err(|e| Fault::Garbage(format!("{path}: {e}")))
}

fn change(method: Method, path: &str, json: Option<&str>) -> Result<Request<Body>, Fault> {
    let request = Request::builder().method(method).uri(path);
    let request = match json {
        Some(_) => request.header(CONTENT_TYPE, "application/json"),
        None => request,
    };
    let body = Full::from(json.unwrap_or_default().to_owned()).map_err(|never| match never {});
    request.body(UnsyncBoxBody::new(body)).map_err(|e| Fault::Garbage(format!("{path}: {e}")))
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|e| Fault::Garbage(e.to_string()))
}

/// Runs a call within a time limit.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(Fault::Timeout(limit)))
}

fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("1.")?.parse().ok()
}

pub(super) fn fault(error: &hyper::Error) -> Fault {
    // hyper itself says "connection error"; what it was, for example a TLS alert, is in its source.
    let text = match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    if error.is_parse() { Fault::Garbage(text) } else { Fault::Lost(text) }
}

/// The fault within bollard's error.
pub(super) fn of_bollard(error: BollardError) -> Fault {
    match error {
        BollardError::DockerResponseServerError { status_code, message } => {
            // bollard does not tell.
            Fault::Answer { code: status_code, message, dockers: false }
        }
        BollardError::RequestTimeoutError => Fault::Timeout(TIMEOUT),
        BollardError::IOError { err } => match err.downcast::<Fault>() {
            Ok(fault) => fault,
            Err(err) => Fault::Lost(err.to_string()),
        },
        BollardError::HyperResponseError { err } => fault(&err),
        other => Fault::Garbage(other.to_string()),
    }
}
