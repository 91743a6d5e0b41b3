//! What the controller answers itself, a file a noun. It is called by the edge, calls fleet and
//! store, and knows neither sockets nor SQL.

pub mod access;
pub mod agents;
pub mod api_tokens;
pub mod audit;
pub mod auth;
mod containers;
pub mod enroll;
mod images;
pub mod join_tokens;
pub mod local;
pub mod names;
pub mod oidc;
mod system;
pub mod users;
