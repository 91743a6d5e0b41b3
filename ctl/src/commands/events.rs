//! `events`: what happens on the hosts, a line each as docker prints it, through lost links without a
//! lost or doubled event as far as the engines remember.

use std::collections::{BTreeMap, HashMap};

use dockctl_api::v1::{
    Event, StreamEventsRequest, StreamEventsResponse, system_service_client::SystemServiceClient,
};
use prost_types::Timestamp;

use serde_json::{Map, Value, json};

use super::{
    Ctx,
    fleet_filter::{self, Filters},
};
use crate::{
    args::{self, Format},
    error::{Error, Result},
    format::Template,
    moment,
    output::{
        clean, human, json as shown,
        printer::{Printer, To},
    },
    resolve,
    retry::Retry,
    select::{On, Selection},
};

/// `dockctl events`, of the fleet or of a selection.
pub(crate) async fn run(ctx: &Ctx, args: args::Events) -> Result<()> {
    let (on, labels) = (args.selector.on.as_ref(), &args.selector.label);
    let agent = On::agent(on).unwrap_or_default().to_owned();
    // One agent is asked for, not selected.
    let on = on.filter(|_| agent.is_empty());
    let template = Template::of_list(args.format.as_deref())?;
    if template.as_ref().is_some_and(Template::is_table) {
        return Err(Error::usage("events have no table: leave \"table\" out of the format"));
    }
    let filters = Filters::read(&args.filter, &fleet_filter::EVENTS)?;
    let selection = Selection::new(&ctx.session, on, labels, &[]).await?;
    let request = StreamEventsRequest {
        agent: agent.clone(),
        since: args.since.map(|t| t.0),
        until: args.until.map(|t| t.0),
        ..StreamEventsRequest::default()
    };
    let mut printer = Printer::start(ctx.term, false)?;
    let mut show = Show { format: ctx.format, whole: args.no_trunc, selection, filters, template };
    let result = follow(ctx, request, &mut show, &mut printer).await;
    match printer.finish(result) {
        Err(error @ Error::Told(_)) if !agent.is_empty() => {
            Err(resolve::explain_agent(&ctx.session, &agent, error).await)
        }
        done => done,
    }
}

/// Which events are shown, and how.
struct Show {
    format: Format,
    whole: bool,
    selection: Selection,
    filters: Filters,
    template: Option<Template>,
}

impl Show {
    fn wants(&self, agent: &str, event: &Event) -> bool {
        let labelled = !self.selection.has_labels() || event.r#type == "container";
        let name = event.attributes.get("name").map_or("", String::as_str);
        labelled
            && fleet_filter::event(&self.filters, event)
            && self.selection.fits(agent, &event.actor_id, name, &event.attributes)
    }
}

async fn follow(
    ctx: &Ctx,
    request: StreamEventsRequest,
    show: &mut Show,
    printer: &mut Printer,
) -> Result<()> {
    let who = if request.agent.is_empty() { "the controller" } else { &request.agent };
    let mut retry = Retry::new(ctx.term, who);
    let mut seen = Seen::new(request.clone(), moment::timestamp_now());
    loop {
        let opening = ctx.session.call(None, |channel| {
            let request = seen.request();
            async move { SystemServiceClient::new(channel).stream_events(request).await }
        });
        let error = match opening.await {
            Err(error) => error,
            Ok(mut stream) => {
                retry.opened();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            retry.alive();
                            if let Some(notice) = &message.notice
                                && (message.agent.is_empty()
                                    || show.selection.hosts().fits(&message.agent))
                            {
                                ctx.tell(&message.agent, notice);
                            }
                            if let Some(event) = &message.event
                                && seen.is_new(&message.agent, event)
                                && show.wants(&message.agent, event)
                            {
                                let text = text(show, &message, event)?;
                                printer.send(To::Out, text.into()).await?;
                            }
                        }
                        Ok(None) => return Ok(()),
                        Err(status) => break Error::from(status),
                    }
                }
            }
        };
        retry.after(error).await?;
        seen.cut();
    }
}

