//! From a reference to the container it stands for, and from a bare failure to one that says what to do.
//! A host given is taken at its word; without one the fleet's inventory must have just one match.

use std::time::Duration;

use dockctl_api::{
    error::reason,
    v1::{
        Agent, AgentState, Container, GetAgentRequest, ListAgentsRequest, ListContainersRequest,
        ListContainersResponse, agent_service_client::AgentServiceClient,
        container_service_client::ContainerServiceClient,
    },
};

use crate::{
    client::LARGEST_ANSWER,
    error::{Error, Exit, Result},
    moment,
    output::{clean, human},
    refs::Ref,
    select::SHORTEST_ID,
    session::Session,
};

/// Containers on one page of a fleet list.
const PAGE: u32 = 2_000;
/// When a container that is not in the fleet's list is looked for again.
const BEHIND: Duration = Duration::from_millis(200);
/// Candidates and suggestions listed at most.
const MANY: usize = 20;

/// One container on one agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The agent's name or id.
    pub(crate) agent: String,
    /// The container, as the user named it.
    pub(crate) container: String,
}

impl Target {
    /// As people write it: `host/container`.
    pub(crate) fn shown(&self) -> String {
        format!("{}/{}", self.agent, self.container)
    }
}

/// Finds what a reference stands for. Fails with exit 4 where nothing does, with exit 1 and the
/// candidates where several do.
pub(crate) async fn resolve(session: &Session, wanted: &Ref) -> Result<Target> {
    let container = wanted.container.clone();
    if let Some(agent) = wanted.host.clone() {
        let target = Target { agent, container };
        return match may_be_short_id(&target.container) {
            true => by_name(session, target).await,
            false => Ok(target),
        };
    }
    let request = ListContainersRequest {
        all: true,
        container: container.clone(),
        ..ListContainersRequest::default()
    };
    let mut found = list(session, request.clone()).await?.containers;
    if found.is_empty() {
        // It may have been made a moment ago: the fleet's list is a little behind the engines.
        tokio::time::sleep(BEHIND).await;
        found = list(session, request).await?.containers;
    }
    // As the engine does: a whole name or id counts more than the beginning of an id.
    let is_exact = |c: &&Container| c.name == container || c.id == container;
    let exact: Vec<&Container> = found.iter().filter(is_exact).collect();
    let candidates = if exact.is_empty() { found.iter().collect() } else { exact };
    match candidates.as_slice() {
        [one] => Ok(Target { agent: one.agent.clone(), container }),
        [] => Err(not_found(session, None, &container).await),
        several => {
            let mut error =
                Error::new(Exit::Failed, "several containers of the fleet fit; name one:")
                    .about(container);
            for c in several.iter().take(MANY) {
                error = error.hint(clean(&format!("{}/{}", c.agent, c.name)));
            }
            Err(match several.len().checked_sub(MANY) {
                Some(more @ 1..) => error.hint(format!("… and {more} more")),
                _ => error,
            })
        }
    }
}

