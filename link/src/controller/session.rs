//! One agent's session at the controller: calls go down, answers come up, silence is noticed.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use dockctl_api::{
    error::{self, reason},
    link::v1::{
        Call, CallResult, Cancel, ConnectResponse, End, Goodbye, Hello, Ping, ServeRequest,
        connect_request, connect_response::Frame as Down, goodbye::Reason,
    },
};
use futures_util::{Stream, StreamExt as _, stream};
use http::Response;
use http_body::Frame;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status, body::Body};

use super::{Admission, Host, Update, body::Answer, inbound::Inbound, listener::Peer};
use crate::{
    calls::{Calls, Refused},
    framing,
    liveness::{Liveness, State},
    parts::Parts,
    quota::Quota,
    socket::Close,
    wire,
};

/// Frames that may wait for the agent to read them.
const DOWN_QUEUE: usize = 256;
/// Bytes of them that go out in one piece.
const TOGETHER: usize = 16 * 1024;
/// How long an agent may take to close after a Goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// What an agent may send beside answers, in tokens: a second, and at once. A frame costs one, and one
/// more for each [`TOKEN`] bytes: 8 MB a second, so that 50,000 containers of 1 KiB take some seconds.
const UPDATES: (u32, u32) = (2_000, 4_000);
/// Bytes of a frame that cost as much as one more frame.
const TOKEN: usize = 4 * 1024;

/// A call to forward.
#[derive(Debug)]
pub struct CallSpec {
    /// The rpc's path.
    pub path: String,
    /// The first request message, not framed.
    pub message: Bytes,
    /// Further request body where the caller streams.
    pub rest: Option<Body>,
    /// Whether the answer is one message, which may come inline.
    pub unary: bool,
    /// When the caller gives up.
    pub deadline: Option<Instant>,
    /// Names the user's request where it changes something; else empty.
    pub request_id: String,
    /// Who asks.
    pub principal: String,
}

/// What is known of the other end's life.
#[derive(Debug, Clone)]
pub struct Health {
    /// Live, suspect or dead.
    pub state: State,
    /// Median round trip.
    pub round_trip: Option<Duration>,
    /// The agent's clock minus ours, milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// When it was last heard.
    pub heard_at: SystemTime,
}

/// One agent's session. Held by the registry and by the calls under way.
pub struct Session {
    /// The agent's id, from its certificate.
    pub agent_id: String,
    /// The agent's name.
    pub name: String,
    /// The session's number.
    pub epoch: u64,
    /// What the agent said of itself.
    pub hello: Hello,
    /// Where it dialled from.
    pub address: SocketAddr,
    /// When it was admitted.
    pub opened_at: SystemTime,
    down: mpsc::Sender<Queued>,
    calls: Mutex<Calls<Waiter>>,
    /// One for each call that has not ended, also when its answer is on its way.
    slots: Arc<Semaphore>,
    liveness: Mutex<Liveness>,
    over: CancellationToken,
    cut: CancellationToken,
    close: Close,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({} epoch {})", self.name, self.epoch)
    }
}

/// A call that waits for its answer.
pub(super) struct Waiter {
    answer: oneshot::Sender<Answered>,
    /// Further request body, for the Serve stream.
    pub(super) rest: Option<Body>,
}

/// How a call was answered.
enum Answered {
    Inline(CallResult),
    Serve(Box<Served>),
}

/// An answer that comes on a Serve stream.
pub(super) struct Served {
    pub(super) first: ServeRequest,
    pub(super) inbound: Parts<ServeRequest>,
    /// Dropped when the answer has been read or given up.
    pub(super) done: DropGuard,
}

