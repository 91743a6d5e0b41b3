//! Each refusal of link.proto, each with its reason, nothing stored and one warning.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use dockctl_api::{
    error::metadata_of,
    v1::{CreateJoinTokenRequest, DeleteJoinTokenRequest},
};
use dockctl_link::identity::PeerIdentity;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tracing::subscriber::DefaultGuard;

use super::*;
use crate::{
    app::join_tokens::JoinTokens,
    store::{Connection, Sqlite, Standing, system_time},
};

struct Fixture {
    _directory: tempfile::TempDir,
    store: store::Handle,
    ca: Ca,
    tokens: JoinTokens,
    enroller: Enroller,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store: store::Handle =
            Arc::new(Sqlite::open(&directory.path().join("dockctl.db")).await.unwrap());
        let ca = Ca::open_or_create(directory.path(), now()).unwrap();
        let tokens = JoinTokens::new(Arc::clone(&store), ca.fingerprint(), 7444);
        let enroller = Enroller::new(Arc::clone(&store), ca.clone());
        Self { _directory: directory, store, ca, tokens, enroller }
    }

    /// A new join token's id and secret.
    async fn token(&self, max_uses: u32) -> (String, String) {
        let request = CreateJoinTokenRequest {
            max_uses,
            labels: HashMap::from([("env".to_owned(), "prod".to_owned())]),
            ..Default::default()
        };
        let made = self.tokens.create(request, "ada", now()).await.unwrap();
        let secret = made.token.split('.').nth(1).unwrap().to_owned();
        (made.join_token.unwrap().id, secret)
    }

    async fn enroll(&self, request: EnrollRequest) -> Result<EnrollResponse, Status> {
        self.enroller.enroll(request, peer(), now()).await
    }

    async fn agents(&self) -> usize {
        self.store.list_agents().await.unwrap().len()
    }

    async fn connect(&self, id: &str, generation: u64) {
        let connection = Connection {
            generation,
            version: String::new(),
            platform: String::new(),
            address: String::new(),
        };
        self.store.connect_agent(id, connection, unix_ms(now())).await.unwrap();
    }
}

fn now() -> SystemTime {
    system_time(1_763_800_000_000)
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], 40000))
}

fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

