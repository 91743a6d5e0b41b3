//! A controller that is none: the generated services over h2c or TLS on loopback, with a fixed fleet.
//! It plays the faults that the tests are about and remembers what it was asked.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use dockctl_api::{
    error::{NOT_SENT, RAN, reason, status},
    tls::CONTROLLER_NAME,
    v1::{
        agent_service_server::{AgentService, AgentServiceServer},
        auth_service_server::{AuthService, AuthServiceServer},
        container_service_server::{ContainerService, ContainerServiceServer},
        system_service_server::{SystemService, SystemServiceServer},
        *,
    },
};
use futures_util::{Stream, StreamExt, stream};
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
    sync::watch,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Request, Response, Status, service::Routes};

/// The access token that is let in from the start.
pub const TOKEN: &str = "good";
/// Lines in the log of `web-1/app`.
pub const LINES: usize = 300;

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

/// What the fake has been asked and how it is to behave.
#[derive(Default)]
pub struct State {
    /// Refresh tokens that were used; a second use ends the family, as at the real one.
    refreshed: Mutex<HashSet<String>>,
    /// How many refreshes there were.
    pub refreshes: AtomicUsize,
    /// Access tokens that were given out.
    given: Mutex<HashSet<String>>,
    /// Every request for a log.
    pub logs: Mutex<Vec<StreamLogsRequest>>,
    /// Every started or stopped container.
    pub acted: Mutex<Vec<String>>,
    /// Grows when all connections are to be dropped.
    cut: watch::Sender<usize>,
    /// How often all connections were dropped.
    cuts: AtomicUsize,
}

/// A running fake.
#[derive(Clone)]
pub struct Fake {
    pub url: String,
    pub ca_fingerprint: String,
    pub ca_pem: String,
    pub state: Arc<State>,
}

impl Fake {
    /// Starts one over plain HTTP/2.
    pub async fn start() -> Self {
        Self::run(None).await
    }

    /// Starts one with a CA of its own.
    pub async fn start_tls() -> Self {
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let routes = Routes::new(AuthServiceServer::new(Service(state.clone())))
            .add_service(AgentServiceServer::new(Service(state.clone())))
            .add_service(ContainerServiceServer::new(Service(state.clone())))
            .add_service(SystemServiceServer::new(Service(state.clone())));
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
struct Service(Arc<State>);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let header = request.metadata().get("authorization").and_then(|v| v.to_str().ok());
        match header.and_then(|h| h.strip_prefix("Bearer ")) {
            Some(token) if token == TOKEN || lock(&self.0.given).contains(token) => Ok(()),
            Some("old") => {
                Err(status(Code::Unauthenticated, reason::TOKEN_EXPIRED, "the token has expired", &[]))
            }
            Some("viewer") => Err(status(
                Code::PermissionDenied,
                reason::NOT_ALLOWED,
                "viewer may not do this",
                &[("permission", "containers.operate")],
            )),
            _ => Err(status(Code::Unauthenticated, reason::NOT_LOGGED_IN, "no good token", &[])),
        }
    }

