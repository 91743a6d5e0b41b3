//! A controller that is none: the generated services over h2c or TLS on loopback, with a fixed fleet.
//! It plays the faults that the tests are about and remembers what it was asked.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicUsize},
    },
};

use bytes::Bytes;
use dockctl_api::{
    error::{NOT_SENT, RAN, reason, status},
    tls::CONTROLLER_NAME,
    v1::{
        agent_service_server::AgentServiceServer, auth_service_server::AuthServiceServer,
        container_service_server::ContainerServiceServer,
        system_service_server::SystemServiceServer, *,
    },
};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use prost_types::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Barrier, watch},
};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Request, Status, service::Routes};

/// The access token that is let in from the start.
pub(crate) const TOKEN: &str = "good";
/// Lines in the log of `web-1/app`.
pub(crate) const LINES: usize = 300;

/// What the fake has been asked and how it is to behave.
#[derive(Default)]
pub(crate) struct State {
    /// Refresh tokens that were used; a second use ends the family, as at the real one.
    pub(crate) refreshed: Mutex<HashSet<String>>,
    /// How many refreshes there were.
    pub(crate) refreshes: AtomicUsize,
    /// Access tokens that were given out.
    given: Mutex<HashSet<String>>,
    /// Every request for a log.
    pub(crate) logs: Mutex<Vec<StreamLogsRequest>>,
    /// Every started or stopped container.
    pub(crate) acted: Mutex<Vec<String>>,
    /// Stops that run now, and the most that ever did at the same time.
    pub(crate) stopping: (AtomicUsize, AtomicUsize),
    /// A stop waits here for as many others, if it is set.
    pub(crate) gather: Mutex<Option<Arc<Barrier>>>,
    /// The agents' port that it tells; 0, as an old controller, unless set.
    pub(crate) agents_port: AtomicU32,
    /// Told when all connections are to be dropped.
    cut: watch::Sender<()>,
}

impl State {
    /// Drops all connections, as a killed controller does.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }
}

/// A running fake.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) ca_fingerprint: String,
    pub(crate) ca_pem: String,
    pub(crate) state: Arc<State>,
}

impl Fake {
    /// Starts one over plain HTTP/2.
    pub(crate) async fn start() -> Self {
        Self::run(None).await
    }

    /// Starts one that knows none of the API's services, as the agents' port.
    pub(crate) async fn start_without_services() -> Self {
        Self::serve_routes(None, Arc::default(), Routes::default()).await
    }

    /// Starts one with a CA of its own.
    pub(crate) async fn start_tls() -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_cert = ca.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![CONTROLLER_NAME.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone(), ca_cert.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let mut fake = Self::run(Some(TlsAcceptor::from(Arc::new(config)))).await;
        fake.ca_fingerprint = dockctl_api::sha256_hex(ca_cert.der());
        fake.ca_pem = ca_cert.pem();
        fake
    }

    async fn run(tls: Option<TlsAcceptor>) -> Self {
        let state = Arc::new(State::default());
        let routes = Routes::new(AuthServiceServer::new(Service(state.clone())))
            .add_service(AgentServiceServer::new(Service(state.clone())))
            .add_service(ContainerServiceServer::new(Service(state.clone())))
            .add_service(SystemServiceServer::new(Service(state.clone())));
        Self::serve_routes(tls, state, routes).await
    }

    async fn serve_routes(tls: Option<TlsAcceptor>, state: Arc<State>, routes: Routes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let served = state.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (routes, tls, state) = (routes.clone(), tls.clone(), served.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(tcp, routes, state).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                serve(stream, routes, state).await;
                            }
                        }
                    }
                });
            }
        });
        Self { url, ca_fingerprint: String::new(), ca_pem: String::new(), state }
    }
}

async fn serve<T>(stream: T, routes: Routes, state: Arc<State>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut cut = state.cut.subscribe();
    let connection = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::select! {
        _ = connection => {}
        _ = cut.changed() => {} // dropped without a farewell
    }
}

