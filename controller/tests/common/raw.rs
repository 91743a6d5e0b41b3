//! An agent that speaks the protocol by hand, and so may say whatever it likes.

use std::{sync::Arc, time::SystemTime};

use dockctl_api::{
    link::v1::{
        Call, ConnectRequest, Hello, Pong, agent_link_client::AgentLinkClient,
        connect_request::Frame as Up, connect_response::Frame as Down,
    },
    new_id,
};
use dockctl_link::{agent::Host as _, channel::Channel};
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{LIMIT, TestAgent, World};

/// An open session. It answers pings and stays until the controller ends it.
#[derive(Clone)]
pub struct Raw {
    pub up: mpsc::Sender<ConnectRequest>,
    pub link: AgentLinkClient<Channel>,
    pub over: CancellationToken,
    calls: Arc<Mutex<mpsc::UnboundedReceiver<Call>>>,
}

pub fn hello() -> Hello {
    Hello { min_protocol: 1, max_protocol: 1, process_id: new_id(), ..Default::default() }
}

impl TestAgent {
    /// A connection with this agent's certificate and no session.
    pub async fn dial(&self, world: &World) -> AgentLinkClient<Channel> {
        let tls = self.host.tls().unwrap();
        let channel = Channel::dial(&world.agents.to_string(), tls).await.unwrap();
        AgentLinkClient::with_origin(channel.clone(), channel.origin.clone())
    }

    /// Opens a session as this agent with that Hello.
    pub async fn open(&self, world: &World, hello: Hello) -> Result<Raw, Status> {
        let mut link = self.dial(world).await;
        let (up, frames) = mpsc::channel(64);
        let raw_up = up.clone();
        up.send(ConnectRequest { frame: Some(Up::Hello(hello)) }).await.unwrap();
        let mut down = link.connect(ReceiverStream::new(frames)).await?.into_inner();
        let welcome = timeout(LIMIT, down.message()).await.unwrap()?.unwrap();
        assert!(matches!(welcome.frame, Some(Down::Welcome(_))), "{welcome:?}");

        let (called, calls) = mpsc::unbounded_channel();
        let over = CancellationToken::new();
        let ended = over.clone().drop_guard();
        tokio::spawn(async move {
            let _ended = ended;
            while let Ok(Some(message)) = down.message().await {
                match message.frame {
                    Some(Down::Ping(ping)) => {
                        let pong = Pong { seq: ping.seq, now: Some(SystemTime::now().into()) };
                        let _ = up.send(ConnectRequest { frame: Some(Up::Pong(pong)) }).await;
                    }
                    Some(Down::Call(call)) => drop(called.send(call)),
                    _ => {} // A Goodbye does not move it, either.
                }
            }
        });
        Ok(Raw { up: raw_up, link, over, calls: Arc::new(Mutex::new(calls)) })
    }
}

impl Raw {
    pub async fn send(&self, frame: Up) {
        let _ = self.up.send(ConnectRequest { frame: Some(frame) }).await;
    }

    /// The next call that comes down.
    pub async fn call(&self) -> Call {
        timeout(LIMIT, async { self.calls.lock().await.recv().await }).await.unwrap().unwrap()
    }
}
