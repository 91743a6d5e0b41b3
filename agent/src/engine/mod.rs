//! One Docker engine: the only place that knows how Docker is spoken to. `Engine` is a handle that is
//! cheap to clone; it is made without asking whether Docker is there, and every call says so itself
//! when it is not. Used by `serve` and `inventory`; it knows nothing of the link or of agents.

mod age;
mod attach;
mod build;
mod containers;
mod copy;
mod demux;
mod detach;
mod disk;
mod endpoint;
mod events;
mod exec;
mod existing;
#[cfg(test)]
pub(crate) mod fake;
mod fault;
mod filters;
mod forward;
mod gather;
mod hijack;
mod images;
mod lists;
mod logs;
mod names;
mod networks;
mod pass;
mod process;
mod query;
mod raw;
mod registry;
mod session;
mod shared;
mod stats;
mod tar_check;
#[cfg(test)]
mod tests;
mod transfer;
#[cfg(test)]
mod transfer_tests;
mod tunnel;
mod upload;
mod volumes;
mod wire;

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bollard::{
    Docker,
    errors::Error as BollardError,
    query_parameters::{
        KillContainerOptions, RestartContainerOptions, StartContainerOptions, StopContainerOptions,
    },
};
use bytes::Bytes;
use dockctl_api::{
    error::{reason, status},
    v1::{Container, Image},
};
use http::Method;
use serde::{Deserialize, de::DeserializeOwned};
use tonic::{Code, Status};

use crate::guard::Guard;
use endpoint::{Endpoint, TlsEnv};
use fault::{Call, Fault};
use shared::Shared;
use wire::{LONG, TIMEOUT, Wire, of_bollard, within};

pub(crate) use age::keep as keep_times;
#[cfg(fuzzing)]
pub use demux::fuzz_demux;
pub use endpoint::{DEFAULT_HOST, EngineError};
pub(crate) use events::check_types;
pub(crate) use lists::find;
pub use lists::{ImageQuery, ListQuery};
pub(crate) use names::container as check_container;
pub(crate) use session::{Input, Output};
#[cfg(fuzzing)]
pub use tar_check::fuzz_tar_check;
pub(crate) use transfer::Told;
pub(crate) use tunnel::Caller;
pub use wire::EngineVersion;

/// Where the engine is.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// As Docker's own `DOCKER_HOST`: `unix:///path`, `tcp://host:port` or `http://host:port` (a
    /// socket proxy), or `https://host:port` (TLS, as is tcp:// when `DOCKER_TLS_VERIFY` is set, with
    /// the files in `DOCKER_CERT_PATH`). Empty means [`DEFAULT_HOST`].
    pub host: String,
}

/// A handle to one Docker engine.
#[derive(Clone)]
pub struct Engine {
    wire: Arc<Wire>,
    docker: Docker,
    reads: Arc<Reads>,
    stats: Arc<stats::Hub>,
    guard: Arc<Guard>,
    /// Every call that has no longer limit of its own ends within this.
    limit: Duration,
}

/// Reads that callers share.
struct Reads {
    containers: Shared<ListQuery, Arc<Vec<Container>>>,
    images: Shared<ImageQuery, Arc<Vec<Image>>>,
    inspects: Shared<String, Arc<str>>,
    versions: Shared<(), Arc<EngineVersion>>,
}

/// How to stop a container.
#[derive(Debug, Clone, Default)]
pub struct StopOptions {
    /// How long to wait before SIGKILL, whole seconds up to a day; None: the container's own.
    pub timeout: Option<prost_types::Duration>,
    /// The signal to send first; empty: the container's own.
    pub signal: String,
}

impl Engine {
    /// A handle to the engine at an address. Fails only if the address or its certificates cannot be
    /// used, never because the engine is down.
    pub fn new(options: EngineOptions) -> Result<Self, EngineError> {
        Self::guarded(options, Guard::default())
    }

    /// The same, with what the host's owner forbids.
    pub fn guarded(options: EngineOptions, guard: Guard) -> Result<Self, EngineError> {
        let mut endpoint = Endpoint::parse(options.host.trim(), &TlsEnv::from_env())?;
        endpoint.confined = guard.confine;
        let wire = Wire::new(endpoint);
        let docker = wire.docker().map_err(|e| EngineError::BadHost {
            host: options.host.clone(),
            problem: e.to_string(),
        })?;
        let reads = Reads {
            containers: Shared::new(),
            images: Shared::new(),
            inspects: Shared::new(),
            versions: Shared::new(),
        };
        Ok(Self {
            wire,
            docker,
            reads: Arc::new(reads),
            stats: Arc::default(),
            guard: Arc::new(guard),
            limit: TIMEOUT,
        })
    }

