//! The controller with agents made for the test: identity, sessions, forwarding, merging, inventory.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test fails by panicking

mod common;

use std::{sync::Arc, time::Duration};

use common::*;
use dockctl_api::{
    error::{self, metadata_of, reason, reason_of},
    link::v1::connect_request::Frame as Up,
    v1::*,
};
use dockctl_link::agent::{EnrollError, Status as LinkStatus};
use rcgen::KeyPair;
use tokio::{task::JoinSet, time::timeout};
use tonic::Code;

#[tokio::test]
async fn a_call_reaches_the_agent_that_it_names() {
    let world = World::new().await;
    let _agents = (world.join("web-1").await, world.join("web-2").await);
    let user = world.user().await;
    let request = ListContainersRequest {
        agent: "web-2".into(),
        container: "db".into(),
        ..Default::default()
    };
    let answer = user.containers().list_containers(user.call(request)).await.unwrap().into_inner();
    assert_eq!(answer.containers[0].name, "db");
}

#[tokio::test]
async fn unknown_offline_and_missing_agents_have_their_own_reasons() {
    let world = World::new().await;
    let token = world.token(1).await;
    TestAgent::enroll(&world, "asleep", &token).await.unwrap();
    let user = world.user().await;
    let inspect = async |agent: &str| {
        let request = InspectContainerRequest {
            agent: agent.into(),
            container: "x".into(),
            ..Default::default()
        };
        user.containers().inspect_container(user.call(request)).await.unwrap_err()
    };
    let unknown = inspect("nobody").await;
    assert_eq!(
        (unknown.code(), reason_of(&unknown).unwrap().as_str()),
        (Code::NotFound, reason::AGENT_NOT_FOUND)
    );
    let offline = inspect("asleep").await;
    assert_eq!(
        (offline.code(), reason_of(&offline).unwrap().as_str()),
        (Code::Unavailable, reason::AGENT_OFFLINE)
    );
    assert_eq!(metadata_of(&offline, error::RAN).as_deref(), Some(error::NOT_SENT));
    let missing = inspect("").await;
    assert_eq!(
        (missing.code(), reason_of(&missing).unwrap().as_str()),
        (Code::InvalidArgument, reason::AGENT_REQUIRED)
    );
}

#[tokio::test]
async fn a_hundred_uses_of_a_single_use_token_make_one_agent() {
    let world = World::new().await;
    let token = world.token(1).await;
    let world = Arc::new(world);
    let mut tries = JoinSet::new();
    for n in 0..100 {
        let (world, token) = (world.clone(), token.clone());
        tries.spawn(async move {
            let key = KeyPair::generate().unwrap().serialize_der();
            enroll(&world, &format!("host-{n}"), &token, &key).await.is_ok()
        });
    }
    assert_eq!(tries.join_all().await.into_iter().filter(|ok| *ok).count(), 1);
    let user = world.user().await;
    let list = user.agents().list_agents(user.call(ListAgentsRequest::default())).await.unwrap();
    assert_eq!(list.into_inner().agents.len(), 1);
}

#[tokio::test]
async fn an_agent_that_lost_the_answer_enrols_again_as_itself() {
    let world = World::new().await;
    let token = world.token(1).await;
    let key = KeyPair::generate().unwrap().serialize_der();
    let first = enroll(&world, "web-1", &token, &key).await.unwrap();
    let again = enroll(&world, "web-1", &token, &key).await.unwrap();
    assert_eq!(first.agent_id, again.agent_id);
}

#[tokio::test]
async fn a_revoked_agent_loses_its_streams_and_never_comes_back() {
    let world = World::new().await;
    let mut agent = world.join("web-1").await;
    let user = world.user().await;
    let stats = StreamStatsRequest { agent: "web-1".into(), ..Default::default() };
    let mut stats = user.containers().stream_stats(user.call(stats)).await.unwrap().into_inner();
    stats.message().await.unwrap().unwrap();

    let revoke = RevokeAgentRequest { agent: "web-1".into(), reason: "stolen".into() };
    user.agents().revoke_agent(user.call(revoke)).await.unwrap();
    let ended = timeout(LIMIT, async {
        loop {
            if let Err(end) = stats.message().await {
                return end;
            }
        }
    });
    assert_eq!(ended.await.unwrap().code(), Code::Unavailable);
    let refused = agent
        .status
        .wait_for(|s| matches!(s, LinkStatus::Refused { cause } if cause.contains("stolen")));
    timeout(LIMIT, refused).await.unwrap().unwrap();

    // A new process with the same identity is refused before it has a session.
    let mut again = agent.start(&world);
    let refused = again.status.wait_for(|s| matches!(s, LinkStatus::Refused { .. }));
    timeout(LIMIT, refused).await.unwrap().unwrap();
    let agent = user.agent("web-1").await.unwrap();
    assert_eq!((agent.state(), agent.standing()), (AgentState::Offline, AgentStanding::Revoked));
}

