//! The audit log: who did what to which host. The edge and the link write it, AuditService reads it.
//!
//! An entry that cannot be written stops nobody: a full disk must not keep an operator from stopping a
//! container. It goes to the controller's own log instead, as an error.

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use dockctl_api::{
    error::{bad_field, reason, reason_of, status},
    link::v1::End,
    policy::{Method, NameKind},
    v1::{
        AuditEntry, AuditOutcome, ListAuditEntriesRequest, ListAuditEntriesResponse,
        VerifyAuditRequest, VerifyAuditResponse, WatchAuditEntriesRequest,
        WatchAuditEntriesResponse, audit_service_server::AuditService,
    },
};
use dockctl_link::framing;
use futures_util::{StreamExt as _, stream};
use prost::{
    DecodeError,
    encoding::{DecodeContext, WireType, decode_key, int32, skip_field, string},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status, codegen::BoxStream};

use crate::store::{self, AuditFilter, AuditRecord, GENESIS, system_time, unix_ms};

/// How long a call waits for its entry to reach the disk.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest `target`, bytes.
const MAX_TARGET: usize = 500;
/// Longest name of anything else, bytes.
const MAX_NAME: usize = 200;
/// Names of one call that are written down.
const MAX_NAMES: usize = 16;
/// Entries of one answer at most, and that are verified at once.
const PAGE: u32 = 1_000;
/// Entries that a follower's stream holds.
const WATCHED: u32 = 100;
const DEFAULT_PAGE: u32 = 100;

/// The log; clones share it.
#[derive(Clone)]
pub struct Audit {
    store: store::Handle,
    /// Sees each new sequence.
    newest: Arc<watch::Sender<u64>>,
    /// Writes and deeds under way.
    works: TaskTracker,
}

/// A call that is to be written down.
#[derive(Debug, Clone, Default)]
pub struct Deed {
    /// The user's name; empty where nobody is logged in.
    pub principal: String,
    /// Where it came from.
    pub address: String,
    /// The rpc's path.
    pub method: String,
    /// The agent as the call names it.
    pub agent: String,
    /// What else it names.
    pub target: String,
}

impl Audit {
    /// The log in a store.
    pub fn new(store: store::Handle) -> Self {
        Self { store, newest: Arc::new(watch::Sender::new(0)), works: TaskTracker::new() }
    }

    /// Writes that a call on a host is about to be sent. What is returned writes its end, also by being
    /// dropped, which says that the caller hung up.
    pub async fn begin(&self, deed: Deed) -> Begun {
        let record = record(deed, AuditOutcome::Begun);
        let (audit, beginning) = (self.clone(), record.clone());
        let written = self.works.spawn(async move { audit.write(beginning).await });
        let mut begun =
            Begun { audit: self.clone(), open: Some((record, Beginning::OnItsWay(written))) };
        // Later than that it is written all the same, and its end after it.
        if let Some((_, beginning)) = &mut begun.open
            && let Beginning::OnItsWay(written) = beginning
            && let Ok(sequence) = tokio::time::timeout(PATIENCE, written).await
        {
            *beginning = Beginning::Written(sequence.ok().flatten());
        }
        begun
    }

    /// Does work to its end, whoever waits for it or not: what is done must be written down.
    pub async fn whole<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Status> {
        self.works.spawn(work).await.map_err(|error| {
            tracing::error!(%error, "the work of a call broke off");
            status(Code::Internal, reason::INTERNAL, "the controller failed", &[])
        })
    }

    /// Writes a deed that is done, or was not.
    pub async fn done(&self, deed: Deed, end: &End) {
        self.written(ended(record(deed, AuditOutcome::Done), end)).await;
    }

    /// Writes that somebody was refused a call for want of a right.
    pub async fn denied(&self, deed: Deed, status: &Status) {
        let ended = ended(record(deed, AuditOutcome::Denied), &framing::end_of(status));
        self.written(AuditRecord { outcome: AuditOutcome::Denied.into(), ..ended }).await;
    }

    /// Writes a record and waits for it, but not for ever.
    async fn written(&self, record: AuditRecord) {
        let audit = self.clone();
        let writing = self.works.spawn(async move { audit.write(record).await });
        // It is written all the same, or told of as lost.
        let _ = tokio::time::timeout(PATIENCE, writing).await;
    }

    /// Waits until all ends that are on their way are written.
    pub async fn close(&self) {
        self.works.close();
        self.works.wait().await;
    }

