//! What `top` knows and how it answers keys: a state machine without a terminal, a clock or a network.
//! News, samples and keys go in; rows in their order, and what is to be done, come out. Every text of a
//! container is cleaned on its way in.

use std::collections::{HashMap, HashSet, VecDeque};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use dockctl_api::v1::{AgentView, Container, Event, StreamStatsResponse};

use super::columns::Column;
use crate::{output::clean, resolve::Target, watch::News};

/// Lines of a log that are kept, and characters of a line.
const LOG_LINES: usize = 1_000;
const LOG_WIDTH: usize = 1_000;
/// The longest filter, characters.
const LONGEST_FILTER: usize = 100;

/// A container's place: its agent and its id.
pub(super) type Key = (String, String);

/// One container.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) agent: String,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) image: String,
    /// The last sample, while it runs.
    pub(super) usage: Option<Usage>,
}

/// What a container uses.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Percent of one core.
    pub(super) cpu: f64,
    /// Bytes in use.
    pub(super) memory: u64,
    /// Bytes received and sent.
    pub(super) net: (u64, u64),
    /// Bytes read and written.
    pub(super) block: (u64, u64),
    pub(super) pids: u64,
}

impl Row {
    fn is_up(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting")
    }

    /// As people write it.
    pub(super) fn shown(&self) -> String {
        format!("{}/{}", self.agent, self.name)
    }
}

/// What the keys mean now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// They steer.
    Normal,
    /// They are a filter's text.
    Filter,
    /// They answer whether to stop this container.
    Stop(Key),
}

/// What a key asks to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    /// Follow this container's log, or none any more.
    Log(Option<Target>),
    /// Run a shell in it; the text is its name for people.
    Shell(Target, String),
    /// Stop it; the text is its name for people.
    Stop(Target, String),
}

/// The log in the lower half.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) title: String,
    pub(super) lines: VecDeque<String>,
}

