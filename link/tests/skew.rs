//! A controller and an agent of neighbouring versions. The neighbour is made here from its wire alone:
//! it speaks a range of protocol versions, and sends fields and frames that this build does not know.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test fails by panicking

mod common;

use std::sync::Arc;

use axum::{Router, extract::Request, routing::post};
use bytes::Bytes;
use common::*;
use dockctl_api::{
    error::{self, metadata_of, reason, reason_of},
    link::v1::*,
    tls::{self as api_tls, ClientIdentity, Trust},
};
use dockctl_link::{
    agent::{self, Connector},
    channel::Channel,
    controller::{listener::Port, tls},
    framing::{self, Deframer},
};
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use prost::Message;
use rcgen::SanType;
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming, service::Routes};
use tonic_prost::ProstCodec;

const CONNECT: &str = "/dockctl.link.v1.AgentLink/Connect";

/// What a newer agent sends: ConnectRequest with more than this build knows.
#[derive(Clone, PartialEq, Message)]
struct NewerUp {
    #[prost(message, optional, tag = "1")]
    hello: Option<NewerHello>,
    #[prost(message, optional, tag = "2")]
    pong: Option<Pong>,
    #[prost(message, optional, tag = "3")]
    result: Option<NewerResult>,
    /// A kind of frame that this build has not.
    #[prost(string, tag = "900")]
    gossip: String,
}

#[derive(Clone, PartialEq, Message)]
struct NewerHello {
    #[prost(uint32, tag = "1")]
    min_protocol: u32,
    #[prost(uint32, tag = "2")]
    max_protocol: u32,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(string, repeated, tag = "6")]
    capabilities: Vec<String>,
    #[prost(string, tag = "900")]
    colour: String,
}

#[derive(Clone, PartialEq, Message)]
struct NewerResult {
    #[prost(uint64, tag = "1")]
    call_id: u64,
    #[prost(bytes = "bytes", tag = "2")]
    body: Bytes,
    #[prost(message, optional, tag = "3")]
    end: Option<End>,
    #[prost(double, tag = "900")]
    joules: f64,
}

/// What a newer controller sends: ConnectResponse with more than this build knows.
#[derive(Clone, PartialEq, Message)]
struct NewerDown {
    #[prost(message, optional, tag = "1")]
    welcome: Option<NewerWelcome>,
    #[prost(message, optional, tag = "2")]
    ping: Option<Ping>,
    #[prost(message, optional, tag = "3")]
    call: Option<NewerCall>,
    #[prost(message, optional, tag = "6")]
    goodbye: Option<Goodbye>,
    #[prost(string, tag = "900")]
    gossip: String,
}

#[derive(Clone, PartialEq, Message)]
struct NewerWelcome {
    #[prost(uint32, tag = "1")]
    protocol: u32,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(uint32, tag = "7")]
    heartbeat_interval_ms: u32,
    #[prost(uint64, tag = "8")]
    renew_after_seconds: u64,
    #[prost(string, tag = "900")]
    colour: String,
}

#[derive(Clone, PartialEq, Message)]
struct NewerCall {
    #[prost(uint64, tag = "1")]
    call_id: u64,
    #[prost(string, tag = "2")]
    path: String,
    #[prost(bytes = "bytes", tag = "3")]
    message: Bytes,
    #[prost(bool, tag = "5")]
    inline_allowed: bool,
    #[prost(string, tag = "900")]
    mood: String,
}

fn hello(min_protocol: u32, max_protocol: u32) -> NewerUp {
    let hello = NewerHello {
        min_protocol,
        max_protocol,
        version: "9.9.9".into(),
        capabilities: vec!["telepathy".into()],
        colour: "green".into(),
    };
    NewerUp { hello: Some(hello), ..Default::default() }
}

/// An agent of a neighbouring version, with a certificate of the fleet, opens a session.
async fn connect(
    world: &World,
    hello: NewerUp,
) -> Result<(mpsc::UnboundedSender<NewerUp>, Streaming<ConnectResponse>), Status> {
    let (certificate, key) = world.ca.agent("a1");
    let identity = ClientIdentity { certificate, key };
    let config = api_tls::client_config(Trust::Ca(world.ca.der.clone()), Some(identity)).unwrap();
    let channel = Channel::dial(&world.address.to_string(), config).await.unwrap();
    let mut client = tonic::client::Grpc::with_origin(channel.clone(), channel.origin.clone());
    client.ready().await.unwrap();
    let (up, frames) = mpsc::unbounded_channel();
    up.send(hello).unwrap();
    let frames = tonic::Request::new(UnboundedReceiverStream::new(frames));
    let path = CONNECT.parse().unwrap();
    let down = client.streaming(frames, path, ProstCodec::default()).await?;
    Ok((up, down.into_inner()))
}

