//! The engine without dockctl: a small HTTP/1.1 client on its socket with kept-alive connections, and
//! the containers that the benchmarks use. All of them carry one label and are removed by it.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::net::UnixStream;

use crate::measure::Caller;

/// The image that deploy/scripts/images.sh makes: a static busybox.
const IMAGE: &str = "dockctl/busybox:test";
/// Marks what the benchmarks made.
const LABEL: &str = "dockctl.bench";
/// What the names of all containers begin with.
pub(crate) const PREFIX: &str = "dockctl-bench-";
/// How many containers every list has, half of them running.
pub(crate) const TWENTY: usize = 20;
/// How long the engine may take for anything but a wait or a stream.
const PATIENCE: Duration = Duration::from_secs(60);

/// The engine's socket.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    /// Its path.
    pub(crate) socket: PathBuf,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "Id")]
    id: String,
}

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "Version")]
    version: String,
}

#[derive(Deserialize)]
struct Ended {
    #[serde(rename = "StatusCode")]
    code: i64,
}

impl Engine {
    /// The engine that DOCKER_HOST names, or the usual one. It must have a Unix socket.
    pub(crate) fn from_environment() -> Result<Self> {
        let url = std::env::var("DOCKER_HOST").ok().filter(|url| !url.is_empty());
        let url = url.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
        match url.strip_prefix("unix://") {
            Some(path) => Ok(Self { socket: path.into() }),
            None => bail!("the benchmarks need an engine on a Unix socket, not {url}"),
        }
    }

    /// Its address as DOCKER_HOST has it.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream =
            stream.with_context(|| format!("cannot reach the engine at {}", self.url()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends when the sender and the last answer are gone.
        tokio::spawn(connection);
        Ok(Connection { sender })
    }

    /// The engine's version.
    pub(crate) async fn version(&self) -> Result<String> {
        Ok(self.connect().await?.get_json::<Version>("/version").await?.version)
    }

    /// Makes a container whose first process is that shell script; gives its id.
    pub(crate) async fn create(&self, name: &str, script: &str) -> Result<String> {
        let body = json!({
            "Image": IMAGE,
            "Cmd": ["sh", "-c", script],
            "Labels": { LABEL: "1" },
            "HostConfig": { "NetworkMode": "none", "LogConfig": { "Type": "json-file" } },
        });
        let path = format!("/containers/create?name={PREFIX}{name}");
        let made = self.connect().await?.post(&path, body.to_string()).await;
        let made = made.context("run this through `make bench`, which makes the image")?;
        Ok(serde_json::from_slice::<Named>(&made)?.id)
    }

    /// Starts a container.
    pub(crate) async fn start(&self, id: &str) -> Result<()> {
        self.connect().await?.post(&format!("/containers/{id}/start"), String::new()).await?;
        Ok(())
    }

    /// Makes a container, starts it and waits for its end; gives its id.
    pub(crate) async fn run_to_end(&self, name: &str, script: &str) -> Result<String> {
        let id = self.create(name, script).await?;
        self.start(&id).await?;
        // The caller's own limit ends this wait.
        let wait = request(Method::POST, &format!("/containers/{id}/wait"), String::new())?;
        let end = whole(self.connect().await?.send(wait).await?).await?;
        let Ended { code } = serde_json::from_slice(&end)?;
        ensure!(code == 0, "container {name} ended with {code}");
        Ok(id)
    }

    /// Removes a container and its log.
    pub(crate) async fn remove(&self, id: &str) -> Result<()> {
        let path = format!("/containers/{id}?force=1&v=1");
        self.connect().await?.ask(Method::DELETE, &path, String::new()).await.map(drop)
    }

    /// Makes the containers that every list has.
    pub(crate) async fn make_twenty(&self) -> Result<()> {
        try_join_all((0..TWENTY).map(|n| async move {
            let id = self.create(&format!("list-{n}"), "exec sleep 100000").await?;
            if n % 2 == 0 { self.start(&id).await } else { Ok(()) }
        }))
        .await
        .map(drop)
    }

    /// Removes every container of the benchmarks.
    pub(crate) async fn remove_containers(&self) -> Result<()> {
        let path = format!("/containers/json?all=1&filters=%7B%22label%22:%5B%22{LABEL}%22%5D%7D");
        let all: Vec<Named> = self.connect().await?.get_json(&path).await?;
        try_join_all(all.iter().map(|container| self.remove(&container.id))).await.map(drop)
    }
}

/// One kept-alive connection to the engine.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Connection {
    /// GET; gives the whole body.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes> {
        self.ask(Method::GET, path, String::new()).await
    }

    /// GET; gives the body read as JSON.
    pub(crate) async fn get_json<T: DeserializeOwned>(&mut self, path: &str) -> Result<T> {
        Ok(serde_json::from_slice(&self.get(path).await?)?)
    }

    /// POST; gives the whole body.
    pub(crate) async fn post(&mut self, path: &str, body: String) -> Result<Bytes> {
        self.ask(Method::POST, path, body).await
    }

    /// GET of a stream: gives the body as it comes.
    pub(crate) async fn stream(&mut self, path: &str) -> Result<Incoming> {
        let answer = self.send(request(Method::GET, path, String::new())?).await?;
        ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        Ok(answer.into_body())
    }

    async fn ask(&mut self, method: Method, path: &str, body: String) -> Result<Bytes> {
        let request = request(method, path, body)?;
        let answer = async { whole(self.send(request).await?).await };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        answer.context("the engine does not answer").flatten().with_context(|| path.to_owned())
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }
}

fn request(method: Method, path: &str, body: String) -> Result<Request<Full<Bytes>>> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("host", "docker").header("content-type", "application/json");
    Ok(request.body(Full::new(body.into()))?)
}

async fn whole(answer: Response<Incoming>) -> Result<Bytes> {
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body).trim_end());
    Ok(body)
}

/// Lists all containers, and counts them as `List` does.
pub(crate) struct EngineList(pub(crate) Connection);

impl Caller for EngineList {
    async fn call(&mut self) -> Result<()> {
        let listed = self.0.get_json::<Vec<Named>>("/containers/json?all=1").await?.len();
        ensure!(listed >= TWENTY, "the engine lists only {listed} containers");
        Ok(())
    }
}
