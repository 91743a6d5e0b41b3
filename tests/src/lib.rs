//! The process harness of the end-to-end tests, as a library: it starts the real binaries against a
//! real Docker engine, breaks things between them, and cleans up. The scenarios are the files in
//! `tests/tests`; each test there is one [`scenario`].
//!
//! It builds nothing: `make test` builds `dockctl-controller`, `dockctl-agent` and `dockctl`, and the
//! harness finds them beside the test executable. It knows the binaries only by their names, flags
//! and API, never by their code. Nothing here asserts a time; every wait has a generous limit.

mod agent;
mod api;
mod cli;
mod controller;
mod disk;
mod docker;
mod docker_proxy;
mod fake_clock;
mod held;
mod inventory;
mod kill_at;
mod netns;
mod nobody;
mod process;
mod registry;
mod rounds;
mod screen;
mod tcp_proxy;
mod terminal;
mod tidy;
mod wait;
mod world;

pub use agent::{Agent, AgentSpec};
pub use api::{Api, Channel};
pub use cli::{Dockctl, Output, Running};
pub use controller::{ADMIN_PASSWORD, Controller};
pub use disk::{FailingDisk, FullDisk, failing_from};
pub use docker::{Container, Docker, IMAGE, PrivateDockerd, consecutive_lines, counting_script};
pub use docker_proxy::DockerProxy;
pub use fake_clock::{FakeClock, Off};
pub use held::Held;
pub use inventory::inventory_is_dockers;
pub use kill_at::killed_at;
pub use netns::{Netns, Way};
pub use nobody::Nobody;
pub use process::Process;
pub use registry::{REGISTRY_LOGIN, Registry};
pub use rounds::rounds;
pub use screen::Screen;
pub use tcp_proxy::TcpProxy;
pub use terminal::Terminal;
pub use tidy::Tidy;
pub use wait::{LONG, SHORT, await_until};
pub use world::{World, scenario};

/// Signals that the scenarios send.
pub use rustix::process::Signal;
