//! Who did what to which host is in the audit log, through the real front door.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test fails by panicking

mod common;

use common::{LIMIT, User, World};
use dockctl_api::v1::{
    AgentState, AuditEntry, AuditOutcome, CreateJoinTokenRequest, ListAuditEntriesRequest,
    LoginRequest, RevokeAgentRequest, Role, StopContainerRequest, WatchAuditEntriesRequest,
    audit_service_client::AuditServiceClient,
};

async fn log(user: &User) -> Vec<AuditEntry> {
    let origin = user.channel.origin.clone();
    let mut audit = AuditServiceClient::with_origin(user.channel.clone(), origin);
    let list = audit.list_audit_entries(user.call(ListAuditEntriesRequest::default())).await;
    list.unwrap().into_inner().entries.into_iter().rev().collect()
}

#[tokio::test]
async fn logins_enrolments_and_calls_on_hosts_are_written_down() {
    let world = World::new().await;
    let agent = world.join("web-1").await;
    let user = world.user().await;
    user.until("web-1", |a| a.state() == AgentState::Connected).await;
    let stop = |agent: &str| StopContainerRequest {
        agent: agent.into(),
        container: "db".into(),
        ..Default::default()
    };
    // The fake agent stops nothing; a call that goes well is in the scenario with a real one.
    let unserved = user.containers().stop_container(user.call(stop("web-1"))).await.unwrap_err();
    user.containers().stop_container(user.call(stop("nobody"))).await.unwrap_err();
    let wrong = LoginRequest { username: "admin".into(), password: "wrong password".into() };
    user.auth().login(wrong).await.unwrap_err();
    let revoke = RevokeAgentRequest { agent: agent.name.clone(), reason: "sold".into() };
    user.agents().revoke_agent(user.call(revoke)).await.unwrap();

    let told = |e: &AuditEntry| {
        let method = e.method.rsplit('/').next().unwrap().to_owned();
        (method, e.principal.clone(), e.agent.clone(), e.target.clone(), e.outcome())
    };
    // The ends of calls on hosts are written beside the answers.
    let origin = user.channel.origin.clone();
    let mut audit = AuditServiceClient::with_origin(user.channel.clone(), origin);
    let watch = user.call(WatchAuditEntriesRequest { follow: true, ..Default::default() });
    let mut watch = audit.watch_audit_entries(watch).await.unwrap().into_inner();
    let both = async {
        let mut entries = Vec::new();
        while entries.iter().filter(|e: &&AuditEntry| e.begun > 0).count() < 2
            || !entries.iter().any(|e| e.method.ends_with("RevokeAgent"))
        {
            entries.push(watch.message().await.unwrap().unwrap().entry.unwrap());
        }
        entries
    };
    let entries = tokio::time::timeout(LIMIT, both).await.unwrap();
    let find = |method: &str, outcome: AuditOutcome| -> Vec<_> {
        entries.iter().map(told).filter(|t| t.0 == method && t.4 == outcome).collect()
    };
    use AuditOutcome::*;
    let call = |agent: &str, outcome| {
        (
            "StopContainer".to_owned(),
            "admin".to_owned(),
            agent.to_owned(),
            "container=db".to_owned(),
            outcome,
        )
    };
    assert_eq!(find("StopContainer", Begun), [call("web-1", Begun), call("nobody", Begun)]);
    assert!(find("StopContainer", Failed).contains(&call("web-1", Failed)));
    let ended = entries.iter().find(|e| e.begun > 0 && e.agent == "web-1").unwrap();
    assert_eq!(ended.code, unserved.code() as u32);
    assert!(find("StopContainer", Failed).contains(&call("nobody", Failed)));
    assert_eq!(find("Login", Failed)[0].3, "username=admin");
    assert!(!find("Login", Done).is_empty());
    assert_eq!(find("Enroll", Done)[0].2, "web-1");
    assert_eq!(find("RevokeAgent", Done)[0].1, "admin");
    assert!(entries.iter().all(|e| e.address.starts_with("127.0.0.1:")), "{entries:#?}");
    // Reads are not in it.
    assert!(find("ListAuditEntries", Done).is_empty() && find("GetAgent", Done).is_empty());
}

#[tokio::test]
async fn a_refused_call_is_written_down_too() {
    let world = World::new().await;
    let admin = world.user().await;
    admin.create_user("eve", Role::None).await;
    let nobody = world.user_called("eve").await;
    let request = CreateJoinTokenRequest::default();
    let refused = nobody.agents().create_join_token(nobody.call(request)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);

    let last = log(&world.user().await).await.into_iter().rev().find(|e| e.code > 0).unwrap();
    assert_eq!(last.outcome(), AuditOutcome::Denied);
    assert_eq!((last.principal.as_str(), last.reason.as_str()), ("eve", "NOT_ALLOWED"));
    assert_eq!(last.method, "/dockctl.v1.AgentService/CreateJoinToken");
}
