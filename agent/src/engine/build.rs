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
    // Version 1 is the engine's own builder. Its containers go after a failure too: nobody would look for
    // them on that host.
    let mut pairs = vec![("version", "1".to_owned()), ("rm", "1".to_owned())];
    pairs.push(("forcerm", "1".to_owned()));
    let mut text = |name, value: &str| {
        if !value.is_empty() {
            pairs.push((name, value.to_owned()));
        }
    };
    text("dockerfile", &options.dockerfile);
    text("target", &options.target);
    text("platform", &options.platform);
    text("networkmode", &options.network);
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
        ] {
            assert!(query.contains(wanted), "{query}");
        }
    }

    #[test]
    fn bad_options_are_refused() {
        let tags = vec!["../x".to_owned()];
        assert!(query(&BuildOptions { tags, ..BuildOptions::default() }).is_err());
        let args = vec!["=x".to_owned()];
        assert!(query(&BuildOptions { args, ..BuildOptions::default() }).is_err());
    }
}