    /// The same engine for a caller who waits until then: what may take long in Docker (a container that
    /// fills its volumes, the changes in a large one) has his time, up to 10 min, instead of 30 s. A
    /// second of it is left to tell him.
    pub(crate) fn until(&self, deadline: Option<Instant>) -> Self {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let limit = left.map_or(TIMEOUT, |left| left.saturating_sub(Duration::from_secs(1)));
        Self { limit: limit.clamp(TIMEOUT, LONG), ..self.clone() }
    }

    /// The engine's address.
    pub fn host(&self) -> String {
        self.wire.endpoint.to_string()
    }

    /// How many streams are open at the engine now: logs, events, stats and sessions.
    pub fn open_streams(&self) -> usize {
        self.wire.open_streams()
    }

    /// All that the engine knows of a container: its own JSON, untouched; with the sizes of its files if
    /// wanted.
    pub async fn inspect(&self, container: &str, size: bool) -> Result<Arc<str>, Status> {
        names::container("container", container)?;
        // Callers share it, each for as long as he waits.
        let (engine, name) = (Self { limit: LONG, ..self.clone() }, container.to_owned());
        let path = format!("/containers/{container}/json{}", if size { "?size=1" } else { "" });
        let key = path.clone();
        let work = async move { engine.json(&path, looking(&name)).await.map(Arc::from) };
        let answer = self.reads.inspects.call(key, work);
        tokio::time::timeout(self.limit, answer).await.unwrap_or_else(|_| {
            Err(self.wire.status(&Fault::Timeout(self.limit), looking(container)))
        })
    }

    /// What the engine tells of itself: its own JSON, untouched.
    pub async fn info(&self) -> Result<String, Status> {
        self.json("/info", Call::new("GET /info")).await
    }

    /// The engine's version; negotiates the API version anew.
    pub async fn version(&self) -> Result<Arc<EngineVersion>, Status> {
        let wire = self.wire.clone();
        let work = async move {
            let version = wire.negotiate().await;
            version.map(Arc::new).map_err(|f| wire.status(&f, Call::new("GET /version")))
        };
        self.reads.versions.call((), work).await
    }

    /// How long the engine takes to answer.
    pub async fn ping(&self) -> Result<Duration, Status> {
        let begun = Instant::now();
        let answer = self.wire.get("/_ping", TIMEOUT).await;
        answer.map_err(|fault| self.wire.status(&fault, Call::new("GET /_ping")))?;
        Ok(begun.elapsed())
    }

    /// Starts a container. Starting a running one is no error.
    pub async fn start(&self, container: &str) -> Result<(), Status> {
        names::container("container", container)?;
        let call = Call::on("POST /containers/{id}/start", container);
        let run = || self.docker.start_container(container, None::<StartContainerOptions>);
        self.act(call, self.limit, run).await
    }

    /// Stops a container. Stopping a stopped one is no error.
    pub async fn stop(&self, container: &str, options: &StopOptions) -> Result<(), Status> {
        names::container("container", container)?;
        let (t, signal) = self.stop_options(options).await?;
        let call = Call::on("POST /containers/{id}/stop", container);
        let limit = self.stop_limit(container, t).await?;
        let options = StopContainerOptions { t, signal };
        self.act(call, limit, || self.docker.stop_container(container, Some(options.clone()))).await
    }

    /// Stops a container if it runs, then starts it.
    pub async fn restart(&self, container: &str, options: &StopOptions) -> Result<(), Status> {
        names::container("container", container)?;
        let (t, signal) = self.stop_options(options).await?;
        let call = Call::on("POST /containers/{id}/restart", container);
        let limit = self.stop_limit(container, t).await?;
        let options = RestartContainerOptions { t, signal };
        self.act(call, limit, || self.docker.restart_container(container, Some(options.clone())))
            .await
    }

    /// Sends a signal to a running container; empty means SIGKILL.
    pub async fn kill(&self, container: &str, signal: &str) -> Result<(), Status> {
        names::container("container", container)?;
        let signal = match names::signal(signal)? {
            "" => "SIGKILL",
            signal => signal,
        };
        let call = Call::on("POST /containers/{id}/kill", container);
        let options = KillContainerOptions { signal: signal.to_owned() };
        let run = || self.docker.kill_container(container, Some(options.clone()));
        self.act(call, self.limit, run).await
    }

