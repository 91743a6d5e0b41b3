//! Fleet lists of containers, from the inventory. Everything else about containers is served by agents.

use std::pin::Pin;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dockctl_api::{
    error::bad_field,
    v1::{
        Container, InspectContainerRequest, InspectContainerResponse, KillContainerRequest,
        KillContainerResponse, ListContainersRequest, ListContainersResponse,
        RestartContainerRequest, RestartContainerResponse, StartContainerRequest,
        StartContainerResponse, StopContainerRequest, StopContainerResponse, StreamLogsRequest,
        StreamLogsResponse, StreamStatsRequest, StreamStatsResponse,
        container_service_server::ContainerService,
    },
};
use futures_util::Stream;
use tonic::{Request, Response, Status};

use super::{names::Selector, served_by_agents};
use crate::fleet::{inventory::is_meant, registry::Registry};

/// Most containers in one answer.
const MAX_PAGE: usize = 10_000;

/// The controller's part of ContainerService.
pub struct Containers {
    /// The live fleet.
    pub registry: Registry,
}

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Containers {
    fn list(&self, request: &ListContainersRequest) -> Result<ListContainersResponse, Status> {
        let agents = Selector::parse(&request.agent_selector)?;
        let labels = Selector::parse(&request.label_selector)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(Position::parse(token)?),
        };
        let limit = match usize::try_from(request.page_size).unwrap_or(MAX_PAGE) {
            0 => MAX_PAGE,
            size => size.min(MAX_PAGE),
        };
        let mut response = ListContainersResponse::default();
        let mut more = false;
        self.registry.visit(&agents, |view, held| {
            let stale = view.stale;
            // Agents come in the order of their names, so those before the page are passed whole.
            let passed = after.as_ref().is_some_and(|a| view.agent < a.agent);
            if !passed && !more {
                let mut chosen: Vec<&Container> = held
                    .containers
                    .values()
                    .filter(|c| request.all || c.state == "running" || c.state == "paused")
                    .filter(|c| request.container.is_empty() || is_meant(c, &request.container))
                    .filter(|c| labels.is_empty() || labels.matches(&c.labels))
                    .filter(|c| after.as_ref().is_none_or(|a| a.is_before(&view.agent, c)))
                    .collect();
                chosen.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
                let room = limit - response.containers.len();
                more = chosen.len() > room;
                let page = chosen.into_iter().take(room);
                response.containers.extend(page.map(|c| Container { stale, ..c.clone() }));
            }
            if after.is_none() {
                response.views.push(view);
            }
        });
        if more && let Some(last) = response.containers.last() {
            response.next_page_token = Position::of(last).token();
        }
        Ok(response)
    }
}

/// A place in the order of all containers.
struct Position {
    agent: String,
    name: String,
    id: String,
}

impl Position {
    fn of(container: &Container) -> Self {
        let Container { agent, name, id, .. } = container.clone();
        Self { agent, name, id }
    }

    fn is_before(&self, agent: &str, container: &Container) -> bool {
        (self.agent.as_str(), self.name.as_str(), self.id.as_str())
            < (agent, container.name.as_str(), container.id.as_str())
    }

    fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode([self.agent.as_str(), &self.name, &self.id].join("\n"))
    }

    fn parse(token: &str) -> Result<Self, Status> {
        let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|b| String::from_utf8(b).ok());
        let text = text.unwrap_or_default();
        match text.split('\n').collect::<Vec<_>>().as_slice() {
            [agent, name, id] => {
                Ok(Self { agent: (*agent).into(), name: (*name).into(), id: (*id).into() })
            }
            _ => Err(bad_field("page_token", "this is no page token of an earlier answer")),
        }
    }
}

#[tonic::async_trait]
impl ContainerService for Containers {
    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersResponse>, Status> {
        self.list(request.get_ref()).map(Response::new)
    }

    async fn inspect_container(
        &self,
        _: Request<InspectContainerRequest>,
    ) -> Result<Response<InspectContainerResponse>, Status> {
        Err(served_by_agents())
    }

    async fn start_container(
        &self,
        _: Request<StartContainerRequest>,
    ) -> Result<Response<StartContainerResponse>, Status> {
        Err(served_by_agents())
    }

    async fn stop_container(
        &self,
        _: Request<StopContainerRequest>,
    ) -> Result<Response<StopContainerResponse>, Status> {
        Err(served_by_agents())
    }

    async fn restart_container(
        &self,
        _: Request<RestartContainerRequest>,
    ) -> Result<Response<RestartContainerResponse>, Status> {
        Err(served_by_agents())
    }

    async fn kill_container(
        &self,
        _: Request<KillContainerRequest>,
    ) -> Result<Response<KillContainerResponse>, Status> {
        Err(served_by_agents())
    }

    type StreamLogsStream = Frames<StreamLogsResponse>;

    async fn stream_logs(
        &self,
        _: Request<StreamLogsRequest>,
    ) -> Result<Response<Self::StreamLogsStream>, Status> {
        Err(served_by_agents())
    }

    type StreamStatsStream = Frames<StreamStatsResponse>;

    async fn stream_stats(
        &self,
        _: Request<StreamStatsRequest>,
    ) -> Result<Response<Self::StreamStatsStream>, Status> {
        Err(served_by_agents())
    }
}
