//! One session at the agent, from Hello to its end.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use dockctl_api::{
    VERSION,
    error::{self, reason},
    link::v1::{
        CallResult, ConnectRequest, Goodbye, Hello, Pong, RenewRequest, Welcome,
        agent_link_client::AgentLinkClient, connect_request::Frame as Up,
        connect_response::Frame as Down,
    },
};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};
use tower::ServiceExt as _;

use super::{Host, HostResult, dedupe::Dedupe, pieces::Pieces, serve::Server};
use crate::{
    backoff,
    channel::Channel,
    controller::session::{unix_ms, wall_ms},
    framing,
    liveness::{Liveness, State},
    protocol, wire,
};

/// Frames that may wait to go up.
const UP_QUEUE: usize = 64;
/// Wait after a renewal that failed.
const RENEW_AGAIN: Duration = Duration::from_secs(60);
/// How long a stopping agent waits for the controller to take note.
const LEAVE: Duration = Duration::from_secs(1);
/// Clock samples kept.
const SAMPLES: usize = 8;

/// How a session ended.
pub(super) enum Ended {
    /// The agent shall stop.
    Shutdown,
    /// The controller said why.
    Goodbye(Goodbye),
    /// The controller did not let it begin.
    Refused(Status),
    /// The link broke; a sentence for the log.
    Lost(String),
}

/// What outlives sessions.
pub(super) struct Process {
    pub(super) id: String,
    pub(super) dedupe: Dedupe,
}

