//! Thousands of connections that begin a handshake and never end it are in nobody's way.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test fails by panicking

mod common;

use std::{net::SocketAddr, time::Duration};

use common::*;
use dockctl_api::{
    link::v1::{EnrollRequest, agent_link_client::AgentLinkClient},
    tls::{Trust, client_config},
    v1::{LoginRequest, auth_service_client::AuthServiceClient},
};
use dockctl_link::{channel::Channel, wire};
use rcgen::KeyPair;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

/// Half-open connections to each port.
const HALF_OPEN: usize = 5_000;
/// The first bytes of a ClientHello of 512 bytes, of which the rest never comes.
const BEGINNING: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];

/// Opens connections that say a little or nothing, and never more. Each of its tasks ends when the
/// controller closes its connection.
async fn attack(port: SocketAddr, count: usize) -> JoinSet<()> {
    let mut open = JoinSet::new();
    for n in 0..count {
        let mut tcp = timeout(LIMIT, TcpStream::connect(port)).await.unwrap().unwrap();
        open.spawn(async move {
            if n % 2 == 0 {
                let _ = tcp.write_all(BEGINNING).await;
            }
            let _ = tcp.read(&mut [0]).await;
        });
    }
    open
}

/// Someone honest has another address than the attacker's.
async fn dial(world: &World, port: SocketAddr) -> Channel {
    let tls = client_config(Trust::CaFingerprint(world.fingerprint.clone()), None).unwrap();
    let honest = SocketAddr::from(([127, 0, 0, 2], 0));
    Channel::dial_from(&port.to_string(), tls, Some(honest)).await.unwrap()
}

#[tokio::test]
async fn honest_logins_and_enrolments_pass_thousands_of_half_open_handshakes() {
    let world = World::new().await;
    let token = world.token(1).await;
    let mut half_open = [attack(world.api, HALF_OPEN).await, attack(world.agents, HALF_OPEN).await];

    let channel = dial(&world, world.api).await;
    let mut auth = AuthServiceClient::with_origin(channel.clone(), channel.origin.clone());
    let login = LoginRequest { username: "admin".into(), password: PASSWORD.into() };
    let begun = std::time::Instant::now();
    auth.login(login).await.unwrap();
    println!("an honest login beside them: {} ms", begun.elapsed().as_millis());

    let channel = dial(&world, world.agents).await;
    let mut link = AgentLinkClient::with_origin(channel.clone(), channel.origin.clone());
    let request = EnrollRequest {
        token: token.split('.').nth(1).unwrap().to_owned(),
        csr: csr(&KeyPair::generate().unwrap().serialize_der()),
        name: "honest".to_owned(),
        ..Default::default()
    };
    link.enroll(request).await.unwrap();

    // The attacker keeps no more than its share, and that not for long.
    for port in &mut half_open {
        timeout(LIMIT, async {
            while port.len() > wire::MAX_UNFINISHED_OF_ONE {
                port.join_next().await;
            }
        })
        .await
        .expect("what is beyond the address's share is closed");
    }
    for port in &mut half_open {
        let all = async { while port.join_next().await.is_some() {} };
        timeout(wire::HANDSHAKE_TIMEOUT + Duration::from_secs(30), all)
            .await
            .expect("a handshake that does not go on is ended");
    }
}
