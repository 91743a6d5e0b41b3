//! Waiting out a lost link: says so once, waits with jittered backoff, and gives up only on what
//! waiting cannot mend. The backoff is a pure function; the streams that use this resume by themselves.

use std::time::Duration;

use dockctl_api::error::reason;

use crate::{
    error::{Error, Result},
    output::Term,
};

/// The first wait's upper bound and every wait's, milliseconds.
const FIRST: u64 = 200;
const LONGEST: u64 = 5_000;

/// What may be away, as users are told.
const LINK: &str = "link to";
const DOCKER: &str = "Docker on";

/// The state of one stream's link.
pub(crate) struct Retry {
    tell: Box<dyn Fn(&str)>,
    who: String,
    /// Whether the stream was ever open: before, a failure is the command's failure.
    opened: bool,
    /// Whether it has neither given data nor been lost yet: an agent or engine that is away by then was
    /// so from the start.
    untried: bool,
    /// Failures since the last data.
    failures: u32,
    /// What the user was told is away.
    told: Option<&'static str>,
}

impl Retry {
    /// For a stream from `who`: an agent's name, or "the controller".
    pub(crate) fn new(term: Term, who: impl Into<String>) -> Self {
        Self::telling(who, move |text| term.notice(text))
    }

    /// The same for one that says by other means that its link is lost, or back.
    pub(crate) fn telling(who: impl Into<String>, tell: impl Fn(&str) + 'static) -> Self {
        Self {
            tell: Box::new(tell),
            who: who.into(),
            opened: false,
            untried: true,
            failures: 0,
            told: None,
        }
    }

    /// The stream has given data.
    pub(crate) fn alive(&mut self) {
        self.opened();
        self.back();
        self.untried = false;
        self.failures = 0;
    }

    /// The stream is open.
    pub(crate) fn opened(&mut self) {
        self.opened = true;
        // Docker's absence shows only after the agent has answered.
        if self.told == Some(LINK) {
            self.back();
        }
    }

    fn back(&mut self) {
        if let Some(lost) = self.told.take() {
            (self.tell)(&format!("{lost} {} is back", self.who));
        }
    }

    /// Waits before the next try, or returns the failure where no try would help.
    pub(crate) async fn after(&mut self, error: Error) -> Result<()> {
        let down = error.has_reason(reason::DOCKER_DOWN);
        let away = error.has_reason(reason::AGENT_OFFLINE) || (down && error.is_unsent());
        let offline = self.untried && away;
        // A stream that ends with its token goes on with the next one; if it had a next one.
        let renewable = self.failures == 0 && error.has_reason(reason::TOKEN_EXPIRED);
        if !self.opened || offline || !(error.is_transient() || renewable) {
            return Err(error);
        }
        self.untried = false;
        let lost = if down { DOCKER } else { LINK };
        if self.told != Some(lost) {
            (self.tell)(&format!("{lost} {} lost, reconnecting…", self.who));
            self.told = Some(lost);
        }
        let random = u64::from_le_bytes(dockctl_api::random());
        let wait = backoff(self.failures, random);
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// The wait after this many failures: the bound doubles from 0.2 s to 5 s, the wait is between its half
/// and itself, so that many followers do not come back at once.
fn backoff(failures: u32, random: u64) -> Duration {
    let bound = (FIRST << failures.min(16)).min(LONGEST);
    Duration::from_millis(bound / 2 + random % (bound / 2 + 1))
}

#[cfg(test)]
mod tests {
    use dockctl_api::error as api;
    use tonic::Code;

    use super::*;
    use crate::error::Exit;

    #[test]
    fn waits_grow_to_five_seconds() {
        assert_eq!(backoff(0, 0), Duration::from_millis(100));
        assert_eq!(backoff(0, 100), Duration::from_millis(200));
        assert_eq!(backoff(3, 800), Duration::from_millis(1600));
        for failures in [5, 40, u32::MAX] {
            let wait = backoff(failures, u64::MAX);
            assert!((2500..=5000).contains(&wait.as_millis()), "{failures}: {wait:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_link_that_was_there_can_be_lost() {
        let term = Term { out: false, err: false, input: false, colors: false };
        let mut retry = Retry::new(term, "web-1");
        let lost = || Error::new(Exit::Unreachable, "lost");
        assert_eq!(retry.after(lost()).await.unwrap_err().code(), 5);
        retry.opened();
        retry.after(lost()).await.unwrap();
        let down = |ran| {
            let ran = &[(api::RAN, ran)];
            Error::from(api::status(Code::Unavailable, reason::DOCKER_DOWN, "down", ran))
        };
        let mut begun = Retry::new(term, "web-1");
        begun.opened();
        let error = begun.after(down(api::NOT_SENT)).await;
        assert!(error.is_err(), "its Docker was away from the start");
        // That of a silent container went away under it.
        begun.after(down(api::MAYBE_RAN)).await.unwrap();
        begun.alive();
        begun.after(down(api::NOT_SENT)).await.unwrap();
        begun.opened();
        assert_eq!(begun.told, Some(DOCKER));
        begun.after(lost()).await.unwrap();
        assert_eq!(begun.told, Some(LINK));
        begun.alive();
        assert_eq!(begun.told, None);
        let gone = Error::new(Exit::NotFound, "gone");
        assert_eq!(retry.after(gone).await.unwrap_err().code(), 4);
    }
}
