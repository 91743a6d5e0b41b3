//! Who may do what where, through the real front door: every rpc by every role, roles on some agents, API
//! tokens, and rights that are taken away while something runs.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test fails by panicking

mod common;

use std::{fmt::Write as _, sync::Arc};

use common::{User, *};
use dockctl_api::{
    error::{reason, reason_of, retry_after},
    policy::{Method, Policies},
    v1::*,
};
use dockctl_controller::{edge::limits::Limits, run::Options};
use dockctl_link::framing;
use prost::Message as _;
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming, body::Body};
use tower::{Service as _, ServiceExt as _};

const ROLES: [Role; 4] = [Role::None, Role::Viewer, Role::Operator, Role::Admin];

/// The policies in the order of their paths.
fn methods() -> Vec<Arc<Method>> {
    let mut methods: Vec<_> = Policies::load().unwrap().iter().cloned().collect();
    methods.sort_by(|a, b| a.path.cmp(&b.path));
    methods
}

/// How a call begins that names an agent and nothing else: its refusal, or Ok where it goes on.
async fn begin(user: &User, path: &str, agent: &str) -> Status {
    // Field 1 is the agent of every call that has one.
    let message = ListContainersRequest { agent: agent.into(), ..Default::default() };
    let mut channel = user.channel.clone();
    let request =
        http::Request::post(format!("https://{}{path}", channel.origin.authority().unwrap()))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", user.token));
    let body = Body::new(http_body_util::Full::from(framing::frame(&message.encode_to_vec())));
    let response = channel.ready().await.unwrap().call(request.body(body).unwrap()).await.unwrap();
    // A refusal has no body.
    Status::from_header_map(response.headers()).unwrap_or_else(|| Status::new(Code::Ok, ""))
}

fn is_denied(status: &Status) -> bool {
    status.code() == Code::PermissionDenied
        && reason_of(status).as_deref() == Some(reason::NOT_ALLOWED)
}

#[test]
fn the_table_of_who_may_what_is_up_to_date() {
    let mut table = "# Who may call what\n\nMade from the policies in `proto/` by \
        `controller/tests/access.rs` (`BLESS=1` writes it), which also calls each rpc with each role.\n\n\
        \"Where\" is how far the role must reach: the agent that the call names, some agent (the answer \
        holds what the caller may see), or the whole fleet.\n\n\
        | rpc | permission | none | viewer | operator | admin | where | requests |\n\
        |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for method in methods() {
        let policy = &method.policy;
        let may = ROLES.map(|role| match policy.is_public || role >= policy.role() {
            true => "yes",
            false => "–",
        });
        let reach = match (policy.is_public, policy.role(), policy.served_by()) {
            (true, ..) => "no login",
            (_, Role::None, _) => "oneself",
            (_, _, ServedBy::Agent) if policy.without_agent() == WithoutAgent::Unspecified => {
                "agent"
            }
            (_, _, ServedBy::Agent) => "agent, or some",
            _ if policy.filtered => "some",
            _ => "fleet",
        };
        let class = policy.rate_class().as_str_name().trim_start_matches("RATE_CLASS_");
        let rpc = method.path.trim_start_matches("/dockctl.v1.");
        writeln!(
            table,
            "| {rpc} | {} | {} | {reach} | {class} |",
            policy.permission,
            may.join(" | ")
        )
        .unwrap();
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/permissions.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap_or_default(), table, "BLESS=1 writes it");
}

#[tokio::test]
async fn every_rpc_is_denied_to_every_role_below_its_own_and_to_no_other() {
    let world = World::new().await;
    let _agent = world.join("web-1").await;
    for role in ROLES {
        let user = world.user_with(&format!("a-{}", role.word()), role).await;
        for method in methods().iter().filter(|m| !m.policy.is_public) {
            // What ends the login would end the walk.
            if method.path.ends_with("/LogoutEverywhere") && role >= method.policy.role() {
                continue;
            }
            let status = begin(&user, &method.path, "web-1").await;
            let may = role >= method.policy.role();
            assert_eq!(is_denied(&status), !may, "{} as {role:?}: {status}", method.path);
        }
    }
}

