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

/// For the fuzzer: a rule of the owner's, a request line and a body, a line each and the body to the end. They are
/// judged without a panic and in one spelling, and what plainly makes its caller root on the host is refused.
#[cfg(any(fuzzing, test))]
#[cfg_attr(not(fuzzing), allow(unreachable_pub))]
pub fn fuzz_guard(input: &[u8]) {
    use existing::{body_by_id, container, exec, line_by_id, network, volume, writes};

    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    let mut text = || std::str::from_utf8(parts.next()?).ok();
    let (Some(rule), Some(request)) = (text(), text()) else { return };
    let body = parts.next().unwrap_or_default();
    let line = |text: &str| -> Option<line::Line> {
        let (method, uri) = text.split_once(' ')?;
        line::Line::new(&method.parse().ok()?, &uri.parse().ok()?).ok()
    };
    // A rule allows the path that it names, and a rule of one method none of another.
    if let (Ok(allowed), Some(named)) = (rule.parse::<Rule>(), line(rule)) {
        assert!(allowed.allows(&named), "{rule:?}");
        let mut other = named;
        other.method.clear();
        assert_eq!(allowed.allows(&other), rule.starts_with('*'), "{rule:?}");
    }
    // What the engine says of what is there is as foreign as a client's words.
    if let Some(json) = json::Json::parse(body) {
        let _ = (container(&json), exec(&json), network(&json), volume(&json), writes(&json, "v"));
    }
    let Some(judged) = line(request) else { return };
    let sent = format!("{} {}", judged.method, judged.target());
    assert_eq!(line(&sent).as_ref(), Some(&judged), "the engine reads another line");
    let body = if confine::reads_body(&judged) { body } else { &[] };
    let Ok(leans) = confine::judge(&judged, body) else { return };
    let ids = leans.into_iter().map(|lean| (lean, "0".repeat(64))).collect();
    let by_id = line_by_id(&judged, &ids);
    if let Some(body) = body_by_id(body, &ids) {
        assert!(confine::judge(&by_id, &body).is_ok(), "with ids it is another request");
    }
    if judged.path() == "/containers/create"
        && let Ok(made) = serde_json::from_slice::<serde_json::Value>(body)
    {
        let host = &made["HostConfig"];
        let binds = host["Binds"].as_array().into_iter().flatten();
        let paths = binds.filter_map(|b| b.as_str()).any(|bind| bind.starts_with('/'));
        let modes = ["NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode"];
        let shares = modes.iter().any(|mode| host[*mode] == "host");
        assert!(host["Privileged"] != true && !paths && !shares, "{made}");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn the_fuzzers_seeds_are_judged_and_so_is_what_comes_near() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/guard");
        for seed in fs::read_dir(seeds).unwrap() {
            let seed = fs::read(seed.unwrap().path()).unwrap();
            super::fuzz_guard(&seed);
            for at in 0..seed.len() {
                for byte in *b"\"%/{:,1\n" {
                    let mut near = seed.clone();
                    near[at] = byte;
                    super::fuzz_guard(&near);
                }
                let mut shorter = seed.clone();
                shorter.remove(at);
                super::fuzz_guard(&shorter);
            }
        }
    }
}