    fn tokens(&self, serial: usize) -> Tokens {
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

fn offline() -> Status {
    status(
        Code::Unavailable,
        reason::AGENT_OFFLINE,
        "web-9 is offline",
        &[("cause", "no heartbeat"), (RAN, NOT_SENT)],
    )
}

fn no_container() -> Status {
    status(Code::NotFound, reason::CONTAINER_NOT_FOUND, "no such container", &[])
}

/// The fleet: `db` lives on two hosts, web-9 is away.
pub fn fleet() -> Vec<Container> {
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

fn agents() -> Vec<Agent> {
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
pub fn line(index: usize) -> (LogStream, Timestamp, String) {
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

fn record(index: usize, stamps: bool) -> LogRecord {
    let (stream, time, text) = line(index);
    let data = if stamps { format!("{} {text}\n", stamp(&time)) } else { format!("{text}\n") };
    LogRecord { stream: stream.into(), data: Bytes::from(data) }
}

#[tonic::async_trait]
impl AuthService for Service {
    async fn login(&self, request: Request<LoginRequest>) -> Answer<LoginResponse> {
        let request = request.into_inner();
        if request.password != "secret" {
            let text = "wrong user name or password";
            return Err(status(Code::Unauthenticated, reason::BAD_CREDENTIALS, text, &[]));
        }
        let user = User { name: request.username, role: "admin".to_owned(), ..User::default() };
        Ok(Response::new(LoginResponse { tokens: Some(self.tokens(0)), user: Some(user) }))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Answer<RefreshResponse> {
        let token = request.into_inner().refresh_token;
        if !lock(&self.0.refreshed).insert(token) {
            let text = "this refresh token was used before";
            return Err(status(Code::Unauthenticated, reason::REFRESH_REUSED, text, &[]));
        }
        let serial = self.0.refreshes.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Response::new(RefreshResponse { tokens: Some(self.tokens(serial)) }))
    }

    async fn logout(&self, request: Request<LogoutRequest>) -> Answer<LogoutResponse> {
        self.admit(&request)?;
        Ok(Response::new(LogoutResponse {}))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Answer<WhoAmIResponse> {
        self.admit(&request)?;
        let user = User { name: "admin".to_owned(), role: "admin".to_owned(), ..User::default() };
        Ok(Response::new(WhoAmIResponse { user: Some(user), access_expires_at: None }))
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    type WatchAgentsStream = Boxed<WatchAgentsResponse>;

    async fn list_agents(&self, request: Request<ListAgentsRequest>) -> Answer<ListAgentsResponse> {
        self.admit(&request)?;
        Ok(Response::new(ListAgentsResponse { agents: agents() }))
    }

    async fn get_agent(&self, request: Request<GetAgentRequest>) -> Answer<GetAgentResponse> {
        self.admit(&request)?;
        let name = request.into_inner().agent;
        match agents().into_iter().find(|a| a.name == name) {
            Some(agent) => Ok(Response::new(GetAgentResponse { agent: Some(agent) })),
            None => Err(status(Code::NotFound, reason::AGENT_NOT_FOUND, "no such agent", &[])),
        }
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Answer<CreateJoinTokenResponse> {
        self.admit(&request)?;
        let request = request.into_inner();
        let record = JoinToken {
            id: "t1".to_owned(),
            max_uses: request.max_uses,
            labels: request.labels,
            expires_at: Some(Timestamp { seconds: 4_000_000_000, nanos: 0 }),
            ..JoinToken::default()
        };
        let token = "dct_secret".to_owned();
        Ok(Response::new(CreateJoinTokenResponse { token, join_token: Some(record) }))
    }

    async fn watch_agents(
        &self,
        _: Request<WatchAgentsRequest>,
    ) -> Answer<Self::WatchAgentsStream> {
        Err(Status::unimplemented(""))
    }

    async fn list_join_tokens(
        &self,
        _: Request<ListJoinTokensRequest>,
    ) -> Answer<ListJoinTokensResponse> {
        Err(Status::unimplemented(""))
    }

    async fn delete_join_token(
        &self,
        _: Request<DeleteJoinTokenRequest>,
    ) -> Answer<DeleteJoinTokenResponse> {
        Err(Status::unimplemented(""))
    }

    async fn update_agent_labels(
        &self,
        _: Request<UpdateAgentLabelsRequest>,
    ) -> Answer<UpdateAgentLabelsResponse> {
        Err(Status::unimplemented(""))
    }

    async fn revoke_agent(&self, _: Request<RevokeAgentRequest>) -> Answer<RevokeAgentResponse> {
        Err(Status::unimplemented(""))
    }

    async fn delete_agent(&self, request: Request<DeleteAgentRequest>) -> Answer<DeleteAgentResponse> {
        self.admit(&request)?;
        lock(&self.0.acted).push(format!("rm {}", request.into_inner().agent));
        Ok(Response::new(DeleteAgentResponse {}))
    }
}

impl Service {
    /// Records an action, or says why it cannot be.
    fn act<T>(&self, request: &Request<T>, what: &str, agent: &str, container: &str) -> Result<(), Status> {
        self.admit(request)?;
        if agent == "web-9" {
            return Err(offline());
        }
        if !agents().iter().any(|a| a.name == agent) {
            return Err(status(Code::NotFound, reason::AGENT_NOT_FOUND, "no such agent", &[]));
        }
        let fits = |c: &Container| c.agent == agent && (c.name == container || c.id.starts_with(container));
        if !fleet().iter().any(fits) {
            return Err(no_container());
        }
        lock(&self.0.acted).push(format!("{what} {agent}/{container}"));
        Ok(())
    }
}

#[tonic::async_trait]
impl ContainerService for Service {
    type StreamLogsStream = Boxed<StreamLogsResponse>;
    type StreamStatsStream = Boxed<StreamStatsResponse>;

    /// Pages of two, whatever is asked for.
    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        self.admit(&request)?;
        let request = request.into_inner();
        let wanted = |c: &Container| {
            (request.agent.is_empty() || c.agent == request.agent)
                && (request.container.is_empty()
                    || c.name == request.container
                    || c.id.starts_with(&request.container))
        };
        let all: Vec<Container> = fleet().into_iter().filter(wanted).collect();
        let from: usize = request.page_token.parse().unwrap_or(0);
        let page: Vec<Container> = all.iter().skip(from).take(2).cloned().collect();
        let next = from + page.len();
        let view = AgentView {
            agent: "web-9".to_owned(),
            stale: true,
            cause: "no heartbeat".to_owned(),
            as_of: None,
        };
        Ok(Response::new(ListContainersResponse {
            containers: page,
            next_page_token: if next < all.len() { next.to_string() } else { String::new() },
            views: if from == 0 { vec![view] } else { Vec::new() },
        }))
    }

    async fn inspect_container(
        &self,
        request: Request<InspectContainerRequest>,
    ) -> Answer<InspectContainerResponse> {
        let r = request.get_ref();
        self.act(&request, "inspect", &r.agent, &r.container)?;
        let json = format!(r#"{{"Zeta":1,"Name":"/{}","Alpha":{{}}}}"#, r.container);
        Ok(Response::new(InspectContainerResponse { json }))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let r = request.get_ref();
        self.act(&request, "start", &r.agent, &r.container)?;
        Ok(Response::new(StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Answer<StopContainerResponse> {
        let r = request.get_ref();
        self.act(&request, "stop", &r.agent, &r.container)?;
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn restart_container(
        &self,
        _: Request<RestartContainerRequest>,
    ) -> Answer<RestartContainerResponse> {
        Err(Status::unimplemented(""))
    }

    async fn kill_container(
        &self,
        _: Request<KillContainerRequest>,
    ) -> Answer<KillContainerResponse> {
        Err(Status::unimplemented(""))
    }

    /// The model of an engine's log. A follow breaks twice: the link first, with a line half sent,
    /// then the whole connection; the third one reaches the end.
    async fn stream_logs(&self, request: Request<StreamLogsRequest>) -> Answer<Self::StreamLogsStream> {
        self.admit(&request)?;
        let request = request.into_inner();
        if request.agent == "web-9" {
            return Err(offline());
        }
        if request.container == "endless" {
            let message = || StreamLogsResponse {
                records: vec![LogRecord {
                    stream: LogStream::Stdout.into(),
                    data: Bytes::from("y\n".repeat(32 * 1024)),
                }],
                ..StreamLogsResponse::default()
            };
            return Ok(Response::new(stream::repeat_with(move || Ok(message())).boxed()));
        }
        let asked = {
            let mut logs = lock(&self.0.logs);
            logs.push(request.clone());
            logs.len()
        };
        let since = request.since.map_or((0, 0), |t| (t.seconds, t.nanos));
        let past: Vec<usize> = (0..LINES)
            .filter(|i| {
                let time = line(*i).1;
                (time.seconds, time.nanos) >= since
            })
            .collect();
        let skip = request.tail.map_or(0, |n| past.len().saturating_sub(n as usize));
        let stamps = request.timestamps;
        let mut messages: Vec<Result<StreamLogsResponse, Status>> = past[skip..]
            .chunks(7)
            .map(|chunk| {
                let records = chunk.iter().map(|i| record(*i, stamps)).collect();
                Ok(StreamLogsResponse { records, ..StreamLogsResponse::default() })
            })
            .collect();
        if !request.follow || asked > 2 {
            return Ok(Response::new(stream::iter(messages).boxed()));
        }
        messages.truncate(10);
        // Half a line, then the loss.
        let half = record(past[skip] + 70, stamps);
        let half = LogRecord { data: half.data.slice(..half.data.len() - 2), ..half };
        messages.push(Ok(StreamLogsResponse { records: vec![half], ..StreamLogsResponse::default() }));
        if asked == 1 {
            let lost = status(Code::Unavailable, reason::LINK_LOST, "the link was lost", &[]);
            messages.push(Err(lost));
            return Ok(Response::new(stream::iter(messages).boxed()));
        }
        let state = self.0.clone();
        let cut = async move {
            state.cut.send_replace(state.cuts.fetch_add(1, Ordering::SeqCst) + 1);
            std::future::pending().await
        };
        Ok(Response::new(stream::iter(messages).chain(stream::once(cut)).boxed()))
    }

    async fn stream_stats(&self, request: Request<StreamStatsRequest>) -> Answer<Self::StreamStatsStream> {
        self.admit(&request)?;
        let samples = fleet().into_iter().take(2).map(|c| {
            Ok(StreamStatsResponse {
                agent: c.agent,
                container_id: c.id,
                container_name: c.name,
                cpu_percent: 1.5,
                memory_usage: 1 << 20,
                memory_limit: 1 << 30,
                pids: 3,
                ..StreamStatsResponse::default()
            })
        });
        Ok(Response::new(stream::iter(samples.collect::<Vec<_>>()).boxed()))
    }
}

#[tonic::async_trait]
impl SystemService for Service {
    type StreamEventsStream = Boxed<StreamEventsResponse>;

    async fn get_version(&self, request: Request<GetVersionRequest>) -> Answer<GetVersionResponse> {
        self.admit(&request)?;
        Ok(Response::new(GetVersionResponse {
            version: "9.9.9".to_owned(),
            ..GetVersionResponse::default()
        }))
    }

    async fn get_info(&self, _: Request<GetInfoRequest>) -> Answer<GetInfoResponse> {
        Err(Status::unimplemented(""))
    }

    async fn ping(&self, request: Request<PingRequest>) -> Answer<PingResponse> {
        self.admit(&request)?;
        Ok(Response::new(PingResponse { engine_latency: None }))
    }

    async fn stream_events(
        &self,
        request: Request<StreamEventsRequest>,
    ) -> Answer<Self::StreamEventsStream> {
        self.admit(&request)?;
        let event = Event {
            r#type: "container".to_owned(),
            action: "start".to_owned(),
            actor_id: "aaaa".to_owned(),
            attributes: HashMap::from([("name".to_owned(), "app".to_owned())]),
            time: Some(Timestamp { seconds: 1_700_000_000, nanos: 1 }),
            inferred: false,
        };
        let message =
            StreamEventsResponse { agent: "web-1".to_owned(), event: Some(event), notice: None };
        Ok(Response::new(stream::iter([Ok(message)]).boxed()))
    }
}
