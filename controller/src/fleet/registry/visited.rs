//! What a visitor of the fleet sees of one agent.

use dockctl_api::v1::AgentView;

use super::{Entry, View};

/// One agent, as [`Registry::visit`] shows it.
pub struct Visited<'f>(pub(super) &'f Entry);

impl Visited<'_> {
    /// Its name.
    pub fn agent(&self) -> &str {
        &self.0.record.name
    }

    /// What it holds.
    pub fn holds(&self) -> &View {
        &self.0.view
    }

    /// How fresh that is.
    pub fn view(&self) -> AgentView {
        let Self(entry) = self;
        let cause = entry.stale_cause();
        let as_of = match entry.session() {
            Some(session) if cause.is_none() => Some(session.health().heard_at),
            _ => entry.view.as_of,
        };
        AgentView {
            agent: entry.record.name.clone(),
            as_of: as_of.map(Into::into),
            stale: cause.is_some(),
            cause: cause.unwrap_or_default(),
        }
    }

    /// Whether it is known to be old.
    pub fn is_stale(&self) -> bool {
        self.0.stale_cause().is_some()
    }
}
