//! The fleet as it is now: every enrolled agent, its session if it has one, and its host's view. The
//! store is behind it: what must outlive the process is written there first.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::{Bound, ControlFlow},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use bytes::Bytes;
use dockctl_api::{
    error::{self, reason, status},
    link::v1::goodbye::Reason,
    v1::{Agent, AgentStanding, AgentState, Event, Notice, StreamEventsResponse},
};
use dockctl_link::{controller::Session, framing, liveness::State};
use tokio::sync::broadcast;
use tonic::{Code, Status};

mod visited;

pub use visited::Visited;

use super::inventory::View;
use crate::{
    app::names::Selector,
    store::{AgentRecord, Standing, system_time},
};

/// Events and changes that a slow watcher may lag behind: of events it is cut off then, of changes it gets
/// all agents anew.
const WATCH_QUEUE: usize = 4_096;
/// Former process ids remembered for each agent.
const FORMER: usize = 8;

/// The fleet; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    fleet: Arc<RwLock<Fleet>>,
    changes: broadcast::Sender<Change>,
    events: broadcast::Sender<Arc<FleetEvent>>,
}

/// An agent changed: its session, standing, labels, engine or its very existence.
#[derive(Debug, Clone)]
pub enum Change {
    /// The agent with this id; look it up for what it is now.
    Agent(String),
    /// A deleted agent, as it was last.
    Deleted(Box<Agent>),
}

/// How many agents there are.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// With a link.
    pub connected: usize,
    /// With a link on which a heartbeat is overdue.
    pub suspect: usize,
    /// Without a link.
    pub offline: usize,
    /// Revoked or locked.
    pub kept_out: usize,
    /// Calls that wait for their first answer.
    pub calls: usize,
}

/// Something that happened in the fleet, ready to be sent: it is encoded once, however many watch.
#[derive(Debug)]
pub struct FleetEvent {
    /// The agent's id.
    pub agent_id: String,
    /// What it happened to, as [`Event`] has it; None where the agent itself came or went.
    pub kind: Option<String>,
    /// The StreamEventsResponse, gRPC-framed.
    pub framed: Bytes,
}

#[derive(Default)]
struct Fleet {
    agents: HashMap<String, Entry>,
    /// The id of each name.
    by_name: BTreeMap<String, String>,
}

struct Entry {
    record: AgentRecord,
    session: Option<Arc<Session>>,
    cause: String,
    view: View,
    process: Option<Process>,
    former: VecDeque<String>,
}

/// The agent's process that was admitted last.
struct Process {
    id: String,
    /// Of its newest session.
    epoch: u64,
}

impl Entry {
    fn new(record: AgentRecord) -> Self {
        Self {
            record,
            session: None,
            cause: "it has not connected since the controller started".to_owned(),
            view: View::default(),
            process: None,
            former: VecDeque::new(),
        }
    }

    /// Keeps a process that another one has replaced in mind.
    fn remember(&mut self, process: String) {
        if self.former.contains(&process) {
            return;
        }
        self.former.push_back(process);
        if self.former.len() > FORMER {
            self.former.pop_front();
        }
    }

    fn take(&mut self, record: AgentRecord) {
        if record.revision >= self.record.revision {
            self.record = record;
        }
    }

    /// The session, where the agent may be used: one that is kept out has a moment to read why, and
    /// is no longer believed or asked from the start of it.
    fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref().filter(|_| self.record.standing == Standing::Active)
    }

    /// Whether this is the session of an agent that may be used.
    fn is_current(&self, session: &Session) -> bool {
        self.session().is_some_and(|current| current.epoch == session.epoch)
    }

    fn stale_cause(&self) -> Option<String> {
        if self.session().is_none() {
            return Some(self.offline_cause());
        }
        let engine = &self.view.engine;
        (!engine.available && !engine.error.is_empty())
            .then(|| format!("its Docker engine does not answer: {}", engine.error))
    }

    fn offline_cause(&self) -> String {
        match &self.record.standing {
            Standing::Active => self.cause.clone(),
            Standing::Locked { reason } => format!("its identity is locked: {reason}"),
            Standing::Revoked { reason } if reason.is_empty() => "it was revoked".to_owned(),
            Standing::Revoked { reason } => format!("it was revoked: {reason}"),
        }
    }

    fn to_agent(&self) -> Agent {
        let record = &self.record;
        let health = self.session().map(|s| s.health());
        let (running, total) = self.view.counts();
        let duration = |d: Duration| prost_types::Duration::try_from(d).ok();
        let time = |ms: i64| Some(system_time(ms).into());
        let heard = health.as_ref().map(|h| h.heard_at);
        Agent {
            id: record.id.clone(),
            name: record.name.clone(),
            labels: record.labels.clone(),
            state: match health.as_ref().map(|h| h.state) {
                None => AgentState::Offline,
                Some(State::Live) => AgentState::Connected,
                Some(State::Suspect | State::Dead) => AgentState::Suspect,
            }
            .into(),
            cause: match health.as_ref().map(|h| h.state) {
                None => self.offline_cause(),
                Some(State::Live) => String::new(),
                Some(State::Suspect | State::Dead) => "a heartbeat is overdue".to_owned(),
            },
            standing: match &record.standing {
                Standing::Active => AgentStanding::Active,
                Standing::Locked { .. } => AgentStanding::Locked,
                Standing::Revoked { .. } => AgentStanding::Revoked,
            }
            .into(),
            enrolled_at: time(record.enrolled_at),
            last_seen_at: heard.or_else(|| record.last_seen_at.map(system_time)).map(Into::into),
            connected_at: self.session().map(|s| s.opened_at.into()),
            round_trip: health.as_ref().and_then(|h| h.round_trip).and_then(duration),
            clock_offset: health.as_ref().and_then(|h| h.clock_offset_ms).map(|ms| {
                prost_types::Duration {
                    seconds: ms / 1_000,
                    nanos: i32::try_from(ms % 1_000).unwrap_or(0) * 1_000_000,
                }
            }),
            epoch: record.epoch,
            version: record.version.clone(),
            platform: record.platform.clone(),
            engine: Some(self.view.engine.clone()),
            address: record.address.clone(),
            certificate_expires_at: time(record.certificate_expires_at),
            containers_running: running,
            containers_total: total,
        }
    }
}

