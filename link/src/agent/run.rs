//! The reconnect loop: for ever, with backoff, until told to stop.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use dockctl_api::{
    error::{reason, reason_of},
    link::v1::{
        EnrollRequest, EnrollResponse, agent_link_client::AgentLinkClient, goodbye::Reason,
    },
};
use rustls::ClientConfig;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use super::{
    Host,
    session::{self, Ended, Process},
};
use crate::{
    backoff::{self, Backoff},
    channel::{Channel, DialError},
    wire,
};

/// Longest wait of an agent that the controller refuses (revoked, locked): it asks again, since an
/// operator may have mended it.
const REFUSED_WAIT: Duration = Duration::from_secs(60);

/// Where the agent stands with its controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Dialling for the first time.
    Starting,
    /// The session is open.
    Connected {
        /// The agent's id.
        agent_id: String,
        /// The agent's name.
        name: String,
    },
    /// There is no link; the next dial follows.
    Offline {
        /// Why, a sentence.
        cause: String,
    },
    /// The controller refuses this agent (revoked, locked); it is asked again every minute.
    Refused {
        /// Why, a sentence.
        cause: String,
    },
}

/// Keeps an agent connected to one controller.
pub struct Connector {
    address: String,
    host: Arc<dyn Host>,
    process: Process,
    status: watch::Sender<Status>,
    source: Option<SocketAddr>,
}

impl Connector {
    /// For the controller at `address` (host:port).
    pub fn new(address: String, host: Arc<dyn Host>) -> Self {
        let process = Process { id: dockctl_api::new_id(), dedupe: Default::default() };
        Self { address, host, process, status: watch::Sender::new(Status::Starting), source: None }
    }

    /// Dials from this address; port 0 lets the system choose. A machine has no more than 28,000 ports
    /// for connections from one address to one controller.
    #[must_use]
    pub fn from_address(mut self, source: SocketAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Where the agent stands, now and at each change.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Connects, and again whenever the link is lost, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let wait = match self.connect_once(&mut backoff, &shutdown).await {
                Next::Stop => return,
                Next::Backoff(cause) => {
                    let wait = backoff.failed(Instant::now(), backoff::random());
                    let seconds = wait.as_secs_f64();
                    tracing::warn!(controller = %self.address, %cause, "no link; next try in {seconds:.1} s");
                    self.status.send_replace(Status::Offline { cause });
                    wait
                }
                Next::Refused(cause) => {
                    let refused = Status::Refused { cause: cause.clone() };
                    if self.status.send_replace(refused.clone()) != refused {
                        tracing::error!(%cause, "the controller refuses this agent; asking again every minute");
                    }
                    REFUSED_WAIT.mul_f64(0.5 + backoff::random() / 2.0)
                }
                Next::Within(cause, bound) => {
                    tracing::info!(%cause, "the controller asked to come back later");
                    self.status.send_replace(Status::Offline { cause });
                    bound.mul_f64(backoff::random())
                }
            };
            tokio::select! {
                () = time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn connect_once(&self, backoff: &mut Backoff, shutdown: &CancellationToken) -> Next {
        let tls = match self.host.tls() {
            Ok(tls) => tls,
            Err(error) => return Next::Backoff(format!("cannot prepare TLS: {error}")),
        };
        let channel = tokio::select! {
            dialled = Channel::dial_from(&self.address, tls, self.source) => match dialled {
                Ok(channel) => channel,
                Err(error) => return Next::Backoff(error.to_string()),
            },
            () = shutdown.cancelled() => return Next::Stop,
        };
        let welcomed = |welcome: &dockctl_api::link::v1::Welcome| {
            backoff.connected(Instant::now());
            tracing::info!(controller = %self.address, name = %welcome.name, epoch = welcome.epoch, "connected");
            self.status.send_replace(Status::Connected {
                agent_id: welcome.agent_id.clone(),
                name: welcome.name.clone(),
            });
        };
        match session::run(&channel, &self.host, &self.process, shutdown, welcomed).await {
            Ended::Shutdown => Next::Stop,
            Ended::Lost(cause) => Next::Backoff(cause),
            Ended::Goodbye(goodbye) => match goodbye.reason() {
                Reason::Revoked | Reason::Locked => Next::Refused(goodbye.message),
                Reason::Draining => {
                    let bound = Duration::from_millis(goodbye.return_within_ms.into());
                    Next::Within(goodbye.message, bound)
                }
                Reason::Superseded | Reason::Protocol | Reason::Unspecified => {
                    Next::Backoff(goodbye.message)
                }
            },
            Ended::Refused(status) => match reason_of(&status).as_deref() {
                Some(reason::CERTIFICATE_EXPIRED) => self.renew_expired(&channel).await,
                _ if is_kept_out(&status) => Next::Refused(status.message().to_owned()),
                _ => Next::Backoff(format!("the controller refused: {}", status.message())),
            },
        }
    }

    /// The certificate ended while the agent was off: its key still proves who it is.
    async fn renew_expired(&self, channel: &Channel) -> Next {
        let link = AgentLinkClient::with_origin(channel.clone(), channel.origin.clone());
        match session::renew(&self.host, link).await {
            Ok(_) => {
                Next::Within("the certificate had ended and was renewed".to_owned(), Duration::ZERO)
            }
            Err(error) => match error.downcast_ref::<tonic::Status>() {
                Some(status) if is_kept_out(status) => Next::Refused(status.message().to_owned()),
                _ => Next::Backoff(format!(
                    "the certificate has ended and cannot be renewed: {error}"
                )),
            },
        }
    }
}

/// Whether the controller refuses this agent for as long as no operator lets it in again.
fn is_kept_out(status: &tonic::Status) -> bool {
    let reason = reason_of(status);
    matches!(reason.as_deref(), Some(reason::AGENT_REVOKED | reason::IDENTITY_LOCKED))
}

/// What to do after a session.
enum Next {
    Stop,
    Backoff(String),
    Refused(String),
    Within(String, Duration),
}

/// Why an agent could not enrol.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The controller refused.
    #[error("{}", .0.message())]
    Refused(Box<tonic::Status>),
}

/// Calls Enroll once at `address`.
pub async fn enroll(
    address: &str,
    tls: ClientConfig,
    request: EnrollRequest,
) -> Result<EnrollResponse, EnrollError> {
    let channel = Channel::dial(address, tls).await?;
    let mut link = AgentLinkClient::with_origin(channel.clone(), channel.origin.clone());
    let answer = time::timeout(wire::HANDSHAKE_TIMEOUT, link.enroll(request)).await;
    let refused = |status| EnrollError::Refused(Box::new(status));
    match answer {
        Ok(answer) => Ok(answer.map_err(refused)?.into_inner()),
        Err(_) => Err(refused(tonic::Status::deadline_exceeded("the controller did not answer"))),
    }
}
