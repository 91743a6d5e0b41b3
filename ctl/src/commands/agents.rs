//! `agents`: listing, showing, labelling, revoking, removing and watching the hosts of the fleet.

use std::collections::HashMap;

use dockctl_api::v1::{
    Agent, AgentStanding, AgentState, DeleteAgentRequest, RevokeAgentRequest,
    UpdateAgentLabelsRequest, WatchAgentsRequest, WatchAgentsResponse,
    agent_service_client::AgentServiceClient,
};

use super::{Ctx, label, labels};
use crate::{
    args::{Agents, Format},
    error::{Error, Exit, Result},
    format::{Row, Template},
    moment,
    output::{
        clean, human, json,
        printer::{Printer, To},
        table::{Cell, Style, Table},
    },
    resolve,
    retry::Retry,
};

/// `dockctl agents ...`, but for its tokens.
pub(crate) async fn run(ctx: &Ctx, args: Agents) -> Result<()> {
    match args {
        Agents::Ls { selector, quiet, format } => {
            let template = Template::of_list(format.as_deref())?;
            ls(ctx, &selector.unwrap_or_default(), quiet, template).await
        }
        Agents::Show { agent } => {
            let asking = resolve::agent(&ctx.session, &agent);
            let shown = ctx.wait("asking the controller", asking).await;
            let shown = explained(ctx, &agent, shown).await?;
            ctx.show("Agent", &shown, || details(&shown, moment::now()))
        }
        Agents::Label { agent, labels } => relabel(ctx, agent, labels).await,
        Agents::Revoke { agent, reason, yes } => revoke(ctx, agent, reason, yes).await,
        Agents::Rm { agent, yes } => rm(ctx, agent, yes).await,
        Agents::Watch { selector } => watch(ctx, selector.unwrap_or_default()).await,
        // Its own module's.
        Agents::Token(args) => super::tokens::run(ctx, args).await,
    }
}

async fn ls(ctx: &Ctx, selector: &str, quiet: bool, template: Option<Template>) -> Result<()> {
    let list = ctx.wait("listing agents", resolve::agents(&ctx.session, selector)).await?;
    if let Some(template) = template.filter(|_| !quiet) {
        let now = moment::now();
        let rows: Vec<Row> = list.iter().map(|agent| row(agent, now)).collect();
        return ctx.print_made(template.rows(&COLUMNS, &rows)?);
    }
    ctx.show_list("Agent", &list, || match quiet {
        true => list.iter().map(|a| clean(&a.name) + "\n").collect(),
        false => table(&list, moment::now()).show(ctx.term),
    })
}

async fn relabel(ctx: &Ctx, agent: String, changes: Vec<String>) -> Result<()> {
    let mut request = UpdateAgentLabelsRequest { agent: agent.clone(), ..Default::default() };
    for change in changes {
        match change.strip_suffix('-') {
            Some(key) if !key.is_empty() && !key.contains('=') => {
                request.remove.push(key.to_owned())
            }
            _ => {
                let (key, value) =
                    label(&change).map_err(|e| e.hint("and key- takes a label away"))?;
                request.set.insert(key, value);
            }
        }
    }
    let call = ctx.session.ask(|channel| {
        let request = request.clone();
        async move { AgentServiceClient::new(channel).update_agent_labels(request).await }
    });
    let answer = ctx.wait("changing labels", call).await;
    let changed = explained(ctx, &agent, answer).await?.agent.unwrap_or_default();
    ctx.show("Agent", &changed, || format!("{} {}\n", clean(&changed.name), shown_labels(&changed)))
}

async fn revoke(ctx: &Ctx, agent: String, reason: String, yes: bool) -> Result<()> {
    ctx.confirm(
        yes,
        &format!("Shut {} out for good? It can only come back by joining anew.", clean(&agent)),
    )?;
    let call = ctx.session.ask(|channel| {
        let request = RevokeAgentRequest { agent: agent.clone(), reason: reason.clone() };
        async move { AgentServiceClient::new(channel).revoke_agent(request).await }
    });
    let answer = ctx.wait("revoking", call).await;
    let revoked = explained(ctx, &agent, answer).await?.agent.unwrap_or_default();
    ctx.show("Agent", &revoked, || format!("{}\n", clean(&agent)))
}