impl Registry {
    /// The fleet that the store knows; nobody is connected yet.
    pub fn new(records: Vec<AgentRecord>) -> Self {
        let mut fleet = Fleet::default();
        for record in records {
            fleet.by_name.insert(record.name.clone(), record.id.clone());
            fleet.agents.insert(record.id.clone(), Entry::new(record));
        }
        Self {
            fleet: Arc::new(RwLock::new(fleet)),
            changes: broadcast::Sender::new(WATCH_QUEUE),
            events: broadcast::Sender::new(WATCH_QUEUE),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Fleet> {
        self.fleet.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Fleet> {
        self.fleet.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// How many watch the events.
    pub fn watchers(&self) -> usize {
        self.events.receiver_count()
    }

    /// Events of the whole fleet from now on.
    pub fn events(&self) -> broadcast::Receiver<Arc<FleetEvent>> {
        self.events.subscribe()
    }

    fn changed(&self, id: &str) {
        let _ = self.changes.send(Change::Agent(id.to_owned()));
    }

    fn happened(&self, session: &Session, event: Option<Event>, notice: Option<Notice>) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let kind = event.as_ref().map(|event| event.r#type.clone());
        let message = StreamEventsResponse { agent: session.name.clone(), event, notice };
        let framed = framing::frame_message(&message);
        let event = FleetEvent { agent_id: session.agent_id.clone(), kind, framed };
        let _ = self.events.send(Arc::new(event));
    }

    // --- what the store has written

    /// Takes in an agent that has enrolled, now or before.
    pub fn enrolled(&self, record: AgentRecord) {
        let id = record.id.clone();
        {
            let mut fleet = self.write();
            fleet.by_name.insert(record.name.clone(), id.clone());
            match fleet.agents.get_mut(&id) {
                Some(entry) => entry.take(record),
                None => {
                    fleet.agents.insert(id.clone(), Entry::new(record));
                }
            }
        }
        self.changed(&id);
    }

    /// Takes in a record that the store has written. Writers of one agent may come in another order
    /// than they wrote: the newest record stays, and a deleted agent stays deleted.
    pub fn refresh(&self, record: AgentRecord) {
        let id = record.id.clone();
        {
            let mut fleet = self.write();
            let Some(entry) = fleet.agents.get_mut(&id) else { return };
            entry.take(record);
        }
        self.changed(&id);
    }

    /// Forgets an agent that the store has deleted, and ends its session.
    pub fn remove(&self, id: &str) {
        self.expel(id, Reason::Revoked, "the agent was deleted");
        let gone = {
            let mut fleet = self.write();
            let gone = fleet.agents.remove(id);
            // A new agent may have the name already.
            if let Some(entry) = &gone
                && fleet.by_name.get(&entry.record.name).is_some_and(|named| named == id)
            {
                let name = &entry.record.name;
                fleet.by_name.remove(name);
                // Its late record may have taken the name from the new one.
                let other = fleet.agents.values().find(|other| other.record.name == *name);
                if let Some(id) = other.map(|other| other.record.id.clone()) {
                    fleet.by_name.insert(name.clone(), id);
                }
            }
            gone
        };
        if let Some(entry) = gone {
            let _ = self.changes.send(Change::Deleted(Box::new(entry.to_agent())));
        }
    }

    /// Ends an agent's session, if it has one, and tells it why.
    pub fn expel(&self, id: &str, reason: Reason, message: &str) {
        let session = self.read().agents.get(id).and_then(|e| e.session.clone());
        if let Some(session) = session {
            session.goodbye(reason, message, Duration::ZERO);
        }
    }

    /// Ends every session with a word to come back within `return_within`.
    pub fn drain(&self, return_within: Duration) {
        let sessions: Vec<_> =
            self.read().agents.values().filter_map(|e| e.session.clone()).collect();
        for session in sessions {
            session.goodbye(Reason::Draining, "the controller is stopping", return_within);
        }
    }

    // --- what the link tells

    /// Whether this process may speak for the agent. False when it had been replaced by another one:
    /// then two living machines share one identity. Which came first is told by the epoch, since
    /// admissions at the same moment may get here in any order.
    pub fn admit_process(&self, id: &str, process: &str, epoch: u64) -> bool {
        let mut fleet = self.write();
        let Some(entry) = fleet.agents.get_mut(id) else { return true };
        match &mut entry.process {
            Some(current) if current.id == process => current.epoch = current.epoch.max(epoch),
            // It came before the one that is current, and so is a former one.
            Some(current) if epoch < current.epoch => entry.remember(process.to_owned()),
            _ if entry.former.iter().any(|former| former == process) => return false,
            _ => {
                let newest = Process { id: process.to_owned(), epoch };
                if let Some(former) = entry.process.replace(newest) {
                    entry.remember(former.id);
                }
            }
        }
        true
    }

    /// A session was admitted. It replaces an older one, which is told; an older one that comes late
    /// is itself told and never listed.
    pub fn opened(&self, session: Arc<Session>) {
        let loser = {
            let mut fleet = self.write();
            let entry = fleet.agents.get_mut(&session.agent_id);
            match entry.filter(|entry| entry.record.standing == Standing::Active) {
                // Deleted, revoked or locked while it was being admitted.
                None => {
                    let message = "the agent was revoked or deleted";
                    session.goodbye(Reason::Revoked, message, Duration::ZERO);
                    return;
                }
                Some(entry) => match &entry.session {
                    Some(current) if current.epoch > session.epoch => Some(session.clone()),
                    _ => {
                        entry.view.restart();
                        entry.session.replace(session.clone())
                    }
                },
            }
        };
        if let Some(loser) = loser {
            let message = "a newer session of this agent took over";
            loser.goodbye(Reason::Superseded, message, Duration::ZERO);
        }
        self.changed(&session.agent_id);
        let notice =
            Notice { reason: "AGENT_CONNECTED".into(), message: "the agent is connected".into() };
        self.happened(&session, None, Some(notice));
    }

    /// Works on the view of a session that still is the agent's current one; `loud` tells watchers.
    pub fn told(&self, session: &Session, loud: bool, work: impl FnOnce(&mut View)) {
        {
            let mut fleet = self.write();
            let Some(entry) = fleet.agents.get_mut(&session.agent_id) else { return };
            if !entry.is_current(session) {
                return;
            }
            work(&mut entry.view);
        }
        if loud {
            self.changed(&session.agent_id);
        }
    }

    /// An event came from a session; only that of the agent's current one is passed on.
    pub fn event(&self, session: &Session, event: Event) {
        if self.read().agents.get(&session.agent_id).is_some_and(|e| e.is_current(session)) {
            self.happened(session, Some(event), None);
        }
    }

    /// A session's measurements changed.
    pub fn measured(&self, session: &Session) {
        self.changed(&session.agent_id);
    }

    /// A session ended. Returns whether it was the current one.
    pub fn closed(&self, session: &Session, cause: &str) -> bool {
        let heard = session.health().heard_at;
        {
            let mut fleet = self.write();
            let Some(entry) = fleet.agents.get_mut(&session.agent_id) else { return false };
            if entry.session.as_ref().is_none_or(|s| s.epoch != session.epoch) {
                return false;
            }
            entry.session = None;
            cause.clone_into(&mut entry.cause);
            entry.record.last_seen_at = Some(crate::store::unix_ms(heard));
        }
        self.changed(&session.agent_id);
        let notice = Notice { reason: reason::AGENT_OFFLINE.into(), message: cause.to_owned() };
        self.happened(session, None, Some(notice));
        true
    }

    // --- what users ask

    /// One agent by name or id.
    pub fn agent(&self, name_or_id: &str) -> Result<Agent, Status> {
        let fleet = self.read();
        let entry = fleet.find(name_or_id).ok_or_else(|| not_found(name_or_id))?;
        Ok(entry.to_agent())
    }

    /// The agents that a selector selects, ordered by name.
    pub fn agents(&self, selector: &Selector) -> Vec<Agent> {
        self.read().selected(selector, "").map(Entry::to_agent).collect()
    }

    /// How many agents there are in each state, and how many calls wait for them.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.read().agents.values() {
            counts.calls += entry.session.as_ref().map_or(0, |session| session.calls_waiting());
            let state = entry.session().map(|session| session.state());
            *match (&entry.record.standing, state) {
                (Standing::Locked { .. } | Standing::Revoked { .. }, _) => &mut counts.kept_out,
                (Standing::Active, None) => &mut counts.offline,
                (Standing::Active, Some(State::Live)) => &mut counts.connected,
                (Standing::Active, Some(State::Suspect | State::Dead)) => &mut counts.suspect,
            } += 1;
        }
        counts
    }

    /// The session of one agent by name or id. Errors: AGENT_NOT_FOUND, AGENT_OFFLINE (NOT_SENT).
    pub fn session(&self, name_or_id: &str) -> Result<Arc<Session>, Status> {
        let fleet = self.read();
        let entry = fleet.find(name_or_id).ok_or_else(|| not_found(name_or_id))?;
        entry.session().cloned().ok_or_else(|| offline(entry))
    }

    /// Every selected agent: its id and name, and its session or why it has none; ordered by name.
    pub fn sessions(
        &self,
        selector: &Selector,
    ) -> Vec<(String, String, Result<Arc<Session>, Status>)> {
        let session = |e: &Entry| {
            let session = e.session().cloned().ok_or_else(|| offline(e));
            (e.record.id.clone(), e.record.name.clone(), session)
        };
        self.read().selected(selector, "").map(session).collect()
    }

    /// Whether an agent has labels that a selector selects; false for an unknown one.
    pub fn is_selected(&self, id: &str, selector: &Selector) -> bool {
        selector.is_empty()
            || self.read().agents.get(id).is_some_and(|e| selector.matches(&e.record.labels))
    }

    /// Looks at the labels of one agent by name or id. Errors: AGENT_NOT_FOUND.
    pub fn with_labels<T>(
        &self,
        name_or_id: &str,
        look: impl FnOnce(&HashMap<String, String>) -> T,
    ) -> Result<T, Status> {
        let fleet = self.read();
        let entry = fleet.find(name_or_id).ok_or_else(|| not_found(name_or_id))?;
        Ok(look(&entry.record.labels))
    }

    /// Visits the selected agents in the order of their names, beginning with the name `from`, until the
    /// visitor has enough.
    pub fn visit(
        &self,
        selector: &Selector,
        from: &str,
        mut visitor: impl FnMut(&Visited<'_>) -> ControlFlow<()>,
    ) {
        for entry in self.read().selected(selector, from) {
            if visitor(&Visited(entry)).is_break() {
                return;
            }
        }
    }
}

impl Fleet {
    /// The agents that a selector selects, ordered by name, beginning with the name `from`.
    fn selected<'f>(
        &'f self,
        selector: &'f Selector,
        from: &str,
    ) -> impl Iterator<Item = &'f Entry> + use<'f> {
        let names = self.by_name.range::<str, _>((Bound::Included(from), Bound::Unbounded));
        let entries = names.filter_map(|(_, id)| self.agents.get(id));
        entries.filter(|entry| selector.matches(&entry.record.labels))
    }

    fn find(&self, name_or_id: &str) -> Option<&Entry> {
        self.agents.get(name_or_id).or_else(|| self.agents.get(self.by_name.get(name_or_id)?))
    }
}

/// The status for an agent that is not there.
pub fn not_found(agent: &str) -> Status {
    // A name is short; what is no name need not come back whole.
    let agent = &agent[..agent.floor_char_boundary(100)];
    let message = format!("no agent is called {agent:?}");
    status(Code::NotFound, reason::AGENT_NOT_FOUND, message, &[("agent", agent)])
}

fn offline(entry: &Entry) -> Status {
    let (name, cause) = (&entry.record.name, entry.offline_cause());
    // Nobody shall wait for an agent that is never let back in.
    let kept_out = match &entry.record.standing {
        Standing::Active => None,
        Standing::Locked { .. } => Some(reason::IDENTITY_LOCKED),
        Standing::Revoked { .. } => Some(reason::AGENT_REVOKED),
    };
    if let Some(kept_out) = kept_out {
        let metadata = [("agent", name.as_str()), (error::RAN, error::NOT_SENT)];
        let message = format!("{name} cannot be used: {cause}");
        return status(Code::PermissionDenied, kept_out, message, &metadata);
    }
    let since = entry.record.last_seen_at.map(|ms| ms.to_string()).unwrap_or_default();
    status(
        Code::Unavailable,
        reason::AGENT_OFFLINE,
        format!("{name} is offline: {cause}"),
        &[
            ("agent", name),
            ("cause", &cause),
            ("last_seen_unix_ms", &since),
            (error::RAN, error::NOT_SENT),
        ],
    )
}

#[cfg(test)]
mod tests;
