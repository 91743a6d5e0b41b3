//! A connection to the agents' port is there for a session; one without it is ended.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::*;
use dockctl_api::{
    link::v1::{EnrollRequest, agent_link_client::AgentLinkClient},
    tls::{ClientIdentity, Trust, client_config},
};
use dockctl_link::channel::Channel;
use tokio::time::timeout;
use tonic::Code;

const SOON: Duration = Duration::from_millis(500);

async fn dial(world: &World, agent: Option<&str>) -> Channel {
    let identity = agent.map(|id| {
        let (certificate, key) = world.ca.agent(id);
        ClientIdentity { certificate, key }
    });
    let tls = client_config(Trust::Ca(world.ca.der.clone()), identity).unwrap();
    Channel::dial(&world.address.to_string(), tls).await.unwrap()
}

#[tokio::test]
async fn a_connection_that_opens_no_session_is_ended_and_a_session_is_not() {
    let world = World::with_session_within(SOON).await;
    let (_status, _stop) = world.agent("a1");
    let session = world.session().await;
    for silent in [dial(&world, None).await, dial(&world, Some("a2")).await] {
        timeout(LIMIT, silent.closed()).await.unwrap();
    }
    // It is older than those that were ended for their age.
    let (messages, _) = read(session.call(spec("/t/Echo", b"still here")).await.unwrap()).await;
    assert_eq!(messages, ["still here"]);
}

#[tokio::test]
async fn other_rpcs_do_not_keep_a_connection_without_a_session() {
    let world = World::with_session_within(SOON).await;
    let channel = dial(&world, None).await;
    let mut link = AgentLinkClient::with_origin(channel.clone(), channel.origin.clone());
    let answered = |status: tonic::Status| status.code() == Code::Unauthenticated;
    let busy = async {
        while link.enroll(EnrollRequest::default()).await.is_err_and(answered) {}
        channel.closed().await;
    };
    timeout(LIMIT, busy).await.unwrap();
}
