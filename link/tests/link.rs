//! Both ends over a real TLS connection on loopback: an agent with services made for the test, and a
//! host that admits whom it is told to.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test fails by panicking

mod common;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::*;
use dockctl_api::{
    error::{self, reason, reason_of},
    link::v1::*,
    tls::{self as api_tls, ClientIdentity, Trust},
};
use dockctl_link::{
    agent::{self},
    controller::CallSpec,
    framing::{self, Deframer},
    wire,
};
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status, body::Body};

#[tokio::test]
async fn a_small_unary_call_comes_inline() {
    let world = World::new().await;
    let (mut status, _stop) = world.agent("a1");
    let session = world.session().await;
    timeout(
        LIMIT,
        status.wait_for(
            |s| matches!(s, agent::Status::Connected { name, .. } if name == "name-of-a1"),
        ),
    )
    .await
    .unwrap()
    .unwrap();
    let (messages, end) = read(session.call(spec("/t/Echo", b"hello")).await.unwrap()).await;
    assert_eq!((messages, end.code()), (vec![Bytes::from_static(b"hello")], Code::Ok));
    assert_eq!(session.calls_waiting(), 0);
}

#[tokio::test]
async fn an_error_keeps_its_code_reason_and_sentence() {
    let world = World::new().await;
    let (_status, _stop) = world.agent("a1");
    let (messages, end) =
        read(world.session().await.call(spec("/t/Fail", b"")).await.unwrap()).await;
    assert!(messages.is_empty());
    assert_eq!((end.code(), end.message()), (Code::NotFound, "none"));
    assert_eq!(reason_of(&end).as_deref(), Some(reason::CONTAINER_NOT_FOUND));
}

#[tokio::test]
async fn a_large_unary_answer_comes_on_its_own_stream() {
    let world = World::new().await;
    let (_status, _stop) = world.agent("a1");
    let (messages, end) =
        read(world.session().await.call(spec("/t/Big", b"")).await.unwrap()).await;
    assert_eq!(end.code(), Code::Ok);
    assert_eq!(messages.len(), 40);
    assert!(
        messages.iter().zip(0u8..).all(|(m, n)| m.len() == 100_000 && m.iter().all(|b| *b == n))
    );
}

