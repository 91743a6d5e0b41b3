//! The agent beside a Docker engine: it dials the controller, keeps its identity, and serves the
//! very same services as the users' API over the link.
//!
//! [`engine`] talks to Docker, [`inventory`] watches it, [`serve`] answers calls, [`state`] keeps the
//! identity, [`join`] gets one, [`run`] puts them together.

pub mod engine;
pub mod guard;
pub mod inventory;
pub mod join;
pub mod run;
pub mod serve;
pub mod settings;
pub mod state;
