//! What browsers and curl send to the users' port: JSON, gRPC-web, WebSocket and pages, over HTTP/1.1 and
//! HTTP/2; and what never reaches a handler.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test fails by panicking

mod common;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use common::{web::BOTH, *};
use dockctl_api::v1::{Role, WhoAmIResponse};
use dockctl_controller::{edge::limits::Limits, run::Options};
use dockctl_link::framing;
use futures_util::{SinkExt as _, StreamExt as _};
use http::Version;
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

const LOGIN: &str = "/dockctl.v1.AuthService/Login";
const WHO: &str = "/dockctl.v1.AuthService/WhoAmI";
const JSON: (&str, &str) = ("content-type", "application/json");

fn credentials() -> String {
    json!({ "username": "admin", "password": PASSWORD }).to_string()
}

#[tokio::test]
async fn json_logs_in_lists_and_fails_as_http_has_it() {
    let world = World::new().await;
    let agent = world.join("web-1").await;
    agent.tell(full_inventory(vec![container("c1", "app", "running")]));
    let admin = world.user().await;
    admin.until("web-1", |a| a.containers_total == 1).await;
    for version in BOTH {
        let answer = world.send(version, "POST", LOGIN, &[JSON], credentials()).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, JSON.1));
        let login = answer.json();
        assert_eq!(login["user"]["role"], "ROLE_ADMIN");
        let token = login["tokens"]["accessToken"].as_str().unwrap().to_owned();

        let list = world.json(&token, "ContainerService/ListContainers", r#"{"all":true}"#).await;
        assert_eq!(list.json()["containers"][0]["name"], "app");
        assert_eq!(world.json(&token, "AgentService/ListAgents", "").await.status, 200);

        for (rpc, body, code, grpc) in [
            ("AuthService/WhoAmI", "{", 400, 3),
            ("AuthService/WhoAmI", r#"{"nothing":1}"#, 400, 3),
            ("AuthService/Logout", "[]", 400, 3),
            ("ContainerService/StopContainer", "[]", 400, 3),
            ("ContainerService/StopContainer", r#"{"container":"x"}"#, 400, 3),
            ("AgentService/GetAgent", r#"{"agent":"nobody"}"#, 404, 5),
            ("UserService/CreateUser", r#"{"username":"admin","password":"long enough"}"#, 409, 6),
            ("NoService/Nothing", "{}", 404, 5),
            ("ExecService/Exec", "{}", 501, 12),
        ] {
            let answer = world.json(&token, rpc, body).await;
            let told = answer.json();
            assert_eq!(
                (answer.status.as_u16(), &told["code"]),
                (code, &json!(grpc)),
                "{rpc} {body}"
            );
            assert!(!told["message"].as_str().unwrap().is_empty());
        }
        let stranger = world.json("nonsense", "AuthService/WhoAmI", "{}").await;
        assert_eq!(stranger.status, 401);
        assert_eq!(stranger.header("www-authenticate"), "Bearer");
        assert_eq!(stranger.json()["details"][0]["reason"], "NOT_LOGGED_IN");
    }
    let viewer = world.user_with("ada", Role::Viewer).await;
    let refused = world.json(&viewer.token, "AgentService/CreateJoinToken", "{}").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (403, &json!(7)));
    agent.stop.cancel();
    admin.until("web-1", |a| a.state() == dockctl_api::v1::AgentState::Offline).await;
    let stop = r#"{"agent":"web-1","container":"app"}"#;
    let offline = world.json(&admin.token, "ContainerService/StopContainer", stop).await;
    assert_eq!(offline.status, 503);
    assert_eq!(offline.json()["details"][0]["metadata"]["ran"], "NOT_SENT");
}

#[tokio::test]
async fn too_much_is_429_with_the_time_to_wait() {
    let dir = Arc::new(TempDir::new().unwrap());
    let limits = Limits { read: 1, ..NO_LIMITS };
    let world = World::with(dir, |options| Options { limits, ..options }).await;
    let admin = world.user().await;
    assert_eq!(world.json(&admin.token, "AuthService/WhoAmI", "{}").await.status, 200);
    let refused = world.json(&admin.token, "AuthService/WhoAmI", "{}").await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
}

#[tokio::test]
async fn streams_are_lines_or_events() {
    let world = World::new().await;
    let _agent = world.join("web-1").await;
    let admin = world.user().await;
    let path = "/dockctl.v1.ContainerService/StreamStats";
    let bearer = format!("Bearer {}", admin.token);
    for version in BOTH {
        let headers = [JSON, ("authorization", &*bearer)];
        let request = r#"{"agent":"web-1","noStream":true}"#;
        let lines = world.send(version, "POST", path, &headers, request).await;
        assert_eq!(
            (lines.status.as_u16(), lines.header("content-type")),
            (200, "application/x-ndjson")
        );
        let text = String::from_utf8(lines.body.to_vec()).unwrap();
        let sample: Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(sample["containerName"], "web-1");

        let headers = [JSON, ("authorization", &*bearer), ("accept", "text/event-stream")];
        let events = world.send(version, "POST", path, &headers, request).await;
        assert_eq!(events.header("content-type"), "text/event-stream");
        let text = String::from_utf8(events.body.to_vec()).unwrap();
        assert!(
            text.starts_with("data: {") && text.ends_with("\n\nevent: end\ndata: {}\n\n"),
            "{text}"
        );
    }
    let logs = r#"{"agent":"web-1","container":"x"}"#;
    let refused = world.json(&admin.token, "ContainerService/StreamLogs", logs).await;
    assert_eq!(refused.status, 404, "what fails at once has its own HTTP status");
}

#[tokio::test]
async fn grpc_web_is_answered_in_both_of_its_kinds() {
    let world = World::new().await;
    let admin = world.user().await;
    let bearer = format!("Bearer {}", admin.token);
    let request = framing::frame(&[]);
    for version in BOTH {
        for (kind, is_text) in
            [("application/grpc-web+proto", false), ("application/grpc-web-text+proto", true)]
        {
            let body = match is_text {
                true => Bytes::from(STANDARD.encode(&request)),
                false => request.clone(),
            };
            let headers = [("content-type", kind), ("authorization", &*bearer), ("accept", kind)];
            let answer = world.send(version, "POST", WHO, &headers, body).await;
            assert_eq!(answer.status, 200, "{kind}");
            let body = match is_text {
                // Each piece is padded by itself.
                true => {
                    answer.body.chunks(4).flat_map(|four| STANDARD.decode(four).unwrap()).collect()
                }
                false => answer.body.to_vec(),
            };
            let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
            let who = WhoAmIResponse::decode(&body[5..5 + length]).unwrap();
            assert_eq!(who.user.unwrap().name, "admin");
            let trailers = &body[5 + length..];
            assert_eq!(trailers[0], 0x80);
            assert!(String::from_utf8_lossy(&trailers[5..]).contains("grpc-status:0"), "{kind}");
        }
    }
}

#[tokio::test]
async fn what_a_strange_page_or_form_sends_never_reaches_a_handler() {
    let world = World::new().await;
    let login = |headers: &[(&'static str, &'static str)]| headers.to_vec();
    for version in BOTH {
        for (method, headers, code) in [
            ("GET", login(&[]), 405),
            ("PUT", login(&[JSON]), 405),
            ("POST", login(&[]), 415),
            ("POST", login(&[("content-type", "text/plain")]), 415),
            ("POST", login(&[("content-type", "application/x-www-form-urlencoded")]), 415),
            ("POST", login(&[("content-type", "multipart/form-data; boundary=x")]), 415),
            ("POST", login(&[("content-type", "application/jsonish")]), 415),
            ("POST", login(&[("content-type", "text/plain; application/json")]), 415),
            ("POST", login(&[JSON, ("origin", "https://evil.example")]), 403),
            ("POST", login(&[JSON, ("origin", "null")]), 403),
            ("POST", login(&[JSON, ("sec-fetch-site", "cross-site")]), 403),
            (
                "POST",
                login(&[
                    ("content-type", "application/grpc-web+proto"),
                    ("origin", "https://evil.example"),
                ]),
                403,
            ),
            (
                "OPTIONS",
                login(&[
                    ("origin", "https://evil.example"),
                    ("access-control-request-method", "POST"),
                ]),
                403,
            ),
        ] {
            let answer = world.send(version, method, LOGIN, &headers, credentials()).await;
            assert_eq!(answer.status.as_u16(), code, "{version:?} {method} {headers:?}");
            assert!(answer.json()["message"].is_string(), "a google.rpc.Status");
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
        let allowed = [JSON, ("origin", "https://ops.example")];
        let answer = world.send(version, "POST", LOGIN, &allowed, credentials()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), "https://ops.example");
        assert_eq!(answer.header("access-control-allow-credentials"), "", "no cookies");
        let asks = [("origin", "https://ops.example"), ("access-control-request-method", "POST")];
        let answer = world.send(version, "OPTIONS", LOGIN, &asks, "").await;
        assert_eq!(answer.status, 204);
        assert!(answer.header("access-control-allow-headers").contains("authorization"));
    }
    // Only the two that were allowed are in the audit log.
    let logins = world.json(&world.user().await.token, "AuditService/ListAuditEntries", "{}").await;
    let logins = logins.json()["entries"].as_array().unwrap().len();
    assert_eq!(logins, 3, "these and the one that looks");
}

#[tokio::test]
async fn health_version_description_and_docs_need_no_login() {
    let world = World::new().await;
    for version in BOTH {
        for (path, kind, part) in [
            ("/healthz", "text/plain; charset=utf-8", "ok"),
            ("/readyz", "text/plain; charset=utf-8", "ready"),
            ("/version", "application/json", "\"version\""),
            ("/openapi.json", "application/json", "\"openapi\":\"3.1.0\""),
            ("/docs", "text/html; charset=utf-8", "<script src=\"/docs/docs.js\">"),
            ("/docs/docs.js", "text/javascript", "fetch("),
            ("/docs/docs.css", "text/css", "body"),
        ] {
            let answer = world.send(version, "GET", path, &[], "").await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("content-type")),
                (200, kind),
                "{path}"
            );
            assert!(String::from_utf8_lossy(&answer.body).contains(part), "{path}");
            assert!(answer.header("content-security-policy").contains("default-src 'none'"));
        }
        assert_eq!(world.send(version, "GET", "/nothing", &[], "").await.status, 404);
    }
}

