//! Callers that call as fast as they are answered, until the controller dies under them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, Result};
use dockctl_api::v1::{
    CreateJoinTokenRequest, DeleteJoinTokenRequest, KillContainerRequest, RestartContainerRequest,
    StartContainerRequest, StopContainerRequest, UpdateAgentLabelsRequest,
};
use dockctl_tests::Api;
use tonic::Status;

use crate::history::{Call, Outcome, Writes, now};

/// Every eighth token is kept, the others are deleted again.
const KEPT: u64 = 8;
/// Labels that are written in turn.
const LABELS: u64 = 8;

/// How many acknowledged calls each caller has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acknowledged(Arc<[AtomicUsize; 5]>);

impl Acknowledged {
    /// Whether each caller has at least as many.
    pub(crate) fn each_has(&self, count: usize) -> bool {
        self.0.iter().all(|caller| caller.load(Ordering::Relaxed) >= count)
    }
}

/// What the callers act on: containers that no other round has.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    pub(crate) toggled: String,
    pub(crate) restarted: String,
    pub(crate) signalled: String,
}

/// Runs all callers until the controller no longer answers.
pub(crate) async fn run(
    api: Api,
    targets: Targets,
    round: u64,
    acknowledged: Acknowledged,
) -> Result<(Writes, Vec<Call>)> {
    let count = |caller: usize| {
        let all = acknowledged.clone();
        move || {
            all.0[caller].fetch_add(1, Ordering::Relaxed);
        }
    };
    let toggled = async {
        let mut calls = Vec::new();
        for n in 0.. {
            let action = if n % 2 == 0 { "stop" } else { "start" };
            if !act(&api, "web-2", &targets.toggled, action, &mut calls).await? {
                break;
            }
            count(2)();
        }
        anyhow::Ok(calls)
    };
    let repeated = async |agent: &str, container: &str, action: &'static str, caller: usize| {
        let mut calls = Vec::new();
        while act(&api, agent, container, action, &mut calls).await? {
            count(caller)();
        }
        anyhow::Ok(calls)
    };
    let (mut writes, labels, toggled, restarted, signalled) = tokio::try_join!(
        join_tokens(&api, count(0)),
        agent_labels(&api, round, count(1)),
        toggled,
        repeated("web-2", &targets.restarted, "restart", 3),
        repeated("web-1", &targets.signalled, SIGNAL, 4),
    )?;
    writes.labels = labels.labels;
    Ok((writes, [toggled, restarted, signalled].into_iter().flatten().collect()))
}

/// A signal that the containers ignore: each one shows as an event, and changes nothing.
pub(crate) const SIGNAL: &str = "kill 10";

/// Makes one call and writes it down; false when it was not acknowledged.
pub(crate) async fn act(
    api: &Api,
    agent: &str,
    container: &str,
    action: &'static str,
    calls: &mut Vec<Call>,
) -> Result<bool> {
    let mut api = api.containers();
    let (agent, name) = (agent.to_owned(), container.to_owned());
    let timeout = Some(prost_types::Duration::default());
    let sent = now()?;
    let answer: Result<(), Status> = match action {
        "stop" => {
            let request =
                StopContainerRequest { agent, container: name, timeout, ..Default::default() };
            api.stop_container(request).await.map(drop)
        }
        "start" => {
            let request = StartContainerRequest { agent, container: name };
            api.start_container(request).await.map(drop)
        }
        "restart" => {
            let request =
                RestartContainerRequest { agent, container: name, timeout, ..Default::default() };
            api.restart_container(request).await.map(drop)
        }
        _ => {
            let signal = "SIGUSR1".to_owned();
            api.kill_container(KillContainerRequest { agent, container: name, signal })
                .await
                .map(drop)
        }
    };
    let outcome = Outcome::of(&answer)?;
    calls.push(Call { container: container.to_owned(), action, sent, outcome });
    Ok(outcome == Outcome::Acknowledged)
}

async fn join_tokens(api: &Api, acknowledged: impl Fn()) -> Result<Writes> {
    let mut agents = api.agents();
    let mut writes = Writes::default();
    for n in 0u64.. {
        let Ok(made) = agents.create_join_token(CreateJoinTokenRequest::default()).await else {
            writes.unknown += 1;
            break;
        };
        let id = made.into_inner().join_token.context("no record")?.id;
        if n % KEPT == 0 {
            writes.kept.insert(id);
        } else if agents.delete_join_token(DeleteJoinTokenRequest { id: id.clone() }).await.is_ok()
        {
            writes.deleted.insert(id);
        } else {
            // It may be there and it may be gone.
            writes.unknown += 1;
            break;
        }
        acknowledged();
    }
    Ok(writes)
}

async fn agent_labels(api: &Api, round: u64, acknowledged: impl Fn()) -> Result<Writes> {
    let mut agents = api.agents();
    let mut writes = Writes::default();
    for n in 0u64.. {
        let (key, value) = (format!("l{}", n % LABELS), (round << 32) + n);
        let request = UpdateAgentLabelsRequest {
            agent: "web-1".to_owned(),
            set: [(key.clone(), value.to_string())].into(),
            ..Default::default()
        };
        let answer = agents.update_agent_labels(request).await;
        let last = writes.labels.entry(key).or_insert((0, value));
        last.1 = value;
        if answer.is_err() {
            break;
        }
        last.0 = value;
        acknowledged();
    }
    Ok(writes)
}
