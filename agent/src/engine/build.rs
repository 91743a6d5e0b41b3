//! Builds with the engine's own builder, which takes the context as a tar archive.

use std::collections::BTreeMap;

use bytes::Bytes;
use dockctl_api::{error::bad_field, v1::BuildOptions};
use futures_util::Stream;
use tonic::Status;

use super::{
    Engine,
    fault::Call,
    names::{self, encode},
    registry,
    transfer::{Post, Told},
};

impl Engine {
    /// Builds an image from its context's archive. Hanging up ends the build and removes its container.
    pub(crate) async fn build_image(
        &self,
        options: &BuildOptions,
        context: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
    ) -> Result<Told, Status> {
        let path = format!("/build?{}", query(options)?);
        let headers = vec![registry::config(&options.logins)?];
        self.post_bytes(Post { call: Call::new("POST /build"), path, headers }, context).await
    }
}

fn query(options: &BuildOptions) -> Result<String, Status> {
    // Version 1 is the engine's own builder. Its containers go after a failure too, unless they are to be
    // kept: nobody would look for them on that host.
    let gone = if options.keep_containers { "0" } else { "1" };
    let mut pairs = vec![("version", "1".to_owned()), ("rm", gone.to_owned())];
    pairs.push(("forcerm", gone.to_owned()));
    let mut text = |name, value: &str| {
        if !value.is_empty() {
            pairs.push((name, value.to_owned()));
        }
    };
    text("dockerfile", &options.dockerfile);
    text("target", &options.target);
    text("platform", &options.platform);
    text("networkmode", &options.network);
    text("cpusetcpus", &options.cpuset_cpus);
    text("cpusetmems", &options.cpuset_mems);
    text("cgroupparent", &options.cgroup_parent);
    text("isolation", &options.isolation);
    for (name, number) in [
        ("memory", options.memory),
        ("memswap", options.memory_swap),
        ("cpuperiod", options.cpu_period),
        ("cpuquota", options.cpu_quota),
        ("cpushares", options.cpu_shares),
        ("shmsize", options.shm_size),
    ] {
        text(name, &if number == 0 { String::new() } else { number.to_string() });
    }
    text("ulimits", &ulimits(&options.ulimits)?);
    text("cachefrom", &list(&options.cache_from));
    text("securityopt", &list(&options.security_options));
    let flag = |set: bool| if set { "1" } else { "" };
    text("nocache", flag(options.no_cache));
    text("pull", flag(options.pull));
    text("q", flag(options.quiet));
    for tag in &options.tags {
        text("t", names::image("options.tags", tag)?);
    }
    text("extrahosts", &options.extra_hosts.join(","));
    text("labels", &map("options.labels", &options.labels)?);
    text("buildargs", &map("options.args", &options.args)?);
    let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect();
    Ok(pairs.join("&"))
}

/// A JSON list, as the engine takes it; empty for none.
fn list(items: &[String]) -> String {
    if items.is_empty() { String::new() } else { serde_json::json!(items).to_string() }
}

/// "name=soft:hard" as the JSON that the engine takes; the hard limit is the soft one unless given.
fn ulimits(limits: &[String]) -> Result<String, Status> {
    let parse = |limit: &String| {
        let (name, values) = limit.split_once('=')?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (soft.parse::<i64>().ok()?, hard.parse::<i64>().ok()?);
        Some(serde_json::json!({"Name": name, "Soft": soft, "Hard": hard}))
    };
    let mut parsed = Vec::new();
    for limit in limits {
        let bad = || bad_field("options.ulimits", format!("{limit:?} is not name=soft[:hard]"));
        parsed.push(parse(limit).ok_or_else(bad)?);
    }
    Ok(if parsed.is_empty() { String::new() } else { serde_json::json!(parsed).to_string() })
}

/// "k=v" texts as the JSON that the engine takes; empty for none.
fn map(field: &str, pairs: &[String]) -> Result<String, Status> {
    if pairs.is_empty() {
        return Ok(String::new());
    }
    let pairs: Result<BTreeMap<&str, &str>, Status> = pairs
        .iter()
        .map(|pair| match pair.split_once('=').unwrap_or((pair, "")) {
            ("", _) => Err(bad_field(field, format!("{pair:?} is not k=v"))),
            pair => Ok(pair),
        })
        .collect();
    Ok(serde_json::json!(pairs?).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_the_engines_query() {
        let usual = query(&BuildOptions::default()).unwrap();
        assert_eq!(usual, "version=1&rm=1&forcerm=1");
        let options = BuildOptions {
            dockerfile: "a/Dockerfile".to_owned(),
            tags: vec!["x:1".to_owned(), "y:2".to_owned()],
            args: vec!["A=1=2".to_owned()],
            labels: vec!["l".to_owned()],
            no_cache: true,
            extra_hosts: vec!["h:10.0.0.1".to_owned()],
            memory: 5,
            cache_from: vec!["c".to_owned()],
            ulimits: vec!["nofile=1:2".to_owned(), "core=-1".to_owned()],
            ..BuildOptions::default()
        };
        let query = query(&options).unwrap();
        for wanted in [
            "&dockerfile=a%2FDockerfile",
            "&nocache=1",
            "&t=x%3A1&t=y%3A2",
            "&buildargs=%7B%22A%22%3A%221%3D2%22%7D",
            "&labels=%7B%22l%22%3A%22%22%7D",
            "&extrahosts=h%3A10.0.0.1",
            "&memory=5",
            "&cachefrom=%5B%22c%22%5D",
            "%22Name%22%3A%22nofile%22",
            "%22Soft%22%3A1",
            "%22Hard%22%3A2",
            "%22Hard%22%3A-1",
        ] {
            assert!(query.contains(wanted), "{query}");
        }
    }

    #[test]
    fn bad_options_are_refused() {
        let tags = vec!["../x".to_owned()];
        assert!(query(&BuildOptions { tags, ..BuildOptions::default() }).is_err());
        let ulimits = vec!["nofile=many".to_owned()];
        assert!(query(&BuildOptions { ulimits, ..BuildOptions::default() }).is_err());
        let args = vec!["=x".to_owned()];
        assert!(query(&BuildOptions { args, ..BuildOptions::default() }).is_err());
    }
}
