//! The ports: 7443 for users, 7444 for agents, 7445 for metrics and health. Bytes become requests
//! here; what they mean is decided further in.

pub mod api;
pub mod calls;
pub mod metrics;
