//! What the link asks of the controller: enrolment and renewal go to `app::enroll`, admission to the
//! store and the registry, and what agents tell goes to the registry.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use dockctl_api::{
    error::{reason, status},
    link::v1::{
        End, EnrollRequest, EnrollResponse, Hello, RenewRequest, RenewResponse, goodbye::Reason,
    },
    v1::AgentStanding,
};
use dockctl_link::{
    backoff,
    controller::{Admission, Host, PeerIdentity, Session, Update},
};
use prost::Message as _;
use tonic::{Code, Status};

use super::registry::Registry;
use crate::{
    app::{
        audit::{Audit, Deed},
        enroll::Enroller,
    },
    store::{self, AgentRecord, AgentRefused, Connection, StoreError, unix_ms},
};

/// The controller as the link sees it.
#[derive(Clone)]
pub struct LinkHost {
    /// The live fleet.
    pub registry: Registry,
    /// The store.
    pub store: store::Handle,
    /// What was done.
    pub audit: Audit,
    /// Enrolment and renewal.
    pub enroller: Enroller,
    /// How long an agent's certificate is good for.
    pub certificate_lifetime: Duration,
    /// Time between two pings.
    pub heartbeat: Duration,
}

/// Largest event that is passed on, bytes: slow watchers hold thousands of them.
const MAX_EVENT: usize = 64 * 1024;

/// What the audit log calls the locking of an identity.
const LOCK: &str = "LockAgent";

const CLONED: &str =
    "two machines live on this identity: delete the agent and join each machine anew";

impl LinkHost {
    /// Locks an agent whose identity two machines share, and ends its session.
    async fn lock(&self, agent_id: &str) -> Result<(), Status> {
        let record = self.store.lock_agent(agent_id, CLONED).await?;
        self.locked(record).await;
        Ok(())
    }

    /// What follows once an identity is locked in the store.
    async fn locked(&self, record: AgentRecord) {
        tracing::error!(agent = %record.name, "ALARM: {CLONED}");
        metrics::counter!("dockctl_identities_locked_total").increment(1);
        let deed = Deed {
            principal: "controller".to_owned(),
            address: record.address.clone(),
            method: LOCK.to_owned(),
            agent: record.name.clone(),
            target: format!("id={}", record.id),
        };
        let id = record.id.clone();
        self.registry.refresh(record);
        self.registry.expel(&id, Reason::Locked, CLONED);
        self.audit.done(deed, &End::default()).await;
    }

    async fn refused(&self, agent_id: &str, refused: AgentRefused) -> Status {
        tracing::warn!(agent = agent_id, why = ?refused, "an agent was refused");
        if matches!(refused, AgentRefused::Locked { newly: true, .. })
            && let Err(error) = self.lock(agent_id).await
        {
            return error;
        }
        refused.into()
    }

    async fn enrolled(
        &self,
        request: EnrollRequest,
        from: SocketAddr,
    ) -> Result<EnrollResponse, Status> {
        let response = self.enroller.enroll(request, from, SystemTime::now()).await?;
        let record = self.store.agent(&response.agent_id).await?;
        tracing::info!(agent = %record.name, id = %record.id, %from, "enrolled");
        let deed = Deed {
            address: from.to_string(),
            method: "/dockctl.link.v1.AgentLink/Enroll".to_owned(),
            agent: record.name.clone(),
            target: format!("id={} join_token={}", record.id, record.join_token_id),
            ..Default::default()
        };
        self.audit.done(deed, &End::default()).await;
        self.registry.enrolled(record);
        // Deleted while it enrolled: whoever deleted it may have found nothing to forget.
        if let Err(StoreError::NotFound) = self.store.agent(&response.agent_id).await {
            self.registry.remove(&response.agent_id);
        }
        Ok(response)
    }

    async fn renewed(
        &self,
        peer: PeerIdentity,
        request: RenewRequest,
    ) -> Result<RenewResponse, Status> {
        let known = self.registry.agent(&peer.agent_id);
        let was_locked = known.is_ok_and(|agent| agent.standing() == AgentStanding::Locked);
        let renewed =
            self.enroller.renew(&peer.agent_id, peer.generation, request, SystemTime::now()).await;
        // A renewal with an old generation has locked the agent in the store.
        if let Ok(record) = self.store.agent(&peer.agent_id).await {
            match record.standing {
                store::Standing::Locked { .. } if !was_locked => self.locked(record).await,
                _ => self.registry.refresh(record),
            }
        }
        renewed
    }

