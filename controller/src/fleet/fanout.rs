//! Merges the same call's streams of many agents into one. Generic: the convention that `policy`
//! checks (answer field 1 is `agent`, field 15 is `notice`) is all that it knows of the messages.
//! A slow or dead agent never holds the others back; agents that come while it runs join in.

use std::{collections::HashMap, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};
use dockctl_api::{
    error::{self, reason, reason_of, status},
    policy::Method,
    v1::Notice,
};
use dockctl_link::{
    controller::{CallSpec, Session},
    framing::{self, Deframer},
};
use futures_util::stream;
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use prost::{
    Message as _,
    encoding::{self, DecodeContext},
};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    task::{AbortHandle, JoinSet},
};
use tonic::{Code, Status, body::Body};

use super::{
    forward::{Caller, Opening, spec},
    registry::{Change, Registry},
};
use crate::app::names::Selector;

/// Messages of all agents that may wait for the caller to read.
const QUEUE: usize = 64;
/// Largest single message that is merged, bytes.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// A merged call; `run` drives it in the background of its response.
pub struct Fanout {
    /// The live fleet.
    pub registry: Registry,
    /// The rpc.
    pub method: Arc<Method>,
    /// The request message, sent to every agent as it is.
    pub message: Bytes,
    /// Which agents.
    pub selector: Selector,
    /// The request's headers, for the deadline.
    pub headers: HeaderMap,
    /// Who asks.
    pub caller: Caller,
}

/// How one agent's stream ended.
struct Ended {
    agent_id: String,
    agent: String,
    status: Status,
    delivered: bool,
}

/// The agents' streams, by the agents' ids.
#[derive(Default)]
struct Live {
    streams: JoinSet<Ended>,
    /// The epoch that an agent's stream runs or ran on: a new session is a new stream, unless the old one
    /// had come to its own end.
    started: HashMap<String, u64>,
    /// The agent's name, and what ends its stream.
    running: HashMap<String, (String, AbortHandle)>,
}

impl Fanout {
    /// Starts the calls and returns the merged answer. Dropping the answer cancels every call.
    pub fn start(self) -> Result<Response<Body>, Status> {
        self.spec()?; // A malformed header is said at once.
        let (out, merged) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(self.run(out));
        // The set lives in the stream: when the caller goes away, everything below it ends.
        let frames = stream::unfold((merged, tasks), |(mut merged, tasks)| async move {
            let frame: Frame<Bytes> = merged.recv().await?;
            Some((Ok::<_, Status>(frame), (merged, tasks)))
        });
        Ok(framing::response(Body::new(StreamBody::new(frames))))
    }

    fn spec(&self) -> Result<CallSpec, Status> {
        let opening = Opening { message: self.message.clone(), rest: None };
        spec(&self.method, opening, &self.headers, &self.caller)
    }