impl Waiter {
    /// Hands the answer stream over. A caller that is gone has dropped its receiver; the streams are
    /// dropped with the message.
    pub(super) fn serve(self, served: Served) {
        let _ = self.answer.send(Answered::Serve(Box::new(served)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(super) fn new(
        agent_id: String,
        admission: &Admission,
        hello: Hello,
        peer: &Peer,
    ) -> (Arc<Self>, mpsc::Receiver<Queued>) {
        let (down, frames) = mpsc::channel(DOWN_QUEUE);
        let session = Arc::new(Self {
            agent_id,
            name: admission.name.clone(),
            epoch: admission.epoch,
            hello,
            address: peer.address,
            opened_at: SystemTime::now(),
            down,
            calls: Mutex::new(Calls::new(wire::MAX_CALLS)),
            slots: Arc::new(Semaphore::new(wire::MAX_CALLS)),
            liveness: Mutex::new(Liveness::new(admission.heartbeat, Instant::now())),
            over: CancellationToken::new(),
            cut: peer.cut.clone(),
            close: peer.close.clone(),
        });
        (session, frames)
    }

    /// Whether the other end lives.
    pub fn state(&self) -> State {
        lock(&self.liveness).state(Instant::now())
    }

    /// What is known of the other end's life.
    pub fn health(&self) -> Health {
        let (live, now) = (lock(&self.liveness), Instant::now());
        let silence = now.saturating_duration_since(live.last_heard());
        Health {
            state: live.state(now),
            round_trip: live.round_trip(),
            clock_offset_ms: live.clock_offset_ms(),
            heard_at: SystemTime::now().checked_sub(silence).unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }

    /// Whether the session is over.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Resolves when the session is over.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Calls that wait for their first answer.
    pub fn calls_waiting(&self) -> usize {
        lock(&self.calls).len()
    }

    /// Tells the agent why the session ends, and ends it: at once for calls, within 1 s for the
    /// connection.
    pub fn goodbye(self: &Arc<Self>, reason: Reason, message: &str, return_within: Duration) {
        let goodbye = Goodbye {
            reason: reason.into(),
            message: message.to_owned(),
            return_within_ms: u32::try_from(return_within.as_millis()).unwrap_or(u32::MAX),
        };
        // A full queue means that the agent does not read; then the cut must say it.
        let _ = self.down.try_send(queued(Down::Goodbye(goodbye)));
        let session = self.clone();
        tokio::spawn(async move {
            let _ = time::timeout(GOODBYE, session.over()).await;
            session.cut.cancel();
        });
    }

    /// Forwards a call and returns the answer as soon as it begins. Errors that the agent returns are
    /// inside the response, as gRPC has it; a status here means that no answer came, and its `ran`
    /// says whether the call may have run.
    pub async fn call(self: &Arc<Self>, spec: CallSpec) -> Result<Response<Body>, Status> {
        let (answer, answered) = oneshot::channel();
        let request_open = spec.rest.is_some();
        let waiter = Waiter { answer, rest: spec.rest };
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| Refused::Full);
        let added = slot.and_then(|slot| lock(&self.calls).add(waiter).map(|id| (slot, id)));
        let (slot, call_id) = added.map_err(|refused| match refused {
            Refused::Closed => self.offline(error::NOT_SENT),
            Refused::Full => error::status(
                Code::ResourceExhausted,
                reason::TOO_MANY,
                format!("{}: {refused}; try again when some have ended", self.name),
                &[("agent", &self.name), (error::RAN, error::NOT_SENT)],
            ),
        })?;
        let mut pending = Pending { session: self.clone(), call_id, sent: false, _slot: slot };

        let deadline = spec.deadline.map(time::Instant::from_std);
        let timeout_ms = spec.deadline.map_or(0, |at| {
            let left = at.saturating_duration_since(Instant::now()).as_millis();
            u64::try_from(left).unwrap_or(u64::MAX).max(1)
        });
        let frame = queued(Down::Call(Call {
            call_id,
            path: spec.path,
            message: spec.message,
            request_open,
            inline_allowed: spec.unary && !request_open,
            timeout_ms,
            sent_at: Some(SystemTime::now().into()),
            request_id: spec.request_id,
            principal: spec.principal,
        }));
        match until(deadline, self.down.send(frame)).await {
            Some(Ok(())) => pending.sent = true,
            Some(Err(_)) => return Err(self.offline(error::NOT_SENT)),
            None => return Err(self.too_late(error::NOT_SENT)),
        }
        match until(deadline, answered).await {
            Some(Ok(Answered::Inline(result))) => {
                pending.sent = false;
                Ok(Answer::inline(result).into_response())
            }
            Some(Ok(Answered::Serve(served))) => {
                Ok(Answer::stream(*served, pending, deadline).into_response())
            }
            Some(Err(_)) => Err(self.offline(error::MAYBE_RAN)),
            None => Err(self.too_late(error::MAYBE_RAN)),
        }
    }

    pub(super) fn take_call(&self, call_id: u64) -> Option<Waiter> {
        lock(&self.calls).take(call_id)
    }

    /// The status of a call whose session ended.
    pub(super) fn offline(&self, ran: &str) -> Status {
        let what = match ran {
            error::NOT_SENT => "the call was not sent; it is safe to try again",
            _ => "the call may have run; look before you repeat it",
        };
        let message = format!("the link to {} was lost: {what}", self.name);
        let reason = if ran == error::NOT_SENT { reason::AGENT_OFFLINE } else { reason::LINK_LOST };
        error::status(
            Code::Unavailable,
            reason,
            message,
            &[("agent", &self.name), (error::RAN, ran), ("cause", "the link was lost")],
        )
    }

    /// The status of a call whose time is over.
    pub(super) fn too_late(&self, ran: &str) -> Status {
        error::status(
            Code::DeadlineExceeded,
            reason::DEADLINE,
            format!("{} did not answer in time", self.name),
            &[("agent", &self.name), (error::RAN, ran)],
        )
    }

    fn cancel(&self, call_id: u64) {
        let frame = queued(Down::Cancel(Cancel { call_id }));
        if let Err(mpsc::error::TrySendError::Full(frame)) = self.down.try_send(frame) {
            // The agent must learn of it as soon as it reads again, or it works for nobody.
            let (down, over) = (self.down.clone(), self.over.clone());
            tokio::spawn(async move {
                tokio::select! {
                    _ = down.send(frame) => {}
                    () = over.cancelled() => {}
                }
            });
        }
    }
}

/// Resolves with None when the deadline passes first.
async fn until<F: Future>(deadline: Option<time::Instant>, future: F) -> Option<F::Output> {
    match deadline {
        Some(at) => time::timeout_at(at, future).await.ok(),
        None => Some(future.await),
    }
}

/// A call that was not answered to its end. Dropping it forgets the call and tells the agent.
pub(super) struct Pending {
    pub(super) session: Arc<Session>,
    call_id: u64,
    sent: bool,
    _slot: OwnedSemaphorePermit,
}

impl Pending {
    /// The call has ended by itself: there is nothing to cancel.
    pub(super) fn ended(&mut self) {
        self.sent = false;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        lock(&self.session.calls).take(self.call_id);
        if self.sent && !self.session.is_over() {
            self.session.cancel(self.call_id);
        }
    }
}

/// Drives a session until it ends: reads frames, sends pings, watches for silence.
pub(super) async fn run(
    session: Arc<Session>,
    inbound: Inbound,
    heartbeat: Duration,
    host: Arc<dyn Host>,
) {
    let cause = drive(&session, inbound, heartbeat, &host).await;
    session.over.cancel();
    // Waiters are dropped outside of the lock; each caller gets LINK_LOST.
    let waiters = lock(&session.calls).close();
    drop(waiters);
    session.cut.cancel();
    host.closed(&session, cause);
}

async fn drive(
    session: &Arc<Session>,
    mut inbound: Inbound,
    heartbeat: Duration,
    host: &Arc<dyn Host>,
) -> String {
    let mut pings = time::interval(heartbeat);
    pings.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut quota = Quota::new(UPDATES.0, UPDATES.1, Instant::now());
    let mut known = State::Live;
    // Who sends too much is not read until then, and HTTP/2's windows hold it back.
    let mut resume = Instant::now();
    loop {
        let check = lock(&session.liveness).next_change(Instant::now());
        let paused = resume > Instant::now();
        tokio::select! {
            message = inbound.message(), if !paused => {
                let now = Instant::now();
                let frame = match message {
                    Ok(Some(message)) => message.frame,
                    Ok(None) => return "the agent was stopped".to_owned(),
                    Err(status) => return format!("the link broke: {}", status.message()),
                };
                lock(&session.liveness).heard(now);
                let tokens = match &frame {
                    Some(connect_request::Frame::Result(_)) => 0, // Unless nobody asked for it.
                    Some(connect_request::Frame::Inventory(inventory)) => tokens(inventory),
                    Some(connect_request::Frame::Event(event)) => tokens(event),
                    Some(connect_request::Frame::Engine(engine)) => tokens(engine),
                    _ => 1,
                };
                resume = now + quota.take(tokens, now);
                match frame {
                    Some(connect_request::Frame::Result(result)) => {
                        match session.take_call(result.call_id) {
                            Some(waiter) => drop(waiter.answer.send(Answered::Inline(result))),
                            // Cancelled, or made up: a flood of these is slowed down, too.
                            None => resume = now + quota.take(tokens_of(result.body.len()), now),
                        }
                    }
                    Some(connect_request::Frame::Pong(pong)) => {
                        let their = pong.now.map_or(0, wall_ms);
                        let (first, round_trip) = {
                            let mut live = lock(&session.liveness);
                            (live.round_trip().is_none(), live.pong(pong.seq, now, their))
                        };
                        if let Some(round_trip) = round_trip { host.heartbeat(round_trip); }
                        if first { host.changed(session); }
                    }
                    Some(connect_request::Frame::Hello(_)) => {
                        session.goodbye(Reason::Protocol, "a second Hello", Duration::ZERO);
                        return "the agent broke the protocol: a second Hello".to_owned();
                    }
                    Some(frame) => {
                        host.told(session, update(frame));
                    }
                    None => {} // A kind that a newer agent sends and this build does not know.
                }
            }
            _ = pings.tick() => {
                let now = SystemTime::now();
                let seq = lock(&session.liveness).ping(Instant::now(), unix_ms(now));
                // A full queue: the agent does not read. Its silence will be noticed.
                let ping = Down::Ping(Ping { seq, now: Some(now.into()) });
                let _ = session.down.try_send(queued(ping));
            }
            // Nothing was heard because nothing was read.
            () = time::sleep_until(resume.into()), if paused => {
                lock(&session.liveness).heard(Instant::now());
            }
            () = time::sleep_until(check.into()) => {}
            () = session.cut.cancelled() => return "the controller ended the link".to_owned(),
        }
        let state = lock(&session.liveness).state(Instant::now());
        if state == State::Dead {
            session.close.by_reset();
            let silence = heartbeat.mul_f64(2.8).as_secs();
            return format!("nothing heard for {silence} s");
        }
        if state != known {
            known = state;
            host.changed(session);
        }
    }
}

fn tokens(message: &impl prost::Message) -> u32 {
    tokens_of(message.encoded_len())
}

fn tokens_of(bytes: usize) -> u32 {
    u32::try_from(1 + bytes / TOKEN).unwrap_or(u32::MAX)
}

fn update(frame: connect_request::Frame) -> Update {
    match frame {
        connect_request::Frame::Engine(engine) => Update::Engine(engine),
        connect_request::Frame::Event(event) => Update::Event(event),
        connect_request::Frame::Inventory(inventory) => Update::Inventory(inventory),
        // The caller has taken these kinds already.
        connect_request::Frame::Hello(_)
        | connect_request::Frame::Pong(_)
        | connect_request::Frame::Result(_) => Update::Inventory(Default::default()),
    }
}

/// A frame on its way to the agent, gRPC-framed: a queue of whole messages would have room for 32 of the
/// largest kind from the start.
pub(super) struct Queued {
    framed: Bytes,
    /// Nothing follows it.
    last: bool,
}

fn queued(frame: Down) -> Queued {
    let last = matches!(frame, Down::Goodbye(_));
    Queued { framed: framing::frame_message(&ConnectResponse { frame: Some(frame) }), last }
}

/// The answer to Connect. Ends after a Goodbye, so that the agent surely reads it.
pub(super) fn frames(
    session: Arc<Session>,
    down: mpsc::Receiver<Queued>,
) -> impl Stream<Item = Result<Frame<Bytes>, Status>> {
    let state = Some((session, down));
    let frames = stream::unfold(state, |state| async move {
        let (session, mut down) = state?;
        let mut queue = Vec::new();
        tokio::select! {
            biased;
            1.. = down.recv_many(&mut queue, DOWN_QUEUE) => {}
            () = session.over.cancelled() => return None,
        }
        let last = queue.iter().position(|queued| queued.last);
        queue.truncate(last.map_or(queue.len(), |last| last + 1));
        Some((stream::iter(together(queue)), last.is_none().then_some((session, down))))
    });
    let frames = frames.flatten().map(|piece| Ok(Frame::data(piece)));
    let end = Frame::trailers(framing::trailers(&End::default()));
    frames.chain(stream::iter([Ok(end)]))
}

/// What waits in one piece, where it is not too much to be copied for that: HTTP/2's framing costs more than a
/// small call itself.
fn together(queue: Vec<Queued>) -> Vec<Bytes> {
    let length: usize = queue.iter().map(|queued| queued.framed.len()).sum();
    let pieces = queue.into_iter().map(|queued| queued.framed);
    match pieces.len() {
        2.. if length <= TOGETHER => {
            let mut piece = BytesMut::with_capacity(length);
            pieces.for_each(|framed| piece.extend_from_slice(&framed));
            vec![piece.freeze()]
        }
        _ => pieces.collect(),
    }
}

impl Session {
    /// Queues the first frames; the queue is new and has room for them.
    pub(super) fn begin(&self, frames: [Down; 2]) {
        for frame in frames {
            let _ = self.down.try_send(queued(frame));
        }
    }
}

/// Unix milliseconds.
pub(crate) fn unix_ms(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Unix milliseconds of a timestamp message.
pub(crate) fn wall_ms(at: prost_types::Timestamp) -> i64 {
    at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos) / 1_000_000)
}