/// Opens a session on `channel` and drives it to its end.
pub(super) async fn run(
    channel: &Channel,
    host: &Arc<dyn Host>,
    process: &Process,
    shutdown: &CancellationToken,
    welcomed: impl FnOnce(&Welcome),
) -> Ended {
    let link = AgentLinkClient::with_origin(channel.clone(), channel.origin.clone())
        .max_decoding_message_size(wire::MAX_FRAME);
    let in_pieces = |request: http::Request<Body>| request.map(|b| Body::new(Pieces::new(b)));
    let connecting = channel.clone().map_request(in_pieces);
    let mut connecting = AgentLinkClient::with_origin(connecting, channel.origin.clone())
        .max_decoding_message_size(wire::MAX_FRAME);
    let (up, frames) = mpsc::channel(UP_QUEUE);
    let hello = Hello {
        min_protocol: protocol::MIN,
        max_protocol: protocol::MAX,
        version: VERSION.to_owned(),
        platform: dockctl_api::platform(),
        process_id: process.id.clone(),
        capabilities: Vec::new(),
    };
    // The queue is new and has room.
    let _ = up.try_send(ConnectRequest { frame: Some(Up::Hello(hello)) });

    let open = async {
        let mut inbound = connecting.connect(ReceiverStream::new(frames)).await?.into_inner();
        match inbound.message().await?.and_then(|m| m.frame) {
            Some(Down::Welcome(welcome)) => Ok((welcome, inbound)),
            Some(Down::Goodbye(goodbye)) => Err(Status::unavailable(goodbye.message)),
            _ => Err(Status::failed_precondition("the controller sent no Welcome")),
        }
    };
    let (welcome, mut inbound) = tokio::select! {
        opened = time::timeout(wire::HANDSHAKE_TIMEOUT, open) => match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(status)) => return Ended::Refused(status),
            Err(_) => return Ended::Lost("the controller did not answer the Hello".to_owned()),
        },
        () = shutdown.cancelled() => return Ended::Shutdown,
    };
    welcomed(&welcome);

    let interval = Duration::from_millis(welcome.heartbeat_interval_ms.clamp(1_000, 60_000).into());
    let mut liveness = Liveness::new(interval, Instant::now());
    let mut clock = Clock::default();
    let mut calls = RunningCalls::default();
    let server = Server {
        routes: host.routes(),
        up: up.clone(),
        channel: channel.clone(),
        dedupe: process.dedupe.clone(),
    };
    let mut updates = Box::pin(forward(host.updates(), up.clone()));
    let renew_after = Duration::from_secs(welcome.renew_after_seconds);
    let mut renewals = pin!(renew_for_ever(host.clone(), link.clone(), renew_after));
    if let Some(now) = welcome.now {
        clock.sample(now);
    }

    let ended = loop {
        if liveness.state(Instant::now()) == State::Dead {
            channel.reset();
            break Ended::Lost(format!("nothing heard for {} s", interval.mul_f64(2.8).as_secs()));
        }
        let check = liveness.next_change(Instant::now());
        tokio::select! {
            message = inbound.message() => {
                let frame = match message {
                    Ok(Some(message)) => message.frame,
                    Ok(None) => break Ended::Lost("the controller ended the link".to_owned()),
                    Err(status) => break Ended::Lost(format!("the link broke: {}", status.message())),
                };
                let arrived = Instant::now();
                liveness.heard(arrived);
                match frame {
                    Some(Down::Ping(ping)) => {
                        if let Some(now) = ping.now { clock.sample(now); }
                        let pong = Pong { seq: ping.seq, now: Some(SystemTime::now().into()) };
                        let frame = ConnectRequest { frame: Some(Up::Pong(pong)) };
                        // Full: the link is slow, and what fills the queue is a sign of life as well.
                        let _ = up.try_send(frame);
                    }
                    Some(Down::Call(call)) => {
                        let late = call.sent_at.map_or(Duration::ZERO, |at| clock.age(at, interval.mul_f64(2.8)));
                        calls.start(call.call_id, server.clone().answer(call, arrived, late));
                    }
                    Some(Down::Cancel(cancel)) => calls.cancel(cancel.call_id),
                    Some(Down::Goodbye(goodbye)) => break Ended::Goodbye(goodbye),
                    // Desired state has no content yet; unknown kinds come from newer controllers.
                    Some(Down::DesiredState(_) | Down::Welcome(_)) | None => {}
                }
            }
            call_id = calls.panicked() => {
                tracing::error!(call_id, "a call panicked");
                let status = error::status(
                    tonic::Code::Internal,
                    reason::INTERNAL,
                    "the agent failed while it served this call; its log says more",
                    &[(error::RAN, error::MAYBE_RAN)],
                );
                let end = Some(framing::end_of(&status));
                let result = CallResult { call_id, end, ..Default::default() };
                let frame = ConnectRequest { frame: Some(Up::Result(result)) };
                // Full: the caller's deadline tells him.
                let _ = up.try_send(frame);
            }
            () = &mut updates => break Ended::Lost("the agent's own state ended".to_owned()),
            () = &mut renewals => {}
            () = channel.closed() => break Ended::Lost("the connection broke".to_owned()),
            () = time::sleep_until(check.into()) => {}
            () = shutdown.cancelled() => break Ended::Shutdown,
        }
    };
    if matches!(ended, Ended::Shutdown) {
        // Without senders the frames come to their end, which tells the controller that this is no fault.
        drop((up, server, calls, updates));
        let _ = time::timeout(LEAVE, async { while let Ok(Some(_)) = inbound.message().await {} })
            .await;
    }
    ended
}