    async fn run(self, out: mpsc::Sender<Frame<Bytes>>) {
        let mut changes = self.registry.changes();
        let mut live = Live::default();
        let mut refused: Option<Status> = None;
        let mut lost: Option<Status> = None;
        let mut delivered = false;
        for (_, agent, session) in self.registry.sessions(&self.selector) {
            match session {
                Ok(session) => self.start_one(&mut live, session, out.clone()),
                Err(status) => {
                    if out
                        .send(notice(&agent, reason::AGENT_OFFLINE, status.message()))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        }
        while !live.streams.is_empty() {
            tokio::select! {
                Some(ended) = live.streams.join_next() => {
                    let Ok(ended) = ended else { continue };
                    live.running.remove(&ended.agent_id);
                    delivered |= ended.delivered;
                    if ended.status.code() == Code::Ok {
                        live.started.insert(ended.agent_id, u64::MAX);
                        continue;
                    }
                    if reason_of(&ended.status).as_deref() == Some(reason::CONTAINER_NOT_FOUND) {
                        live.started.insert(ended.agent_id, u64::MAX);
                        refused.get_or_insert(ended.status);
                        continue;
                    }
                    delivered = true; // It had what was asked for, so the whole is no refusal.
                    let name = reason_of(&ended.status).unwrap_or_else(|| reason::LINK_LOST.to_owned());
                    let frame = notice(&ended.agent, &name, ended.status.message());
                    if out.send(frame).await.is_err() { return }
                    lost.get_or_insert(ended.status);
                }
                change = changes.recv() => {
                    let changed = match change {
                        Ok(Change::Agent(id)) => vec![id],
                        Err(RecvError::Lagged(_)) => live.running.keys().cloned().collect(),
                        Ok(Change::Deleted(_)) | Err(RecvError::Closed) => continue,
                    };
                    // Labels may have changed: what is no longer selected ends, and may come back.
                    for id in changed {
                        if self.registry.is_selected(&id, &self.selector) { continue }
                        let Some((agent, stream)) = live.running.remove(&id) else { continue };
                        live.started.remove(&id);
                        stream.abort();
                        let message = "it is no longer among those that were asked for";
                        let frame = notice(&agent, reason::RIGHTS_CHANGED, message);
                        if out.send(frame).await.is_err() { return }
                    }
                    for (agent_id, _, session) in self.registry.sessions(&self.selector) {
                        let Ok(session) = session else { continue };
                        if live.started.get(&agent_id).is_none_or(|epoch| self.method.policy.tells_of_now && *epoch < session.epoch) {
                            lost = None;
                            self.start_one(&mut live, session, out.clone());
                        }
                    }
                }
            }
        }
        let end = match (refused, lost) {
            (_, Some(lost)) => lost, // Nobody shall take it for the whole.
            (Some(refused), None) if !delivered => refused,
            _ => Status::new(Code::Ok, ""),
        };
        let _ = out.send(Frame::trailers(framing::trailers(&framing::end_of(&end)))).await;
    }

    fn start_one(&self, live: &mut Live, session: Arc<Session>, out: mpsc::Sender<Frame<Bytes>>) {
        let spec = self.spec();
        let (agent_id, agent) = (session.agent_id.clone(), session.name.clone());
        live.started.insert(agent_id.clone(), session.epoch);
        let stream = live.streams.spawn(async move {
            let (agent_id, agent) = (session.agent_id.clone(), session.name.clone());
            let mut delivered = false;
            let opened = async { session.call(spec?).await };
            let status = match opened.await {
                Ok(response) => copy(&agent, response, &out, &mut delivered).await,
                Err(status) => status,
            };
            Ended { agent_id, agent, status, delivered }
        });
        live.running.insert(agent_id, (agent, stream));
    }
}

/// Copies one agent's messages, each with the agent's true name, and returns how the stream ended.
async fn copy(
    agent: &str,
    response: Response<Body>,
    out: &mpsc::Sender<Frame<Bytes>>,
    delivered: &mut bool,
) -> Status {
    let mut deframer = Deframer::default();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let data = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(frame)) => {
                let end = frame.trailers_ref().and_then(framing::end_in).unwrap_or_default();
                return framing::status_of(&end);
            }
            Err(status) => return status,
        };
        deframer.push(&data);
        let mut named = BytesMut::new();
        loop {
            match deframer.next(MAX_MESSAGE) {
                Ok(Some(message)) if is_whole(&message) => relabel(&mut named, &message, agent),
                Ok(Some(_)) => {
                    let message = "the agent sent a malformed message";
                    return status(Code::Internal, reason::INTERNAL, message, &[]);
                }
                Ok(None) => break,
                Err(status) => return status,
            }
        }
        *delivered |= !named.is_empty();
        if !named.is_empty() && out.send(Frame::data(named.freeze())).await.is_err() {
            return Status::cancelled("the caller went away");
        }
    }
    status(
        Code::Unavailable,
        reason::LINK_LOST,
        "the stream broke off",
        &[(error::RAN, error::MAYBE_RAN)],
    )
}

