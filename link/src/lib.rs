//! Both ends of the wire between controller and agents: handshake, calls, heartbeat, backoff.
//! `proto/dockctl/link/v1/link.proto` is the protocol's specification.
//!
//! Pure parts take `now` as an argument and are tested under a virtual clock: [`backoff`],
//! [`liveness`], [`protocol`], [`calls`], [`framing`], [`quota`], [`agent::dedupe`]. The IO around
//! them is thin: [`controller`] accepts, [`agent`] dials. Nothing here knows Docker, SQL or users.

pub mod agent;
pub mod backoff;
pub mod calls;
pub mod channel;
pub mod controller;
pub mod framing;
pub mod identity;
pub mod liveness;
mod parts;
pub mod protocol;
pub mod quota;
mod socket;
mod turn;
pub mod wire;
