//! An agent with services made for the test, and a host that admits whom it is told to, over a real TLS
//! connection on loopback.

// Each test file uses its own part of it, and a test fails by panicking.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, extract::Request, response::IntoResponse, routing::post};
use bytes::Bytes;
use dockctl_api::{
    error::{self, reason},
    link::v1::*,
    tls::{self as api_tls, ClientIdentity, Trust},
};
use dockctl_link::{
    agent::{self, CallContext, Connector, HostResult, Updates},
    controller::{self, Admission, CallSpec, PeerIdentity, Session, Update, listener::Port, tls},
    framing::{self, Deframer},
    identity, wire,
};
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};

pub const LIMIT: Duration = Duration::from_secs(30);

// --- certificates

pub struct Ca {
    pub issuer: Issuer<'static, KeyPair>,
    pub der: CertificateDer<'static>,
}

impl Ca {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    pub fn issue(&self, names: Vec<SanType>) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    pub fn agent(&self, id: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        self.issue(vec![SanType::URI(identity::uri(id, 1).try_into().unwrap())])
    }
}

// --- the controller's side

pub struct Hub {
    pub epochs: AtomicUsize,
    pub sessions: watch::Sender<Option<Arc<Session>>>,
    pub closed: mpsc::UnboundedSender<String>,
    pub refuse: Mutex<Option<Status>>,
}

#[tonic::async_trait]
impl controller::Host for Hub {
    async fn enroll(&self, _: EnrollRequest, _: SocketAddr) -> Result<EnrollResponse, Status> {
        Err(Status::unauthenticated("no tokens here"))
    }
    async fn renew(&self, _: PeerIdentity, _: RenewRequest) -> Result<RenewResponse, Status> {
        Err(Status::unimplemented("no renewal here"))
    }
    async fn admit(
        &self,
        peer: &PeerIdentity,
        _: &Hello,
        _: SocketAddr,
    ) -> Result<Admission, Status> {
        if let Some(status) = self.refuse.lock().unwrap().clone() {
            return Err(status);
        }
        Ok(Admission {
            epoch: self.epochs.fetch_add(1, Ordering::SeqCst) as u64 + 1,
            name: format!("name-of-{}", peer.agent_id),
            renew_after: Duration::from_secs(3_600),
            heartbeat: Duration::from_secs(1),
        })
    }
    fn opened(&self, session: Arc<Session>) {
        self.sessions.send_replace(Some(session));
    }
    fn told(&self, _: &Arc<Session>, _: Update) {}
    fn changed(&self, _: &Arc<Session>) {}
    fn closed(&self, _: &Arc<Session>, cause: String) {
        let _ = self.closed.send(cause);
    }
}

// --- the agent's side: a service for each way of answering

#[derive(Default)]
pub struct Counters {
    pub ran: AtomicUsize,
    pub live: AtomicUsize,
}

/// Counts itself down when it is dropped.
pub struct Live(Arc<Counters>);
impl Live {
    pub fn new(counters: &Arc<Counters>) -> Self {
        counters.live.fetch_add(1, Ordering::SeqCst);
        Self(counters.clone())
    }
}
impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::SeqCst);
    }
}

pub fn grpc(
    frames: impl futures_util::Stream<Item = Frame<Bytes>> + Send + 'static,
) -> axum::response::Response {
    let body =
        axum::body::Body::new(StreamBody::new(frames.map(Ok::<_, std::convert::Infallible>)));
    ([("content-type", "application/grpc")], body).into_response()
}

pub fn ok() -> Frame<Bytes> {
    Frame::trailers(framing::trailers(&End::default()))
}

pub fn services(counters: Arc<Counters>) -> Routes {
    let (count, hang, flood) = (counters.clone(), counters.clone(), counters);
    Routes::from(
        Router::new()
            .route(
                "/t/Panic",
                post(|| async {
                    if true {
                        panic!("for the test");
                    }
                }),
            )
            // Answers the request's body with itself, piece by piece, for as long as it comes.
            .route(
                "/t/Echo",
                post(|request: Request| async {
                    let data = request.into_body().into_data_stream();
                    let frames = data.filter_map(|d| async { d.ok().map(Frame::data) });
                    grpc(frames.chain(stream::once(async { ok() })))
                }),
            )
            // Answers with how many seconds its caller waits yet.
            .route(
                "/t/Left",
                post(|request: Request| async move {
                    let context = request.extensions().get::<CallContext>().unwrap();
                    let left = context.deadline.map(|at| (at - Instant::now()).as_secs());
                    let left = format!("{left:?}");
                    grpc(stream::iter([Frame::data(framing::frame(left.as_bytes())), ok()]))
                }),
            )
            .route(
                "/t/Count",
                post(move || async move {
                    let n = count.ran.fetch_add(1, Ordering::SeqCst) + 1;
                    grpc(stream::iter([
                        Frame::data(framing::frame(n.to_string().as_bytes())),
                        ok(),
                    ]))
                }),
            )
            .route(
                "/t/Fail",
                post(|| async {
                    let status =
                        error::status(Code::NotFound, reason::CONTAINER_NOT_FOUND, "none", &[]);
                    status.into_http::<axum::body::Body>()
                }),
            )
            .route(
                "/t/Big",
                post(|| async {
                    let frames = (0..40).map(|n| Frame::data(framing::frame(&vec![n; 100_000])));
                    grpc(stream::iter(frames.chain([ok()]).collect::<Vec<_>>()))
                }),
            )
            .route(
                "/t/Hang",
                post(move || {
                    let live = Live::new(&hang);
                    async move {
                        let _live = live;
                        std::future::pending::<axum::response::Response>().await
                    }
                }),
            )
            .route(
                "/t/Flood",
                post(move || async move {
                    let live = Live::new(&flood);
                    grpc(stream::unfold(live, |live| async move {
                        Some((Frame::data(framing::frame(&[7; 10_000])), live))
                    }))
                }),
            ),
    )
}