/// Whether a message ends where its last field does. Else that field would take in what `relabel`
/// appends, and what the agent wrote as its name would count.
fn is_whole(mut message: &[u8]) -> bool {
    while !message.is_empty() {
        let skipped = encoding::decode_key(&mut message).and_then(|(number, wire_type)| {
            encoding::skip_field(wire_type, number, &mut message, DecodeContext::default())
        });
        if skipped.is_err() {
            return false;
        }
    }
    true
}

/// Appends a framed message with its field 1 set to `agent`. A later value of a protobuf field
/// replaces an earlier one, so whatever the agent wrote there does not count.
fn relabel(out: &mut BytesMut, message: &[u8], agent: &str) {
    let name = agent.to_owned();
    let length = message.len() + encoding::string::encoded_len(1, &name);
    out.reserve(framing::PREFIX + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    out.put_slice(message);
    encoding::string::encode(1, &name, out);
}

/// A message with nothing but its agent and a notice.
fn notice(agent: &str, reason: &str, message: &str) -> Frame<Bytes> {
    let notice = Notice { reason: reason.to_owned(), message: message.to_owned() };
    let mut bare = BytesMut::new();
    let length = notice.encoded_len() as u64;
    encoding::encode_key(15, encoding::WireType::LengthDelimited, &mut bare);
    encoding::encode_varint(length, &mut bare);
    bare.put_slice(&notice.encode_to_vec());
    let mut out = BytesMut::new();
    relabel(&mut out, &bare, agent);
    Frame::data(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dockctl_api::v1::StreamStatsResponse;
    use proptest::prelude::*;

    fn decode(framed: &[u8]) -> StreamStatsResponse {
        StreamStatsResponse::decode(&framed[framing::PREFIX..]).unwrap()
    }

    #[test]
    fn an_agent_cannot_speak_for_another() {
        let lie = StreamStatsResponse { agent: "db-1".into(), pids: 7, ..Default::default() };
        let mut out = BytesMut::new();
        relabel(&mut out, &lie.encode_to_vec(), "web-1");
        let told = decode(&out);
        assert_eq!((told.agent.as_str(), told.pids), ("web-1", 7));
    }

    #[test]
    fn an_open_end_that_would_take_in_the_true_name_is_no_message() {
        let lie =
            StreamStatsResponse { agent: "db-1".into(), ..Default::default() }.encode_to_vec();
        assert!(is_whole(&lie));
        let appended = encoding::string::encoded_len(1, &"web-1".to_owned());
        // An unknown field 100, as long as what is appended and with nothing in it; a group left open.
        let mut swallowing = lie.clone();
        encoding::encode_key(100, encoding::WireType::LengthDelimited, &mut swallowing);
        encoding::encode_varint(appended as u64, &mut swallowing);
        let mut group = lie;
        encoding::encode_key(100, encoding::WireType::StartGroup, &mut group);
        for open in [swallowing, group] {
            assert!(!is_whole(&open));
        }
        assert!(!is_whole(&[0x80]));
    }

    proptest! {
        #[test]
        fn whatever_an_agent_says_has_its_true_name(
            lie in ".{0,9}",
            rest in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let lie = StreamStatsResponse { agent: lie, ..Default::default() }.encode_to_vec();
            let message = [lie, rest].concat();
            if is_whole(&message) {
                let mut out = BytesMut::new();
                relabel(&mut out, &message, "web-1");
                if let Ok(told) = StreamStatsResponse::decode(&out[framing::PREFIX..]) {
                    prop_assert_eq!(told.agent, "web-1");
                }
            }
        }
    }

    #[test]
    fn a_notice_is_a_message_of_the_stream() {
        let Ok(framed) = notice("web-1", "AGENT_OFFLINE", "gone").into_data() else {
            panic!("data")
        };
        let told = decode(&framed);
        assert_eq!(told.agent, "web-1");
        assert_eq!(told.notice.unwrap().reason, "AGENT_OFFLINE");
    }
}
