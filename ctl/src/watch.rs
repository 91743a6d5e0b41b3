//! The containers of a selection as they are, and then what becomes of them: events first, then the
//! list, so that nothing is missed between the two; both again where something may have been missed.
//! Nothing is polled. `logs -f`, `stats` and `top` live on this.

use dockctl_api::{
    error::reason,
    v1::{
        AgentView, Container, Event, ListContainersRequest, StreamEventsRequest,
        StreamEventsResponse, system_service_client::SystemServiceClient,
    },
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::mpsc::Sender;

use crate::{
    error::{Error, Exit, Result},
    resolve,
    retry::Retry,
    select::Selection,
    session::Session,
};

/// What is told of a selection.
#[derive(Debug)]
pub(crate) enum News {
    /// All selected containers, running or not, and how fresh each agent's part is.
    All(Vec<Container>, Vec<AgentView>),
    /// All selected containers of one agent, which has come back.
    Host(String, Vec<Container>),
    /// An agent has gone away.
    Offline(String),
    /// Something happened to a selected container of an agent.
    Event(String, Event),
}

/// Tells until nobody listens any more, through lost links.
pub(crate) async fn watch(
    session: &Session,
    selection: &Selection,
    mut retry: Retry,
    news: Sender<News>,
) -> Result<()> {
    loop {
        match once(session, selection, &mut retry, &news).await {
            Ok(()) => return Ok(()),
            Err(error) => retry.after(error).await?,
        }
    }
}

/// One stream of events, and the lists that it calls for.
async fn once(
    session: &Session,
    selection: &Selection,
    retry: &mut Retry,
    news: &Sender<News>,
) -> Result<()> {
    let types = vec!["container".to_owned()];
    let request = StreamEventsRequest { types, ..StreamEventsRequest::default() };
    let opening = session.call(None, |channel| {
        let request = request.clone();
        async move { SystemServiceClient::new(channel).stream_events(request).await }
    });
    let mut events = opening.await?;
    retry.opened();
    let mut hosts = FuturesUnordered::new();
    let mut everything = true;
    loop {
        if std::mem::take(&mut everything) {
            let all = all(session, selection).await?;
            retry.alive();
            if news.send(all).await.is_err() {
                return Ok(());
            }
        }
        let told = tokio::select! {
            message = events.message() => match message? {
                None => return Err(Error::new(Exit::Unreachable, "the events have ended")),
                Some(message) => match of_message(selection, message) {
                    Told::News(told) => told,
                    Told::Back(agent) => {
                        hosts.push(async {
                            let list = selection.list(session, &agent).await;
                            (agent, list)
                        });
                        continue;
                    }
                    Told::Missed => {
                        everything = true;
                        continue;
                    }
                    Told::Nothing => continue,
                },
            },
            Some((agent, list)) = hosts.next(), if !hosts.is_empty() => match list {
                Ok(list) => News::Host(agent, list),
                Err(_) => continue, // away again, or its engine is: it will be told
            },
        };
        if news.send(told).await.is_err() {
            return Ok(());
        }
    }
}

async fn all(session: &Session, selection: &Selection) -> Result<News> {
    let request = ListContainersRequest { all: true, ..selection.request() };
    let mut listed = resolve::list(session, request).await?;
    listed.containers.retain(|c| selection.has(c));
    selection.hosts().keep(&mut listed.views);
    Ok(News::All(listed.containers, listed.views))
}

/// What a message of the events calls for.
enum Told {
    News(News),
    Back(String),
    Missed,
    Nothing,
}

fn of_message(selection: &Selection, message: StreamEventsResponse) -> Told {
    let StreamEventsResponse { agent, event, notice } = message;
    match (event, notice) {
        (Some(event), _) => {
            let name = event.attributes.get("name").map_or("", String::as_str);
            match selection.fits(&agent, &event.actor_id, name, &event.attributes) {
                true => Told::News(News::Event(agent, event)),
                false => Told::Nothing,
            }
        }
        (None, Some(_)) if !agent.is_empty() && !selection.hosts().fits(&agent) => Told::Nothing,
        (None, Some(notice)) => match notice.reason.as_str() {
            reason::AGENT_OFFLINE => Told::News(News::Offline(agent)),
            "AGENT_CONNECTED" => Told::Back(agent),
            _ => Told::Missed,
        },
        (None, None) => Told::Nothing,
    }
}

/// Whether a listed container runs.
pub(crate) fn is_up(c: &Container) -> bool {
    matches!(c.state.as_str(), "running" | "paused" | "restarting")
}