pub struct AgentSide {
    pub ca: CertificateDer<'static>,
    pub identity: (CertificateDer<'static>, PrivateKeyDer<'static>),
    pub routes: Routes,
}

#[tonic::async_trait]
impl agent::Host for AgentSide {
    fn tls(&self) -> HostResult<rustls::ClientConfig> {
        let (certificate, key) = (self.identity.0.clone(), self.identity.1.clone_key());
        let identity = ClientIdentity { certificate, key };
        Ok(api_tls::client_config(Trust::Ca(self.ca.clone()), Some(identity))?)
    }
    async fn begin_renewal(&self) -> HostResult<Vec<u8>> {
        Err("no renewal here".into())
    }
    async fn finish_renewal(&self, _: Certificate) -> HostResult<()> {
        Ok(())
    }
    fn routes(&self) -> Routes {
        self.routes.clone()
    }
    fn updates(&self) -> Updates {
        Box::pin(stream::pending())
    }
}

// --- both

pub struct World {
    pub ca: Ca,
    pub hub: Arc<Hub>,
    pub address: SocketAddr,
    pub counters: Arc<Counters>,
    pub closed: mpsc::UnboundedReceiver<String>,
    pub stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with_session_within(wire::SESSION_WITHIN).await
    }

    /// A controller that ends connections which have no session after this time.
    pub async fn with_session_within(session_within: Duration) -> Self {
        let ca = Ca::new();
        let (closed_tx, closed) = mpsc::unbounded_channel();
        let hub = Arc::new(Hub {
            epochs: AtomicUsize::new(0),
            sessions: watch::Sender::new(None),
            closed: closed_tx,
            refuse: Mutex::new(None),
        });
        let (leaf, key) =
            ca.issue(vec![SanType::DnsName(api_tls::CONTROLLER_NAME.try_into().unwrap())]);
        let certified =
            CertifiedKey::new(vec![leaf, ca.der.clone()], any_supported_type(&key).unwrap());
        let served = Arc::new(tls::ServerCertificate::new(certified));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let port = Port {
            listener,
            tls: Some(Arc::new(tls::agents_config(ca.der.clone(), served).unwrap())),
            http1: false,
            traffic: Default::default(),
            service: controller::router(hub.clone()),
            max_connections: 100,
            session_within: Some(session_within),
        };
        let stop = CancellationToken::new();
        tokio::spawn(port.serve(stop.clone()));
        Self { ca, hub, address, counters: Arc::default(), closed, stop }
    }

    /// Starts an agent and returns its connector's status.
    pub fn agent(&self, id: &str) -> (watch::Receiver<agent::Status>, CancellationToken) {
        let host = AgentSide {
            ca: self.ca.der.clone(),
            identity: self.ca.agent(id),
            routes: services(self.counters.clone()),
        };
        let connector = Connector::new(self.address.to_string(), Arc::new(host));
        let (status, stop) = (connector.status(), self.stop.child_token());
        tokio::spawn(connector.run(stop.clone()));
        (status, stop)
    }

    pub async fn session(&self) -> Arc<Session> {
        let mut sessions = self.hub.sessions.subscribe();
        let session = timeout(LIMIT, sessions.wait_for(Option::is_some)).await.unwrap().unwrap();
        session.clone().unwrap()
    }

    pub async fn live(&self, wanted: usize) {
        let limit = Instant::now() + LIMIT;
        while self.counters.live.load(Ordering::SeqCst) != wanted {
            assert!(
                Instant::now() < limit,
                "{} calls are live",
                self.counters.live.load(Ordering::SeqCst)
            );
            tokio::task::yield_now().await;
        }
    }
}

pub fn spec(path: &str, message: &'static [u8]) -> CallSpec {
    CallSpec {
        path: path.to_owned(),
        message: Bytes::from_static(message),
        rest: None,
        unary: true,
        deadline: Some(Instant::now() + LIMIT),
        request_id: String::new(),
        principal: "tester".to_owned(),
    }
}

/// Every message and the end of an answer.
pub async fn read(response: http::Response<Body>) -> (Vec<Bytes>, Status) {
    let (mut body, mut deframer, mut messages) =
        (response.into_body(), Deframer::default(), Vec::new());
    loop {
        let frame = timeout(LIMIT, body.frame()).await.unwrap().unwrap().unwrap();
        match frame.into_data() {
            Ok(data) => {
                deframer.push(&data);
                while let Some(message) = deframer.next(1 << 20).unwrap() {
                    messages.push(message);
                }
            }
            Err(frame) => {
                let end = framing::end_in(frame.trailers_ref().unwrap()).unwrap();
                return (messages, framing::status_of(&end));
            }
        }
    }
}
