//! A pretended engine for tests: a small HTTP server on a unix socket that answers as it is told.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{broadcast, watch},
    task::AbortHandle,
};

use super::{Engine, EngineOptions, lock};
use crate::guard::Guard;

/// What the fake does with a request.
pub(crate) enum Reply {
    /// Answers with a status and JSON.
    Json(u16, String),
    /// Sends these bytes and closes.
    Raw(Vec<u8>),
    /// Answers 200 with these bytes, then with every line that is `push`ed.
    Stream(Vec<u8>),
    /// Answers with JSON after so long.
    Late(Duration, String),
    /// Never answers.
    Hang,
}

type Handler = dyn Fn(&str) -> Reply + Send + Sync;

struct Shared {
    handler: Mutex<Arc<Handler>>,
    /// "GET /v1.41/…" of every request so far.
    requests: watch::Sender<Vec<String>>,
    connections: watch::Sender<usize>,
    pushed: broadcast::Sender<Vec<u8>>,
    cut: broadcast::Sender<()>,
}

pub(crate) struct Fake {
    dir: TempDir,
    shared: Arc<Shared>,
    accepting: Mutex<AbortHandle>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Fake {
    /// A fake that answers `GET /version` as Docker 20.10 and everything else by `handler`, which
    /// gets method and path without the API version.
    pub(crate) fn new(handler: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared {
            handler: Mutex::new(Arc::new(handler)),
            requests: watch::Sender::default(),
            connections: watch::Sender::new(0),
            pushed: broadcast::Sender::new(64),
            cut: broadcast::Sender::new(4),
        });
        let accepting = Mutex::new(accept(&dir, &shared));
        Self { dir, shared, accepting }
    }

    pub(crate) fn engine(&self) -> Engine {
        self.guarded(Guard::default())
    }

    pub(crate) fn guarded(&self, guard: Guard) -> Engine {
        let host = format!("unix://{}", self.dir.path().join("docker.sock").display());
        Engine::guarded(EngineOptions { host }, guard).unwrap()
    }

    /// From now on `handler` answers.
    pub(crate) fn answer(&self, handler: impl Fn(&str) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.handler) = Arc::new(handler);
    }

    /// Sends a line on every open stream.
    pub(crate) fn push(&self, line: &str) {
        let _ = self.shared.pushed.send(format!("{line}\n").into_bytes());
    }

    /// Goes down: closes every connection and removes the socket.
    pub(crate) fn stop(&self) {
        lock(&self.accepting).abort();
        let _ = std::fs::remove_file(self.dir.path().join("docker.sock"));
        let _ = self.shared.cut.send(());
    }

    /// Comes back.
    pub(crate) fn start(&self) {
        *lock(&self.accepting) = accept(&self.dir, &self.shared);
    }

    /// Closes every connection.
    pub(crate) fn cut(&self) {
        let _ = self.shared.cut.send(());
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.borrow().clone()
    }

    /// Waits until a request with this text in it has come.
    pub(crate) async fn asked(&self, text: &str) {
        let mut requests = self.shared.requests.subscribe();
        requests.wait_for(|all| all.iter().any(|r| r.contains(text))).await.unwrap();
    }

    pub(crate) fn open_connections(&self) -> usize {
        *self.shared.connections.borrow()
    }

    /// Waits until no more connections than this are open.
    pub(crate) async fn connections_at_most(&self, most: usize) {
        self.shared.connections.subscribe().wait_for(|n| *n <= most).await.unwrap();
    }

    /// Waits until this many connections are open.
    pub(crate) async fn connections(&self, wanted: usize) {
        self.shared.connections.subscribe().wait_for(|n| *n == wanted).await.unwrap();
    }
}

fn accept(dir: &TempDir, shared: &Arc<Shared>) -> AbortHandle {
    let listener = UnixListener::bind(dir.path().join("docker.sock")).unwrap();
    let shared = shared.clone();
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let shared = shared.clone();
            let mut cut = shared.cut.subscribe();
            tokio::spawn(async move {
                shared.connections.send_modify(|n| *n += 1);
                tokio::select! {
                    _ = serve(stream, &shared) => {}
                    _ = cut.recv() => {}
                }
                shared.connections.send_modify(|n| *n -= 1);
            });
        }
    });
    accepting.abort_handle()
}

async fn serve(mut stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break String::from_utf8_lossy(&buffer.drain(..end + 4).collect::<Vec<_>>())
                    .into_owned();
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let line = head.lines().next().unwrap_or_default();
        let keep = line.ends_with("HTTP/1.1");
        let request = line.rsplit_once(' ').map_or("", |(request, _)| request).to_owned();
        let handler = lock(&shared.handler).clone();
        // Subscribed before the request is known, so that no push comes between.
        let mut pushed = shared.pushed.subscribe();
        shared.requests.send_modify(|all| all.push(request.clone()));
        let reply = match head.to_lowercase().contains("\r\nhost: ") {
            true => handler(&plain(&request)),
            false => error(400, "missing required Host header"),
        };
        let reply = match reply {
            Reply::Late(after, json) => {
                tokio::time::sleep(after).await;
                Reply::Json(200, json)
            }
            reply => reply,
        };
        match reply {
            Reply::Json(code, json) => {
                let len = json.len();
                let head = format!("HTTP/1.1 {code} X\r\nContent-Length: {len}\r\n\r\n");
                stream.write_all((head + &json).as_bytes()).await?;
                if !keep {
                    return Ok(());
                }
            }
            Reply::Raw(bytes) => return stream.write_all(&bytes).await,
            Reply::Stream(bytes) => {
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await?;
                stream.write_all(&bytes).await?;
                let mut rest = [0; 64];
                loop {
                    tokio::select! {
                        line = pushed.recv() => match line {
                            Ok(line) => stream.write_all(&line).await?,
                            Err(_) => return Ok(()),
                        },
                        read = stream.read(&mut rest) => if read? == 0 { return Ok(()) },
                    }
                }
            }
            Reply::Hang | Reply::Late(..) => {
                let mut rest = [0; 64];
                while stream.read(&mut rest).await? > 0 {}
                return Ok(());
            }
        }
    }
}

/// "GET /v1.41/info?x" as "GET /info?x".
fn plain(request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap_or_default();
    match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
        Some((_, path)) => format!("{method} /{path}"),
        None => request.to_owned(),
    }
}

/// The answer to `GET /version` of an engine with these API versions.
pub(crate) fn version(newest: &str, oldest: &str) -> Reply {
    Reply::Json(
        200,
        format!(
            r#"{{"Version":"20.10.24","ApiVersion":"{newest}","MinAPIVersion":"{oldest}","Os":"linux","Arch":"amd64"}}"#
        ),
    )
}

/// What most tests want of the requests that they are not about.
pub(crate) fn usual(request: &str) -> Reply {
    match request {
        "GET /version" => version("1.41", "1.12"),
        "GET /_ping" => Reply::Json(200, "OK".to_owned()),
        _ => Reply::Json(404, r#"{"message":"page not found"}"#.to_owned()),
    }
}

/// An error as the engine sends it.
pub(crate) fn error(code: u16, message: &str) -> Reply {
    Reply::Json(code, serde_json::json!({ "message": message }).to_string())
}
