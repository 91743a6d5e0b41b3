use std::path::Path;

use dockctl_api::{error::reason, policy::Policies, v1::CreateContainerRequest};
use prost::Message as _;
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::*;
use crate::store::Sqlite;

async fn audit(directory: &Path) -> Audit {
    Audit::new(Arc::new(Sqlite::open(&directory.join("dockctl.db")).await.unwrap()))
}

fn deed(agent: &str) -> Deed {
    Deed { principal: "ada".into(), agent: agent.into(), ..Default::default() }
}

async fn entries(audit: &Audit) -> Vec<AuditEntry> {
    let list = audit.list_audit_entries(Request::new(ListAuditEntriesRequest::default())).await;
    list.unwrap().into_inner().entries
}

async fn verify(audit: &Audit, known: Option<&AuditEntry>) -> VerifyAuditResponse {
    let request = VerifyAuditRequest {
        known_sequence: known.map_or(0, |entry| entry.sequence),
        known_hash: known.map_or_else(String::new, |entry| entry.hash.clone()),
    };
    audit.verify_audit(Request::new(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_call_has_a_beginning_and_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let audit = audit(directory.path()).await;
    let refused = dockctl_api::error::status(tonic::Code::NotFound, reason::NOT_FOUND, "none", &[]);
    audit.begin(deed("done")).await.end(&End::default());
    audit.close().await;
    audit.begin(deed("failed")).await.end(&framing::end_of(&refused));
    audit.close().await;
    drop(audit.begin(deed("given up")).await);
    audit.close().await;
    audit.denied(deed("denied"), &Status::permission_denied("no")).await;

    let told: Vec<_> = entries(&audit)
        .await
        .into_iter()
        .rev()
        .map(|e| (e.sequence, e.agent.clone(), e.outcome(), e.code, e.reason, e.begun))
        .collect();
    let expected = [
        (1, "done", AuditOutcome::Begun, 0, "", 0),
        (2, "done", AuditOutcome::Done, 0, "", 1),
        (3, "failed", AuditOutcome::Begun, 0, "", 0),
        (4, "failed", AuditOutcome::Failed, 5, reason::NOT_FOUND, 3),
        (5, "given up", AuditOutcome::Begun, 0, "", 0),
        (6, "given up", AuditOutcome::Failed, 1, "", 5),
        (7, "denied", AuditOutcome::Denied, 7, "", 0),
    ];
    let expected = expected.map(|(n, a, o, c, r, b)| (n, a.to_owned(), o, c, r.to_owned(), b));
    assert_eq!(told, expected);
}

#[tokio::test]
async fn an_edited_removed_or_cut_off_entry_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let audit = audit(directory.path()).await;
    for n in 0..5 {
        audit.done(deed(&format!("web-{n}")), &End::default()).await;
    }
    let good = entries(&audit).await;
    let last = good[0].clone();
    let verified = verify(&audit, Some(&last)).await;
    assert_eq!((verified.entries, verified.broken_sequence), (5, 0));
    assert_eq!(verified.hash, last.hash);

    let options = SqliteConnectOptions::new().filename(directory.path().join("dockctl.db"));
    let mut raw = SqliteConnection::connect_with(&options).await.unwrap();
    // Who owns the file can take the database's own refusal away.
    for drop in ["DROP TRIGGER audit_is_not_edited", "DROP TRIGGER audit_is_not_shortened"] {
        sqlx::query(drop).execute(&mut raw).await.unwrap();
    }
    for (change, broken, problem) in [
        ("DELETE FROM audit WHERE sequence = 5", 5, "cut off"),
        ("UPDATE audit SET principal = 'eve' WHERE sequence = 4", 4, "not as it was written"),
        ("UPDATE audit SET at = at + 1 WHERE sequence = 3", 3, "not as it was written"),
        ("DELETE FROM audit WHERE sequence = 2", 2, "missing"),
        // What cannot even be read is named too.
        (
            "UPDATE audit SET outcome = 1 << 40, agent = CAST(x'ff' AS TEXT) WHERE sequence = 1",
            1,
            "not as",
        ),
    ] {
        sqlx::query(change).execute(&mut raw).await.unwrap();
        let verified = verify(&audit, Some(&last)).await;
        assert_eq!(verified.broken_sequence, broken, "{change}");
        assert!(verified.problem.contains(problem), "{}", verified.problem);
        assert_eq!(verified.entries, broken - 1);
    }
}

#[tokio::test]
async fn who_hangs_up_at_any_moment_is_written_down_with_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let audit = audit(directory.path()).await;
    {
        // Given up before the beginning is on the disk.
        let mut begin = Box::pin(audit.begin(deed("begun")));
        assert!(futures_util::poll!(&mut begin).is_pending());
    }
    {
        let done = audit.clone();
        let mut work = Box::pin(audit.whole(async move {
            tokio::task::yield_now().await;
            done.done(deed("done"), &End::default()).await;
        }));
        assert!(futures_util::poll!(&mut work).is_pending());
    }
    audit.close().await;
    let told: Vec<_> =
        entries(&audit).await.into_iter().map(|e| (e.agent.clone(), e.outcome(), e.code)).collect();
    for entry in [
        ("begun".to_owned(), AuditOutcome::Begun, 0),
        ("begun".to_owned(), AuditOutcome::Failed, 1),
        ("done".to_owned(), AuditOutcome::Done, 0),
    ] {
        assert!(told.contains(&entry), "{told:?}");
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_written_keeps_nobody_from_working() {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&directory.path().join("dockctl.db")).await.unwrap();
    store::Store::close(&store).await;
    let audit = Audit::new(Arc::new(store));
    audit.begin(deed("web-1")).await.end(&End::default());
    audit.close().await;
}

#[tokio::test]
async fn a_follower_sees_what_was_and_what_comes() {
    let directory = tempfile::tempdir().unwrap();
    let audit = audit(directory.path()).await;
    audit.done(deed("one"), &End::default()).await;
    audit.done(deed("two"), &End::default()).await;
    let request = WatchAuditEntriesRequest { after: 1, follow: true };
    let stream = audit.watch_audit_entries(Request::new(request)).await.unwrap().into_inner();
    let mut stream = stream.map(|answer| answer.unwrap().entry.unwrap().agent);
    assert_eq!(stream.next().await.unwrap(), "two");
    let end = End::default();
    let (next, ()) = tokio::join!(stream.next(), audit.done(deed("three"), &end));
    assert_eq!(next.unwrap(), "three");

    let request = WatchAuditEntriesRequest::default();
    let whole = audit.watch_audit_entries(Request::new(request)).await.unwrap().into_inner();
    assert_eq!(whole.count().await, 3);
}

#[test]
fn only_names_of_a_request_are_written_down() {
    let policies = Policies::load().unwrap();
    let method = policies.get("/dockctl.v1.ContainerService/CreateContainer").unwrap();
    let request = CreateContainerRequest {
        agent: "web-1".into(),
        name: "db\n".repeat(300),
        json: r#"{"Env":["PASSWORD=secret"]}"#.into(),
        ..Default::default()
    };
    let told = target(method, &request.encode_to_vec());
    assert!(told.starts_with(r#"name="db\n"#) && told.len() <= MAX_TARGET, "{told}");
    assert!(!told.contains("secret") && !told.contains("web-1"));
    let login = policies.get("/dockctl.v1.AuthService/Login").unwrap();
    let request =
        dockctl_api::v1::LoginRequest { username: "ada".into(), password: "secret".into() };
    assert_eq!(target(login, &request.encode_to_vec()), "username=ada");
    // The value that counts for the host is the one that is told, whatever comes before it.
    let stop = policies.get("/dockctl.v1.ContainerService/StopContainer").unwrap();
    let named = |container: &str| dockctl_api::v1::StopContainerRequest {
        container: container.into(),
        ..Default::default()
    };
    let decoy = [named(&"x".repeat(600)).encode_to_vec(), named("db").encode_to_vec()].concat();
    assert_eq!(target(stop, &decoy), "container=db");
    assert_eq!(target(stop, &named("a image=b").encode_to_vec()), r#"container="a image=b""#);
    let images = policies.get("/dockctl.v1.ImageService/SaveImages").unwrap();
    let save = dockctl_api::v1::SaveImagesRequest {
        images: vec!["a".into(), "b".into()],
        ..Default::default()
    };
    assert_eq!(target(images, &save.encode_to_vec()), "images=a images=b");
    let grant = policies.get("/dockctl.v1.UserService/GrantRole").unwrap();
    let granted = dockctl_api::v1::GrantRoleRequest {
        username: "ada".into(),
        role: dockctl_api::v1::Role::Operator.into(),
        selector: "env=dev".into(),
    };
    assert_eq!(
        target(grant, &granted.encode_to_vec()),
        r#"username=ada role=ROLE_OPERATOR selector="env=dev""#
    );
    let label = policies.get("/dockctl.v1.AgentService/UpdateAgentLabels").unwrap();
    let labelled = dockctl_api::v1::UpdateAgentLabelsRequest {
        set: [("env".to_owned(), "prod".to_owned())].into(),
        remove: vec!["old".into()],
        ..Default::default()
    };
    assert_eq!(target(label, &labelled.encode_to_vec()), r#"set="env=prod" remove=old"#);
    for garbage in [&b"\xff"[..], b"\x0a\xff", b"\x12\x02\xff\xfe"] {
        target(method, garbage);
    }
}
