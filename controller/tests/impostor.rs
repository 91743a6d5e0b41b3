//! One agent says whatever it can about another, by every field of every message: it speaks for
//! itself only, and nothing of the other changes.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test fails by panicking

mod common;

use common::{
    LIMIT, TestAgent, User, World, container, csr, full_inventory,
    lies::{self, Lie},
    raw::{Raw, hello},
};
use dockctl_api::{
    error::{metadata_of, reason, reason_of},
    link::v1::{
        CallResult, ConnectRequest, End, EnrollRequest, Hello, RenewRequest, ServeRequest,
        connect_request::Frame as Up,
    },
    v1::*,
};
use dockctl_link::{framing, identity::PeerIdentity};
use futures_util::stream;
use prost::Message as _;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tonic::{Code, Status, Streaming};

/// The victim: a host with a container, an image, an open stream and a call that it has not answered.
struct Victim {
    agent: TestAgent,
    session: Raw,
    user: User,
    before: Seen,
    stats: Streaming<StreamStatsResponse>,
    /// Pieces of the answer to `stats`.
    serving: mpsc::Sender<ServeRequest>,
    starting: JoinHandle<Result<tonic::Response<StartContainerResponse>, Status>>,
    start_id: u64,
    stats_id: u64,
}

/// All that users see of an agent.
#[derive(Debug, PartialEq)]
struct Seen {
    agent: Agent,
    containers: Vec<Container>,
    images: Vec<Image>,
}

async fn seen(user: &User, name: &str) -> Seen {
    let mut agent = user.agent(name).await.unwrap();
    // What each heartbeat changes.
    (agent.last_seen_at, agent.round_trip, agent.clock_offset) = (None, None, None);
    let containers = user.call(ListContainersRequest { all: true, ..Default::default() });
    let containers = user.containers().list_containers(containers).await.unwrap().into_inner();
    let images = user.images().list_images(user.call(ListImagesRequest::default())).await;
    let mut images = images.unwrap().into_inner().images;
    images.retain(|image| image.agent == name);
    let mut containers = containers.containers;
    containers.retain(|container| container.agent == name);
    Seen { agent, containers, images }
}

impl Victim {
    async fn new(world: &World) -> Self {
        let token = world.token(1).await;
        let agent = TestAgent::enroll(world, "victim", &token).await.unwrap();
        let session = agent.open(world, hello()).await.unwrap();
        let user = world.user().await;
        let Up::Inventory(mut inventory) =
            full_inventory(vec![container("b1b1b1b1", "db", "running")])
        else {
            unreachable!()
        };
        inventory.images_changed = true;
        inventory.images.push(Image { id: "sha256:b2b2".into(), ..Default::default() });
        session.send(Up::Inventory(inventory)).await;
        user.until("victim", |a| a.round_trip.is_some()).await;
        let full = async { while seen(&user, "victim").await.images.is_empty() {} };
        timeout(LIMIT, full).await.unwrap();

        let start = StartContainerRequest { agent: "victim".into(), container: "db".into() };
        let (mut containers, start) = (user.containers(), user.call(start));
        let starting = tokio::spawn(async move { containers.start_container(start).await });
        let start_id = session.call().await.call_id;
        let request =
            user.call(StreamStatsRequest { agent: "victim".into(), ..Default::default() });
        let mut containers = user.containers();
        let opening = tokio::spawn(async move { containers.stream_stats(request).await });
        let stats_id = session.call().await.call_id;
        let (serving, pieces) = mpsc::channel(4);
        serving.send(ServeRequest { call_id: stats_id, ..Default::default() }).await.unwrap();
        let mut link = session.link.clone();
        tokio::spawn(async move {
            let request = link.serve(tokio_stream::wrappers::ReceiverStream::new(pieces)).await;
            let mut request = request.unwrap().into_inner();
            while let Ok(Some(_)) = request.message().await {}
        });
        let stats = opening.await.unwrap().unwrap().into_inner();
        let before = seen(&user, "victim").await;
        Self { agent, session, user, before, stats, serving, starting, start_id, stats_id }
    }

    /// Everything that somebody who means this host could say.
    fn names(&self) -> Vec<Lie> {
        let texts = [&self.agent.id, "victim", "b1b1b1b1", "db", "sha256:b2b2"];
        let numbers = [self.start_id, self.stats_id];
        let number = |n: usize| numbers[n % numbers.len()];
        texts
            .iter()
            .enumerate()
            .map(|(n, t)| Lie { text: (*t).to_owned(), number: number(n) })
            .collect()
    }