fn request(secret: &str, name: &str, key: &KeyPair) -> EnrollRequest {
    EnrollRequest {
        token: secret.to_owned(),
        csr: csr(key).into(),
        name: name.to_owned(),
        labels: HashMap::from([("env".to_owned(), "dev".to_owned())]),
    }
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn identity(certificate: &Certificate) -> (String, u64) {
    let peer = PeerIdentity::from_certificate(&certificate.certificate).unwrap();
    (peer.agent_id, peer.generation)
}

/// Counts the warnings of this thread, which is where a test's futures run.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<u8>>>);

impl Warnings {
    fn watch() -> (Self, DefaultGuard) {
        let warnings = Self::default();
        let writer = warnings.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (warnings, tracing::subscriber::set_default(subscriber))
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_host_with_a_token_gets_an_identity() {
    let fixture = Fixture::new().await;
    let (_, secret) = fixture.token(1).await;
    let (warnings, _guard) = Warnings::watch();
    let answer = fixture.enroll(request(&secret, "web-1", &key())).await.unwrap();
    assert_eq!(warnings.take(), "");
    let certificate = answer.certificate.unwrap();
    assert_eq!(identity(&certificate), (answer.agent_id.clone(), 1));
    assert_eq!(certificate.ca, fixture.ca.certificate_der().to_vec());
    assert_eq!(certificate.lifetime_seconds, 86_400);
    let agent = fixture.store.agent("web-1").await.unwrap();
    assert_eq!(agent.id, answer.agent_id);
    assert_eq!(agent.labels["env"], "prod", "the token's labels win");
    assert_eq!(agent.certificate_expires_at, unix_ms(now()) + 86_400_000);
    assert_eq!(agent.address, "192.0.2.7:40000");
}

#[tokio::test]
async fn each_refusal_has_its_reason_stores_nothing_and_warns_once() {
    let fixture = Fixture::new().await;
    let taken = key();
    let (_, secret) = fixture.token(2).await;
    fixture.enroll(request(&secret, "taken", &taken)).await.unwrap();
    let (_, used_up) = fixture.token(1).await;
    fixture.enroll(request(&used_up, "user", &key())).await.unwrap();
    let (deleted_id, deleted) = fixture.token(1).await;
    fixture.tokens.delete(DeleteJoinTokenRequest { id: deleted_id }).await.unwrap();
    let (_, expired) = fixture.token(1).await;
    let (_, other) = fixture.token(1).await;
    let soon = now() + Duration::from_secs(30 * 60);

    let good = request(&secret, "web-1", &key());
    let with = |change: &dyn Fn(&mut EnrollRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let label = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
    let mut cut = good.csr.to_vec();
    cut.pop();
    let mut greedy = CertificateParams::default();
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let greedy = greedy.serialize_request(&key()).unwrap().der().to_vec();
    let cases = [
        ("TOKEN_INVALID", Code::Unauthenticated, now(), with(&|r| r.token = "guess".to_owned())),
        ("TOKEN_INVALID", Code::Unauthenticated, now(), with(&|r| r.token = String::new())),
        ("TOKEN_INVALID", Code::Unauthenticated, now(), with(&|r| r.token = "x".repeat(9999))),
        ("TOKEN_INVALID", Code::Unauthenticated, now(), with(&|r| r.token = deleted.clone())),
        ("TOKEN_EXPIRED", Code::Unauthenticated, soon, with(&|r| r.token = expired.clone())),
        ("TOKEN_USED_UP", Code::Unauthenticated, now(), with(&|r| r.token = used_up.clone())),
        ("NAME_TAKEN", Code::AlreadyExists, now(), with(&|r| r.name = "taken".to_owned())),
        ("BAD_FIELD name", Code::InvalidArgument, now(), with(&|r| r.name = "$(id)".to_owned())),
        (
            "BAD_FIELD name",
            Code::InvalidArgument,
            now(),
            with(&|r| r.name = "a\nWARN b".to_owned()),
        ),
        ("BAD_FIELD labels", Code::InvalidArgument, now(), with(&|r| r.labels = label("A", "b"))),
        (
            "BAD_FIELD labels",
            Code::InvalidArgument,
            now(),
            with(&|r| r.labels = label("a", "\u{1b}")),
        ),
        ("BAD_FIELD csr", Code::InvalidArgument, now(), with(&|r| r.csr = Vec::new().into())),
        ("BAD_FIELD csr", Code::InvalidArgument, now(), with(&|r| r.csr = cut.clone().into())),
        ("BAD_FIELD csr", Code::InvalidArgument, now(), with(&|r| r.csr = greedy.clone().into())),
        (
            "BAD_FIELD csr",
            Code::InvalidArgument,
            now(),
            with(&|r| {
                r.csr = csr(&taken).into();
                r.token = other.clone();
            }),
        ),
    ];
    let (warnings, _guard) = Warnings::watch();
    let before = fixture.store.list_join_tokens(unix_ms(now())).await.unwrap();
    for (expected, code, at, request) in cases {
        let refused = fixture.enroller.enroll(request, peer(), at).await.unwrap_err();
        let field = metadata_of(&refused, "field").map(|f| format!(" {f}")).unwrap_or_default();
        assert_eq!(format!("{}{field}", reason_of(&refused).unwrap()), expected);
        assert_eq!(refused.code(), code);
        let logged = warnings.take();
        assert_eq!(logged.lines().count(), 1, "{expected}: {logged}");
        assert!(!logged.contains(&secret) && logged.contains("192.0.2.7"), "{logged}");
    }
    assert_eq!(fixture.agents().await, 2);
    assert_eq!(fixture.store.list_join_tokens(unix_ms(now())).await.unwrap(), before);
    fixture.enroll(good).await.unwrap();
}

#[tokio::test]
async fn a_hundred_uses_of_a_single_use_token_make_one_certificate() {
    let fixture = Fixture::new().await;
    let (_, secret) = fixture.token(1).await;
    let mut tries = tokio::task::JoinSet::new();
    for i in 0..100 {
        let (enroller, secret) = (fixture.enroller.clone(), secret.clone());
        tries.spawn(async move {
            let request = request(&secret, &format!("web-{i}"), &key());
            enroller.enroll(request, peer(), now()).await
        });
    }
    let results = tries.join_all().await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    for refused in results.into_iter().filter_map(Result::err) {
        assert_eq!(reason_of(&refused).as_deref(), Some("TOKEN_USED_UP"));
    }
    assert_eq!(fixture.agents().await, 1);
}

#[tokio::test]
async fn an_expired_token_makes_no_certificate() {
    let fixture = Fixture::new().await;
    let (_, secret) = fixture.token(100).await;
    let late = now() + Duration::from_secs(30 * 60);
    for i in 0..10 {
        let request = request(&secret, &format!("web-{i}"), &key());
        let refused = fixture.enroller.enroll(request, peer(), late).await.unwrap_err();
        assert_eq!(reason_of(&refused).as_deref(), Some("TOKEN_EXPIRED"));
    }
    assert_eq!(fixture.agents().await, 0);
}

#[tokio::test]
async fn a_host_that_lost_the_answer_asks_again() {
    let fixture = Fixture::new().await;
    let (_, secret) = fixture.token(1).await;
    let key = key();
    let first = fixture.enroll(request(&secret, "web-1", &key)).await.unwrap();
    let week = Duration::from_secs(7 * 86_400);
    for at in [now(), now() + Duration::from_secs(3600), now() + week] {
        let again = request(&secret, "web-1", &key);
        let again = fixture.enroller.enroll(again, peer(), at).await.unwrap();
        assert_eq!((&again.agent_id, &again.name), (&first.agent_id, &first.name));
        assert_eq!(identity(&again.certificate.unwrap()), (first.agent_id.clone(), 1));
    }
    let token = &fixture.store.list_join_tokens(unix_ms(now())).await.unwrap()[0];
    assert_eq!(token.uses, 1);
    assert_eq!(fixture.agents().await, 1);

    fixture.store.revoke_agent(&first.agent_id, "sold").await.unwrap();
    let refused = fixture.enroll(request(&secret, "web-1", &key)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason_of(&refused).as_deref()),
        (Code::PermissionDenied, Some("AGENT_REVOKED"))
    );
    assert!(refused.message().contains("sold"), "{refused:?}");
}

#[tokio::test]
async fn renewals_count_up_and_an_expired_certificate_is_no_obstacle() {
    let fixture = Fixture::new().await;
    let (_, secret) = fixture.token(1).await;
    let enrolled = fixture.enroll(request(&secret, "web-1", &key())).await.unwrap();
    let id = enrolled.agent_id;
    let mut at = now();
    for generation in 1..=3 {
        fixture.connect(&id, generation).await;
        at += Duration::from_secs(30 * 86_400);
        let request = RenewRequest { csr: csr(&key()).into() };
        let renewed = fixture.enroller.renew(&id, generation, request, at).await.unwrap();
        let certificate = renewed.certificate.unwrap();
        assert_eq!(identity(&certificate), (id.clone(), generation + 1));
    }
}

#[tokio::test]
async fn renewals_are_refused_with_a_reason_and_one_warning() {
    let fixture = Fixture::new().await;
    let (_, secret) = fixture.token(3).await;
    let mut ids = Vec::new();
    for name in ["clone", "revoked", "other"] {
        let answer = fixture.enroll(request(&secret, name, &key())).await.unwrap();
        ids.push(answer.agent_id);
    }
    let (clone, revoked, other) = (&ids[0], &ids[1], &ids[2]);
    let others_key = key();
    let renew = |id: &str, generation, csr: Vec<u8>| {
        let (enroller, id) = (fixture.enroller.clone(), id.to_owned());
        async move { enroller.renew(&id, generation, RenewRequest { csr: csr.into() }, now()).await }
    };
    renew(other, 1, csr(&others_key)).await.unwrap();
    renew(clone, 1, csr(&key())).await.unwrap();
    fixture.connect(clone, 2).await;
    fixture.store.revoke_agent(revoked, "sold").await.unwrap();

    let (warnings, _guard) = Warnings::watch();
    for (id, generation, csr, code, expected) in [
        (clone, 2, Vec::new(), Code::InvalidArgument, "BAD_FIELD"),
        (clone, 2, csr(&others_key), Code::InvalidArgument, "BAD_FIELD"),
        (clone, 1, csr(&key()), Code::PermissionDenied, "IDENTITY_LOCKED"),
        (clone, 2, csr(&key()), Code::PermissionDenied, "IDENTITY_LOCKED"),
        (revoked, 1, csr(&key()), Code::PermissionDenied, "AGENT_REVOKED"),
        (&"nobody".to_owned(), 1, csr(&key()), Code::PermissionDenied, "AGENT_REVOKED"),
    ] {
        let refused = renew(id, generation, csr).await.unwrap_err();
        assert_eq!((refused.code(), reason_of(&refused).as_deref()), (code, Some(expected)));
        let logged = warnings.take();
        assert_eq!(logged.lines().count(), 1, "{logged}");
    }
    let locked = fixture.store.agent("clone").await.unwrap();
    assert!(matches!(locked.standing, Standing::Locked { .. }));
    assert_eq!(locked.generation_issued, 2);
    assert_eq!(fixture.store.agent("revoked").await.unwrap().generation_issued, 1);
}
