//! Whichever way leads to the engine of a confined host, it leads through the guard.

use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig, VolumeCreateRequest};
use dockctl_api::error::{reason, reason_of};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use super::{
    super::{
        Engine,
        fake::{Fake, Reply, error},
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

const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// An engine on which these are there already, by the path of their JSON.
fn with(there: &'static [(&'static str, &'static str)]) -> Fake {
    Fake::new(move |request| {
        let path = request.strip_prefix("GET ").unwrap_or_default();
        match there.iter().find(|(known, _)| *known == path) {
            Some((_, json)) => Reply::Json(200, json.replace("<id>", ID).replace("<other>", OTHER)),
            None if request.starts_with("GET ") => error(404, "No such thing: it"),
            None => Reply::Json(201, r#"{"Id":"new","Warnings":[]}"#.to_owned()),
        }
    })
}

/// Sends a request with this JSON and gives the answer's head and body.
async fn ask(engine: &Engine, call: &str, json: &str) -> String {
    let mut io = engine.wire.endpoint.connect().await.unwrap();
    let length = json.len();
    let request = format!(
        "{call} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
    );
    io.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    answer
}

/// What reaches into a container, and what shares its namespaces or mounts.
const WAYS: [(&str, &str); 10] = [
    ("POST /v1.41/containers/x/exec", r#"{"Cmd":["sh"]}"#),
    ("POST /containers/x/attach?stdin=1&stream=1", ""),
    ("GET /containers/x/attach/ws?stdin=1&stream=1", ""),
    ("PUT /containers/x/archive?path=/", ""),
    ("GET /containers/x/archive?path=/", ""),
    ("POST /containers/x/rename?name=y", ""),
    ("POST /containers/create", r#"{"HostConfig":{"VolumesFrom":["x:ro"]}}"#),
    ("POST /containers/create", r#"{"HostConfig":{"PidMode":"container:x"}}"#),
    ("POST /containers/create", r#"{"HostConfig":{"IpcMode":"container:x"}}"#),
    ("POST /containers/create", r#"{"HostConfig":{"NetworkMode":"container:x"}}"#),
];

#[tokio::test]
async fn containers_that_give_the_host_away_are_not_reached_into() {
    for there in [
        &[("/containers/x/json", r#"{"Id":"<id>","HostConfig":{"Privileged":true}}"#)][..],
        &[(
            "/containers/x/json",
            r#"{"Id":"<id>","HostConfig":{},"Mounts":[{"Type":"bind","Source":"/"}]}"#,
        )],
        // By the volume of its own, and by the container whose processes it sees.
        &[
            (
                "/containers/x/json",
                r#"{"Id":"<id>","HostConfig":{},"Mounts":[{"Type":"volume","Name":"v"}]}"#,
            ),
            ("/volumes/v", r#"{"Driver":"local","Options":{"o":"bind","device":"/"}}"#),
        ],
        &[
            ("/containers/x/json", r#"{"Id":"<id>","HostConfig":{"PidMode":"container:y"}}"#),
            ("/containers/y/json", r#"{"Id":"<other>","HostConfig":{"PidMode":"host"}}"#),
        ],
        // That one is gone, and nobody knows what it was.
        &[("/containers/x/json", r#"{"Id":"<id>","HostConfig":{"PidMode":"container:y"}}"#)],
        &[("/containers/x/json", r#"{"Id":"short","HostConfig":{}}"#)],
        &[("/containers/x/json", "[]")],
    ] {
        let fake = with(there);
        let engine = confined(&fake);
        for (call, json) in WAYS {
            let answer = ask(&engine, call, json).await;
            assert!(answer.contains(" 403 ") && answer.contains(REFUSED), "{call}: {answer}");
            assert!(answer.contains("would give away the host"), "{call}: {answer}");
        }
        let asked = fake.requests();
        assert!(asked.iter().all(|r| r.starts_with("GET ") && !r.contains("attach")), "{asked:?}");
    }
    // Where it is not there, the engine's own words are the answer.
    let fake = with(&[]);
    let answer = ask(&confined(&fake), WAYS[0].0, WAYS[0].1).await;
    assert!(answer.contains(" 404 ") && answer.contains("No such thing: it"), "{answer}");
}

#[tokio::test]
async fn harmless_ones_are_reached_by_their_id() {
    let fake =
        with(&[("/containers/x/json", r#"{"Id":"<id>","HostConfig":{"NetworkMode":"none"}}"#)]);
    let engine = confined(&fake);
    for (call, json) in WAYS {
        let answer = ask(&engine, call, json).await;
        assert!(!answer.contains(REFUSED), "{call}: {answer}");
        let last = fake.requests().last().cloned().unwrap_or_default();
        let by_id = call.replace("containers/x/", &format!("containers/{ID}/"));
        assert_eq!(last, by_id, "{call}");
    }
}

#[tokio::test]
async fn volumes_are_judged_and_so_are_those_who_write_to_them() {
    let create = r#"{"HostConfig":{"Binds":["vol:/v"]}}"#;
    const USERS: &str = "/containers/json?all=1&filters=%7B%22volume%22:%5B%22vol%22%5D%7D";
    const PLAIN: (&str, &str) = ("/volumes/vol", r#"{"Driver":"local","Options":null}"#);
    const PRIVILEGED: (&str, &str) = (
        "/containers/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/json",
        r#"{"Id":"<id>","HostConfig":{"Privileged":true}}"#,
    );
    const WRITES: &str = r#"[{"Id":"<id>","Mounts":[{"Name":"vol","RW":true}]}]"#;
    const READS: &str = r#"[{"Id":"<id>","Mounts":[{"Name":"vol","RW":false}]}]"#;
    for (there, allowed) in [
        (&[(USERS, "[]")][..], true),
        (&[PLAIN, (USERS, "[]")], true),
        (&[PLAIN, (USERS, READS), PRIVILEGED], true),
        (&[PLAIN, (USERS, WRITES)], true),
        (&[PLAIN, (USERS, WRITES), PRIVILEGED], false),
        (&[("/volumes/vol", r#"{"Driver":"evil"}"#), (USERS, "[]")], false),
        (
            &[("/volumes/vol", r#"{"Driver":"local","Options":{"device":"/"}}"#), (USERS, "[]")],
            false,
        ),
    ] {
        let fake = with(there);
        let answer = ask(&confined(&fake), "POST /containers/create", create).await;
        assert_eq!(answer.contains(" 201 "), allowed, "{there:?}: {answer}");
        assert_eq!(answer.contains(REFUSED), !allowed, "{there:?}: {answer}");
    }
}

#[tokio::test]
async fn execs_and_networks_that_are_there_are_judged() {
    for (call, json, there, allowed) in [
        (
            "POST /exec/e/start",
            "{}",
            &[
                ("/exec/e/json", r#"{"ContainerID":"x","ProcessConfig":{"privileged":true}}"#),
                ("/containers/x/json", r#"{"Id":"<id>","HostConfig":{}}"#),
            ][..],
            false,
        ),
        (
            "POST /exec/e/start",
            "{}",
            &[
                ("/exec/e/json", r#"{"ContainerID":"x"}"#),
                ("/containers/x/json", r#"{"Id":"<id>","HostConfig":{"Privileged":true}}"#),
            ],
            false,
        ),
        (
            "POST /exec/e/start",
            "{}",
            &[
                ("/exec/e/json", r#"{"ContainerID":"x"}"#),
                ("/containers/x/json", r#"{"Id":"<id>","HostConfig":{}}"#),
            ],
            true,
        ),
        (
            "POST /networks/n/connect",
            r#"{"Container":"x"}"#,
            &[
                ("/networks/n", r#"{"Id":"<other>","Name":"host","Driver":"host"}"#),
                ("/containers/x/json", r#"{"Id":"<id>","HostConfig":{}}"#),
            ],
            false,
        ),
        (
            "POST /networks/n/connect",
            r#"{"Container":"x"}"#,
            &[
                ("/networks/n", r#"{"Id":"<other>","Name":"n","Driver":"bridge"}"#),
                ("/containers/x/json", r#"{"Id":"<id>","HostConfig":{"Privileged":true}}"#),
            ],
            false,
        ),
        (
            "POST /networks/n/connect",
            r#"{"Container":"x"}"#,
            &[
                ("/networks/n", r#"{"Id":"<other>","Name":"n","Driver":"bridge"}"#),
                ("/containers/x/json", r#"{"Id":"<id>","HostConfig":{}}"#),
            ],
            true,
        ),
    ] {
        let fake = with(there);
        let answer = ask(&confined(&fake), call, json).await;
        assert_eq!(answer.contains(" 201 "), allowed, "{call}: {answer}");
        let passed = fake.requests().iter().filter(|r| r.starts_with("POST ")).count();
        assert_eq!(passed, usize::from(allowed), "{call}: {:?}", fake.requests());
    }
}