/// An event as docker's own type has it, which is what its JSON and its templates show; with the agent.
fn docker_event(agent: &str, event: &Event, json: bool) -> Value {
    let time = event.time.unwrap_or_default();
    let nanos = time.seconds.saturating_mul(1_000_000_000).saturating_add(time.nanos.into());
    let attributes: BTreeMap<&String, &String> = event.attributes.iter().collect();
    let name = |go: &str, plain: &str| if json { plain } else { go }.to_owned();
    let mut all = Map::new();
    // What older clients read; the engine has it for containers and images.
    let old = matches!(event.r#type.as_str(), "container" | "image");
    if old || !json {
        let text = |text: &str| Value::from(if old { text } else { "" });
        all.insert(name("Status", "status"), text(&event.action));
        all.insert(name("ID", "id"), text(&event.actor_id));
        let from = event.attributes.get("image").map_or("", String::as_str);
        if event.r#type == "container" || !json {
            all.insert(name("From", "from"), text(from));
        }
    }
    all.insert("Type".to_owned(), event.r#type.as_str().into());
    all.insert("Action".to_owned(), event.action.as_str().into());
    all.insert("Actor".to_owned(), json!({"ID": event.actor_id, "Attributes": attributes}));
    all.insert(name("Scope", "scope"), "local".into());
    all.insert(name("Time", "time"), time.seconds.into());
    all.insert(name("TimeNano", "timeNano"), nanos.into());
    all.insert("Agent".to_owned(), agent.into());
    all.into()
}

fn text(show: &Show, message: &StreamEventsResponse, event: &Event) -> Result<String> {
    if let Some(template) = &show.template {
        return template.value(&docker_event(&message.agent, event, template.is_json()));
    }
    match show.format {
        Format::Table => Ok(line(&message.agent, event, show.whole)),
        format => shown::item(format, &shown::value("StreamEventsResponse", message)?),
    }
}

/// An event in one line: time, agent, type, action, id, and the attributes in their order. Ids are
/// shortened unless `whole`.
fn line(agent: &str, event: &Event, whole: bool) -> String {
    let id = |text: &str| match whole || !human::is_id(text) {
        true => text.to_owned(),
        false => human::short_id(text).to_owned(),
    };
    let attributes: BTreeMap<&String, &String> = event.attributes.iter().collect();
    let pair = |(key, value): (&&String, &&String)| format!("{key}={}", id(value));
    let mut pairs: Vec<String> = attributes.iter().map(pair).collect();
    if event.inferred {
        pairs.push("inferred=true".to_owned()); // the agent saw it by comparison, later
    }
    let pairs = if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) };
    let time = moment::rfc3339(event.time.as_ref());
    let id = id(&event.actor_id);
    let text = format!("{time} {agent} {} {} {id}{pairs}", event.r#type, event.action);
    clean(&text) + "\n"
}

/// Which events were shown. Each engine has a clock of its own, so each agent is remembered by itself:
/// the last time, and what happened at just this time.
struct Seen {
    asked: StreamEventsRequest,
    started: Timestamp,
    cut: bool,
    last: HashMap<String, (Stamp, Vec<Event>)>,
}

type Stamp = (i64, i32);

impl Seen {
    fn new(asked: StreamEventsRequest, started: Timestamp) -> Self {
        Self { asked, started, cut: false, last: HashMap::new() }
    }

    /// The request to open the stream with now: since the oldest of the agents' last events, so that
    /// none is missed; what comes twice is known.
    fn request(&self) -> StreamEventsRequest {
        let mut request = self.asked.clone();
        if self.cut {
            let oldest = self.last.values().map(|(stamp, _)| *stamp).min();
            let oldest = oldest.map(|(seconds, nanos)| Timestamp { seconds, nanos });
            request.since = oldest.or(self.asked.since).or(Some(self.started));
        }
        request
    }

    /// The stream is to be opened again.
    fn cut(&mut self) {
        self.cut = true;
    }

    /// Whether an event was not shown yet; remembers it.
    fn is_new(&mut self, agent: &str, event: &Event) -> bool {
        let stamp = event.time.map_or((0, 0), |t| (t.seconds, t.nanos));
        match self.last.get_mut(agent) {
            Some((last, _)) if self.cut && stamp < *last => false,
            Some((last, same)) if stamp == *last => {
                let new = !same.contains(event);
                if new {
                    same.push(event.clone());
                }
                new
            }
            _ => {
                self.last.insert(agent.to_owned(), (stamp, vec![event.clone()]));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seconds: i64, action: &str) -> Event {
        Event {
            r#type: "container".to_owned(),
            action: action.to_owned(),
            actor_id: "3f2a".to_owned(),
            attributes: [("name", "nginx"), ("image", "nginx:1\x1b[2J")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            time: Some(Timestamp { seconds, nanos: 123_456_789 }),
            inferred: false,
        }
    }

    #[test]
    fn lines_read_as_dockers() {
        assert_eq!(
            line("web-1", &event(1_795_361_220, "start"), false),
            "2026-11-22T15:27:00.123456789Z web-1 container start 3f2a (image=nginx:1, name=nginx)\n"
        );
        let id = "0123456789abcdef".repeat(4);
        let attributes = [("container".to_owned(), id.clone())].into();
        let event = Event { actor_id: id.clone(), attributes, ..event(1, "connect") };
        assert!(line("a", &event, false).ends_with(" 0123456789ab (container=0123456789ab)\n"));
        assert!(line("a", &event, true).ends_with(&format!(" {id} (container={id})\n")));
    }

    #[test]
    fn a_resumed_stream_shows_each_event_once() {
        let mut seen =
            Seen::new(StreamEventsRequest::default(), Timestamp { seconds: 50, nanos: 0 });
        assert!(seen.is_new("a", &event(100, "start")));
        assert!(seen.is_new("b", &event(90, "start")));
        assert!(seen.is_new("a", &event(101, "die")));
        seen.cut();
        assert_eq!(seen.request().since.map(|t| t.seconds), Some(90));
        assert!(!seen.is_new("b", &event(90, "start")));
        assert!(!seen.is_new("a", &event(100, "start")));
        assert!(!seen.is_new("a", &event(101, "die")));
        assert!(seen.is_new("a", &event(101, "destroy")));
        assert!(seen.is_new("b", &event(95, "stop")));
        assert!(seen.is_new("c", &event(60, "start")));
    }

    #[test]
    fn without_any_event_a_resume_begins_at_the_start() {
        let mut seen =
            Seen::new(StreamEventsRequest::default(), Timestamp { seconds: 50, nanos: 0 });
        assert_eq!(seen.request().since, None);
        seen.cut();
        assert_eq!(seen.request().since.map(|t| t.seconds), Some(50));
    }
}