#[tokio::test]
async fn a_websocket_is_told_of_a_stop_which_waits_for_it() {
    let mut world = World::new().await;
    let _agent = world.join("web-1").await;
    let admin = world.user().await;
    let answer = world.json(&admin.token, "AuthService/CreateTicket", "{}").await.json();
    let ticket = answer["ticket"].as_str().unwrap();
    let path = format!("/ws/dockctl.v1.ContainerService/StreamStats?ticket={ticket}");
    let mut open = socket(&world, &path).await.unwrap();
    open.send(Message::text(r#"{"agent":"web-1"}"#)).await.unwrap();
    while !matches!(timeout(LIMIT, open.next()).await.unwrap(), Some(Ok(Message::Text(_)))) {}
    world.stop.cancel();
    let code = loop {
        let message = timeout(LIMIT, open.next()).await.unwrap().unwrap().unwrap();
        if let Message::Close(frame) = message {
            break u16::from(frame.unwrap().code);
        }
    };
    assert_eq!(code, 4014);
    timeout(LIMIT, world.running.take().unwrap()).await.unwrap().unwrap().unwrap();
}

/// Opens a WebSocket.
async fn socket(
    world: &World,
    path: &str,
) -> Result<
    tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>,
    u16,
> {
    let request = format!("wss://{}{path}", world.api).into_client_request().unwrap();
    let stream = world.tls(Version::HTTP_11).await;
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_ticket_opens_one_websocket_for_any_rpc() {
    let world = World::new().await;
    let _agent = world.join("web-1").await;
    let admin = world.user().await;
    let ticket = async || {
        let answer = world.json(&admin.token, "AuthService/CreateTicket", "{}").await.json();
        answer["ticket"].as_str().unwrap().to_owned()
    };
    let stats = "/ws/dockctl.v1.ContainerService/StreamStats?ticket=";
    let once = ticket().await;
    let mut open = socket(&world, &format!("{stats}{once}")).await.unwrap();
    for bad in [&*once, "", "nonsense", &admin.token] {
        assert_eq!(socket(&world, &format!("{stats}{bad}")).await.unwrap_err(), 401, "{bad}");
    }
    let unknown = format!("/ws/dockctl.v1.NoService/Nothing?ticket={}", ticket().await);
    assert_eq!(socket(&world, &unknown).await.unwrap_err(), 404);

    // JSON, for ever: the page closes it.
    open.send(Message::text(r#"{"agent":"web-1"}"#)).await.unwrap();
    for _ in 0..3 {
        let sample = loop {
            match timeout(LIMIT, open.next()).await.unwrap().unwrap().unwrap() {
                Message::Text(text) => break text,
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        };
        let sample: Value = serde_json::from_str(&sample).unwrap();
        assert_eq!(sample["containerName"], "web-1");
    }
    open.close(None).await.unwrap();

    // An error is told, and closes it with its code.
    let mut wrong = socket(&world, &format!("{stats}{}", ticket().await)).await.unwrap();
    wrong.send(Message::text(r#"{"agent":"nobody"}"#)).await.unwrap();
    let mut told = Vec::new();
    let code = loop {
        match timeout(LIMIT, wrong.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(text) => told.push(text.to_string()),
            Message::Close(frame) => break u16::from(frame.unwrap().code),
            _ => {}
        }
    };
    assert_eq!(code, 4005);
    let told: Value = serde_json::from_str(told.last().unwrap()).unwrap();
    assert_eq!(told["error"]["details"][0]["reason"], "AGENT_NOT_FOUND");

    // Protobuf, to its end.
    let once = dockctl_api::v1::StreamStatsRequest {
        agent: "web-1".into(),
        no_stream: true,
        ..Default::default()
    };
    let mut short = socket(&world, &format!("{stats}{}", ticket().await)).await.unwrap();
    short.send(Message::binary(once.encode_to_vec())).await.unwrap();
    let mut samples = 0;
    let code = loop {
        match timeout(LIMIT, short.next()).await.unwrap().unwrap().unwrap() {
            Message::Binary(sample) => {
                dockctl_api::v1::StreamStatsResponse::decode(&*sample).unwrap();
                samples += 1;
            }
            Message::Close(frame) => break u16::from(frame.unwrap().code),
            _ => {}
        }
    };
    assert_eq!((samples, code), (1, 1000));
}

#[tokio::test]
async fn slow_headers_and_silent_connections_hold_nothing_up() {
    use tokio::io::AsyncWriteExt as _;
    let world = World::new().await;
    let mut slow = Vec::new();
    for _ in 0..1_000 {
        let mut stream = world.tls(Version::HTTP_11).await;
        stream
            .write_all(b"POST /dockctl.v1.AuthService/Login HTTP/1.1\r\nhost: x\r\nx-")
            .await
            .unwrap();
        stream.flush().await.unwrap();
        slow.push(stream);
    }
    let begun = std::time::Instant::now();
    let answer = world.send(Version::HTTP_11, "POST", LOGIN, &[JSON], credentials()).await;
    assert_eq!(answer.status, 200);
    println!("an honest login beside them: {} ms", begun.elapsed().as_millis());
    drop(slow);
}
