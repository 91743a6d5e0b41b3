//! The controller's end: accepts connections, admits sessions, carries calls down and answers up.
//!
//! [`listener`] owns sockets, `gate` says who may begin, [`tls`] trust, [`service`] the four rpcs, [`session`] one agent's
//! session, [`body`] the answer of one call. The fleet's state is behind [`Host`].

pub mod body;
mod gate;
mod inbound;
pub mod listener;
mod service;
pub mod session;
pub mod tls;
pub mod traffic;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use dockctl_api::link::v1::{
    EnrollRequest, EnrollResponse, Hello, Inventory, RenewRequest, RenewResponse,
};
use tonic::Status;

pub use crate::identity::PeerIdentity;
pub use service::{Router, router};
pub use session::{CallSpec, Session};

/// What an admitted session is told in its Welcome.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The session's number, newer than any before.
    pub epoch: u64,
    /// The agent's name.
    pub name: String,
    /// When the agent shall renew its certificate.
    pub renew_after: Duration,
    /// Time between two pings.
    pub heartbeat: Duration,
}

/// What an agent tells outside of calls.
#[derive(Debug)]
pub enum Update {
    /// What there is on the host.
    Inventory(Inventory),
    /// The state of the engine.
    Engine(dockctl_api::v1::EngineStatus),
    /// Something happened on the engine.
    Event(dockctl_api::v1::Event),
}

/// What the controller proper gives to the link.
#[async_trait::async_trait]
pub trait Host: Send + Sync + 'static {
    /// Answers Enroll.
    async fn enroll(
        &self,
        request: EnrollRequest,
        from: SocketAddr,
    ) -> Result<EnrollResponse, Status>;
    /// Answers Renew of an agent that proved its certificate, ended or not.
    async fn renew(
        &self,
        peer: PeerIdentity,
        request: RenewRequest,
    ) -> Result<RenewResponse, Status>;
    /// Decides whether an agent may open a session; the certificate has not ended.
    async fn admit(
        &self,
        peer: &PeerIdentity,
        hello: &Hello,
        from: SocketAddr,
    ) -> Result<Admission, Status>;
    /// The session is open; it replaces any older one of the same agent.
    fn opened(&self, session: Arc<Session>);
    /// The agent told something. Called in order; must not block.
    fn told(&self, session: &Arc<Session>, update: Update);
    /// The session's liveness or measurements changed.
    fn changed(&self, session: &Arc<Session>);
    /// A heartbeat of any session was answered after this time.
    fn heartbeat(&self, _round_trip: Duration) {}
    /// The session is over; `cause` is a sentence for people.
    fn closed(&self, session: &Arc<Session>, cause: String);
}