/// The services.
pub(crate) struct Service(pub(crate) Arc<State>);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    pub(crate) fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let header = request.metadata().get("authorization").and_then(|v| v.to_str().ok());
        match header.and_then(|h| h.strip_prefix("Bearer ")) {
            Some(token) if token == TOKEN || lock(&self.0.given).contains(token) => Ok(()),
            Some("old") => Err(status(
                Code::Unauthenticated,
                reason::TOKEN_EXPIRED,
                "the token has expired",
                &[],
            )),
            Some("viewer") => Err(status(
                Code::PermissionDenied,
                reason::NOT_ALLOWED,
                "viewer may not do this",
                &[("permission", "containers.operate")],
            )),
            _ => Err(status(Code::Unauthenticated, reason::NOT_LOGGED_IN, "no good token", &[])),
        }
    }

    pub(crate) fn tokens(&self, serial: usize) -> Tokens {
        let access = format!("access-{serial}");
        lock(&self.0.given).insert(access.clone());
        Tokens {
            access_token: access,
            access_expires_at: Some(Timestamp { seconds: 4_000_000_000, nanos: 0 }),
            refresh_token: format!("refresh-{serial}"),
            refresh_expires_at: Some(Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        }
    }
}

pub(crate) fn offline() -> Status {
    status(
        Code::Unavailable,
        reason::AGENT_OFFLINE,
        "web-9 is offline",
        &[("cause", "no heartbeat"), (RAN, NOT_SENT)],
    )
}

pub(crate) fn no_container() -> Status {
    status(Code::NotFound, reason::CONTAINER_NOT_FOUND, "no such container", &[])
}

/// The fleet: `db` lives on two hosts, web-9 is away.
pub(crate) fn fleet() -> Vec<Container> {
    let container = |agent: &str, name: &str, id: char, stale: bool| Container {
        agent: agent.to_owned(),
        id: id.to_string().repeat(64),
        name: name.to_owned(),
        image: "busybox:latest".to_owned(),
        command: "sleep 1000".to_owned(),
        created_at: Some(Timestamp { seconds: 1_000_000_000, nanos: 0 }),
        state: "running".to_owned(),
        status: "Up 5 minutes".to_owned(),
        ports: vec![Port {
            host_ip: "::".to_owned(),
            host_port: 8080,
            container_port: 80,
            protocol: "tcp".to_owned(),
        }],
        stale,
        ..Container::default()
    };
    vec![
        container("web-1", "app", 'a', false),
        container("web-1", "db", 'b', false),
        container("web-2", "db", 'c', false),
        container("web-9", "old", 'd', true),
    ]
}

pub(crate) fn agents() -> Vec<Agent> {
    let agent = |name: &str, state: AgentState| Agent {
        id: format!("id-{name}"),
        name: name.to_owned(),
        state: state.into(),
        standing: AgentStanding::Active.into(),
        last_seen_at: Some(Timestamp { seconds: 1_000_000_000, nanos: 0 }),
        ..Agent::default()
    };
    let mut all = vec![
        agent("web-1", AgentState::Connected),
        agent("web-2", AgentState::Connected),
        agent("web-9", AgentState::Offline),
    ];
    all[2].cause = "no heartbeat".to_owned();
    all
}

/// A line of the log of `web-1/app`: streams alternate, several lines share a stamp.
pub(crate) fn line(index: usize) -> (LogStream, Timestamp, String) {
    let stream = if index % 3 == 2 { LogStream::Stderr } else { LogStream::Stdout };
    let millis = i64::try_from(index / 4).unwrap() * 333;
    let time = Timestamp {
        seconds: 1_700_000_000 + millis / 1000,
        nanos: i32::try_from(millis % 1000).unwrap() * 1_000_000,
    };
    (stream, time, format!("line {index} {}", "x".repeat(index % 50)))
}

fn stamp(time: &Timestamp) -> String {
    let of_day = time.seconds.rem_euclid(86_400);
    assert_eq!(time.seconds / 86_400, 1_700_000_000 / 86_400, "all within 2023-11-14");
    let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("2023-11-14T{h:02}:{m:02}:{s:02}.{:09}Z", time.nanos)
}

pub(crate) fn record(index: usize, stamps: bool) -> LogRecord {
    let (stream, time, text) = line(index);
    let data = if stamps { format!("{} {text}\n", stamp(&time)) } else { format!("{text}\n") };
    LogRecord { stream: stream.into(), data: Bytes::from(data) }
}
