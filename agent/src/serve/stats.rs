//! Which containers a stats stream shows: those that were named, or all that run, with those that
//! start later.

use std::{collections::BTreeMap, future::ready, pin::Pin, sync::Arc, time::Duration};

use dockctl_api::v1::{StreamStatsRequest, StreamStatsResponse};
use futures_util::{Stream, StreamExt as _, stream};
use tokio_stream::StreamMap;
use tonic::{Code, Status};

use super::Agent;
use crate::{
    engine::{ListQuery, check_container, find},
    inventory::Live,
};

/// How often one that does not run is told again.
const AGAIN: Duration = Duration::from_secs(1);

type Sample = Result<Arc<StreamStatsResponse>, Status>;

/// A stats stream as `request` asks.
pub(super) async fn stream(
    agent: Agent,
    request: StreamStatsRequest,
) -> Result<impl Stream<Item = Result<StreamStatsResponse, Status>> + Send + 'static, Status> {
    // Before the list, so that no start is missed between the two.
    let starts = agent.inventory.events();
    let grows = request.containers.is_empty() && !request.no_stream;
    let mut stats = Stats {
        open: StreamMap::new(),
        grows,
        starts: (!request.no_stream)
            .then(|| -> Pin<Box<dyn Stream<Item = Live> + Send>> { Box::pin(starts) }),
        once: request.no_stream,
        agent,
    };
    for (id, stopped) in wanted(&stats.agent, &request.containers).await? {
        match stopped {
            None => stats.add(id),
            Some(nothing) => stats.add_stopped(id, nothing),
        }
    }
    Ok(stream::unfold(Some(stats), |stats| async {
        let mut stats = stats?;
        let item = stats.next().await?;
        let more = item.is_ok();
        Some((item, more.then_some(stats)))
    }))
}

struct Stats {
    agent: Agent,
    open: StreamMap<String, Pin<Box<dyn Stream<Item = Sample> + Send>>>,
    /// Where containers are added that start later.
    starts: Option<Pin<Box<dyn Stream<Item = Live> + Send>>>,
    once: bool,
    /// Whether what starts later is wanted too.
    grows: bool,
}

impl Stats {
    fn add(&mut self, id: String) {
        if !self.open.contains_key(&id) {
            let samples = self.agent.engine.stats(&id);
            self.open.insert(id, Box::pin(samples));
        }
    }

    /// One that does not run has zeros, as docker shows them, until it starts.
    fn add_stopped(&mut self, id: String, nothing: StreamStatsResponse) {
        let first = stream::once(ready(Ok(Arc::new(nothing.clone()))));
        let again = stream::unfold((), move |()| {
            let sample = Arc::new(nothing.clone());
            async move {
                tokio::time::sleep(AGAIN).await;
                Some((Ok(sample), ()))
            }
        });
        self.open.insert(id, Box::pin(first.chain(again)));
    }

    async fn next(&mut self) -> Option<Result<StreamStatsResponse, Status>> {
        loop {
            if self.open.is_empty() && !self.grows {
                return None;
            }
            tokio::select! {
                Some((id, sample)) = self.open.next(), if !self.open.is_empty() => match sample {
                    Ok(sample) => {
                        if self.once {
                            self.open.remove(&id);
                        }
                        let agent = self.agent.name.to_string();
                        return Some(Ok(StreamStatsResponse { agent, ..(*sample).clone() }));
                    }
                    // It was removed; the others go on.
                    Err(status) if status.code() == Code::NotFound => {}
                    Err(status) => return Some(Err(status)),
                },
                Some(live) = next(&mut self.starts) => match live {
                    Live::Event(event) if event.r#type == "container" && event.action == "start" => {
                        // Its zeros are over.
                        let known = self.open.remove(&event.actor_id).is_some();
                        if known || self.grows {
                            self.add(event.actor_id.clone());
                        }
                    }
                    Live::Event(_) => {}
                    Live::Lagged(_) if !self.grows => {}
                    Live::Lagged(_) => match wanted(&self.agent, &[]).await {
                        Ok(ids) => ids.into_keys().for_each(|id| self.add(id)),
                        Err(status) => return Some(Err(status)),
                    },
                },
                // The agent stops.
                else => return None,
            }
        }
    }
}

async fn next(starts: &mut Option<Pin<Box<dyn Stream<Item = Live> + Send>>>) -> Option<Live> {
    match starts {
        Some(starts) => starts.next().await,
        None => None,
    }
}

/// The containers with these names, or all that run, by their ids; with what is told of one that does not
/// run.
async fn wanted(
    agent: &Agent,
    names: &[String],
) -> Result<BTreeMap<String, Option<StreamStatsResponse>>, Status> {
    for name in names {
        check_container("containers", name)?;
    }
    let query = ListQuery { all: !names.is_empty(), ..ListQuery::default() };
    let list = agent.engine.list_containers(query).await?;
    if names.is_empty() {
        return Ok(list.iter().map(|container| (container.id.clone(), None)).collect());
    }
    let mut all = BTreeMap::new();
    for name in names {
        let container = find(&list, name)?;
        let stopped = !matches!(container.state.as_str(), "running" | "paused" | "restarting");
        let nothing = || StreamStatsResponse {
            container_id: container.id.clone(),
            container_name: container.name.clone(),
            ..StreamStatsResponse::default()
        };
        all.insert(container.id.clone(), stopped.then(nothing));
    }
    Ok(all)
}
