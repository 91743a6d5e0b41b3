//! The four rpcs of the agents' port with a hostile agent at the other end: bodies as they come, and
//! whole sessions of well-framed garbage with calls under way.
#![no_main]

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use dockctl_api::link::v1::{
    ConnectRequest, EnrollRequest, EnrollResponse, Hello, RenewRequest, RenewResponse,
    connect_request,
};
use dockctl_controller::fleet::inventory::View;
use dockctl_link::{
    controller::{
        Admission, CallSpec, Host, PeerIdentity, Session, Update, listener::Peer, router,
    },
    framing,
};
use futures_util::{StreamExt as _, stream};
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use libfuzzer_sys::{Corpus, fuzz_target};
use prost::Message as _;
use tokio::{runtime, time::timeout};
use tonic::{Status, body::Body};
use tower::ServiceExt as _;

const RPCS: [&str; 4] = ["Enroll", "Renew", "Connect", "Serve"];
/// Far beyond what any part of a session waits for; the clock is a virtual one.
const LIMIT: Duration = Duration::from_secs(3_600);

static RUNTIME: LazyLock<runtime::Runtime> = LazyLock::new(|| {
    runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
});

/// A controller that admits everybody.
#[derive(Default)]
struct Everybody {
    session: Mutex<Option<Arc<Session>>>,
    view: Mutex<View>,
    closed: tokio_util::sync::CancellationToken,
}

#[tonic::async_trait]
impl Host for Everybody {
    async fn enroll(&self, _: EnrollRequest, _: SocketAddr) -> Result<EnrollResponse, Status> {
        Ok(EnrollResponse::default())
    }
    async fn renew(&self, _: PeerIdentity, _: RenewRequest) -> Result<RenewResponse, Status> {
        Ok(RenewResponse::default())
    }
    async fn admit(
        &self,
        peer: &PeerIdentity,
        _: &Hello,
        _: SocketAddr,
    ) -> Result<Admission, Status> {
        Ok(Admission {
            epoch: 1,
            name: peer.agent_id.clone(),
            renew_after: LIMIT,
            heartbeat: Duration::from_secs(1),
        })
    }
    fn opened(&self, session: Arc<Session>) {
        *self.session.lock().unwrap() = Some(session);
    }
    fn told(&self, session: &Arc<Session>, update: Update) {
        if let Update::Inventory(frame) = update {
            self.view.lock().unwrap().apply(&session.name, frame, SystemTime::UNIX_EPOCH);
        }
    }
    fn changed(&self, session: &Arc<Session>) {
        let _ = session.health();
    }
    fn closed(&self, _: &Arc<Session>, cause: String) {
        assert!(!cause.is_empty());
        self.closed.cancel();
    }
}

fn peer() -> Arc<Peer> {
    Arc::new(Peer::for_fuzzing(
        ([127, 0, 0, 1], 1).into(),
        Some(PeerIdentity {
            agent_id: "a".to_owned(),
            generation: 1,
            not_after: SystemTime::now() + LIMIT * 24,
        }),
    ))
}

fn request(peer: &Arc<Peer>, rpc: &str, pieces: Vec<Bytes>) -> Request<Body> {
    let frames = stream::iter(pieces.into_iter().map(|p| Ok::<_, Status>(Frame::data(p))));
    Request::post(format!("/dockctl.link.v1.AgentLink/{rpc}"))
        .header("content-type", "application/grpc")
        .extension(peer.clone())
        .body(Body::new(StreamBody::new(frames)))
        .unwrap()
}

fn hello() -> Bytes {
    let hello = Hello { min_protocol: 1, max_protocol: 1, ..Default::default() };
    let frame = ConnectRequest { frame: Some(connect_request::Frame::Hello(hello)) };
    framing::frame(&frame.encode_to_vec())
}

fn call(unary: bool) -> CallSpec {
    CallSpec {
        path: "/t/T".to_owned(),
        message: Bytes::new(),
        rest: None,
        unary,
        deadline: Instant::now().checked_add(Duration::from_secs(5)),
        request_id: String::new(),
        principal: String::new(),
    }
}

/// One rpc with this body, to its end.
async fn one_rpc(rpc: &str, body: &[u8]) {
    let host = Arc::new(Everybody::default());
    let request = request(&peer(), rpc, vec![Bytes::copy_from_slice(body)]);
    let answer = router(host).oneshot(request).await.unwrap();
    let _ = timeout(LIMIT, answer.into_body().collect()).await.expect("it ends");
}

/// A session with calls under way, in which the agent says `frames` and then no more; every second one
/// comes on a Serve stream of the same connection.
async fn session(frames: &[&[u8]]) {
    let (host, peer) = (Arc::new(Everybody::default()), peer());
    let service = router(host.clone());
    let (up, serve): (Vec<_>, Vec<_>) = frames.iter().enumerate().partition(|(n, _)| n % 2 == 0);
    let pieces = up.into_iter().map(|(_, frame)| framing::frame(frame));
    // The stream stays open: the calls below come before its end.
    let pieces: Vec<Bytes> = pieces.collect();
    let (open, opened) = tokio::sync::oneshot::channel::<()>();
    let rest = stream::once(async move {
        let _ = opened.await;
        stream::iter(pieces)
    });
    let body = stream::iter([hello()]).chain(rest.flatten());
    let frames = body.map(|piece| Ok::<_, Status>(Frame::data(piece)));
    let connect = request(&peer, "Connect", Vec::new()).map(|_| Body::new(StreamBody::new(frames)));
    let answer = service.clone().oneshot(connect).await.unwrap();
    let Some(session) = host.session.lock().unwrap().clone() else { return };
    let mut calls = Vec::new();
    for unary in [true, false, true] {
        let session = session.clone();
        calls.push(tokio::spawn(async move {
            if let Ok(answer) = session.call(call(unary)).await {
                let _ = answer.into_body().collect().await;
            }
        }));
    }
    let down = tokio::spawn(answer.into_body().collect());
    let serves = serve.into_iter().map(|(_, frame)| {
        let request = request(&peer, "Serve", vec![framing::frame(frame)]);
        let service = service.clone();
        async move {
            let answer = service.oneshot(request).await.unwrap();
            let _ = answer.into_body().collect().await;
        }
    });
    let serves = tokio::spawn(futures_util::future::join_all(serves.collect::<Vec<_>>()));
    tokio::task::yield_now().await;
    let _ = open.send(());
    let mut all = pin!(async {
        host.closed.cancelled().await;
        for call in calls {
            call.await.unwrap();
        }
        serves.await.unwrap();
        let _ = down.await.unwrap();
    });
    timeout(LIMIT, &mut all).await.expect("the session and all its calls end");
    assert_eq!(session.calls_waiting(), 0);
    assert!(session.is_over());
}

fuzz_target!(|input: (u8, Vec<&[u8]>)| -> Corpus {
    let (kind, frames) = input;
    if frames.len() > 32 {
        return Corpus::Reject;
    }
    RUNTIME.block_on(async {
        match RPCS.get(usize::from(kind)) {
            Some(rpc) => one_rpc(rpc, &frames.concat()).await,
            None => session(&frames).await,
        }
    });
    Corpus::Keep
});