    async fn write(&self, record: AuditRecord) -> Option<u64> {
        match self.store.append_audit(record.clone()).await {
            Ok(sequence) => {
                self.newest.send_if_modified(|newest| {
                    let newer = sequence > *newest;
                    *newest = sequence.max(*newest);
                    newer
                });
                Some(sequence)
            }
            Err(error) => {
                metrics::counter!("dockctl_audit_failures_total").increment(1);
                tracing::error!(target: "audit", ?record, %error, "the audit log cannot be written");
                None
            }
        }
    }
}

/// Who logged in by a call that nobody is logged in for: an extension of its answer, filled in when it is known.
#[derive(Debug, Clone, Default)]
pub struct LoggedIn(Arc<OnceLock<NewLogin>>);

/// A login that a call has made.
#[derive(Debug)]
pub struct NewLogin {
    /// The user's name.
    pub who: String,
    /// What else there is to say of it; the entry's target, unless empty.
    pub what: String,
}

impl LoggedIn {
    /// Tells it, once.
    pub fn tell(&self, who: String, what: String) {
        let _ = self.0.set(NewLogin { who, what });
    }

    /// What was told.
    pub fn told(&self) -> Option<&NewLogin> {
        self.0.get()
    }
}

/// A call that has begun.
pub struct Begun {
    audit: Audit,
    /// What was written of its beginning, or will be; None once its end is on its way.
    open: Option<(AuditRecord, Beginning)>,
}

/// The sequence of a beginning: known, or still to come.
enum Beginning {
    Written(Option<u64>),
    OnItsWay(JoinHandle<Option<u64>>),
}

impl Begun {
    /// Its end will say who logged in by it.
    pub fn by(&mut self, login: &NewLogin) {
        if let Some((record, _)) = &mut self.open {
            record.principal = shortened(login.who.clone(), MAX_NAME);
            record.target = shortened(login.what.clone(), MAX_TARGET);
        }
    }

    /// Writes its end, without keeping anyone waiting for it.
    pub fn end(&mut self, end: &End) {
        let Some((record, beginning)) = self.open.take() else { return };
        let audit = self.audit.clone();
        let record = ended(AuditRecord { at: unix_ms(SystemTime::now()), ..record }, end);
        self.audit.works.spawn(async move {
            let begun = match beginning {
                Beginning::Written(sequence) => sequence,
                Beginning::OnItsWay(written) => written.await.ok().flatten(),
            };
            audit.write(AuditRecord { begun: begun.unwrap_or_default(), ..record }).await
        });
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.end(&framing::end_of(&Status::cancelled("the caller hung up")));
    }
}

fn record(deed: Deed, outcome: AuditOutcome) -> AuditRecord {
    let Deed { principal, address, method, agent, target } = deed;
    AuditRecord {
        at: unix_ms(SystemTime::now()),
        principal: shortened(principal, MAX_NAME),
        address,
        method,
        agent: shortened(agent, MAX_NAME),
        target: shortened(target, MAX_TARGET),
        outcome: outcome.into(),
        ..Default::default()
    }
}

fn ended(record: AuditRecord, end: &End) -> AuditRecord {
    let outcome = if end.code == 0 { AuditOutcome::Done } else { AuditOutcome::Failed };
    let reason = reason_of(&framing::status_of(end)).unwrap_or_default();
    AuditRecord {
        outcome: outcome.into(),
        code: end.code,
        reason: shortened(reason, MAX_NAME),
        ..record
    }
}