    async fn admitted(
        &self,
        peer: PeerIdentity,
        hello: Hello,
        from: SocketAddr,
    ) -> Result<Admission, Status> {
        let connection = Connection {
            generation: peer.generation,
            version: hello.version.clone(),
            platform: hello.platform.clone(),
            address: from.to_string(),
        };
        let now = SystemTime::now();
        let record = match self.store.connect_agent(&peer.agent_id, connection, unix_ms(now)).await
        {
            Ok(record) => record,
            Err(refused) => return Err(self.refused(&peer.agent_id, refused).await),
        };
        if !self.registry.admit_process(&peer.agent_id, &hello.process_id, record.epoch) {
            self.lock(&peer.agent_id).await?;
            return Err(status(Code::PermissionDenied, reason::IDENTITY_LOCKED, CLONED, &[]));
        }
        let admission = Admission {
            epoch: record.epoch,
            name: record.name.clone(),
            renew_after: self.renew_after(&peer, now),
            heartbeat: self.heartbeat,
        };
        self.registry.refresh(record);
        Ok(admission)
    }
}

// What the store has done is done here too, and written down, where the agent hangs up meanwhile.
#[async_trait::async_trait]
impl Host for LinkHost {
    async fn enroll(
        &self,
        request: EnrollRequest,
        from: SocketAddr,
    ) -> Result<EnrollResponse, Status> {
        let this = self.clone();
        self.audit.whole(async move { this.enrolled(request, from).await }).await?
    }

    async fn renew(
        &self,
        peer: PeerIdentity,
        request: RenewRequest,
    ) -> Result<RenewResponse, Status> {
        let this = self.clone();
        self.audit.whole(async move { this.renewed(peer, request).await }).await?
    }

    async fn admit(
        &self,
        peer: &PeerIdentity,
        hello: &Hello,
        from: SocketAddr,
    ) -> Result<Admission, Status> {
        let (this, peer, hello) = (self.clone(), peer.clone(), hello.clone());
        self.audit.whole(async move { this.admitted(peer, hello, from).await }).await?
    }

    fn opened(&self, session: Arc<Session>) {
        tracing::info!(agent = %session.name, epoch = session.epoch, from = %session.address, "connected");
        metrics::counter!("dockctl_agent_sessions_total").increment(1);
        self.registry.opened(session);
    }

    fn told(&self, session: &Arc<Session>, update: Update) {
        match update {
            Update::Inventory(frame) => {
                let now = SystemTime::now();
                self.registry.told(session, false, |view| view.apply(&session.name, frame, now));
            }
            Update::Engine(engine) => {
                self.registry.told(session, true, |view| view.engine = engine)
            }
            Update::Event(event) if event.encoded_len() > MAX_EVENT => {
                tracing::warn!(agent = %session.name, "an event of more than {MAX_EVENT} bytes; dropped");
            }
            Update::Event(event) => self.registry.event(session, event),
        }
    }

    fn changed(&self, session: &Arc<Session>) {
        self.registry.measured(session);
    }

    fn heartbeat(&self, round_trip: Duration) {
        metrics::histogram!("dockctl_heartbeat_seconds").record(round_trip);
    }

    fn closed(&self, session: &Arc<Session>, cause: String) {
        tracing::info!(agent = %session.name, epoch = session.epoch, %cause, "disconnected");
        if !self.registry.closed(session, &cause) {
            return;
        }
        let (store, id) = (self.store.clone(), session.agent_id.clone());
        let heard = unix_ms(session.health().heard_at);
        tokio::spawn(async move {
            if let Err(error) = store.touch_agents(vec![(id, heard)]).await {
                tracing::warn!(%error, "cannot store when an agent was last seen");
            }
        });
    }
}

impl LinkHost {
    /// At a random point of 50 to 70 % of the certificate's life.
    fn renew_after(&self, peer: &PeerIdentity, now: SystemTime) -> Duration {
        let left = peer.not_after.duration_since(now).unwrap_or_default();
        let kept = self.certificate_lifetime.mul_f64(0.3 + 0.2 * backoff::random());
        left.saturating_sub(kept)
    }
}