/// All that `top` shows.
#[derive(Debug)]
pub(super) struct Model {
    rows: HashMap<Key, Row>,
    /// The agents whose containers may have changed unseen.
    away: HashSet<String>,
    /// The keys of the rows that are shown, in their order.
    order: Vec<Key>,
    stale_order: bool,
    pub(super) sort: Column,
    pub(super) reversed: bool,
    pub(super) filter: String,
    pub(super) all: bool,
    pub(super) mode: Mode,
    selected: Option<Key>,
    /// Where the selected row is, or was when it went.
    cursor: usize,
    /// Rows that the screen has room for, as it was drawn last.
    pub(super) page: usize,
    pub(super) log: Option<Log>,
    /// What happened last, for the bottom line until the next key.
    pub(super) message: String,
    dirty: bool,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            rows: HashMap::new(),
            away: HashSet::new(),
            order: Vec::new(),
            stale_order: false,
            sort: Column::Cpu,
            reversed: false,
            filter: String::new(),
            all: false,
            mode: Mode::Normal,
            selected: None,
            cursor: 0,
            page: 10,
            log: None,
            message: String::new(),
            dirty: true,
        }
    }

    /// Whether there is anything new to draw; asked once for each drawing.
    pub(super) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// The screen has another size, or was another program's.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    fn changed(&mut self) {
        self.stale_order = true;
        self.dirty = true;
    }

    /// Takes in what became of the containers.
    pub(super) fn news(&mut self, news: News) {
        self.changed();
        match news {
            News::All(list, views) => self.replace(list, &views),
            News::Host(agent, list) => {
                let listed: HashSet<&str> = list.iter().map(|c| c.id.as_str()).collect();
                self.rows.retain(|(a, id), _| *a != agent || listed.contains(id.as_str()));
                self.away.remove(&agent);
                list.into_iter().for_each(|c| self.see(c));
            }
            News::Offline(agent) => {
                let rows = self.rows.iter_mut().filter(|((a, _), _)| *a == agent);
                rows.for_each(|(_, row)| row.usage = None);
                self.away.insert(agent);
            }
            News::Event(agent, event) => self.event(agent, event),
        }
    }

    fn replace(&mut self, list: Vec<Container>, views: &[AgentView]) {
        self.away = views.iter().filter(|v| v.stale).map(|v| v.agent.clone()).collect();
        // A controller that has just started does not know yet what was on a host.
        let unknown: HashSet<&str> =
            views.iter().filter(|v| v.as_of.is_none()).map(|v| v.agent.as_str()).collect();
        let listed: HashSet<(&str, &str)> =
            list.iter().map(|c| (c.agent.as_str(), c.id.as_str())).collect();
        self.rows.retain(|(agent, id), _| {
            unknown.contains(agent.as_str()) || listed.contains(&(agent, id))
        });
        list.into_iter().for_each(|c| self.see(c));
    }

    fn see(&mut self, c: Container) {
        let row = self.rows.entry((c.agent.clone(), c.id)).or_default();
        row.agent = clean(&c.agent);
        row.name = clean(&c.name);
        row.image = clean(&c.image);
        row.set_state(&c.state);
    }

    fn event(&mut self, agent: String, event: Event) {
        let attribute = |name: &str| event.attributes.get(name).map(|v| clean(v));
        let state = match event.action.as_str() {
            "create" => "created",
            "start" | "unpause" => "running",
            "pause" => "paused",
            "die" => "exited",
            "destroy" => {
                self.rows.remove(&(agent, event.actor_id));
                return;
            }
            "rename" => "",
            _ => return,
        };
        let (name, image) = (attribute("name"), attribute("image"));
        let shown = clean(&agent);
        let row = self.rows.entry((agent, event.actor_id)).or_default();
        row.agent = shown;
        row.name = name.unwrap_or_else(|| std::mem::take(&mut row.name));
        row.image = image.unwrap_or_else(|| std::mem::take(&mut row.image));
        if !state.is_empty() {
            row.set_state(state);
        }
    }

    /// Takes in what a container uses.
    pub(super) fn sample(&mut self, sample: StreamStatsResponse) {
        let key = (sample.agent, sample.container_id);
        let Some(row) = self.rows.get_mut(&key).filter(|row| row.is_up()) else { return };
        row.usage = Some(Usage {
            cpu: sample.cpu_percent,
            memory: sample.memory_usage,
            net: (sample.network_received, sample.network_sent),
            block: (sample.block_read, sample.block_written),
            pids: sample.pids,
        });
        self.changed();
    }

    /// Takes in a line of the log that is shown.
    pub(super) fn log_line(&mut self, text: &str) {
        let Some(log) = &mut self.log else { return };
        if log.lines.len() >= LOG_LINES {
            log.lines.pop_front();
        }
        log.lines.push_back(clean(text).chars().take(LOG_WIDTH).collect());
        self.dirty = true;
    }

    /// Says something in the bottom line.
    pub(super) fn say(&mut self, text: &str) {
        self.message = clean(text);
        self.dirty = true;
    }

    /// The shown rows in their order, by their keys.
    pub(super) fn order(&mut self) -> &[Key] {
        if std::mem::take(&mut self.stale_order) {
            let needle = self.filter.to_lowercase();
            let shown = self.rows.iter().filter(|(_, row)| {
                (self.all || row.is_up())
                    && (needle.is_empty()
                        || [&row.agent, &row.name, &row.image, &row.state]
                            .iter()
                            .any(|text| text.to_lowercase().contains(&needle)))
            });
            let mut shown: Vec<(&Key, &Row)> = shown.collect();
            shown.sort_unstable_by(|(a_key, a), (b_key, b)| {
                let by_column = self.sort.order(a, b);
                let by_column = if self.reversed { by_column.reverse() } else { by_column };
                by_column.then_with(|| (&a.agent, &a.name, a_key).cmp(&(&b.agent, &b.name, b_key)))
            });
            self.order = shown.into_iter().map(|(key, _)| key.clone()).collect();
            // The cursor stays on its container; where that has gone, on its place.
            let at = self.selected.as_ref().and_then(|s| self.order.iter().position(|k| k == s));
            self.cursor = at.unwrap_or(self.cursor).min(self.order.len().saturating_sub(1));
            self.selected = match &self.selected {
                Some(_) => self.order.get(self.cursor).cloned(),
                None => None,
            };
        }
        &self.order
    }

    /// The row with this key.
    pub(super) fn row(&self, key: &Key) -> Option<&Row> {
        self.rows.get(key)
    }

    /// Whether a row may be old.
    pub(super) fn is_stale(&self, key: &Key) -> bool {
        self.away.contains(&key.0)
    }

    /// The place of the cursor among the shown rows.
    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Hosts with containers, and how many of all are away; containers that run, and all.
    pub(super) fn counts(&self) -> (usize, usize, usize, usize) {
        let hosts: HashSet<&String> =
            self.rows.keys().map(|(agent, _)| agent).chain(&self.away).collect();
        let up = self.rows.values().filter(|row| row.is_up()).count();
        (hosts.len(), self.away.len(), up, self.rows.len())
    }

    /// What all containers use together: percent of a core, and bytes of memory.
    pub(super) fn totals(&self) -> (f64, u64) {
        let usages = self.rows.values().filter_map(|row| row.usage);
        usages.fold((0.0, 0), |(cpu, memory), u| (cpu + u.cpu, memory.saturating_add(u.memory)))
    }

    /// Answers a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Effect> {
        self.dirty = true;
        self.message.clear();
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Effect::Quit);
        }
        match std::mem::replace(&mut self.mode, Mode::Normal) {
            Mode::Normal => self.steer(key),
            Mode::Filter => {
                self.type_filter(key);
                None
            }
            Mode::Stop(at) => match key.code {
                KeyCode::Char('y' | 'Y') => {
                    let row = self.rows.get(&at)?;
                    let shown = row.shown();
                    self.message = format!("stopping {shown}…");
                    Some(Effect::Stop(target(&at), shown))
                }
                _ => {
                    self.message = "nothing was stopped".to_owned();
                    None
                }
            },
        }
    }

    fn steer(&mut self, key: KeyEvent) -> Option<Effect> {
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc if self.log.is_some() => return self.toggle_log(),
            KeyCode::Char('q') => return Some(Effect::Quit),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::PageUp => self.go(-(self.page.max(1) as isize)),
            KeyCode::PageDown => self.go(self.page.max(1) as isize),
            KeyCode::Home => self.go(isize::MIN),
            KeyCode::End => self.go(isize::MAX),
            KeyCode::Left | KeyCode::Char('<') => self.sort_by(self.sort.next(-1)),
            KeyCode::Right | KeyCode::Char('>') => self.sort_by(self.sort.next(1)),
            KeyCode::Char(c @ '1'..='9') => {
                let column = Column::ALL.get(usize::from(c as u8 - b'1'));
                self.sort_by(column.copied().unwrap_or(self.sort));
            }
            KeyCode::Char('r') => {
                self.reversed = !self.reversed;
                self.changed();
            }
            KeyCode::Char('a') => {
                self.all = !self.all;
                self.changed();
            }
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('l') => return self.toggle_log(),
            KeyCode::Esc => {
                self.filter.clear();
                self.changed();
            }
            KeyCode::Char('e') => {
                let at = self.current()?;
                let row = self.rows.get(&at)?;
                if row.state != "running" {
                    self.message = "a shell needs a running container".to_owned();
                    return None;
                }
                return Some(Effect::Shell(target(&at), row.shown()));
            }
            KeyCode::Char('s') => {
                let at = self.current()?;
                match self.rows.get(&at)?.is_up() {
                    true => self.mode = Mode::Stop(at),
                    false => self.message = "it does not run".to_owned(),
                }
            }
            _ => {}
        }
        None
    }

    fn type_filter(&mut self, key: KeyEvent) {
        match key.code {
            KeyCode::Enter => return,
            KeyCode::Esc => {
                self.filter.clear();
                return self.changed();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if !c.is_control() && self.filter.chars().count() < LONGEST_FILTER => {
                self.filter.push(c);
            }
            _ => {}
        }
        self.mode = Mode::Filter;
        self.changed();
    }

    fn toggle_log(&mut self) -> Option<Effect> {
        if self.log.take().is_some() {
            return Some(Effect::Log(None));
        }
        let at = self.current()?;
        let title = self.rows.get(&at)?.shown();
        self.log = Some(Log { title, lines: VecDeque::new() });
        Some(Effect::Log(Some(target(&at))))
    }

    fn sort_by(&mut self, column: Column) {
        // Choosing the same again turns it round, as in a file manager.
        self.reversed = self.sort == column && !self.reversed;
        self.sort = column;
        self.changed();
    }

    fn go(&mut self, by: isize) {
        let last = self.order().len().saturating_sub(1);
        self.cursor = self.cursor.saturating_add_signed(by).min(last);
        self.selected = self.order.get(self.cursor).cloned();
    }

    /// The container under the cursor, which the cursor then stays on.
    fn current(&mut self) -> Option<Key> {
        self.order();
        self.selected = self.order.get(self.cursor).cloned();
        self.selected.clone()
    }
}

impl Row {
    fn set_state(&mut self, state: &str) {
        self.state = clean(state);
        if !self.is_up() {
            self.usage = None;
        }
    }
}

fn target((agent, id): &Key) -> Target {
    Target { agent: agent.clone(), container: id.clone() }
}

#[cfg(test)]
#[path = "model_tests.rs"]
pub(super) mod tests;