#[tokio::test]
async fn two_machines_on_one_identity_are_both_locked() {
    let world = World::new().await;
    let token = world.token(1).await;
    let identity = TestAgent::enroll(&world, "web-1", &token).await.unwrap();
    let mut original = identity.connect(&world).await;
    let mut copy = identity.start(&world);
    for side in [&mut original, &mut copy] {
        let locked = side.status.wait_for(|s| matches!(s, LinkStatus::Refused { .. }));
        timeout(LIMIT, locked).await.unwrap().unwrap();
    }
    let agent = world.user().await.agent("web-1").await.unwrap();
    assert_eq!((agent.state(), agent.standing()), (AgentState::Offline, AgentStanding::Locked));
}

#[tokio::test]
async fn a_restarted_agent_is_no_clone() {
    let world = World::new().await;
    let token = world.token(1).await;
    let identity = TestAgent::enroll(&world, "web-1", &token).await.unwrap();
    for _ in 0..5 {
        let process = identity.connect(&world).await;
        process.stop.cancel();
    }
    let last = identity.connect(&world).await;
    let agent = world.user().await.until("web-1", |a| a.state() == AgentState::Connected).await;
    assert_eq!(agent.standing(), AgentStanding::Active);
    assert!(matches!(&*last.status.borrow(), LinkStatus::Connected { .. }));
}

#[tokio::test]
async fn an_ended_certificate_renews_itself_with_the_old_key() {
    let (world, identity) = enrolled_for_a_second().await;
    let before = identity.host.certificate.lock().unwrap().clone();
    await_end(&before).await;
    identity.connect(&world).await;
    assert_ne!(*identity.host.certificate.lock().unwrap(), before);
}

#[tokio::test]
async fn a_renewal_with_a_certificate_from_before_the_last_one_locks_both_machines() {
    let (world, identity) = enrolled_for_a_second().await;
    let mut copy = identity.copied_disk();
    let ends = copy.host.certificate.lock().unwrap().clone();
    await_end(&ends).await;
    let mut original = identity.connect(&world).await;
    copy = copy.start(&world);
    for side in [&mut copy, &mut original] {
        let locked = side.status.wait_for(|s| matches!(s, LinkStatus::Refused { .. }));
        timeout(LIMIT, locked).await.unwrap().unwrap();
    }
    let agent = world.user().await.agent("web-1").await.unwrap();
    assert_eq!((agent.state(), agent.standing()), (AgentState::Offline, AgentStanding::Locked));
}

/// A fleet where a certificate lives for one second, and an agent that has not connected yet.
async fn enrolled_for_a_second() -> (World, TestAgent) {
    let dir = Arc::new(tempfile::TempDir::new().unwrap());
    let world = World::at(dir, ([127, 0, 0, 1], 0).into(), Duration::from_secs(1)).await;
    let token = world.token(1).await;
    let identity = TestAgent::enroll(&world, "web-1", &token).await.unwrap();
    (world, identity)
}

/// Awaits the end of a certificate by the very clock that the controller uses.
async fn await_end(certificate: &rustls::pki_types::CertificateDer<'_>) {
    let peer = dockctl_link::identity::PeerIdentity::from_certificate(certificate).unwrap();
    let left = peer.not_after.duration_since(std::time::SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left).await;
}

#[tokio::test]
async fn merged_streams_name_each_agent_truly_and_report_the_dead() {
    let world = World::new().await;
    let _agents = (world.join("web-1").await, world.join("web-2").await);
    let token = world.token(1).await;
    TestAgent::enroll(&world, "asleep", &token).await.unwrap();
    let user = world.user().await;
    let request = StreamStatsRequest { no_stream: true, ..Default::default() };
    let mut stats = user.containers().stream_stats(user.call(request)).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(message) = timeout(LIMIT, stats.message()).await.unwrap().unwrap() {
        seen.push((message.agent, message.container_name, message.notice.map(|n| n.reason)));
    }
    seen.sort();
    let of = |agent: &str| (agent.to_owned(), agent.to_owned(), None);
    let asleep = ("asleep".to_owned(), String::new(), Some(reason::AGENT_OFFLINE.to_owned()));
    assert_eq!(seen, [asleep, of("web-1"), of("web-2")]);
}

