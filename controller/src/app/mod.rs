//! What the controller answers itself, a file a noun. It is called by the edge, calls fleet and
//! store, and knows neither sockets nor SQL.

pub mod agents;
pub mod auth;
pub mod containers;
pub mod enroll;
pub mod images;
pub mod join_tokens;
pub mod names;
pub mod system;

use tonic::Status;

/// The answer of a method that agents serve, where one reaches the controller's own services. The
/// forwarder keeps that from happening; it stands here so that a mistake is an error, not a hang.
fn served_by_agents() -> Status {
    crate::fleet::forward::agent_required()
}