async fn rm(ctx: &Ctx, agent: String, yes: bool) -> Result<()> {
    ctx.confirm(yes, &format!("Revoke {} and remove it from the list?", clean(&agent)))?;
    let call = ctx.session.ask(|channel| {
        let request = DeleteAgentRequest { agent: agent.clone() };
        async move { AgentServiceClient::new(channel).delete_agent(request).await }
    });
    let answer = ctx.wait("removing", call).await;
    let answer = explained(ctx, &agent, answer).await?;
    ctx.show("DeleteAgentResponse", &answer, || format!("{}\n", clean(&agent)))
}

/// Each agent as it is, then each change, through a lost controller. What is the same as before the
/// loss is not told again.
async fn watch(ctx: &Ctx, selector: String) -> Result<()> {
    let mut printer = Printer::start(ctx.term, false)?;
    let result = watching(ctx, WatchAgentsRequest { selector }, &mut printer).await;
    printer.finish(result)
}

async fn watching(ctx: &Ctx, request: WatchAgentsRequest, printer: &mut Printer) -> Result<()> {
    let mut retry = Retry::new(ctx.term, "the controller");
    let mut known: HashMap<String, String> = HashMap::new();
    loop {
        let opening = ctx.session.call(None, |channel| {
            let request = request.clone();
            async move { AgentServiceClient::new(channel).watch_agents(request).await }
        });
        let error = match opening.await {
            Err(error) => error,
            Ok(mut stream) => {
                retry.opened();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            retry.alive();
                            if let Some(text) = news(ctx, &message, &mut known)? {
                                printer.send_own(To::Out, text).await?;
                            }
                        }
                        Ok(None) => return Ok(()),
                        Err(status) => break Error::from(status),
                    }
                }
            }
        };
        retry.after(error).await?;
    }
}

/// A change as a line, or nothing where a person would see no difference.
fn news(
    ctx: &Ctx,
    message: &WatchAgentsResponse,
    known: &mut HashMap<String, String>,
) -> Result<Option<String>> {
    let agent = message.agent.clone().unwrap_or_default();
    let is_gone = message.deleted || message.left;
    let (state, style) = match (message.deleted, message.left) {
        (true, _) => ("deleted".to_owned(), Style::Dim),
        (_, true) => ("left".to_owned(), Style::Dim),
        _ => state(&agent, moment::now()),
    };
    // Without times, which differ although nothing has happened; a line does not tell the engine either.
    let engine = agent.engine.as_ref().filter(|_| ctx.format != Format::Table);
    let what = format!("{} {engine:?} {} {}", agent.state, note(&agent), shown_labels(&agent));
    let before = match is_gone {
        true => known.remove(&agent.id),
        false => known.insert(agent.id.clone(), what.clone()),
    };
    if !is_gone && before.is_some_and(|before| before == what) {
        return Ok(None);
    }
    if ctx.format != Format::Table {
        let value = json::value("WatchAgentsResponse", message)?;
        return json::item(ctx.format, &value).map(|text| Some(ctx.safe(text)));
    }
    let mut line = Table::bare(&[20, 16, 12]);
    line.row(vec![
        moment::seconds(Some(&moment::timestamp_now())).into(),
        agent.name.as_str().into(),
        Cell::styled(state, style),
        note(&agent).into(),
    ]);
    Ok(Some(line.render(ctx.term.color())))
}

async fn explained<T>(ctx: &Ctx, agent: &str, result: Result<T>) -> Result<T> {
    match result {
        Err(error) => Err(resolve::explain_agent(&ctx.session, agent, error).await),
        done => done,
    }
}