#[tokio::test]
async fn an_agent_that_comes_later_joins_a_merged_stream() {
    let world = World::new().await;
    let _first = world.join("web-1").await;
    let user = world.user().await;
    let mut stats = user
        .containers()
        .stream_stats(user.call(StreamStatsRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let _second = world.join("web-2").await;
    timeout(LIMIT, async { while stats.message().await.unwrap().unwrap().agent != "web-2" {} })
        .await
        .unwrap();
}

#[tokio::test]
async fn what_no_agent_has_is_not_found() {
    let world = World::new().await;
    let _agents = (world.join("web-1").await, world.join("web-2").await);
    let user = world.user().await;
    let request = StreamLogsRequest { container: "ghost".into(), ..Default::default() };
    let mut logs = user.containers().stream_logs(user.call(request)).await.unwrap().into_inner();
    let end = timeout(LIMIT, logs.message()).await.unwrap().unwrap_err();
    assert_eq!(reason_of(&end).as_deref(), Some(reason::CONTAINER_NOT_FOUND));
}

#[tokio::test]
async fn the_fleet_is_listed_from_inventory_in_pages_and_the_dead_are_stale() {
    let world = World::new().await;
    let user = world.user().await;
    let mut agents = Vec::new();
    for name in ["web-1", "web-2"] {
        let token = world.token(1).await;
        let agent = TestAgent::enroll(&world, name, &token).await.unwrap().connect(&world).await;
        agent.tell(full_inventory(
            (0..5).map(|n| container(&format!("{name}{n}"), &format!("c{n}"), "running")).collect(),
        ));
        agent.tell(Up::Engine(EngineStatus { available: true, ..Default::default() }));
        user.until(name, |a| a.containers_total == 5).await;
        agents.push(agent);
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let request =
            ListContainersRequest { page_size: 3, page_token: token, ..Default::default() };
        let page =
            user.containers().list_containers(user.call(request)).await.unwrap().into_inner();
        assert!(page.containers.len() <= 3);
        names.extend(page.containers.into_iter().map(|c| format!("{}/{}", c.agent, c.name)));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let wanted: Vec<_> =
        ["web-1", "web-2"].iter().flat_map(|a| (0..5).map(move |n| format!("{a}/c{n}"))).collect();
    assert_eq!(names, wanted);

    agents[0].stop.cancel();
    user.until("web-1", |a| a.state() == AgentState::Offline).await;
    let request = ListContainersRequest { container: "c3".into(), ..Default::default() };
    let list = user.containers().list_containers(user.call(request)).await.unwrap().into_inner();
    assert_eq!(list.containers.iter().map(|c| c.stale).collect::<Vec<_>>(), [true, false]);
    assert_eq!(list.views.iter().map(|v| v.stale).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn events_of_the_whole_fleet_come_in_one_stream() {
    let world = World::new().await;
    let token = world.token(1).await;
    let agent = TestAgent::enroll(&world, "web-1", &token).await.unwrap().connect(&world).await;
    let user = world.user().await;
    let request = StreamEventsRequest { types: vec!["container".into()], ..Default::default() };
    let mut events = user.system().stream_events(user.call(request)).await.unwrap().into_inner();
    for (kind, action) in [("network", "connect"), ("container", "start")] {
        agent.tell(Up::Event(Event {
            r#type: kind.into(),
            action: action.into(),
            ..Default::default()
        }));
    }
    let first = timeout(LIMIT, events.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((first.agent.as_str(), first.event.unwrap().action.as_str()), ("web-1", "start"));
    agent.stop.cancel();
    let gone = timeout(LIMIT, events.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(gone.notice.unwrap().reason, reason::AGENT_OFFLINE);
}

#[tokio::test]
async fn a_restarted_controller_knows_its_agents_and_epochs_grow() {
    let mut world = World::new().await;
    let agent = world.join("web-1").await;
    let before = world.user().await.until("web-1", |a| a.state() == AgentState::Connected).await;
    world.stop.cancel();
    timeout(LIMIT, world.running.take().unwrap()).await.unwrap().unwrap().unwrap();
    let mut status = agent.status.clone();
    let told = status
        .wait_for(|s| matches!(s, LinkStatus::Offline { cause } if cause.contains("stopping")));
    timeout(LIMIT, told).await.expect("the agent is told of the drain").unwrap();
    agent.stop.cancel(); // Its next dial would be up to 30 s away.

    let world = World::at(world.dir.clone(), world.agents, Duration::from_secs(3_600)).await;
    let user = world.user().await;
    assert_eq!(user.agent("web-1").await.unwrap().state(), AgentState::Offline);
    agent.connect(&world).await;
    let after = user.until("web-1", |a| a.state() == AgentState::Connected).await;
    assert!(after.epoch > before.epoch);
}

#[tokio::test]
async fn liveness_has_a_round_trip_and_a_clock_offset() {
    let world = World::new().await;
    let _agent = world.join("web-1").await;
    let agent = world.user().await.until("web-1", |a| a.round_trip.is_some()).await;
    assert!(agent.clock_offset.unwrap().seconds.abs() < 60);
    assert_eq!(agent.state(), AgentState::Connected);
}

#[tokio::test]
async fn a_deleted_agent_frees_its_name() {
    let world = World::new().await;
    let _agent = world.join("web-1").await;
    let user = world.user().await;
    let token = world.token(2).await;
    let taken = TestAgent::enroll(&world, "web-1", &token).await.err().unwrap();
    let EnrollError::Refused(taken) = taken else { panic!("{taken}") };
    assert_eq!(reason_of(&taken).as_deref(), Some(reason::NAME_TAKEN));
    let delete = DeleteAgentRequest { agent: "web-1".into() };
    user.agents().delete_agent(user.call(delete)).await.unwrap();
    assert_eq!(user.agent("web-1").await.unwrap_err().code(), Code::NotFound);
    TestAgent::enroll(&world, "web-1", &token).await.unwrap();
}

#[tokio::test]
async fn a_flooding_agent_does_not_stop_the_others() {
    let world = World::new().await;
    let hostile = world.join("hostile").await;
    let _honest = world.join("web-1").await;
    let user = world.user().await;
    let noise = Up::Event(Event { action: "x".repeat(1_000), ..Default::default() });
    hostile.host.updates.send_modify(|all| all.extend(std::iter::repeat_n(noise, 50_000)));
    for _ in 0..50 {
        let request = ListContainersRequest { agent: "web-1".into(), ..Default::default() };
        let mut containers = user.containers();
        let answer = timeout(LIMIT, containers.list_containers(user.call(request)));
        answer.await.unwrap().unwrap();
    }
    assert_eq!(user.agent("web-1").await.unwrap().state(), AgentState::Connected);
    assert_eq!(user.agent("hostile").await.unwrap().state(), AgentState::Connected);
}

#[tokio::test]
async fn past_events_of_the_fleet_come_from_every_engine() {
    let world = World::new().await;
    let _agents = (world.join("web-1").await, world.join("web-2").await);
    let user = world.user().await;
    let since = Some(std::time::SystemTime::UNIX_EPOCH.into());
    let request = StreamEventsRequest { since, ..Default::default() };
    let mut events = user.system().stream_events(user.call(request)).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(message) = timeout(LIMIT, events.message()).await.unwrap().unwrap() {
        seen.push((message.agent, message.event.unwrap().action));
    }
    seen.sort();
    let started = |agent: &str| (agent.to_owned(), "start".to_owned());
    assert_eq!(seen, [started("web-1"), started("web-2")]);
}

#[tokio::test]
async fn a_revocation_that_races_a_connect_wins() {
    let world = World::new().await;
    let token = world.token(1).await;
    let identity = TestAgent::enroll(&world, "web-1", &token).await.unwrap();
    let user = world.user().await;
    let process = identity.start(&world);
    let revoke = RevokeAgentRequest { agent: "web-1".into(), reason: "raced".into() };
    user.agents().revoke_agent(user.call(revoke)).await.unwrap();
    let mut status = process.status.clone();
    let refused = status.wait_for(|s| matches!(s, LinkStatus::Refused { .. }));
    timeout(LIMIT, refused).await.unwrap().unwrap();
    let agent = user.until("web-1", |a| a.state() == AgentState::Offline).await;
    assert_eq!(agent.standing(), AgentStanding::Revoked);
}