#[tokio::test]
async fn a_role_on_some_agents_is_a_role_on_these_and_no_other() {
    let world = World::new().await;
    let (_dev, _prod) = (world.join("dev-1").await, world.join("prod-1").await);
    let admin = world.user().await;
    admin.label("dev-1", "env", "dev").await;
    admin.label("prod-1", "env", "prod").await;
    admin.create_user("ada", Role::None).await;
    admin.grant("ada", Role::Operator, "env=dev").await;
    let ada = world.user_called("ada").await;
    for method in methods().iter().filter(|m| !m.policy.is_public) {
        let role = method.policy.role();
        let is_on_agents = method.policy.served_by() == ServedBy::Agent;
        if !is_on_agents && role == Role::None {
            continue;
        }
        let on_dev = begin(&ada, &method.path, "dev-1").await;
        let may = role <= Role::Operator && (is_on_agents || method.policy.filtered);
        assert_eq!(is_denied(&on_dev), !may, "{}: {on_dev}", method.path);
        if is_on_agents && role <= Role::Operator {
            // One that she may not see is none.
            let on_prod = begin(&ada, &method.path, "prod-1").await;
            let expected = Some(reason::AGENT_NOT_FOUND);
            assert_eq!(reason_of(&on_prod).as_deref(), expected, "{}", method.path);
        }
    }
    admin.grant("ada", Role::Viewer, "env=prod").await;
    let exec = "/dockctl.v1.ExecService/Exec";
    assert!(is_denied(&begin(&ada, exec, "prod-1").await), "she sees it now");
}

#[tokio::test]
async fn lists_and_streams_show_what_one_may_see() {
    let world = World::new().await;
    let (dev, prod) = (world.join("dev-1").await, world.join("prod-1").await);
    for agent in [&dev, &prod] {
        agent.tell(full_inventory(vec![container("c1", "app", "running")]));
    }
    let admin = world.user().await;
    for (agent, env) in [("dev-1", "dev"), ("prod-1", "prod")] {
        admin.label(agent, "env", env).await;
        admin.until(agent, |a| a.containers_total == 1).await;
    }
    admin.create_user("ada", Role::None).await;
    let ada = world.user_called("ada").await;
    let list = || ListContainersRequest { all: true, ..Default::default() };
    let refused = ada.containers().list_containers(ada.call(list())).await.unwrap_err();
    assert!(is_denied(&refused), "{refused}");

    admin.grant("ada", Role::Viewer, "env=dev").await;
    let listed = ada.containers().list_containers(ada.call(list())).await.unwrap().into_inner();
    let agents: Vec<_> = listed.containers.iter().map(|c| c.agent.as_str()).collect();
    assert_eq!((agents.as_slice(), listed.views.len()), (&["dev-1"][..], 1));
    let wider = ListContainersRequest { agent_selector: "env".into(), ..list() };
    let listed = ada.containers().list_containers(ada.call(wider)).await.unwrap().into_inner();
    assert_eq!(listed.containers.len(), 1, "a selector does not widen it");

    let agents = ada.agents().list_agents(ada.call(ListAgentsRequest::default())).await.unwrap();
    let names: Vec<_> = agents.into_inner().agents.into_iter().map(|a| a.name).collect();
    assert_eq!(names, ["dev-1"]);
    assert_eq!(ada.agent("dev-1").await.unwrap().name, "dev-1");
    let hidden = ada.agent("prod-1").await.unwrap_err();
    assert_eq!(reason_of(&hidden).as_deref(), Some(reason::AGENT_NOT_FOUND));
    assert_eq!(hidden.message(), "no agent is called \"prod-1\"", "as if it were not there");

    let stats = ada.call(StreamStatsRequest { no_stream: true, ..Default::default() });
    let mut stats = ada.containers().stream_stats(stats).await.unwrap().into_inner();
    while let Some(sample) = stats.message().await.unwrap() {
        assert_eq!(sample.agent, "dev-1");
    }
}

