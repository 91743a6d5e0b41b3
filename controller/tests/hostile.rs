//! One agent does what harm it can; the calls of the others go on. How much it slows them is what the
//! benchmark `hostile` measures.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test fails by panicking

mod common;

use common::{
    LIMIT, TestAgent, User, World, container, full_inventory,
    raw::{Raw, hello},
};
use dockctl_api::{
    link::v1::{CallResult, RenewRequest, ServeRequest, connect_request::Frame as Up},
    v1::{AgentState, Event, ListContainersRequest},
};
use futures_util::stream;
use tokio::{task::JoinSet, time::timeout};

const OTHERS: usize = 20;
const ROUNDS: usize = 5;

async fn list(user: &User, agent: &str) {
    let request = ListContainersRequest { agent: agent.to_owned(), ..Default::default() };
    let mut containers = user.containers();
    let answer = timeout(LIMIT, containers.list_containers(user.call(request))).await;
    answer.unwrap_or_else(|_| panic!("{agent} is not answered")).unwrap();
}

/// Floods the session until it is dropped: events, answers that nobody asked for, whole inventories.
async fn flood(session: Raw) {
    for n in 0_u64.. {
        let frame = match n % 100 {
            0 => full_inventory(
                (0..1_000).map(|m| container(&format!("{n}-{m}"), &"x".repeat(900), "")).collect(),
            ),
            m if m % 2 == 0 => Up::Result(CallResult { call_id: n, ..Default::default() }),
            _ => Up::Event(Event { action: "x".repeat(1_000), ..Default::default() }),
        };
        session.send(frame).await;
        if session.over.is_cancelled() {
            return;
        }
    }
}

/// Opens one Serve stream after the other for calls that nobody made, and renewals without sense.
async fn pester(mut session: Raw) {
    while !session.over.is_cancelled() {
        let piece = ServeRequest { call_id: 1 << 40, ..Default::default() };
        let _ = session.link.serve(stream::iter([piece])).await;
        let _ = session.link.renew(RenewRequest { csr: vec![0x30; 4_096].into() }).await;
        tokio::task::yield_now().await;
    }
}

/// Opens Serve streams that never say which call they are for, as many as it may.
async fn hold(session: Raw) {
    let mut streams = JoinSet::new();
    for _ in 0..300 {
        let mut link = session.link.clone();
        streams.spawn(async move { link.serve(stream::pending()).await.map(drop) });
    }
    while streams.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_calls_go_on_beside_a_hostile_agent() {
    let world = World::new().await;
    let token = world.token(u32::try_from(OTHERS).unwrap() + 1).await;
    let mut others = Vec::new();
    for n in 0..OTHERS {
        let agent = TestAgent::enroll(&world, &format!("honest-{n}"), &token).await.unwrap();
        others.push(agent.connect(&world).await);
    }
    let hostile = TestAgent::enroll(&world, "hostile", &token).await.unwrap();
    let session = hostile.open(&world, hello()).await.unwrap();
    let mut harm = JoinSet::new();
    harm.spawn(flood(session.clone()));
    harm.spawn(hold(session.clone()));
    for _ in 0..8 {
        harm.spawn(pester(session.clone()));
    }

    let user = world.user().await;
    user.until("hostile", |a| a.containers_total == 1_000).await;
    for _ in 0..ROUNDS {
        for other in &others {
            list(&user, &other.name).await;
        }
    }
    for other in &others {
        assert_eq!(user.agent(&other.name).await.unwrap().state(), AgentState::Connected);
    }
    // A newcomer is let in, too.
    world.join("late").await;
    list(&user, "late").await;
}
