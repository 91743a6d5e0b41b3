//! Which agent: the live sessions and what they told, the fleet's inventory, and the forwarding of
//! calls. Called by `edge` and `app`; it calls the link and the store and knows no users.
//!
//! [`registry`] holds the state, [`host`] feeds it from the link, [`forward`] sends a call to one
//! agent, [`fanout`] merges the streams of many, [`inventory`] answers lists.

pub mod fanout;
pub mod forward;
pub mod host;
pub mod inventory;
pub mod registry;