/// What a list shows of an agent: the names that templates have for it and its headers.
const COLUMNS: [(&str, &str); 10] = [
    ("Name", "NAME"),
    ("State", "STATE"),
    ("Engine", "ENGINE"),
    ("Containers", "CONTAINERS"),
    ("RoundTrip", "ROUND TRIP"),
    ("Version", "VERSION"),
    ("Labels", "LABELS"),
    ("Note", "NOTE"),
    ("ID", "ID"),
    ("Address", "ADDRESS"),
];
/// As many of them are in the table that is shown unasked.
const SHOWN: usize = 8;

fn cells(agent: &Agent, now: i64) -> [String; COLUMNS.len()] {
    let engine = agent.engine.as_ref().filter(|e| e.available);
    [
        agent.name.clone(),
        state(agent, now).0,
        engine.map(|e| e.version.clone()).unwrap_or_default(),
        format!("{}/{}", agent.containers_running, agent.containers_total),
        human::millis(agent.round_trip.as_ref()),
        agent.version.clone(),
        labels(&agent.labels),
        note(agent),
        agent.id.clone(),
        agent.address.clone(),
    ]
}

fn row(agent: &Agent, now: i64) -> Row {
    let mut cells = cells(agent, now).into_iter();
    Row::new(COLUMNS.map(|(name, _)| (name, cells.next().unwrap_or_default())), &agent.labels)
}

fn table(agents: &[Agent], now: i64) -> Table {
    let headers = COLUMNS.map(|(_, header)| header);
    let mut table = Table::new(&headers[..SHOWN]).giving_way(&[6, 7]);
    for agent in agents {
        let mut cells: Vec<Cell> =
            cells(agent, now).into_iter().take(SHOWN).map(Cell::from).collect();
        cells[1].style(state(agent, now).1);
        table.row(cells);
    }
    table
}

/// The state in a word, with how long it has been so where that matters.
fn state(agent: &Agent, now: i64) -> (String, Style) {
    match agent.standing() {
        AgentStanding::Revoked => return ("revoked".to_owned(), Style::Bad),
        AgentStanding::Locked => return ("locked".to_owned(), Style::Bad),
        AgentStanding::Active | AgentStanding::Unspecified => {}
    }
    let since = agent.last_seen_at.map(|t| human::short_span(now.saturating_sub(t.seconds)));
    match (agent.state(), since) {
        (AgentState::Connected, _) => ("connected".to_owned(), Style::Good),
        (AgentState::Suspect, _) => ("suspect".to_owned(), Style::Warn),
        (AgentState::Offline | AgentState::Unspecified, Some(since)) => {
            (format!("offline {since}"), Style::Bad)
        }
        (AgentState::Offline | AgentState::Unspecified, None) => ("offline".to_owned(), Style::Bad),
    }
}

/// What a person should know besides the state.
fn note(agent: &Agent) -> String {
    let mut notes = Vec::new();
    if !agent.cause.is_empty() {
        notes.push(agent.cause.clone());
    }
    if let Some(engine) = agent.engine.as_ref().filter(|e| !e.available) {
        notes.push(match engine.error.as_str() {
            "" => "Docker does not answer".to_owned(),
            error => format!("Docker does not answer: {error}"),
        });
    }
    if let Some(offset) = agent.clock_offset.filter(|o| o.seconds.abs() >= 5) {
        notes.push(format!("its clock is {} s off", offset.seconds));
    }
    clean(&notes.join("; "))
}

fn shown_labels(agent: &Agent) -> String {
    clean(&labels(&agent.labels))
}

/// All of an agent, a line each.
fn details(agent: &Agent, now: i64) -> String {
    let engine = agent.engine.clone().unwrap_or_default();
    let engine = match engine.available {
        true => format!("Docker {} (API {})", engine.version, engine.api_version),
        false => String::new(),
    };
    let lines = [
        ("name", agent.name.clone()),
        ("id", agent.id.clone()),
        ("state", state(agent, now).0),
        ("note", note(agent)),
        ("labels", labels(&agent.labels)),
        ("engine", engine),
        ("containers", format!("{} of {} run", agent.containers_running, agent.containers_total)),
        ("round trip", human::millis(agent.round_trip.as_ref())),
        ("clock offset", signed_millis(agent)),
        ("version", agent.version.clone()),
        ("platform", agent.platform.clone()),
        ("address", agent.address.clone()),
        ("session", agent.epoch.to_string()),
        ("enrolled", moment::seconds(agent.enrolled_at.as_ref())),
        ("connected", moment::seconds(agent.connected_at.as_ref())),
        ("last seen", moment::seconds(agent.last_seen_at.as_ref())),
        ("certificate ends", moment::seconds(agent.certificate_expires_at.as_ref())),
    ];
    facts(&lines)
}

