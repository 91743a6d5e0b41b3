//! A controller in this process, users with real TLS, and agents made for the test.

// Each test file uses its own part of it, and a test fails by panicking.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod lies;
pub mod raw;

pub mod web;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::Request, response::IntoResponse, routing::post};
use bytes::Bytes;
use dockctl_api::{
    link::v1::{Certificate, EnrollRequest, Inventory, connect_request::Frame as Up},
    tls::{ClientIdentity, Trust, client_config},
    v1::{
        agent_service_client::AgentServiceClient, api_token_service_client::ApiTokenServiceClient,
        auth_service_client::AuthServiceClient, container_service_client::ContainerServiceClient,
        image_service_client::ImageServiceClient, system_service_client::SystemServiceClient,
        user_service_client::UserServiceClient, *,
    },
};
use dockctl_controller::{
    edge::limits::Limits,
    run::{Controller, Options, UsersTls},
};
use dockctl_link::{
    agent::{self, Connector, HostResult, Status as LinkStatus, Updates},
    channel::Channel,
    framing,
};
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request as Call, Status, metadata::MetadataValue, service::Routes};

pub const LIMIT: Duration = Duration::from_secs(30);
/// Tests ask much in little time; those of the limits set their own.
pub const NO_LIMITS: Limits =
    Limits { auth: 0, action: 0, read: 0, streams: 0, trusted_proxies: Vec::new() };
pub const PASSWORD: &str = "correct horse battery";

pub struct World {
    pub dir: Arc<TempDir>,
    pub api: SocketAddr,
    pub agents: SocketAddr,
    pub metrics: SocketAddr,
    pub fingerprint: String,
    pub stop: CancellationToken,
    pub running: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// What a controller of a test is told to do.
pub fn options(dir: &Path) -> Options {
    Options {
        data_dir: dir.to_owned(),
        listen: any(),
        agent_listen: any(),
        metrics_listen: any(),
        names: Vec::new(),
        heartbeat: Duration::from_secs(1),
        certificate_lifetime: Duration::from_secs(24 * 3_600),
        admin_password: Some(PASSWORD.to_owned()),
        allow_signup: false,
        oidc: None,
        limits: NO_LIMITS,
        allow_origins: vec!["https://ops.example".to_owned()],
        users_tls: UsersTls::Own,
    }
}

impl World {
    pub async fn new() -> Self {
        Self::at(Arc::new(TempDir::new().unwrap()), any(), Duration::from_secs(24 * 3_600)).await
    }

    /// A controller on this directory, with this agents' port and certificate lifetime.
    pub async fn at(dir: Arc<TempDir>, agent_listen: SocketAddr, certificates: Duration) -> Self {
        Self::with(dir, |options| Options {
            agent_listen,
            certificate_lifetime: certificates,
            ..options
        })
        .await
    }

    /// A controller on this directory, with other options than usual.
    pub async fn with(dir: Arc<TempDir>, change: impl FnOnce(Options) -> Options) -> Self {
        let options = change(options(dir.path()));
        let controller = Controller::open(options).await.unwrap();
        let stop = CancellationToken::new();
        Self {
            dir,
            api: controller.api,
            agents: controller.agents,
            metrics: controller.metrics,
            fingerprint: controller.ca_fingerprint.clone(),
            stop: stop.clone(),
            running: Some(tokio::spawn(controller.run(stop))),
        }
    }

    pub async fn channel(&self) -> Channel {
        let trust = Trust::CaFingerprint(self.fingerprint.clone());
        Channel::dial(&self.api.to_string(), client_config(trust, None).unwrap()).await.unwrap()
    }

    /// A logged-in user.
    pub async fn user(&self) -> User {
        self.user_called("admin").await
    }

    pub async fn user_called(&self, name: &str) -> User {
        let channel = self.channel().await;
        let mut auth = AuthServiceClient::with_origin(channel.clone(), channel.origin.clone());
        let login = LoginRequest { username: name.into(), password: PASSWORD.into() };
        let tokens = auth.login(login).await.unwrap().into_inner().tokens.unwrap();
        User { channel, token: tokens.access_token, refresh: tokens.refresh_token }
    }