#[tokio::test]
async fn a_bidirectional_call_half_closes() {
    let world = World::new().await;
    let (_status, _stop) = world.agent("a1");
    let (send, receive) = mpsc::channel::<&'static [u8]>(4);
    let rest = tokio_stream::wrappers::ReceiverStream::new(receive)
        .map(|m| Ok::<_, Status>(Frame::data(framing::frame(m))));
    let spec = CallSpec {
        rest: Some(Body::new(StreamBody::new(rest))),
        unary: false,
        ..spec("/t/Echo", b"one")
    };
    let response = world.session().await.call(spec).await.unwrap();
    let mut body = response.into_body();
    let mut deframer = Deframer::default();
    for (to_send, wanted) in
        [(Some(b"two".as_slice()), b"one".as_slice()), (Some(b"three"), b"two"), (None, b"three")]
    {
        let message = loop {
            if let Some(message) = deframer.next(1 << 20).unwrap() {
                break message;
            }
            let frame = timeout(LIMIT, body.frame()).await.unwrap().unwrap().unwrap();
            deframer.push(&frame.into_data().unwrap());
        };
        assert_eq!(message, wanted);
        if let Some(next) = to_send {
            send.send(next).await.unwrap();
        }
    }
    drop(send); // The caller's half-close must reach the service, which then ends.
    let frame = timeout(LIMIT, body.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(framing::end_in(frame.trailers_ref().unwrap()).unwrap().code, 0);
}

#[tokio::test]
async fn a_caller_that_hangs_up_ends_the_work() {
    let world = World::new().await;
    let (_status, _stop) = world.agent("a1");
    let session = world.session().await;
    // Before it is answered: the future is dropped.
    let waiting = tokio::spawn({
        let session = session.clone();
        async move { session.call(spec("/t/Hang", b"")).await.map(drop) }
    });
    world.live(1).await;
    waiting.abort();
    world.live(0).await;
    // While it streams: the body is dropped.
    let streaming = CallSpec { unary: false, ..spec("/t/Flood", b"") };
    let mut body = session.call(streaming).await.unwrap().into_body();
    timeout(LIMIT, body.frame()).await.unwrap().unwrap().unwrap();
    world.live(1).await;
    drop(body);
    world.live(0).await;
    assert_eq!(session.calls_waiting(), 0);
}

#[tokio::test]
async fn a_thousand_aborted_calls_leave_nothing() {
    let world = World::new().await;
    let (_status, _stop) = world.agent("a1");
    let session = world.session().await;
    for n in 0..1_000 {
        let call = CallSpec {
            unary: n % 2 == 0,
            ..spec(if n % 3 == 0 { "/t/Hang" } else { "/t/Flood" }, b"")
        };
        let mut calling = Box::pin(session.call(call));
        // Given up after a varying number of polls.
        for _ in 0..n % 7 {
            if futures_util::poll!(&mut calling).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    world.live(0).await;
    assert_eq!(session.calls_waiting(), 0);
    let (messages, _) = read(session.call(spec("/t/Echo", b"still here")).await.unwrap()).await;
    assert_eq!(messages, [Bytes::from_static(b"still here")]);
}

#[tokio::test]
async fn a_deadline_ends_the_call_on_both_ends() {
    let world = World::new().await;
    let (_status, _stop) = world.agent("a1");
    let session = world.session().await;
    let soon = CallSpec {
        deadline: Some(Instant::now() + Duration::from_millis(100)),
        ..spec("/t/Hang", b"")
    };
    let status = match session.call(soon).await {
        Ok(response) => read(response).await.1,
        Err(status) => status,
    };
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(error::metadata_of(&status, error::RAN).as_deref(), Some(error::MAYBE_RAN));
    world.live(0).await;
}

#[tokio::test]
async fn a_service_knows_how_long_its_caller_waits() {
    let world = World::new().await;
    let (_status, _stop) = world.agent("a1");
    let session = world.session().await;
    for (wait, known) in [(None, "None"), (Some(5_000), "Some(4")] {
        let deadline = wait.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let call = CallSpec { deadline, ..spec("/t/Left", b"") };
        let left = read(session.call(call).await.unwrap()).await.0.concat();
        assert!(left.starts_with(known.as_bytes()), "{left:?}");
    }
}

#[tokio::test]
async fn a_call_that_panics_is_answered_and_harms_no_other() {
    let world = World::new().await;
    let (_status, _stop) = world.agent("a1");
    let session = world.session().await;
    let (_, end) = read(session.call(spec("/t/Panic", b"")).await.unwrap()).await;
    assert_eq!(reason_of(&end).as_deref(), Some(reason::INTERNAL));
    let (messages, _) = read(session.call(spec("/t/Echo", b"alive")).await.unwrap()).await;
    assert_eq!(messages, [Bytes::from_static(b"alive")]);
}

#[tokio::test]
async fn a_repeated_request_runs_once() {
    let world = World::new().await;
    let (_status, _stop) = world.agent("a1");
    let session = world.session().await;
    let named = |id: &str| CallSpec { request_id: id.to_owned(), ..spec("/t/Count", b"") };
    for (id, answer) in [("a", "1"), ("a", "1"), ("b", "2"), ("a", "1")] {
        let (messages, _) = read(session.call(named(id)).await.unwrap()).await;
        assert_eq!(messages, [Bytes::from(answer.to_owned())]);
    }
    assert_eq!(world.counters.ran.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_lost_link_ends_calls_with_maybe_ran_and_the_agent_comes_back() {
    let mut world = World::new().await;
    let (_status, _stop) = world.agent("a1");
    let first = world.session().await;
    let waiting = tokio::spawn({
        let session = first.clone();
        async move { session.call(spec("/t/Hang", b"")).await.map(drop) }
    });
    let streaming = CallSpec { unary: false, deadline: None, ..spec("/t/Flood", b"") };
    let mut body = first.call(streaming).await.unwrap().into_body();
    world.live(2).await;
    first.goodbye(goodbye::Reason::Superseded, "for the test", Duration::ZERO);

    let lost = timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap_err();
    assert_eq!(reason_of(&lost).as_deref(), Some(reason::LINK_LOST));
    assert_eq!(error::metadata_of(&lost, error::RAN).as_deref(), Some(error::MAYBE_RAN));
    let end = loop {
        let frame = timeout(LIMIT, body.frame()).await.unwrap().unwrap().unwrap();
        if let Some(trailers) = frame.trailers_ref() {
            break framing::end_in(trailers).unwrap();
        }
    };
    assert_eq!(
        end.code,
        Code::Unavailable as i32,
        "a broken link is trailers, not a broken connection"
    );
    timeout(LIMIT, world.closed.recv()).await.unwrap().unwrap();
    world.live(0).await;

    let refused = first.call(spec("/t/Echo", b"")).await.map(drop).unwrap_err();
    assert_eq!(error::metadata_of(&refused, error::RAN).as_deref(), Some(error::NOT_SENT));
    let mut sessions = world.hub.sessions.subscribe();
    let again = sessions.wait_for(|s| s.as_ref().is_some_and(|s| s.epoch > first.epoch));
    timeout(LIMIT, again).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_agent_says_so_and_goes_on_asking() {
    let world = World::new().await;
    let revoked = error::status(Code::PermissionDenied, reason::AGENT_REVOKED, "revoked", &[]);
    *world.hub.refuse.lock().unwrap() = Some(revoked);
    let (mut status, _stop) = world.agent("a1");
    let refused =
        status.wait_for(|s| matches!(s, agent::Status::Refused { cause } if cause == "revoked"));
    timeout(LIMIT, refused).await.unwrap().unwrap();
}

#[tokio::test]
async fn two_hundred_unread_streams_do_not_stop_a_unary_call() {
    let world = World::new().await;
    let (_status, _stop) = world.agent("a1");
    let session = world.session().await;
    let mut unread = Vec::new();
    for _ in 0..200 {
        let streaming = CallSpec { unary: false, deadline: None, ..spec("/t/Flood", b"") };
        unread.push(session.call(streaming).await.unwrap());
    }
    world.live(200).await;
    for _ in 0..20 {
        let (messages, _) = read(session.call(spec("/t/Echo", b"alive")).await.unwrap()).await;
        assert_eq!(messages, [Bytes::from_static(b"alive")]);
    }
    assert!(!session.is_over());
    drop(unread);
    world.live(0).await;
}

#[tokio::test]
async fn more_calls_than_allowed_are_refused() {
    let world = World::new().await;
    let (_status, _stop) = world.agent("a1");
    let session = world.session().await;
    // Half of them wait for their answer, half have it begun.
    let mut calls = tokio::task::JoinSet::new();
    let mut answers = Vec::new();
    for n in 0..wire::MAX_CALLS {
        if n % 2 == 0 {
            let session = session.clone();
            calls.spawn(async move { session.call(spec("/t/Hang", b"")).await.map(drop) });
        } else {
            let streaming = CallSpec { unary: false, deadline: None, ..spec("/t/Flood", b"") };
            answers.push(session.call(streaming).await.unwrap());
        }
    }
    world.live(wire::MAX_CALLS).await;
    let refused = session.call(spec("/t/Echo", b"")).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop((calls, answers));
    world.live(0).await;
    let (messages, _) = read(session.call(spec("/t/Echo", b"room")).await.unwrap()).await;
    assert_eq!(messages, [Bytes::from_static(b"room")]);
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let world = World::new().await;
    let stranger = Ca::new();
    let identity = stranger.agent("a1");
    let identity = ClientIdentity { certificate: identity.0, key: identity.1 };
    let config = api_tls::client_config(Trust::Ca(world.ca.der.clone()), Some(identity)).unwrap();
    // TLS 1.3 tells a client of its refused certificate only after the handshake.
    let Ok(channel) =
        dockctl_link::channel::Channel::dial(&world.address.to_string(), config).await
    else {
        return;
    };
    timeout(LIMIT, channel.closed()).await.expect("the connection is refused");
}

#[tokio::test]
async fn a_controller_of_another_ca_is_not_trusted() {
    let world = World::new().await;
    let fingerprint = dockctl_api::sha256_hex(&Ca::new().der);
    let config = api_tls::client_config(Trust::CaFingerprint(fingerprint), None).unwrap();
    let refused = dockctl_link::channel::Channel::dial(&world.address.to_string(), config).await;
    assert!(refused.err().unwrap().is_untrusted());
    let fingerprint = dockctl_api::sha256_hex(&world.ca.der);
    let config = api_tls::client_config(Trust::CaFingerprint(fingerprint), None).unwrap();
    dockctl_link::channel::Channel::dial(&world.address.to_string(), config).await.unwrap();
}

#[tokio::test]
async fn an_agent_cannot_answer_for_another() {
    let world = World::new().await;
    let (_status, _stop) = world.agent("victim");
    let victim = world.session().await;
    let streaming = CallSpec { unary: false, deadline: None, ..spec("/t/Hang", b"") };
    let waiting = tokio::spawn(async move { victim.call(streaming).await.map(drop) });
    world.live(1).await;

    let identity = world.ca.agent("thief");
    let identity = ClientIdentity { certificate: identity.0, key: identity.1 };
    let config = api_tls::client_config(Trust::Ca(world.ca.der.clone()), Some(identity)).unwrap();
    let channel =
        dockctl_link::channel::Channel::dial(&world.address.to_string(), config).await.unwrap();
    let mut thief =
        agent_link_client::AgentLinkClient::with_origin(channel.clone(), channel.origin.clone());
    let serve = |call_id| {
        let body = Bytes::from_static(b"stolen");
        stream::iter([ServeRequest { call_id, body, end: Some(End::default()) }])
    };
    let early = thief.serve(serve(1)).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition, "there is no session on this connection");

    let hello = Hello { min_protocol: 1, max_protocol: 1, ..Default::default() };
    let frame = ConnectRequest { frame: Some(connect_request::Frame::Hello(hello)) };
    let frames = stream::iter([frame]).chain(stream::pending());
    let mut session = thief.connect(frames).await.unwrap().into_inner();
    session.message().await.unwrap().unwrap();
    for call_id in 0..20 {
        let status = thief.serve(serve(call_id)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "call {call_id}");
    }
    assert!(!waiting.is_finished(), "the victim's call still waits for the victim");
    waiting.abort();
}

#[tokio::test]
async fn no_tls_session_is_ever_resumed() {
    let world = World::new().await;
    let identity = world.ca.agent("a1");
    let identity = ClientIdentity { certificate: identity.0, key: identity.1 };
    let mut config =
        api_tls::client_config(Trust::Ca(world.ca.der.clone()), Some(identity)).unwrap();
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for _ in 0..3 {
        let tcp = tokio::net::TcpStream::connect(world.address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("x").unwrap();
        let mut tls = connector.connect(name, tcp).await.unwrap();
        // What the server sends after the handshake would hold its tickets.
        let mut byte = [0];
        let read = tokio::io::AsyncReadExt::read(&mut tls, &mut byte);
        timeout(LIMIT, read).await.unwrap().unwrap();
        assert_eq!(tls.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}
