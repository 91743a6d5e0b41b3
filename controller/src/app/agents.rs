//! The hosts of the fleet and the tokens that let new ones in.

use std::{collections::HashMap, time::SystemTime};

use dockctl_api::{
    link::v1::goodbye::Reason,
    v1::{
        Agent, CreateJoinTokenRequest, CreateJoinTokenResponse, DeleteAgentRequest,
        DeleteAgentResponse, DeleteJoinTokenRequest, DeleteJoinTokenResponse, GetAgentRequest,
        GetAgentResponse, ListAgentsRequest, ListAgentsResponse, ListJoinTokensRequest,
        ListJoinTokensResponse, RevokeAgentRequest, RevokeAgentResponse, Role,
        UpdateAgentLabelsRequest, UpdateAgentLabelsResponse, WatchAgentsRequest,
        WatchAgentsResponse, agent_service_server::AgentService,
    },
};
use futures_util::stream;
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tonic::{Request, Response, Status, codegen::BoxStream};

use super::{
    auth::{Auth, principal},
    join_tokens::JoinTokens,
    names::{self, Selector},
};
use crate::{
    fleet::registry::{Change, Registry, not_found},
    store::{self, AgentRecord},
};

/// Changes that may wait for a watcher to read.
const WATCH_QUEUE: usize = 64;
/// Longest reason of a revocation, characters.
const MAX_REASON: usize = 200;

/// AgentService.
pub struct Agents {
    /// The live fleet.
    pub registry: Registry,
    /// The store.
    pub store: store::Handle,
    /// The join tokens.
    pub join_tokens: JoinTokens,
    /// What labels decide.
    pub auth: Auth,
}

impl Agents {
    async fn record(&self, agent: &str) -> Result<AgentRecord, Status> {
        let found = self.store.agent(agent).await;
        found.map_err(|error| error.or_missing(|| not_found(agent)))
    }

    /// The agent as it is after its record was stored.
    fn stored(&self, record: AgentRecord) -> Result<Agent, Status> {
        let id = record.id.clone();
        self.registry.refresh(record);
        self.registry.agent(&id)
    }
}