    /// Does a call that changes something, within a time limit.
    async fn act<T, F>(
        &self,
        call: Call<'_>,
        limit: Duration,
        run: impl Fn() -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, BollardError>>,
    {
        // Outside of the limit, so that a call that never left is not told as one that may have run.
        self.api(call).await?;
        let ask = || async { run().await.map_err(of_bollard) };
        let result = within(limit, self.wire.retried(ask)).await;
        result.map_err(|fault| self.wire.status(&fault, call))
    }

    /// Sends JSON, or nothing, and reads the answer, within a time limit.
    async fn send(
        &self,
        call: Call<'_>,
        limit: Duration,
        method: Method,
        path: &str,
        json: Option<&str>,
    ) -> Result<Bytes, Status> {
        let answer = self.wire.change(method, path, json, limit).await;
        answer.map_err(|fault| self.wire.status(&fault, call))
    }

    /// Posts JSON, or nothing, and decodes the answer.
    async fn change<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
        path: &str,
        json: Option<&str>,
        limit: Duration,
    ) -> Result<T, Status> {
        self.read(call, &self.send(call, limit, Method::POST, path, json).await?)
    }

    /// Gets an answer and decodes it.
    async fn look_at<T: DeserializeOwned>(&self, call: Call<'_>, path: &str) -> Result<T, Status> {
        let answer = self.wire.get_json(path, self.limit).await;
        answer.map_err(|fault| self.wire.status(&fault, call))
    }

    /// Decodes an answer.
    fn read<T: DeserializeOwned>(&self, call: Call<'_>, answer: &[u8]) -> Result<T, Status> {
        wire::decode(answer).map_err(|fault| self.wire.status(&fault, call))
    }

    /// The negotiated API version's minor number, for a call that comes after.
    async fn api(&self, call: Call<'_>) -> Result<u32, Status> {
        let api = self.wire.api().await.map_err(Fault::unsent);
        api.map_err(|fault| self.wire.status(&fault, call))
    }

    async fn stop_options(
        &self,
        options: &StopOptions,
    ) -> Result<(Option<i32>, Option<String>), Status> {
        let grace = names::grace(options.timeout.as_ref())?;
        if names::signal(&options.signal)?.is_empty() {
            return Ok((grace, None));
        }
        let api = self.api(Call::new("GET /version")).await?;
        // An older engine would silently send the container's own signal.
        if api < 42 {
            return Err(status(
                Code::FailedPrecondition,
                reason::DOCKER_ERROR,
                format!("this engine (API 1.{api}) cannot choose the stop signal; Docker 23 can"),
                &[],
            ));
        }
        Ok((grace, Some(options.signal.clone())))
    }

    /// How long a stop may take: the grace time, the container's own if none is given, and 30 s.
    async fn stop_limit(&self, container: &str, grace: Option<i32>) -> Result<Duration, Status> {
        let grace = match grace {
            Some(grace) => i64::from(grace),
            None => {
                let facts = self.look(container).await.map_err(Fault::unsent);
                let facts = facts.map_err(|fault| self.wire.status(&fault, looking(container)))?;
                facts.config.stop_timeout.unwrap_or(10)
            }
        };
        // A negative one waits for ever; a day will do.
        let grace = u64::try_from(grace).unwrap_or(86_400).min(86_400);
        Ok(self.limit.max(TIMEOUT + Duration::from_secs(grace)))
    }

    /// What other calls must know of a container.
    async fn facts(&self, container: &str) -> Result<Facts, Status> {
        self.look_at(looking(container), &format!("/containers/{container}/json")).await
    }

    async fn look(&self, container: &str) -> Result<Facts, Fault> {
        self.wire.get_json(&format!("/containers/{container}/json"), self.limit).await
    }

    async fn json(&self, path: &str, call: Call<'_>) -> Result<String, Status> {
        let answer = self.wire.get(path, self.limit).await.and_then(|body| {
            let text = String::from_utf8(body.into());
            text.map(|text| text.trim_end().to_owned()).map_err(|e| Fault::Garbage(e.to_string()))
        });
        answer.map_err(|fault| self.wire.status(&fault, call))
    }
}

fn looking(container: &str) -> Call<'_> {
    Call::on("GET /containers/{id}/json", container)
}

/// The part of a container's JSON that is read here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Facts {
    id: String,
    config: Config,
    state: State,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    tty: bool,
    stop_timeout: Option<i64>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    /// It ended and is about to be started again; the engine counts that as running.
    #[serde(default)]
    restarting: bool,
    started_at: String,
    /// Of its main process, on the engine's host; 0 where it does not run.
    #[serde(default)]
    pid: i32,
}

/// Locks a mutex whose data stays good when a holder panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
