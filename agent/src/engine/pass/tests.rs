//! Whichever way leads to the engine of a confined host, it leads through the guard.

use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig, VolumeCreateRequest};
use dockctl_api::error::{reason, reason_of};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use super::{
    super::{
        Engine,
        fake::{Fake, Reply},
        fault::{Call, Fault},
        raw::Raw,
        wire::of_bollard,
    },
    *,
};
use crate::guard::Guard;

fn confined(fake: &Fake) -> Engine {
    fake.guarded(Guard { confine: true, ..Guard::default() })
}

fn fake() -> Fake {
    Fake::new(|request| {
        let json = match request {
            "GET /version" => r#"{"ApiVersion":"1.41"}"#,
            _ => r#"{"Id":"x","Warnings":[]}"#,
        };
        Reply::Json(200, json.to_owned())
    })
}

/// Only the negotiation has reached the engine.
fn untouched(fake: &Fake) {
    let requests = fake.requests();
    assert!(requests.iter().all(|request| request.contains("/version")), "{requests:?}");
}

#[tokio::test]
async fn no_typed_call_passes_by_the_guard() {
    let fake = fake();
    let engine = confined(&fake);
    let host_config = HostConfig { privileged: Some(true), ..Default::default() };
    let create = ContainerCreateBody { host_config: Some(host_config), ..Default::default() };
    let exec = ExecConfig { privileged: Some(true), ..Default::default() };
    let options = [("device".to_owned(), "/".to_owned())].into();
    let volume = VolumeCreateRequest { driver_opts: Some(options), ..Default::default() };
    let refused = [
        engine.docker.create_container(None, create).await.err(),
        engine.docker.create_exec("x", exec).await.err(),
        engine.docker.create_volume(volume).await.err(),
    ];
    for error in refused {
        let fault: Fault = of_bollard(error.unwrap());
        let status = engine.wire.status(&fault, Call::new("POST /x"));
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert_eq!(reason_of(&status).as_deref(), Some(reason::DOCKER_REFUSED));
        assert!(status.message().starts_with("this host is confined"), "{status}");
    }
    untouched(&fake);

    let harmless = ContainerCreateBody::default();
    engine.docker.create_container(None, harmless).await.unwrap();
    fake.asked("POST /v1.41/containers/create").await;
    engine.wire.get("/containers/json", TIMEOUT).await.unwrap();
}

#[tokio::test]
async fn no_connection_of_its_own_passes_by_the_guard() {
    let fake = fake();
    let engine = confined(&fake);
    for request in [
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 42\r\n\r\n\
         {\"HostConfig\":{\"Privileged\":true}}         ",
        "POST /v1.41/build?networkmode=host HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "POST /session HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        "GET /swarm HTTP/1.0\r\n\r\n",
    ] {
        let mut io = engine.wire.endpoint.connect().await.unwrap();
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(" 403 ") && answer.contains(REFUSED), "{request}: {answer}");
    }
    untouched(&fake);
    let Err(fault) = Raw::open(&engine.wire, "/plugins").await else { panic!("it was opened") };
    assert!(fault.to_string().contains(REFUSED), "{fault}");
    Raw::open(&engine.wire, "/events").await.unwrap();
}

#[tokio::test]
async fn a_connection_carries_one_judged_request() {
    let fake = fake();
    let engine = confined(&fake);
    let mut io = engine.wire.endpoint.connect().await.unwrap();
    let two = "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\nPOST /swarm/init HTTP/1.1\r\nHost: x\r\n\r\n";
    io.write_all(two.as_bytes()).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(fake.requests().len(), 1);
}