/// Sends the agent's state up. It ends only when the session or the state does.
async fn forward(mut updates: super::Updates, up: mpsc::Sender<ConnectRequest>) {
    while let Some(frame) = updates.next().await {
        if up.send(ConnectRequest { frame: Some(frame) }).await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Renews the certificate when its time has come, again and again. The session goes on: the new
/// certificate is for the next connection.
async fn renew_for_ever(host: Arc<dyn Host>, link: AgentLinkClient<Channel>, first: Duration) {
    let mut wait = first;
    loop {
        time::sleep(wait).await;
        wait = match renew(&host, link.clone()).await {
            Ok(lifetime) => lifetime.mul_f64(0.5 + 0.2 * backoff::random()),
            Err(error) => {
                tracing::warn!(%error, "cannot renew the certificate; trying again");
                RENEW_AGAIN.mul_f64(0.5 + backoff::random())
            }
        };
    }
}

/// Renews the certificate once; returns how long the new one is good for.
pub(super) async fn renew(
    host: &Arc<dyn Host>,
    mut link: AgentLinkClient<Channel>,
) -> HostResult<Duration> {
    let csr = host.begin_renewal().await?;
    let answer =
        time::timeout(wire::HANDSHAKE_TIMEOUT, link.renew(RenewRequest { csr: csr.into() }));
    let certificate =
        answer.await??.into_inner().certificate.ok_or("the answer has no certificate")?;
    let lifetime = Duration::from_secs(certificate.lifetime_seconds);
    host.finish_renewal(certificate).await?;
    tracing::info!(hours = lifetime.as_secs() / 3_600, "renewed the certificate");
    Ok(lifetime)
}

/// How far the own clock is from the controller's. Each sample is too large by the time that its frame
/// was on its way, so the smallest of the last ones is the best.
#[derive(Default)]
struct Clock {
    samples: VecDeque<i64>,
}

impl Clock {
    fn sample(&mut self, theirs: prost_types::Timestamp) {
        self.samples.push_back(unix_ms(SystemTime::now()).saturating_sub(wall_ms(theirs)));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// How long ago something happened that the controller stamped. No frame is on its way for longer
    /// than the link may be silent (`limit`): what looks older shows that a clock was set, and counts
    /// as new.
    fn age(&self, theirs: prost_types::Timestamp, limit: Duration) -> Duration {
        let offset = self.samples.iter().min().copied().unwrap_or(0);
        let age = unix_ms(SystemTime::now()).saturating_sub(wall_ms(theirs)).saturating_sub(offset);
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        if age > limit { Duration::ZERO } else { age }
    }
}

/// The calls that run; dropping it ends them all.
#[derive(Default)]
struct RunningCalls {
    tasks: JoinSet<u64>,
    by_id: HashMap<u64, AbortHandle>,
}

impl RunningCalls {
    fn start(&mut self, call_id: u64, work: impl Future<Output = ()> + Send + 'static) {
        // Not in an async block, which would hold it twice and copy it for that.
        let task = self.tasks.spawn(work.map(move |()| call_id));
        self.by_id.insert(call_id, task);
    }

    fn cancel(&mut self, call_id: u64) {
        if let Some(task) = self.by_id.remove(&call_id) {
            task.abort();
        }
    }

    /// Forgets calls that have ended, and resolves with one that panicked and so told nobody.
    async fn panicked(&mut self) -> u64 {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(call_id)) => {
                    self.by_id.remove(&call_id);
                }
                Some(Err(ended)) => {
                    let call = self.by_id.iter().find(|(_, task)| task.id() == ended.id());
                    // A cancelled one was forgotten when it was cancelled.
                    let Some(call_id) = call.map(|(id, _)| *id) else { continue };
                    self.by_id.remove(&call_id);
                    return call_id;
                }
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(seconds: i64) -> prost_types::Timestamp {
        let mut at = prost_types::Timestamp::from(SystemTime::now());
        at.seconds -= seconds;
        at
    }

    #[test]
    fn a_clock_that_is_wrong_or_was_set_makes_no_call_late() {
        let limit = Duration::from_secs(14);
        for hours in [-24, -1, 0, 1, 24] {
            let mut clock = Clock::default();
            clock.sample(ago(hours * 3_600));
            assert!(clock.age(ago(hours * 3_600), limit) < Duration::from_secs(2), "{hours} h off");
            let late = clock.age(ago(hours * 3_600 + 9), limit);
            assert!((8..=10).contains(&late.as_secs()), "{late:?} at {hours} h");
            assert_eq!(
                clock.age(ago((hours + 1) * 3_600), limit),
                Duration::ZERO,
                "set by an hour"
            );
        }
    }
}