fn shortened(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// What a request names beside its agent, for example "container=db". Only fields that hold names are read;
/// as protobuf has it, the last value of a field counts.
pub fn target(method: &Method, message: &[u8]) -> String {
    let (mut rest, mut found) = (message, Vec::<(&str, String)>::new());
    while let Ok((number, wire_type)) = decode_key(&mut rest) {
        let Some(name) = method.names.iter().find(|name| name.number == number) else {
            match skip_field(wire_type, number, &mut rest, DecodeContext::default()) {
                Ok(()) => continue,
                Err(_) => break,
            }
        };
        let Ok(value) = name_value(&name.kind, wire_type, &mut rest) else { break };
        let value = shortened(value, MAX_NAME);
        match found.iter().position(|(of, _)| !name.is_list && *of == name.name) {
            Some(at) => found[at].1 = value,
            None if found.len() < MAX_NAMES => found.push((&name.name, value)),
            None => {}
        }
    }
    let plain = |value: &str| !value.contains(|c: char| c == '=' || c == '"' || c.is_whitespace());
    let words = found.iter().map(|(name, value)| match plain(value) {
        true => format!("{name}={value}"),
        false => format!("{name}={value:?}"),
    });
    shortened(words.collect::<Vec<_>>().join(" "), MAX_TARGET)
}

/// The value of a field that names something.
fn name_value(
    kind: &NameKind,
    wire_type: WireType,
    rest: &mut &[u8],
) -> Result<String, DecodeError> {
    let context = DecodeContext::default();
    match kind {
        NameKind::Text => {
            let mut value = String::new();
            string::merge(wire_type, &mut value, rest, context)?;
            Ok(value)
        }
        NameKind::Choice(values) => {
            let mut number = 0;
            int32::merge(wire_type, &mut number, rest, context)?;
            let value = values.get_value(number);
            Ok(value.map_or_else(|| number.to_string(), |value| value.name().to_owned()))
        }
        NameKind::Pairs => {
            let mut pair = Pair::default();
            prost::encoding::message::merge(wire_type, &mut pair, rest, context)?;
            Ok(format!("{}={}", pair.key, pair.value))
        }
    }
}

/// An entry of a map of strings.
#[derive(Clone, PartialEq, prost::Message)]
struct Pair {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

fn message(entry: store::AuditEntry) -> AuditEntry {
    let store::AuditEntry { sequence, record, hash } = entry;
    AuditEntry {
        sequence,
        at: Some(system_time(record.at).into()),
        principal: record.principal,
        address: record.address,
        method: record.method,
        agent: record.agent,
        target: record.target,
        outcome: record.outcome,
        code: record.code.unsigned_abs(),
        reason: record.reason,
        begun: record.begun,
        hash,
    }
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_audit_entries(
        &self,
        request: Request<ListAuditEntriesRequest>,
    ) -> Result<Response<ListAuditEntriesResponse>, Status> {
        let ListAuditEntriesRequest { before, page_size, principal, agent } = request.into_inner();
        let limit = match page_size {
            0 => DEFAULT_PAGE,
            1..=PAGE => page_size,
            _ => return Err(bad_field("page_size", format!("page_size is at most {PAGE}"))),
        };
        let before = if before == 0 { u64::MAX } else { before };
        let filter = AuditFilter { before, principal, agent };
        let entries = self.store.audit_before(filter, limit).await?;
        let entries = entries.into_iter().map(message).collect();
        Ok(Response::new(ListAuditEntriesResponse { entries }))
    }

    async fn watch_audit_entries(
        &self,
        request: Request<WatchAuditEntriesRequest>,
    ) -> Result<Response<BoxStream<WatchAuditEntriesResponse>>, Status> {
        let WatchAuditEntriesRequest { after, follow } = request.into_inner();
        let state = (self.store.clone(), self.newest.subscribe(), after);
        let pages = stream::try_unfold(state, move |(store, mut newest, after)| async move {
            loop {
                newest.mark_unchanged();
                let page = store.audit_after(after, WATCHED).await?;
                match page.last().map(|entry| entry.sequence) {
                    Some(last) => return Ok(Some((page, (store, newest, last)))),
                    None if !follow || newest.changed().await.is_err() => return Ok(None),
                    None => {}
                }
            }
        });
        let entries = pages.flat_map(|page: Result<Vec<store::AuditEntry>, Status>| {
            let answers = match page {
                Ok(page) => page
                    .into_iter()
                    .map(|entry| Ok(WatchAuditEntriesResponse { entry: Some(message(entry)) }))
                    .collect(),
                Err(status) => vec![Err(status)],
            };
            stream::iter(answers)
        });
        Ok(Response::new(Box::pin(entries)))
    }

    async fn verify_audit(
        &self,
        request: Request<VerifyAuditRequest>,
    ) -> Result<Response<VerifyAuditResponse>, Status> {
        let known = request.into_inner();
        if known.known_hash.is_empty() != (known.known_sequence == 0) {
            return Err(bad_field("known_sequence", "a known entry has a sequence and a hash"));
        }
        let (mut entries, mut hash) = (0, GENESIS.to_owned());
        let broken = |entries, hash, sequence, problem: &str| {
            let problem = problem.to_owned();
            Ok(Response::new(VerifyAuditResponse {
                entries,
                hash,
                broken_sequence: sequence,
                problem,
            }))
        };
        loop {
            let page = self.store.audit_after(entries, PAGE).await?;
            if page.is_empty() {
                break;
            }
            for entry in page {
                let next = entries + 1;
                if entry.sequence != next {
                    return broken(entries, hash, next, "it is missing");
                }
                if !entry.follows(&hash) {
                    return broken(entries, hash, next, "it is not as it was written");
                }
                if next == known.known_sequence && entry.hash != known.known_hash {
                    return broken(entries, hash, next, "its hash is another than the one noted");
                }
                (entries, hash) = (next, entry.hash);
            }
        }
        if known.known_sequence > entries {
            return broken(entries, hash, entries + 1, "it is missing: the log was cut off");
        }
        Ok(Response::new(VerifyAuditResponse { entries, hash, ..Default::default() }))
    }
}
