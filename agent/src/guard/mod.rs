//! What the host's owner forbids whoever works on its engine through the mesh: the Docker API wholly or
//! in part ([`rules`]), and for every entry point what would make the caller root on the host
//! ([`confine`], and [`existing`] for what is there already). Pure functions over a request and over what
//! the engine says; `engine` asks them before it passes anything on.

pub(crate) mod confine;
mod endpoints;
pub(crate) mod existing;
mod host_config;
pub(crate) mod json;
pub(crate) mod line;
mod network;
mod pattern;
mod rules;

pub use rules::Rule;

/// The flags of the host's owner; `dockctl-agent` and `dockctl-controller serve --with-agent` have them.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Guard {
    /// Refuse the Docker API over the mesh (dockctl docker, docker-socket).
    #[arg(long, env = "DOCKCTL_NO_DOCKER_API")]
    pub no_docker_api: bool,
    /// Allow only these requests of the Docker API over the mesh, for example 'GET /containers/**';
    /// may be given several times. The method may be *; in the path, which has no /v1.xx before it,
    /// * is one part and ** one or more.
    #[arg(
        long,
        env = "DOCKCTL_DOCKER_API_ALLOW",
        value_delimiter = ',',
        value_name = "METHOD PATH"
    )]
    pub docker_api_allow: Vec<Rule>,
    /// Refuse every call that could make its caller root on this host: privileged containers, host
    /// paths, devices, host namespaces and the like, whichever way it comes.
    #[arg(long, env = "DOCKCTL_CONFINE")]
    pub confine: bool,
}

impl Guard {
    /// Whether the host's owner lets this request of the Docker API in; its effects are [`confine`]'s.
    pub(crate) fn allows(&self, line: &line::Line) -> bool {
        self.docker_api_allow.is_empty() || self.docker_api_allow.iter().any(|r| r.allows(line))
    }
}