fn signed_millis(agent: &Agent) -> String {
    agent.clock_offset.map_or_else(String::new, |o| {
        format!(
            "{:+} ms",
            o.seconds.saturating_mul(1000).saturating_add(i64::from(o.nanos / 1_000_000))
        )
    })
}

/// Names and values under one another, without those that have no value.
pub(super) fn facts(lines: &[(&str, String)]) -> String {
    let mut table = Table::bare(&[0, 0]);
    let lines = lines.iter().filter(|(_, value)| !value.is_empty());
    lines.for_each(|(name, value)| table.row(vec![(*name).into(), value.into()]));
    table.render(false)
}

/// The failure for an answer that lacks what it must have.
pub(super) fn empty_answer() -> Error {
    Error::new(Exit::Failed, "the controller's answer is empty")
        .hint("bring client and controller to the same version: see `dockctl version`")
}

#[cfg(test)]
mod tests {
    use dockctl_api::v1::EngineStatus;
    use prost_types::{Duration, Timestamp};

    use super::*;

    fn agents() -> [Agent; 2] {
        let connected = Agent {
            name: "web-1".to_owned(),
            state: AgentState::Connected.into(),
            standing: AgentStanding::Active.into(),
            labels: [("env", "prod"), ("dc", "b")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            round_trip: Some(Duration { seconds: 0, nanos: 420_000 }),
            version: "0.1.0".to_owned(),
            engine: Some(EngineStatus {
                available: true,
                version: "20.10.24".to_owned(),
                ..EngineStatus::default()
            }),
            containers_running: 2,
            containers_total: 3,
            ..Agent::default()
        };
        let offline = Agent {
            name: "web-9".to_owned(),
            state: AgentState::Offline.into(),
            cause: "no heartbeat".to_owned(),
            last_seen_at: Some(Timestamp { seconds: 100, nanos: 0 }),
            ..Agent::default()
        };
        [connected, offline]
    }

    #[test]
    fn the_list_can_be_a_template() {
        let template = Template::of_list(Some("{{.Name}} {{.State}} {{.Label \"env\"}}")).unwrap();
        let rows = agents().map(|agent| row(&agent, 220));
        let text = template.unwrap().rows(&COLUMNS, &rows).unwrap();
        assert_eq!(text, "web-1 connected prod\nweb-9 offline 2m \n");
    }

    #[test]
    fn the_list_says_state_and_cause() {
        assert_eq!(
            table(&agents(), 220).render(false),
            "NAME    STATE        ENGINE     CONTAINERS   ROUND TRIP   VERSION   LABELS          NOTE\n\
             web-1   connected    20.10.24   2/3          0.42 ms      0.1.0     dc=b,env=prod\n\
             web-9   offline 2m              0/0                                                 no heartbeat\n"
        );
    }

    #[test]
    fn notes_tell_of_docker_and_clocks() {
        let agent = Agent {
            engine: Some(EngineStatus { error: "refused".to_owned(), ..EngineStatus::default() }),
            clock_offset: Some(Duration { seconds: -7, nanos: 0 }),
            ..Agent::default()
        };
        assert_eq!(note(&agent), "Docker does not answer: refused; its clock is -7 s off");
    }

    #[test]
    fn details_leave_out_what_is_not_known() {
        let text = details(&agents()[1], 220);
        assert!(text.starts_with("name         web-9\n"), "{text}");
        assert!(!text.contains("platform"), "{text}");
    }
}
