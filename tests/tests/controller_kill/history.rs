//! What was asked, what was acknowledged, and what the engine and the controller say has happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use dockctl_api::error::{MAYBE_RAN, NOT_SENT, RAN, metadata_of};
use serde::Deserialize;
use tonic::Status;

/// Nanoseconds since 1970, on the clock that the engine stamps its events with.
pub(crate) fn now() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}

/// What the caller may conclude from a call's answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Outcome {
    Acknowledged,
    MaybeRan,
    NotSent,
}

impl Outcome {
    pub(crate) fn of<T>(answer: &Result<T, Status>) -> Result<Self> {
        let Err(status) = answer else { return Ok(Self::Acknowledged) };
        match metadata_of(status, RAN).as_deref() {
            Some(NOT_SENT) => Ok(Self::NotSent),
            Some(MAYBE_RAN) => Ok(Self::MaybeRan),
            // The controller died and told nothing.
            None => Ok(Self::MaybeRan),
            Some(other) => bail!("a failed call says that it ran {other:?}: {status}"),
        }
    }
}

/// One call of one caller. Calls on a container follow each other: a call's time is until the next one.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) container: String,
    /// What the engine writes into its events when it does this.
    pub(crate) action: &'static str,
    pub(crate) sent: u128,
    pub(crate) outcome: Outcome,
}

/// One line of `docker events --format '{{json .}}'`.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
    #[serde(rename = "timeNano")]
    time: u128,
}

#[derive(Debug, Deserialize)]
struct Actor {
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

/// Checks every call against the engine's events: an acknowledged one ran exactly once, one that may
/// have run at most once, one that was not sent never, and nothing ran that nobody had asked for.
pub(crate) fn each_call_ran_as_told(calls: &[Call], events: &[u8]) -> Result<()> {
    let mut happened = BTreeMap::<(String, String), Vec<u128>>::new();
    for line in events.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let event: Event = serde_json::from_slice(line).context("an event")?;
        let name = event.actor.attributes.get("name").cloned().unwrap_or_default();
        let signal = event.actor.attributes.get("signal");
        let action = signal.map_or(event.action.clone(), |s| format!("{} {s}", event.action));
        happened.entry((name, action)).or_default().push(event.time);
    }
    let mut by_container = BTreeMap::<&str, Vec<&Call>>::new();
    for call in calls {
        by_container.entry(&call.container).or_default().push(call);
    }
    for (container, calls) in by_container {
        let begin = calls[0].sent;
        let actions: BTreeSet<_> = calls.iter().map(|call| call.action).collect();
        for action in actions {
            let times = happened.remove(&(container.to_owned(), action.to_owned()));
            let times: Vec<u128> =
                times.unwrap_or_default().into_iter().filter(|t| *t >= begin).collect();
            let mut asked_for = 0;
            for (n, call) in calls.iter().enumerate().filter(|(_, c)| c.action == action) {
                let end = calls.get(n + 1).map_or(u128::MAX, |next| next.sent);
                let ran = times.iter().filter(|t| (call.sent..end).contains(t)).count();
                let as_told = match call.outcome {
                    Outcome::Acknowledged => ran == 1,
                    Outcome::MaybeRan => ran <= 1,
                    Outcome::NotSent => ran == 0,
                };
                ensure!(as_told, "call {n} on {container} ran {ran} times: {call:?}");
                asked_for += ran;
            }
            let unasked = times.len() - asked_for;
            ensure!(unasked == 0, "{container}: {unasked} × {action:?} that nobody asked for");
        }
    }
    Ok(())
}

#[test]
fn a_call_that_ran_twice_or_untold_is_found() {
    let call = |sent, outcome| Call { container: "c".into(), action: "start", sent, outcome };
    let calls =
        [call(10, Outcome::Acknowledged), call(20, Outcome::NotSent), call(30, Outcome::MaybeRan)];
    let judged = |times: &[u128]| {
        let event = |time| {
            format!(
                r#"{{"Action":"start","Actor":{{"Attributes":{{"name":"c"}}}},"timeNano":{time}}}"#
            )
        };
        let events: Vec<String> = times.iter().map(event).collect();
        each_call_ran_as_told(&calls, events.join("\n").as_bytes())
    };
    for good in [&[5, 11][..], &[11, 31], &[11, 99]] {
        judged(good).unwrap();
    }
    for bad in [&[][..], &[11, 12], &[11, 21], &[11, 31, 32]] {
        judged(bad).unwrap_err();
    }
}

/// The writes to the controller's own store.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// Join tokens whose making was acknowledged and whose deletion was not asked for.
    pub(crate) kept: BTreeSet<String>,
    /// Join tokens whose deletion was acknowledged.
    pub(crate) deleted: BTreeSet<String>,
    /// Creations that were not answered: there may be as many tokens that nobody knows.
    pub(crate) unknown: usize,
    /// Labels: the last acknowledged value, which only grows, and the last one asked for.
    pub(crate) labels: BTreeMap<String, (u64, u64)>,
}

impl Writes {
    /// Takes in what another round has written.
    pub(crate) fn extend(&mut self, later: Self) {
        self.kept.extend(later.kept);
        self.deleted.extend(later.deleted);
        self.unknown += later.unknown;
        self.labels.extend(later.labels);
    }

    /// Checks that what the controller has is what was acknowledged.
    pub(crate) fn are_there(
        &self,
        tokens: &BTreeSet<String>,
        before: &BTreeSet<String>,
        labels: &std::collections::HashMap<String, String>,
    ) -> Result<()> {
        if let Some(lost) = self.kept.difference(tokens).next() {
            bail!("join token {lost} was acknowledged and is lost");
        }
        if let Some(back) = self.deleted.intersection(tokens).next() {
            bail!("join token {back} was deleted and is back");
        }
        let unknown = tokens.difference(before).filter(|id| !self.kept.contains(*id)).count();
        ensure!(unknown <= self.unknown, "{unknown} tokens more, of {} unanswered", self.unknown);
        for (key, (acknowledged, asked)) in &self.labels {
            let value: u64 = labels.get(key).with_context(|| format!("{key} is lost"))?.parse()?;
            ensure!(
                (*acknowledged..=*asked).contains(&value),
                "label {key} is {value}, acknowledged was {acknowledged}, asked for {asked}"
            );
        }
        Ok(())
    }
}