    async fn is_unchanged(&self, after: &str) {
        assert_eq!(seen(&self.user, "victim").await, self.before, "after {after}");
        assert!(!self.starting.is_finished(), "{after} answered another's call");
    }

    /// Its own answers, and no others, reach those who asked it.
    async fn answers(mut self) {
        let sample = StreamStatsResponse { container_name: "true".into(), ..Default::default() };
        let body = framing::frame(&sample.encode_to_vec());
        self.serving.send(ServeRequest { body, ..Default::default() }).await.unwrap();
        let told = timeout(LIMIT, self.stats.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(told.container_name, "true");
        let code = Code::NotFound as i32;
        let end = Some(End { code, message: "true".into(), ..Default::default() });
        let result = CallResult { call_id: self.start_id, end, ..Default::default() };
        self.session.send(Up::Result(result)).await;
        let ended = timeout(LIMIT, self.starting).await.unwrap().unwrap().unwrap_err();
        assert_eq!((ended.code(), ended.message()), (Code::NotFound, "true"));
    }
}

async fn impostor(world: &World) -> TestAgent {
    let token = world.token(1).await;
    TestAgent::enroll(world, "impostor", &token).await.unwrap()
}

/// The frame as it is, and as something that would count for more.
fn stronger(frame: Up) -> Vec<Up> {
    let Up::Inventory(inventory) = frame else { return vec![frame] };
    let whole = dockctl_api::link::v1::Inventory {
        full: true,
        complete: true,
        images_changed: true,
        ..inventory.clone()
    };
    vec![Up::Inventory(inventory), Up::Inventory(whole)]
}

#[tokio::test]
async fn no_frame_of_a_session_changes_another_agent() {
    let world = World::new().await;
    let victim = Victim::new(&world).await;
    let liar = impostor(&world).await;
    let mut session = liar.open(&world, hello()).await.unwrap();
    let events = victim.user.call(StreamEventsRequest::default());
    let mut events = victim.user.system().stream_events(events).await.unwrap().into_inner();
    let mut tried = 0;
    for lie in victim.names() {
        for (path, frame) in
            lies::each_field::<ConnectRequest>("dockctl.link.v1.ConnectRequest", &lie)
        {
            for frame in stronger(frame.frame.unwrap()) {
                tried += 1;
                let ends = matches!(frame, Up::Hello(_));
                session.send(frame).await;
                if ends {
                    timeout(LIMIT, session.over.cancelled()).await.unwrap();
                    session = liar.open(&world, hello()).await.unwrap();
                }
                // Frames are taken in order: once this one is heard, the lie has been.
                let mark = format!("mark {tried}");
                session.send(Up::Event(Event { action: mark.clone(), ..Default::default() })).await;
                loop {
                    let told = timeout(LIMIT, events.message()).await.unwrap().unwrap().unwrap();
                    assert_eq!(told.agent, "impostor", "{path} made an event of another");
                    if told.event.is_some_and(|event| event.action == mark) {
                        break;
                    }
                }
                victim.is_unchanged(&path).await;
            }
        }
    }
    assert!(tried > 200, "only {tried} frames were tried");
    victim.answers().await;
}

#[tokio::test]
async fn no_hello_changes_another_agent() {
    let world = World::new().await;
    let victim = Victim::new(&world).await;
    let liar = impostor(&world).await;
    for lie in victim.names() {
        for (path, lied) in lies::each_field::<Hello>("dockctl.link.v1.Hello", &lie) {
            let process_id = if lied.process_id.is_empty() {
                hello().process_id
            } else {
                lied.process_id.clone()
            };
            let session = liar.open(
                &world,
                Hello { process_id, ..Hello { min_protocol: 1, max_protocol: 1, ..lied } },
            );
            drop(session.await.unwrap());
            victim.is_unchanged(&path).await;
        }
    }
    victim.answers().await;
}

#[tokio::test]
async fn no_serve_stream_answers_another_agents_call() {
    let world = World::new().await;
    let victim = Victim::new(&world).await;
    let liar = impostor(&world).await;
    let mut session = liar.open(&world, hello()).await.unwrap();
    for lie in victim.names() {
        for (path, mut piece) in
            lies::each_field::<ServeRequest>("dockctl.link.v1.ServeRequest", &lie)
        {
            piece.call_id = lie.number;
            let refused = session.link.serve(stream::iter([piece])).await.unwrap_err();
            assert_eq!(refused.code(), Code::NotFound, "{path}");
            victim.is_unchanged(&path).await;
        }
    }
    // Nor on a connection of its own, without a session.
    let piece = ServeRequest { call_id: victim.start_id, ..Default::default() };
    let refused = liar.dial(&world).await.serve(stream::iter([piece])).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    victim.answers().await;
}

/// A request for a certificate, signed by `key`, that asks for everything that names somebody.
fn csr_naming(key: &[u8], lie: &Lie) -> bytes::Bytes {
    let key = KeyPair::try_from(key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, lie.text.clone());
    let uri = format!("dockctl://agents/{}/generations/9", lie.text);
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    if let Ok(name) = lie.text.clone().try_into() {
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.serialize_request(&key).unwrap().der().to_vec().into()
}

#[tokio::test]
async fn no_request_for_a_certificate_makes_it_anothers() {
    let world = World::new().await;
    let victim = Victim::new(&world).await;
    let liar = impostor(&world).await;
    let mut link = liar.dial(&world).await;
    let key = liar.host.key.lock().unwrap().clone();
    for lie in victim.names() {
        let mut requests =
            vec![RenewRequest { csr: csr(&key) }, RenewRequest { csr: csr_naming(&key, &lie) }];
        let each = lies::each_field::<RenewRequest>("dockctl.link.v1.RenewRequest", &lie);
        requests.extend(each.into_iter().map(|(_, request)| request));
        for request in requests {
            if let Ok(renewed) = link.renew(request).await {
                let der = renewed.into_inner().certificate.unwrap().certificate;
                assert_eq!(PeerIdentity::from_certificate(&der).unwrap().agent_id, liar.id);
            }
            victim.is_unchanged("a renewal").await;
        }

        let token = world.token(50).await;
        let secret = token.split('.').nth(1).unwrap();
        let fresh = || KeyPair::generate().unwrap().serialize_der();
        let honest = || EnrollRequest {
            token: secret.to_owned(),
            csr: csr(&fresh()),
            name: format!("new-{}", dockctl_api::new_id()),
            ..Default::default()
        };
        let naming = EnrollRequest { csr: csr_naming(&fresh(), &lie), ..honest() };
        let refused = link.enroll(naming).await.unwrap_err();
        assert_eq!(metadata_of(&refused, "field").as_deref(), Some("csr"));
        let mut requests = vec![honest()];
        for (_, lied) in lies::each_field::<EnrollRequest>("dockctl.link.v1.EnrollRequest", &lie) {
            // The lie in its field, honest in the others.
            let whole = [honest().encode_to_vec(), lied.encode_to_vec()].concat();
            requests.push(EnrollRequest::decode(whole.as_slice()).unwrap());
        }
        for request in requests {
            let name = request.name.clone();
            match link.enroll(request).await {
                Ok(enrolled) => {
                    let enrolled = enrolled.into_inner();
                    let der = enrolled.certificate.unwrap().certificate;
                    let identity = PeerIdentity::from_certificate(&der).unwrap();
                    assert_eq!(identity.agent_id, enrolled.agent_id);
                    assert_ne!(enrolled.agent_id, victim.agent.id);
                    assert_eq!(enrolled.name, name);
                }
                Err(refused) if name == "victim" => {
                    assert_eq!(reason_of(&refused).as_deref(), Some(reason::NAME_TAKEN));
                }
                Err(_) => {}
            }
            victim.is_unchanged("an enrolment").await;
        }
    }
    victim.answers().await;
}

#[tokio::test]
async fn a_revoked_agent_is_not_heard_while_it_hangs_on() {
    let world = World::new().await;
    let liar = impostor(&world).await;
    let session = liar.open(&world, hello()).await.unwrap();
    let user = world.user().await;
    let events = user.call(StreamEventsRequest::default());
    let mut events = user.system().stream_events(events).await.unwrap().into_inner();
    let revoke = RevokeAgentRequest { agent: "impostor".into(), reason: "stolen".into() };
    let revoked = user.agents().revoke_agent(user.call(revoke)).await.unwrap().into_inner();
    assert_eq!(revoked.agent.unwrap().state(), AgentState::Offline);
    session.send(full_inventory(vec![container("c1", "lie", "running")])).await;
    session.send(Up::Event(Event { action: "lie".into(), ..Default::default() })).await;
    let request = InspectContainerRequest {
        agent: "impostor".into(),
        container: "x".into(),
        ..Default::default()
    };
    let refused = user.containers().inspect_container(user.call(request)).await.unwrap_err();
    assert_eq!(reason_of(&refused).as_deref(), Some(reason::AGENT_REVOKED));

    timeout(LIMIT, session.over.cancelled()).await.unwrap();
    let told = timeout(LIMIT, events.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(told.notice.unwrap().reason, reason::AGENT_OFFLINE, "and nothing before it");
    assert_eq!(user.agent("impostor").await.unwrap().containers_total, 0);
}