/// Awaits a stream's end.
async fn end<T>(stream: &mut Streaming<T>) -> Status {
    let end = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::new(Code::Ok, ""),
                Err(status) => return status,
            }
        }
    };
    timeout(LIMIT, end).await.expect("the stream goes on")
}

#[tokio::test]
async fn streams_end_when_the_right_to_them_is_taken_away() {
    let world = World::new().await;
    let (_dev, _other) = (world.join("dev-1").await, world.join("dev-2").await);
    let admin = world.user().await;
    admin.label("dev-1", "env", "dev").await;
    admin.label("dev-2", "env", "dev").await;
    admin.create_user("ada", Role::None).await;
    let ada = world.user_called("ada").await;
    let stats = |agent: &str| StreamStatsRequest { agent: agent.into(), ..Default::default() };
    let open = async |user: &User, agent: &str| {
        let call = user.containers().stream_stats(user.call(stats(agent))).await;
        let mut stream = call.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        stream
    };

    // The grant goes.
    let grant = admin.grant("ada", Role::Viewer, "env=dev").await;
    let (mut one, mut all) = (open(&ada, "dev-1").await, open(&ada, "").await);
    let watch = ada.agents().watch_agents(ada.call(WatchAgentsRequest::default())).await;
    let mut watch = watch.unwrap().into_inner();
    let revoke = RevokeGrantRequest { username: "ada".into(), id: grant };
    admin.users().revoke_grant(admin.call(revoke)).await.unwrap();
    for status in [end(&mut one).await, end(&mut all).await, end(&mut watch).await] {
        assert!(is_denied(&status), "{status}");
    }

    // The agent is no longer one of those; others are.
    admin.grant("ada", Role::Viewer, "env=dev").await;
    let (mut one, mut all) = (open(&ada, "dev-1").await, open(&ada, "").await);
    let mut other = open(&ada, "dev-2").await;
    let watch = ada.agents().watch_agents(ada.call(WatchAgentsRequest::default())).await;
    let mut watch = watch.unwrap().into_inner();
    admin.label("dev-1", "env", "prod").await;
    let gone = async {
        loop {
            let news = watch.message().await.unwrap().unwrap();
            if news.left {
                return news.agent.unwrap();
            }
        }
    };
    let gone = timeout(LIMIT, gone).await.unwrap();
    assert_eq!((gone.name.as_str(), gone.labels.len()), ("dev-1", 0), "no more than its name");
    let status = end(&mut one).await;
    assert_eq!(reason_of(&status).as_deref(), Some(reason::AGENT_NOT_FOUND), "{status}");
    // What is merged goes on without it.
    let left = async {
        loop {
            let sample = all.message().await.unwrap().unwrap();
            if sample.notice.is_some_and(|notice| notice.reason == reason::RIGHTS_CHANGED) {
                return sample.agent;
            }
        }
    };
    assert_eq!(timeout(LIMIT, left).await.unwrap(), "dev-1");
    for _ in 0..10 {
        assert_eq!(all.message().await.unwrap().unwrap().agent, "dev-2");
    }
    // Who is granted less is asked to ask again, also where nothing of it was seen.
    let lab = admin.grant("ada", Role::Viewer, "lab").await;
    assert_eq!(reason_of(&end(&mut all).await).as_deref(), Some(reason::RIGHTS_CHANGED));
    let mut all = open(&ada, "").await;
    let revoke = RevokeGrantRequest { username: "ada".into(), id: lab };
    admin.users().revoke_grant(admin.call(revoke)).await.unwrap();
    assert_eq!(reason_of(&end(&mut all).await).as_deref(), Some(reason::RIGHTS_CHANGED));
    other.message().await.unwrap().unwrap();

    // The API token is deleted; the login goes on.
    let create = CreateApiTokenRequest {
        name: "ci".into(),
        role: Role::Viewer.into(),
        ..Default::default()
    };
    let created = ada.api_tokens().create_api_token(ada.call(create)).await.unwrap().into_inner();
    let ci = ada.with_token(created.token);
    let mut of_token = open(&ci, "dev-2").await;
    let delete = DeleteApiTokenRequest { id: "ci".into() };
    ada.api_tokens().delete_api_token(ada.call(delete)).await.unwrap();
    assert_eq!(end(&mut of_token).await.code(), Code::Unauthenticated);
    other.message().await.unwrap().unwrap();

    // A login of hers ends; the other one goes on.
    let second = world.user_called("ada").await;
    let mut of_second = open(&second, "dev-2").await;
    let logout = LogoutRequest { refresh_token: second.refresh.clone() };
    second.auth().logout(second.call(logout)).await.unwrap();
    assert_eq!(end(&mut of_second).await.code(), Code::Unauthenticated);
    other.message().await.unwrap().unwrap();

    // The user is gone.
    let delete = DeleteUserRequest { username: "ada".into() };
    admin.users().delete_user(admin.call(delete)).await.unwrap();
    assert_eq!(end(&mut other).await.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_api_token_may_what_it_says_and_never_more_than_its_owner() {
    let world = World::new().await;
    let (_dev, _prod) = (world.join("dev-1").await, world.join("prod-1").await);
    let admin = world.user().await;
    admin.label("dev-1", "env", "dev").await;
    let ada = world.user_with("ada", Role::Operator).await;
    let create = |name: &str, role: Role, selector: &str| CreateApiTokenRequest {
        name: name.into(),
        role: role.into(),
        selector: selector.into(),
        ttl: None,
    };
    let make = async |request| ada.api_tokens().create_api_token(ada.call(request)).await;
    for (request, field) in [
        (create("", Role::Viewer, ""), "name"),
        (create("A B", Role::Viewer, ""), "name"),
        (create("x", Role::None, ""), "role"),
        (create("x", Role::Unspecified, ""), "role"),
        (create("x", Role::Viewer, "ENV"), "selector"),
    ] {
        let refused = make(request).await.unwrap_err();
        let named = dockctl_api::error::metadata_of(&refused, "field");
        assert_eq!(named.as_deref(), Some(field), "{refused}");
    }
    let made = make(create("ci", Role::Admin, "env=dev")).await.unwrap().into_inner();
    assert!(made.token.starts_with("dockctl_") && made.token.len() == 51, "{}", made.token.len());
    let taken = make(create("ci", Role::Viewer, "")).await.unwrap_err();
    assert_eq!(reason_of(&taken).as_deref(), Some(reason::NAME_TAKEN));

    let ci = ada.with_token(made.token.clone());
    let exec = "/dockctl.v1.ExecService/Exec";
    assert!(!is_denied(&begin(&ci, exec, "dev-1").await));
    let hidden = begin(&ci, exec, "prod-1").await;
    assert_eq!(reason_of(&hidden).as_deref(), Some(reason::AGENT_NOT_FOUND));
    let docker = "/dockctl.v1.DockerService/ConnectDocker";
    assert!(is_denied(&begin(&ci, docker, "dev-1").await), "its owner is no admin");
    let who = ci.auth().who_am_i(ci.call(WhoAmIRequest {})).await.unwrap().into_inner();
    assert_eq!(who.user.unwrap().name, "ada");
    assert_eq!(who.api_token.unwrap().name, "ci");

    // What only a person may do.
    let more = ci.api_tokens().create_api_token(ci.call(create("more", Role::Viewer, ""))).await;
    assert!(is_denied(&more.unwrap_err()));
    let out = ci.auth().logout_everywhere(ci.call(LogoutEverywhereRequest {})).await;
    assert!(is_denied(&out.unwrap_err()));
    let of_admin = admin.call(create("ci", Role::Admin, ""));
    let of_admin = admin.api_tokens().create_api_token(of_admin).await.unwrap().into_inner();
    let root = admin.with_token(of_admin.token);
    let reset = ResetPasswordRequest { username: "admin".into(), password: "taken over".into() };
    assert!(is_denied(&root.users().reset_password(root.call(reset)).await.unwrap_err()));
    let mallory = CreateUserRequest {
        username: "mallory".into(),
        password: PASSWORD.into(),
        role: Role::Admin.into(),
    };
    assert!(is_denied(&root.users().create_user(root.call(mallory)).await.unwrap_err()));
    let remove = DeleteUserRequest { username: "ada".into() };
    assert!(is_denied(&root.users().delete_user(root.call(remove)).await.unwrap_err()));
    let all = ada.api_tokens().list_api_tokens(ada.call(ListApiTokensRequest { all: true })).await;
    assert!(is_denied(&all.unwrap_err()), "others' tokens");

    // It is listed with its use and without its secret, and a forged one is none.
    let used = async {
        loop {
            let list = ada.call(ListApiTokensRequest::default());
            let listed = ada.api_tokens().list_api_tokens(list).await.unwrap().into_inner();
            assert!(!format!("{listed:?}").contains(&made.token["dockctl_".len()..]));
            if listed.api_tokens[0].last_used_at.is_some() {
                return;
            }
        }
    };
    timeout(LIMIT, used).await.unwrap();
    let mut forged = made.token.clone();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(last);
    for token in [forged, "dockctl_".to_owned(), format!("dockctl_{}", "x".repeat(5_000))] {
        let eve = ada.with_token(token);
        assert_eq!(begin(&eve, exec, "dev-1").await.code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn an_api_token_ends_when_its_time_is_over() {
    let world = World::new().await;
    let admin = world.user().await;
    let ttl = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let create = |ttl| CreateApiTokenRequest {
        name: "short".into(),
        role: Role::Viewer.into(),
        ttl,
        ..Default::default()
    };
    for bad in [0, 59, 3_650 * 86_400 + 1, -1] {
        let refused = admin.api_tokens().create_api_token(admin.call(create(ttl(bad)))).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument, "{bad}");
    }
    let made = admin.api_tokens().create_api_token(admin.call(create(ttl(60)))).await.unwrap();
    let token = made.into_inner();
    let (created, ends) =
        token.api_token.map(|t| (t.created_at.unwrap(), t.expires_at.unwrap())).unwrap();
    assert_eq!(ends.seconds - created.seconds, 60);
}

#[tokio::test]
async fn the_last_admin_stays_and_roles_and_users_are_checked() {
    let world = World::new().await;
    let admin = world.user().await;
    let last = |status: Status| assert_eq!(reason_of(&status).as_deref(), Some(reason::LAST_ADMIN));
    let update = |username: &str, role: Role| UpdateUserRoleRequest {
        username: username.into(),
        role: role.into(),
    };
    let demote = admin.call(update("admin", Role::Viewer));
    last(admin.users().update_user_role(demote).await.unwrap_err());
    let delete = admin.call(DeleteUserRequest { username: "admin".into() });
    last(admin.users().delete_user(delete).await.unwrap_err());

    let ada = world.user_with("ada", Role::Viewer).await;
    let whole =
        GrantRoleRequest { username: "ada".into(), role: Role::Admin.into(), selector: " ".into() };
    let refused = admin.users().grant_role(admin.call(whole)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "a grant for all is a role");
    let unknown = admin.users().update_user_role(admin.call(update("eve", Role::Viewer))).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);

    admin.users().update_user_role(admin.call(update("ada", Role::Admin))).await.unwrap();
    let listed = ada.users().list_users(ada.call(ListUsersRequest {})).await.unwrap().into_inner();
    let names: Vec<_> = listed.users.iter().map(|u| (u.name.as_str(), u.role())).collect();
    assert_eq!(names, [("ada", Role::Admin), ("admin", Role::Admin)], "a role counts at once");
    admin.users().update_user_role(admin.call(update("admin", Role::None))).await.unwrap();
    let out = admin.users().list_users(admin.call(ListUsersRequest {})).await.unwrap_err();
    assert!(is_denied(&out), "and so does its loss");

    let reset = ResetPasswordRequest { username: "admin".into(), password: "another one".into() };
    ada.users().reset_password(ada.call(reset)).await.unwrap();
    let ended = admin.auth().who_am_i(admin.call(WhoAmIRequest {})).await.unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated);
}

/// A controller with limits.
async fn limited(limits: Limits) -> World {
    let dir = Arc::new(TempDir::new().unwrap());
    World::with(dir, |options| Options { limits, ..options }).await
}

#[tokio::test]
async fn of_a_thousand_guesses_at_most_five_reach_hashing() {
    let world = limited(Limits::default()).await;
    let channel = world.channel().await;
    let mut auth = auth_service_client::AuthServiceClient::with_origin(
        channel.clone(),
        channel.origin.clone(),
    );
    let mut wrong = 0;
    for guess in 0..1_000 {
        let request = LoginRequest { username: "admin".into(), password: format!("guess {guess}") };
        let refused = auth.login(request).await.unwrap_err();
        match reason_of(&refused).as_deref() {
            Some(reason::BAD_CREDENTIALS) => wrong += 1,
            Some(reason::TOO_MANY) => assert!(retry_after(&refused).is_some(), "{refused}"),
            other => panic!("{other:?} {refused}"),
        }
    }
    assert!((1..=5).contains(&wrong), "{wrong}");
}

#[tokio::test]
async fn each_caller_has_a_budget_of_calls_and_of_streams() {
    let limits = Limits { action: 3, read: 40, streams: 2, ..NO_LIMITS };
    let world = limited(limits).await;
    let admin = world.user().await;
    let who = async |user: &User| user.auth().who_am_i(user.call(WhoAmIRequest {})).await;
    let watch = async |user: &User| {
        user.agents().watch_agents(user.call(WatchAgentsRequest::default())).await
    };
    let first = watch(&admin).await.unwrap();
    let _second = watch(&admin).await.unwrap();
    let refused = watch(&admin).await.unwrap_err();
    assert_eq!(reason_of(&refused).as_deref(), Some(reason::TOO_MANY));
    drop(first);
    let room = async { while watch(&admin).await.is_err() {} };
    timeout(LIMIT, room).await.unwrap();

    // Changes have their own budget, and each user his own.
    for n in 0..3 {
        let create = CreateUserRequest {
            username: format!("u{n}"),
            password: PASSWORD.into(),
            role: Role::None.into(),
        };
        admin.users().create_user(admin.call(create)).await.unwrap();
    }
    let create = CreateUserRequest { username: "u4".into(), ..Default::default() };
    let refused = admin.users().create_user(admin.call(create)).await.unwrap_err();
    assert_eq!(reason_of(&refused).as_deref(), Some(reason::TOO_MANY));
    let until_refused = async { while who(&admin).await.is_ok() {} };
    timeout(LIMIT, until_refused).await.unwrap();
    who(&world.user_called("u0").await).await.unwrap();
}

#[tokio::test]
async fn requests_whose_message_never_comes_take_nobodys_place() {
    let world = World::new().await;
    let admin = world.user().await;
    // More than there are places, of a stranger who sends nothing but headers.
    let mut strangers = tokio::task::JoinSet::new();
    for _ in 0..9 {
        let channel = world.channel().await;
        for _ in 0..500 {
            let mut channel = channel.clone();
            strangers.spawn(async move {
                let authority = channel.origin.authority().unwrap().clone();
                let path = "dockctl.v1.AuthService/Refresh";
                let request = http::Request::post(format!("https://{authority}/{path}"))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers");
                let never = futures_util::stream::pending::<Result<http_body::Frame<_>, Status>>();
                let body = Body::new(http_body_util::StreamBody::new(never));
                let _ = channel.ready().await.unwrap().call(request.body(body).unwrap()).await;
            });
        }
    }
    for _ in 0..100 {
        admin.auth().who_am_i(admin.call(WhoAmIRequest {})).await.unwrap();
        tokio::task::yield_now().await;
    }
    strangers.abort_all();
}