async fn next(down: &mut Streaming<ConnectResponse>) -> connect_response::Frame {
    timeout(LIMIT, down.message()).await.unwrap().unwrap().unwrap().frame.unwrap()
}

#[tokio::test]
async fn a_newer_agent_is_spoken_to_in_the_common_version_and_what_is_unknown_is_ignored() {
    let world = World::new().await;
    let (up, mut down) = connect(&world, hello(1, 2)).await.unwrap();
    let connect_response::Frame::Welcome(welcome) = next(&mut down).await else {
        panic!("no Welcome");
    };
    assert_eq!(welcome.protocol, 1);
    for _ in 0..10 {
        up.send(NewerUp { gossip: "hear, hear".into(), ..Default::default() }).unwrap();
    }
    let session = world.session().await;
    let calling =
        tokio::spawn(async move { read(session.call(spec("/t/X", b"")).await.unwrap()).await });
    loop {
        match next(&mut down).await {
            connect_response::Frame::Call(call) => {
                let result = NewerResult {
                    call_id: call.call_id,
                    body: framing::frame(b"hello"),
                    end: Some(End::default()),
                    joules: 0.1,
                };
                up.send(NewerUp { result: Some(result), ..Default::default() }).unwrap();
                break;
            }
            connect_response::Frame::Ping(ping) => {
                let pong = Some(Pong { seq: ping.seq, ..Default::default() });
                up.send(NewerUp { pong, ..Default::default() }).unwrap();
            }
            _ => {}
        }
    }
    let (messages, end) = timeout(LIMIT, calling).await.unwrap().unwrap();
    assert_eq!((messages, end.code()), (vec![Bytes::from_static(b"hello")], Code::Ok));
}

#[tokio::test]
async fn an_agent_with_no_common_version_is_refused_with_both_ranges() {
    let world = World::new().await;
    for (min, max) in [(2, 3), (0, 0)] {
        let refused = connect(&world, hello(min, max)).await.expect_err("it was let in");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(reason_of(&refused).as_deref(), Some(reason::PROTOCOL_MISMATCH));
        for part in ["1 to 1", &format!("{min} to {max}"), "9.9.9"] {
            assert!(refused.message().contains(part), "{part}: {refused}");
        }
    }
    assert!(world.hub.sessions.borrow().is_none(), "no session was opened");
}

/// A controller of a newer version: says `frames` to each agent that comes, and tells what they say.
struct NewerController {
    address: String,
    ca: Ca,
    said: mpsc::UnboundedReceiver<ConnectRequest>,
}

impl NewerController {
    async fn new(frames: Vec<NewerDown>) -> Self {
        let ca = Ca::new();
        let (tell, said) = mpsc::unbounded_channel();
        let answer = move |request: Request| {
            let (tell, frames) = (tell.clone(), frames.clone());
            async move {
                tokio::spawn(listen(request, tell));
                let frames = frames
                    .into_iter()
                    .map(|frame: NewerDown| Frame::data(framing::frame(&frame.encode_to_vec())));
                grpc(stream::iter(frames).chain(stream::pending()))
            }
        };
        let names = vec![SanType::DnsName(api_tls::CONTROLLER_NAME.try_into().unwrap())];
        let (leaf, key) = ca.issue(names);
        let chain = vec![leaf, ca.der.clone()];
        let served = CertifiedKey::new(chain, any_supported_type(&key).unwrap());
        let served = Arc::new(tls::ServerCertificate::new(served));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let port = Port {
            listener,
            tls: Some(Arc::new(tls::agents_config(ca.der.clone(), served).unwrap())),
            http1: false,
            service: Routes::from(Router::new().route(CONNECT, post(answer))),
            max_connections: 10,
            traffic: Default::default(),
            session_within: None,
        };
        // Ends with the test's runtime.
        tokio::spawn(port.serve(tokio_util::sync::CancellationToken::new()));
        Self { address, ca, said }
    }