#[tonic::async_trait]
impl AgentService for Agents {
    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        let by = principal(&request)?.name;
        let created = self.join_tokens.create(request.into_inner(), &by, SystemTime::now()).await?;
        Ok(Response::new(created))
    }

    async fn list_join_tokens(
        &self,
        _: Request<ListJoinTokensRequest>,
    ) -> Result<Response<ListJoinTokensResponse>, Status> {
        Ok(Response::new(self.join_tokens.list(SystemTime::now()).await?))
    }

    async fn delete_join_token(
        &self,
        request: Request<DeleteJoinTokenRequest>,
    ) -> Result<Response<DeleteJoinTokenResponse>, Status> {
        Ok(Response::new(self.join_tokens.delete(request.into_inner()).await?))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let selector = visible(&request, &request.get_ref().selector)?;
        Ok(Response::new(ListAgentsResponse { agents: self.registry.agents(&selector) }))
    }

    async fn get_agent(
        &self,
        request: Request<GetAgentRequest>,
    ) -> Result<Response<GetAgentResponse>, Status> {
        let visible = visible(&request, "")?;
        let agent = self.registry.agent(&request.get_ref().agent)?;
        if !visible.matches(&agent.labels) {
            return Err(not_found(&request.get_ref().agent));
        }
        Ok(Response::new(GetAgentResponse { agent: Some(agent) }))
    }

    async fn watch_agents(
        &self,
        request: Request<WatchAgentsRequest>,
    ) -> Result<Response<BoxStream<WatchAgentsResponse>>, Status> {
        let selector = visible(&request, &request.get_ref().selector)?;
        let (out, messages) = mpsc::channel(WATCH_QUEUE);
        tokio::spawn(watch(self.registry.clone(), selector, out));
        // The task ends when this receiver is dropped.
        let messages = stream::unfold(messages, |mut messages| async move {
            let message = messages.recv().await?;
            Some((Ok(message), messages))
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn update_agent_labels(
        &self,
        request: Request<UpdateAgentLabelsRequest>,
    ) -> Result<Response<UpdateAgentLabelsResponse>, Status> {
        let request = request.into_inner();
        names::labels(&request.set)?;
        request.remove.iter().try_for_each(|key| names::label_key(key))?;
        let id = self.record(&request.agent).await?.id;
        let record = self.store.update_agent_labels(&id, &request.set, &request.remove).await?;
        let agent = self.stored(record)?;
        // Labels decide who may do what on it.
        self.auth.rights_changed();
        Ok(Response::new(UpdateAgentLabelsResponse { agent: Some(agent) }))
    }

    async fn revoke_agent(
        &self,
        request: Request<RevokeAgentRequest>,
    ) -> Result<Response<RevokeAgentResponse>, Status> {
        let request = request.into_inner();
        names::text("reason", &request.reason, MAX_REASON)?;
        let id = self.record(&request.agent).await?.id;
        let record = self.store.revoke_agent(&id, &request.reason).await?;
        let message = match request.reason.as_str() {
            "" => "the agent was revoked".to_owned(),
            reason => format!("the agent was revoked: {reason}"),
        };
        let agent = self.stored(record)?;
        self.registry.expel(&id, Reason::Revoked, &message);
        Ok(Response::new(RevokeAgentResponse { agent: Some(agent) }))
    }

    async fn delete_agent(
        &self,
        request: Request<DeleteAgentRequest>,
    ) -> Result<Response<DeleteAgentResponse>, Status> {
        let id = self.record(&request.get_ref().agent).await?.id;
        self.store.delete_agent(&id).await?;
        self.registry.remove(&id);
        Ok(Response::new(DeleteAgentResponse {}))
    }
}

/// A selector narrowed to what the caller may see.
fn visible<T>(request: &Request<T>, selector: &str) -> Result<Selector, Status> {
    let selector = Selector::parse(selector)?;
    Ok(principal(request)?.authority.within(Role::Viewer, selector))
}

/// Sends every selected agent, then each change; after a lag every one again, since what counts is how
/// they are, not how they came to be.
async fn watch(registry: Registry, selector: Selector, out: mpsc::Sender<WatchAgentsResponse>) {
    let mut changes = registry.changes();
    let mut told = Told::default();
    let mut messages = told.all(&registry, &selector);
    loop {
        for message in messages {
            if out.send(message).await.is_err() {
                return;
            }
        }
        let change = tokio::select! {
            change = changes.recv() => change,
            () = out.closed() => return,
        };
        messages = match change {
            Ok(change) => told.change(&registry, &selector, change).into_iter().collect(),
            Err(RecvError::Lagged(_)) => told.all(&registry, &selector),
            Err(RecvError::Closed) => return,
        };
    }
}

/// The agents that a watcher of some was told of, by id and name; empty for who watches all, whom none can leave.
#[derive(Default)]
struct Told(HashMap<String, String>);

impl Told {
    /// Every selected agent, and those that are not any more.
    fn all(&mut self, registry: &Registry, selector: &Selector) -> Vec<WatchAgentsResponse> {
        let agents = registry.agents(selector);
        let mut before = std::mem::take(&mut self.0);
        for agent in agents.iter().filter(|_| !selector.is_empty()) {
            before.remove(&agent.id);
            self.0.insert(agent.id.clone(), agent.name.clone());
        }
        let is = |agent| WatchAgentsResponse { agent: Some(agent), ..Default::default() };
        before.into_iter().map(left).chain(agents.into_iter().map(is)).collect()
    }

    /// What a change is to the watcher.
    fn change(
        &mut self,
        registry: &Registry,
        selector: &Selector,
        change: Change,
    ) -> Option<WatchAgentsResponse> {
        match change {
            Change::Agent(id) if registry.is_selected(&id, selector) => {
                let agent = registry.agent(&id).ok()?;
                if !selector.is_empty() {
                    self.0.insert(id, agent.name.clone());
                }
                Some(WatchAgentsResponse { agent: Some(agent), ..Default::default() })
            }
            Change::Agent(id) => self.0.remove_entry(&id).map(left),
            Change::Deleted(agent) => {
                self.0.remove(&agent.id);
                let is_selected = selector.matches(&agent.labels);
                is_selected.then_some(WatchAgentsResponse {
                    agent: Some(*agent),
                    deleted: true,
                    left: false,
                })
            }
        }
    }
}

/// An agent that its watcher has lost sight of.
fn left((id, name): (String, String)) -> WatchAgentsResponse {
    let agent = Agent { id, name, ..Default::default() };
    WatchAgentsResponse { agent: Some(agent), deleted: false, left: true }
}