/// Whether the engine would take a text for the beginning of an id that is too short to be meant so.
fn may_be_short_id(text: &str) -> bool {
    text.len() < SHORTEST_ID && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The container with just this name on its host: its engine would also take the name for an id's
/// beginning, where the fleet's list does not.
async fn by_name(session: &Session, target: Target) -> Result<Target> {
    let request = ListContainersRequest {
        agent: target.agent.clone(),
        all: true,
        container: target.container.clone(),
        ..ListContainersRequest::default()
    };
    let found = match list(session, request).await {
        Ok(found) => found.containers,
        Err(error) => return Err(explain(session, &target, error).await),
    };
    match found.iter().any(|c| c.name == target.container) {
        true => Ok(target),
        false => Err(not_found(session, Some(&target.agent), &target.container)
            .await
            .hint(format!("the beginning of an id has at least {SHORTEST_ID} digits"))),
    }
}

/// Lists containers through all pages.
pub(crate) async fn list(
    session: &Session,
    mut request: ListContainersRequest,
) -> Result<ListContainersResponse> {
    if request.agent.is_empty() {
        request.page_size = PAGE;
    }
    let mut all = ListContainersResponse::default();
    loop {
        let page = session
            .ask(|channel| {
                let request = request.clone();
                async move {
                    ContainerServiceClient::new(channel)
                        .max_decoding_message_size(LARGEST_ANSWER)
                        .list_containers(request)
                        .await
                }
            })
            .await?;
        all.containers.extend(page.containers);
        all.views.extend(page.views);
        if page.next_page_token.is_empty() || page.next_page_token == request.page_token {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

/// Lists agents.
pub(crate) async fn agents(session: &Session, selector: &str) -> Result<Vec<Agent>> {
    let request = ListAgentsRequest { selector: selector.to_owned() };
    let answer = session
        .ask(|channel| {
            let request = request.clone();
            async move {
                AgentServiceClient::new(channel)
                    .max_decoding_message_size(LARGEST_ANSWER)
                    .list_agents(request)
                    .await
            }
        })
        .await?;
    Ok(answer.agents)
}

/// The agent that `--on` names or, where it names none, the only one that is connected.
pub(crate) async fn on(session: &Session, on: Option<&str>) -> Result<String> {
    if let Some(agent) = on {
        return Ok(agent.to_owned());
    }
    let mut connected = agents(session, "").await?;
    connected.retain(|agent| agent.state() == AgentState::Connected);
    match connected.as_slice() {
        [one] => Ok(one.name.clone()),
        [] => Err(Error::new(Exit::Unreachable, "no agent is connected")
            .hint("see their states: dockctl agents ls")),
        several => {
            let names = several.iter().take(MANY).map(|a| clean(&a.name)).collect::<Vec<_>>();
            Err(Error::usage("say with --on AGENT which host is meant")
                .hint(format!("connected are {}", names.join(", "))))
        }
    }
}

/// Gets one agent.
pub(crate) async fn agent(session: &Session, name: &str) -> Result<Agent> {
    let request = GetAgentRequest { agent: name.to_owned() };
    let answer = session
        .ask(|channel| {
            let request = request.clone();
            async move { AgentServiceClient::new(channel).get_agent(request).await }
        })
        .await?;
    answer.agent.ok_or_else(|| Error::new(Exit::Failed, "the controller sent no agent"))
}

/// Says of a call's failure what the failure alone cannot tell: how long the agent has been away and
/// why, or which names come near.
pub(crate) async fn explain(session: &Session, target: &Target, error: Error) -> Error {
    if error.has_reason(reason::CONTAINER_NOT_FOUND) {
        return not_found(session, Some(&target.agent), &target.container).await;
    }
    explain_agent(session, &target.agent, error.about(target.shown())).await
}

/// As [`explain`] for a call that names an agent only.
pub(crate) async fn explain_agent(session: &Session, name: &str, error: Error) -> Error {
    let error = error.about(name);
    // These look-ups only help to understand: where they fail, the failure itself stands.
    if error.has_reason(reason::AGENT_NOT_FOUND) {
        let all = agents(session, "").await.unwrap_or_default();
        return did_you_mean(error, name, all.into_iter().map(|a| a.name));
    }
    if error.has_reason(reason::AGENT_OFFLINE)
        && let Ok(agent) = agent(session, name).await
        && let Some(seen) = agent.last_seen_at.as_ref()
    {
        let span = human::short_span(moment::since(Some(seen)));
        let mut hint = format!("last seen {span} ago, at {}", moment::seconds(Some(seen)));
        let said = error.told().is_some_and(|f| f.to_string().contains(&agent.cause));
        if !agent.cause.is_empty() && !said {
            hint.push_str(&format!("; cause: {}", clean(&agent.cause)));
        }
        return error.hint(hint);
    }
    error
}

async fn not_found(session: &Session, agent: Option<&str>, container: &str) -> Error {
    let (on, about) = match agent {
        Some(agent) => (format!(" --on {agent}"), format!("{agent}/{container}")),
        None => (String::new(), container.to_owned()),
    };
    let error = Error::new(Exit::NotFound, format!("No such container: {container}"))
        .about(about)
        .hint(format!("see which there are: dockctl ps -a{on}"));
    let request = ListContainersRequest {
        all: true,
        agent: agent.unwrap_or_default().to_owned(),
        ..ListContainersRequest::default()
    };
    let known = list(session, request).await.unwrap_or_default().containers;
    did_you_mean(error, container, known.into_iter().map(|c| c.name))
}

fn did_you_mean(error: Error, name: &str, known: impl Iterator<Item = String>) -> Error {
    let mut near: Vec<(usize, String)> = known
        .map(|k| (strsim::damerau_levenshtein(name, &k), k))
        .filter(|(distance, k)| *distance <= 2 && *distance < k.chars().count())
        .collect();
    near.sort();
    near.dedup();
    match near.first() {
        Some((_, best)) => error.hint(format!("did you mean {}?", clean(best))),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(name: &str, known: &[&str]) -> Option<String> {
        let error = Error::new(Exit::NotFound, "no");
        let error = did_you_mean(error, name, known.iter().map(|s| (*s).to_owned()));
        error.told().unwrap().hints.first().cloned()
    }

    #[test]
    fn near_names_are_suggested() {
        assert_eq!(hint("ngnix", &["redis", "nginx"]).as_deref(), Some("did you mean nginx?"));
        assert_eq!(hint("web-1", &["db"]), None);
        assert_eq!(hint("x", &["a"]), None);
    }
}