    /// This build's agent, beside it.
    fn agent(&self) -> tokio::sync::watch::Receiver<agent::Status> {
        let (ca, identity) = (self.ca.der.clone(), self.ca.agent("a1"));
        // As the agent's own services, these say UNIMPLEMENTED to what they do not know.
        let host = AgentSide { ca, identity, routes: Routes::default() };
        let connector = Connector::new(self.address.clone(), Arc::new(host));
        let status = connector.status();
        tokio::spawn(connector.run(tokio_util::sync::CancellationToken::new()));
        status
    }

    async fn hears<T>(&mut self, wanted: impl Fn(connect_request::Frame) -> Option<T>) -> T {
        timeout(LIMIT, async {
            loop {
                let said = self.said.recv().await.unwrap();
                if let Some(found) = said.frame.and_then(&wanted) {
                    return found;
                }
            }
        })
        .await
        .unwrap()
    }
}

async fn listen(request: Request, tell: mpsc::UnboundedSender<ConnectRequest>) {
    let mut body = request.into_body().into_data_stream();
    let mut deframer = Deframer::default();
    while let Some(Ok(data)) = body.next().await {
        deframer.push(&data);
        while let Some(message) = deframer.next(1 << 20).unwrap() {
            let _ = tell.send(ConnectRequest::decode(message).unwrap());
        }
    }
}

fn welcome() -> NewerDown {
    let welcome = NewerWelcome {
        protocol: 1,
        epoch: 1,
        name: "web-1".into(),
        heartbeat_interval_ms: 60_000,
        renew_after_seconds: 3_600,
        colour: "green".into(),
    };
    NewerDown { welcome: Some(welcome), ..Default::default() }
}

fn gossip() -> NewerDown {
    NewerDown { gossip: "hear, hear".into(), ..Default::default() }
}

#[tokio::test]
async fn to_a_newer_controller_an_agent_names_its_range_and_ignores_what_it_does_not_know() {
    let ping = Some(Ping { seq: 7, ..Default::default() });
    let ping = NewerDown { ping, ..Default::default() };
    let mut controller = NewerController::new(vec![welcome(), gossip(), gossip(), ping]).await;
    let mut status = controller.agent();
    let connected = status.wait_for(|s| matches!(s, agent::Status::Connected { .. }));
    timeout(LIMIT, connected).await.unwrap().unwrap();
    let hello = controller.hears(|frame| match frame {
        connect_request::Frame::Hello(hello) => Some(hello),
        _ => None,
    });
    let hello = hello.await;
    assert_eq!((hello.min_protocol, hello.max_protocol), (1, 1));
    let pong = controller.hears(|frame| match frame {
        connect_request::Frame::Pong(pong) => Some(pong),
        _ => None,
    });
    assert_eq!(pong.await.seq, 7);
}

#[tokio::test]
async fn an_rpc_that_an_agent_does_not_have_yet_is_unimplemented_with_a_reason() {
    let path = "/dockctl.v1.VolumeService/PruneVolumes";
    let call = |call_id, inline_allowed| {
        let (path, mood) = (path.to_owned(), "good".to_owned());
        let call = NewerCall { call_id, path, inline_allowed, mood, ..Default::default() };
        NewerDown { call: Some(call), ..Default::default() }
    };
    let mut controller = NewerController::new(vec![welcome(), call(1, true), call(2, false)]).await;
    let _status = controller.agent();
    for _ in 0..2 {
        let result = controller.hears(|frame| match frame {
            connect_request::Frame::Result(result) => Some(result),
            _ => None,
        });
        let end = framing::status_of(&result.await.end.unwrap());
        assert_eq!(end.code(), Code::Unimplemented);
        assert_eq!(reason_of(&end).as_deref(), Some(reason::OLD_AGENT));
        assert_eq!(metadata_of(&end, error::RAN).as_deref(), Some(error::NOT_SENT));
        assert!(end.message().contains(path), "{end}");
    }
}

#[tokio::test]
async fn a_goodbye_for_an_unknown_reason_is_no_refusal() {
    let goodbye = Goodbye { reason: 77, message: "see you".into(), ..Default::default() };
    let goodbye = NewerDown { goodbye: Some(goodbye), ..Default::default() };
    let mut controller = NewerController::new(vec![welcome(), goodbye]).await;
    let _status = controller.agent();
    // It comes back.
    for _ in 0..2 {
        let hello = controller
            .hears(|frame| matches!(frame, connect_request::Frame::Hello(_)).then_some(()));
        hello.await;
    }
}
