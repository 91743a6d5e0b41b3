//! Fleet lists of containers, from the inventory. Everything else about containers is served by agents.

use std::ops::ControlFlow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use dockctl_api::{
    error::bad_field,
    v1::{AgentView, Container, ListContainersRequest},
};
use prost::Message as _;
use tonic::Status;

use super::names::Selector;
use crate::fleet::{inventory::Held, registry::Registry};

/// Most containers in one answer.
const MAX_PAGE: usize = 10_000;
/// `stale: true` of a Container, encoded; protobuf lets it follow the other fields.
const STALE: &[u8] = &[13 << 3, 1];

/// A ListContainersResponse whose containers are encoded already.
#[derive(prost::Message)]
pub(super) struct Encoded {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    containers: Vec<Bytes>,
    #[prost(string, tag = "2")]
    next_page_token: String,
    #[prost(message, repeated, tag = "3")]
    views: Vec<AgentView>,
}

/// One page of the containers of the selected agents.
pub(super) fn list(
    registry: &Registry,
    agents: &Selector,
    request: &ListContainersRequest,
) -> Result<Encoded, Status> {
    let labels = Selector::parse(&request.label_selector)?;
    let after = match request.page_token.as_str() {
        "" => None,
        token => Some(Position::parse(token)?),
    };
    let limit = match usize::try_from(request.page_size).unwrap_or(MAX_PAGE) {
        0 => MAX_PAGE,
        size => size.min(MAX_PAGE),
    };
    let wanted = |id: &str, held: &Held| {
        (request.all || held.is_running || held.is_paused)
            && (request.container.is_empty() || is_meant(id, held, &request.container))
            && (labels.is_empty() || has_labels(held, &labels))
    };
    let mut response = Encoded::default();
    let mut last = None;
    let from = after.as_ref().map_or("", |after| &after.agent);
    registry.visit(agents, from, |visited| {
        // The first page tells how fresh each agent's part is; a later one ends when it is full.
        let is_full = !response.next_page_token.is_empty();
        if after.is_none() {
            response.views.push(visited.view());
        } else if is_full {
            return ControlFlow::Break(());
        }
        if is_full {
            return ControlFlow::Continue(());
        }
        let agent = visited.agent();
        let mut chosen: Vec<(&str, &str, &Held)> = visited
            .holds()
            .containers
            .iter()
            .map(|held| (held.name(), held.id(), held))
            .filter(|(name, id, held)| {
                let is_next = |after: &Position| after.is_before(agent, name, id);
                after.as_ref().is_none_or(is_next) && wanted(id, held)
            })
            .collect();
        chosen.sort_unstable_by_key(|(name, id, _)| (*name, *id));
        let room = limit - response.containers.len();
        let more = chosen.len() > room;
        chosen.truncate(room);
        if let Some((name, id, _)) = chosen.last() {
            let [agent, name, id] = [agent, name, id].map(str::to_owned);
            last = Some(Position { agent, name, id });
        }
        let is_stale = visited.is_stale();
        response.containers.extend(chosen.iter().map(|(_, _, held)| match is_stale {
            true => Bytes::from([&held.encoded, STALE].concat()),
            false => held.encoded.clone(),
        }));
        if more {
            response.next_page_token = last.as_ref().map_or_else(String::new, Position::token);
        }
        ControlFlow::Continue(())
    });
    Ok(response)
}

/// Whether a container is meant by a name, an id or the beginning of an id.
fn is_meant(id: &str, held: &Held, reference: &str) -> bool {
    let prefix = reference.len() >= 4 && id.starts_with(reference);
    held.name() == reference || id == reference || prefix
}

fn has_labels(held: &Held, labels: &Selector) -> bool {
    Container::decode(&*held.encoded).is_ok_and(|container| labels.matches(&container.labels))
}

/// A place in the order of all containers.
struct Position {
    agent: String,
    name: String,
    id: String,
}

impl Position {
    fn is_before(&self, agent: &str, name: &str, id: &str) -> bool {
        (self.agent.as_str(), self.name.as_str(), self.id.as_str()) < (agent, name, id)
    }

    fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode([self.agent.as_str(), &self.name, &self.id].join("\n"))
    }

    fn parse(token: &str) -> Result<Self, Status> {
        let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|b| String::from_utf8(b).ok());
        let text = text.unwrap_or_default();
        // An agent's name has no line feed; a container's is what its agent says.
        let parts = text.split_once('\n').and_then(|(agent, rest)| {
            let (name, id) = rest.rsplit_once('\n')?;
            Some(Self { agent: agent.into(), name: name.into(), id: id.into() })
        });
        parts.ok_or_else(|| bad_field("page_token", "this is no page token of an earlier answer"))
    }
}
