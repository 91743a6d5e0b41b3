//! The agent's end: dials for ever, opens the session, serves calls with the very same services that
//! users know.
//!
//! [`run`] is the reconnect loop, [`session`] one session, [`serve`] one call, [`dedupe`] the memory
//! of calls that ran.

pub mod dedupe;
mod pieces;
mod run;
mod serve;
mod session;

use std::pin::Pin;

use dockctl_api::link::v1::{Certificate, connect_request};
use futures_util::Stream;
use rustls::ClientConfig;
use tonic::service::Routes;

pub use run::{Connector, EnrollError, Status, enroll};
pub use serve::CallContext;

/// What the agent tells outside of calls, in order.
pub type Updates = Pin<Box<dyn Stream<Item = connect_request::Frame> + Send>>;

/// What the agent proper gives to the link.
#[async_trait::async_trait]
pub trait Host: Send + Sync + 'static {
    /// TLS with the newest certificate; asked at each dial.
    fn tls(&self) -> HostResult<ClientConfig>;
    /// Makes, and stores, what is needed to renew; returns a CSR (DER).
    async fn begin_renewal(&self) -> HostResult<Vec<u8>>;
    /// Stores the renewed certificate.
    async fn finish_renewal(&self, certificate: Certificate) -> HostResult<()>;
    /// The services that answer calls.
    fn routes(&self) -> Routes;
    /// The whole state and then its changes, from now on.
    fn updates(&self) -> Updates;
}

/// The result of the agent proper's own work; the link logs an error and tries again.
pub type HostResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