    /// A new user with a role for the whole fleet, logged in.
    pub async fn user_with(&self, name: &str, role: Role) -> User {
        self.user().await.create_user(name, role).await;
        self.user_called(name).await
    }

    pub async fn token(&self, max_uses: u32) -> String {
        let user = self.user().await;
        let request = CreateJoinTokenRequest { max_uses, ..Default::default() };
        user.agents().create_join_token(user.call(request)).await.unwrap().into_inner().token
    }

    /// Enrols and connects an agent.
    pub async fn join(&self, name: &str) -> TestAgent {
        let token = self.token(1).await;
        TestAgent::enroll(self, name, &token).await.unwrap().connect(self).await
    }
}

pub struct User {
    pub channel: Channel,
    pub token: String,
    pub refresh: String,
}

impl User {
    pub fn call<T>(&self, message: T) -> Call<T> {
        let mut call = Call::new(message);
        let value: MetadataValue<_> = format!("Bearer {}", self.token).parse().unwrap();
        call.metadata_mut().insert("authorization", value);
        call
    }
    pub fn agents(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::with_origin(self.channel.clone(), self.channel.origin.clone())
    }
    pub fn containers(&self) -> ContainerServiceClient<Channel> {
        ContainerServiceClient::with_origin(self.channel.clone(), self.channel.origin.clone())
    }
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::with_origin(self.channel.clone(), self.channel.origin.clone())
    }
    pub fn system(&self) -> SystemServiceClient<Channel> {
        SystemServiceClient::with_origin(self.channel.clone(), self.channel.origin.clone())
    }
    pub fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::with_origin(self.channel.clone(), self.channel.origin.clone())
    }

    pub fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::with_origin(self.channel.clone(), self.channel.origin.clone())
    }
    pub fn api_tokens(&self) -> ApiTokenServiceClient<Channel> {
        ApiTokenServiceClient::with_origin(self.channel.clone(), self.channel.origin.clone())
    }

    /// The same connection with another token.
    pub fn with_token(&self, token: String) -> User {
        User { channel: self.channel.clone(), token, refresh: String::new() }
    }

    pub async fn create_user(&self, name: &str, role: Role) {
        let request = CreateUserRequest {
            username: name.into(),
            password: PASSWORD.into(),
            role: role.into(),
        };
        self.users().create_user(self.call(request)).await.unwrap();
    }

    /// Grants a role and returns the grant's id.
    pub async fn grant(&self, name: &str, role: Role, selector: &str) -> String {
        let request = GrantRoleRequest {
            username: name.into(),
            role: role.into(),
            selector: selector.into(),
        };
        let user = self.users().grant_role(self.call(request)).await.unwrap().into_inner().user;
        user.unwrap().grants.last().unwrap().id.clone()
    }

    pub async fn label(&self, agent: &str, key: &str, value: &str) {
        let set = HashMap::from([(key.to_owned(), value.to_owned())]);
        let request = UpdateAgentLabelsRequest { agent: agent.into(), set, remove: Vec::new() };
        self.agents().update_agent_labels(self.call(request)).await.unwrap();
    }

    pub async fn agent(&self, name: &str) -> Result<Agent, Status> {
        let request = GetAgentRequest { agent: name.into() };
        Ok(self.agents().get_agent(self.call(request)).await?.into_inner().agent.unwrap())
    }

    /// Awaits an agent's state as WatchAgents tells it.
    pub async fn until(&self, name: &str, good: impl Fn(&Agent) -> bool) -> Agent {
        let watch = self.agents().watch_agents(self.call(WatchAgentsRequest::default())).await;
        let mut watch = watch.unwrap().into_inner();
        timeout(LIMIT, async {
            loop {
                let agent = watch.message().await.unwrap().unwrap().agent.unwrap();
                if agent.name == name && good(&agent) {
                    return agent;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{name} never came to be as awaited"))
    }
}

/// An agent without Docker: its identity in memory, its services canned.
#[derive(Clone)]
pub struct TestAgent {
    pub id: String,
    pub name: String,
    pub host: Arc<MemoryHost>,
    pub stop: CancellationToken,
    pub status: watch::Receiver<LinkStatus>,
}

pub struct MemoryHost {
    pub key: Mutex<Vec<u8>>,
    pub certificate: Mutex<CertificateDer<'static>>,
    pub ca: CertificateDer<'static>,
    pub routes: Routes,
    pub updates: watch::Sender<Vec<Up>>,
}

pub fn csr(key: &[u8]) -> Bytes {
    let key = KeyPair::try_from(key).unwrap();
    CertificateParams::default().serialize_request(&key).unwrap().der().to_vec().into()
}

pub async fn enroll(
    world: &World,
    name: &str,
    token: &str,
    key: &[u8],
) -> Result<dockctl_api::link::v1::EnrollResponse, agent::EnrollError> {
    let trust = Trust::CaFingerprint(world.fingerprint.clone());
    let request = EnrollRequest {
        token: token.split('.').nth(1).unwrap_or(token).to_owned(),
        csr: csr(key),
        name: name.to_owned(),
        labels: HashMap::from([("from".to_owned(), "join".to_owned())]),
    };
    agent::enroll(&world.agents.to_string(), client_config(trust, None).unwrap(), request).await
}

impl TestAgent {
    pub async fn enroll(
        world: &World,
        name: &str,
        token: &str,
    ) -> Result<Self, agent::EnrollError> {
        let key = KeyPair::generate().unwrap().serialize_der();
        let response = enroll(world, name, token, &key).await?;
        let certificate = response.certificate.unwrap();
        let host = MemoryHost {
            key: Mutex::new(key),
            certificate: Mutex::new(certificate.certificate.to_vec().into()),
            ca: certificate.ca.to_vec().into(),
            routes: services(name),
            updates: watch::Sender::new(Vec::new()),
        };
        Ok(Self {
            id: response.agent_id,
            name: response.name,
            host: Arc::new(host),
            stop: CancellationToken::new(),
            status: watch::channel(LinkStatus::Starting).1,
        })
    }

    /// Starts a process of this agent; a second one shares the identity as a copied disk would.
    pub fn start(&self, world: &World) -> Self {
        let connector = Connector::new(world.agents.to_string(), self.host.clone());
        let (status, stop) = (connector.status(), CancellationToken::new());
        tokio::spawn(connector.run(stop.clone()));
        Self { status, stop, ..self.clone() }
    }

    /// The same identity on another machine: what one side renews from now on, the other has not.
    pub fn copied_disk(&self) -> Self {
        let host = MemoryHost {
            key: Mutex::new(self.host.key.lock().unwrap().clone()),
            certificate: Mutex::new(self.host.certificate.lock().unwrap().clone()),
            ca: self.host.ca.clone(),
            routes: self.host.routes.clone(),
            updates: watch::Sender::new(Vec::new()),
        };
        Self { host: Arc::new(host), ..self.clone() }
    }

    pub async fn connect(&self, world: &World) -> Self {
        let mut started = self.start(world);
        let connected = started.status.wait_for(|s| matches!(s, LinkStatus::Connected { .. }));
        timeout(LIMIT, connected).await.unwrap().unwrap();
        started
    }

    /// Tells the controller something, as the last of all updates.
    pub fn tell(&self, frame: Up) {
        self.host.updates.send_modify(|all| all.push(frame));
    }
}

#[tonic::async_trait]
impl agent::Host for MemoryHost {
    fn tls(&self) -> HostResult<rustls::ClientConfig> {
        let key = PrivateKeyDer::try_from(self.key.lock().unwrap().clone())?;
        let identity =
            ClientIdentity { certificate: self.certificate.lock().unwrap().clone(), key };
        Ok(client_config(Trust::Ca(self.ca.clone()), Some(identity))?)
    }
    async fn begin_renewal(&self) -> HostResult<Vec<u8>> {
        Ok(csr(&self.key.lock().unwrap()).to_vec())
    }
    async fn finish_renewal(&self, certificate: Certificate) -> HostResult<()> {
        *self.certificate.lock().unwrap() = certificate.certificate.to_vec().into();
        Ok(())
    }
    fn routes(&self) -> Routes {
        self.routes.clone()
    }
    fn updates(&self) -> Updates {
        let state = (self.updates.subscribe(), 0);
        Box::pin(stream::unfold(state, |(mut updates, told)| async move {
            let next = updates.wait_for(|all| all.len() > told).await.ok()?[told].clone();
            Some((next, (updates, told + 1)))
        }))
    }
}

pub fn container(id: &str, name: &str, state: &str) -> Container {
    Container {
        id: id.into(),
        name: name.into(),
        state: state.into(),
        agent: "a-liar".into(),
        ..Default::default()
    }
}

pub fn full_inventory(containers: Vec<Container>) -> Up {
    Up::Inventory(Inventory { full: true, complete: true, containers, ..Default::default() })
}

fn grpc(
    messages: impl futures_util::Stream<Item = Vec<u8>> + Send + 'static,
) -> axum::response::Response {
    let frames = messages.map(|m| Frame::data(framing::frame(&m)));
    let end = stream::iter([Frame::trailers(framing::trailers(&Default::default()))]);
    let body = StreamBody::new(frames.chain(end).map(Ok::<_, std::convert::Infallible>));
    ([("content-type", "application/grpc")], axum::body::Body::new(body)).into_response()
}

async fn message<T: Message + Default>(request: Request) -> T {
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    T::decode(&body[framing::PREFIX..]).unwrap()
}

/// What the test's agents answer: a list, a start that counts, endless stats.
fn services(name: &str) -> Routes {
    let name = name.to_owned();
    Routes::from(
        Router::new()
            .route(
                "/dockctl.v1.ContainerService/ListContainers",
                post(|request: Request| async move {
                    let request: ListContainersRequest = message(request).await;
                    let containers = vec![container("live", &request.container, "running")];
                    grpc(stream::iter([ListContainersResponse {
                        containers,
                        ..Default::default()
                    }
                    .encode_to_vec()]))
                }),
            )
            .route(
                "/dockctl.v1.ContainerService/StreamStats",
                post(move |request: Request| async move {
                    let request: StreamStatsRequest = message(request).await;
                    let sample = StreamStatsResponse {
                        agent: "a-liar".into(),
                        container_name: name,
                        ..Default::default()
                    };
                    let count = if request.no_stream { 1 } else { usize::MAX };
                    let samples = stream::repeat(sample.encode_to_vec()).take(count);
                    let ticks = tokio_stream::wrappers::IntervalStream::new(tokio::time::interval(
                        Duration::from_millis(5),
                    ));
                    grpc(samples.zip(ticks).map(|(sample, _)| sample))
                }),
            )
            .route(
                "/dockctl.v1.SystemService/StreamEvents",
                post(|| async {
                    let event = |action: &str| StreamEventsResponse {
                        agent: "a-liar".into(),
                        event: Some(Event { action: action.into(), ..Default::default() }),
                        ..Default::default()
                    };
                    let events = ["exec_start: x", "start"].map(|a| event(a).encode_to_vec());
                    grpc(stream::iter(events))
                }),
            )
            .route(
                "/dockctl.v1.ContainerService/StreamLogs",
                post(|| async {
                    let status = dockctl_api::error::status(
                        tonic::Code::NotFound,
                        dockctl_api::error::reason::CONTAINER_NOT_FOUND,
                        "no such container",
                        &[],
                    );
                    status.into_http::<axum::body::Body>()
                }),
            ),
    )
}

/// A plain HTTP/1 GET of the metrics port.
pub async fn get(address: SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, tcp.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

pub fn read_file(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}
