//! Who may have a certificate: enrolment of new hosts and renewal for known ones.
//!
//! Called by the agents' port, which takes `agent_id` and `generation` from the certificate of the
//! connection and from nowhere else. Order matters: everything about a request is checked first, then
//! the store decides in one transaction, then the CA signs. A refusal stores nothing (but the lock of
//! a cloned identity) and is one warning in the log.

use std::{net::SocketAddr, time::SystemTime};

use dockctl_api::{
    error::{bad_field, reason, reason_of, status},
    link::v1::{Certificate, EnrollRequest, EnrollResponse, RenewRequest, RenewResponse},
    new_id,
};
use tonic::{Code, Status};

use super::{join_tokens::secret_hash, names};
use crate::{
    ca::{Ca, CaError, CertificateRequest},
    store::{self, EnrollRefused, Enrollment, FIRST_GENERATION, unix_ms},
};

/// Longest secret that is looked at, bytes; a real one has 22.
const MAX_SECRET: usize = 64;

/// Gives certificates to agents; clones share the store and the CA.
#[derive(Clone)]
pub struct Enroller {
    store: store::Handle,
    ca: Ca,
}

impl Enroller {
    /// An enroller that asks this store and signs with this CA.
    pub fn new(store: store::Handle, ca: Ca) -> Self {
        Self { store, ca }
    }

    /// Exchanges a join token and a request for an identity. With the token and key of an agent that
    /// is there already it is that agent's again.
    ///
    /// Errors: those of `Enroll` in link.proto; PERMISSION_DENIED AGENT_REVOKED or IDENTITY_LOCKED
    /// where the agent with this token and key is kept out.
    pub async fn enroll(
        &self,
        request: EnrollRequest,
        peer: SocketAddr,
        now: SystemTime,
    ) -> Result<EnrollResponse, Status> {
        // Taken from the request only once it is known to be a name.
        let name = names::agent_name(&request.name).map(|()| request.name.clone());
        self.try_enroll(request, peer, now).await.inspect_err(|refused| {
            tracing::warn!(
                %peer,
                name = name.as_deref().unwrap_or("(malformed)"),
                reason = reason_of(refused),
                "an enrolment was refused: {}",
                refused.message()
            );
        })
    }

    async fn try_enroll(
        &self,
        request: EnrollRequest,
        peer: SocketAddr,
        now: SystemTime,
    ) -> Result<EnrollResponse, Status> {
        names::agent_name(&request.name)?;
        names::labels(&request.labels)?;
        let csr = parsed(&request.csr)?;
        if request.token.len() > MAX_SECRET {
            return Err(EnrollRefused::TokenInvalid.into());
        }
        let enrollment = Enrollment {
            secret_hash: secret_hash(&request.token),
            key_fingerprint: csr.fingerprint().to_owned(),
            name: request.name,
            labels: request.labels,
            address: peer.to_string(),
            new_id: new_id(),
            certificate_expires_at: unix_ms(now + self.ca.agent_lifetime()),
        };
        let is_new = enrollment.new_id.clone();
        let agent = self.store.enroll_agent(enrollment, unix_ms(now)).await?;
        let certificate = self.certificate(&csr, &agent.id, FIRST_GENERATION, now)?;
        let again = agent.id != is_new;
        tracing::info!(%peer, agent = agent.name, id = agent.id, again, "an agent enrolled");
        Ok(EnrollResponse { agent_id: agent.id, name: agent.name, certificate: Some(certificate) })
    }

    /// Exchanges an agent's certificate, run out or not, for a new one. `generation` is that of the
    /// certificate that the connection was made with.
    ///
    /// Errors: PERMISSION_DENIED AGENT_REVOKED, or IDENTITY_LOCKED where the generation shows a second
    /// machine on the identity (the caller then ends the agent's other session); INVALID_ARGUMENT for
    /// a bad request.
    pub async fn renew(
        &self,
        agent_id: &str,
        generation: u64,
        request: RenewRequest,
        now: SystemTime,
    ) -> Result<RenewResponse, Status> {
        self.try_renew(agent_id, generation, request, now).await.inspect_err(|refused| {
            tracing::warn!(
                agent_id,
                generation,
                reason = reason_of(refused),
                "a renewal was refused: {}",
                refused.message()
            );
        })
    }

    async fn try_renew(
        &self,
        agent_id: &str,
        generation: u64,
        request: RenewRequest,
        now: SystemTime,
    ) -> Result<RenewResponse, Status> {
        let csr = parsed(&request.csr)?;
        let expires_at = unix_ms(now + self.ca.agent_lifetime());
        let agent = self
            .store
            .renew_agent(agent_id, generation, csr.fingerprint(), expires_at, unix_ms(now))
            .await?;
        let issued = agent.generation_issued;
        let certificate = self.certificate(&csr, &agent.id, issued, now)?;
        tracing::info!(
            agent = agent.name,
            id = agent.id,
            generation = issued,
            "a certificate was renewed"
        );
        Ok(RenewResponse { certificate: Some(certificate) })
    }

    fn certificate(
        &self,
        csr: &CertificateRequest,
        agent_id: &str,
        generation: u64,
        now: SystemTime,
    ) -> Result<Certificate, Status> {
        let issued = self.ca.issue_agent(csr, agent_id, generation, now).map_err(|error| {
            tracing::error!(%error, agent_id, "a certificate could not be made");
            status(Code::Internal, reason::INTERNAL, "the certificate could not be made", &[])
        })?;
        Ok(Certificate {
            certificate: issued.der.to_vec().into(),
            ca: self.ca.certificate_der().to_vec().into(),
            lifetime_seconds: issued.not_after.duration_since(now).unwrap_or_default().as_secs(),
        })
    }
}

/// A certificate request that asks for a certificate and nothing else.
fn parsed(csr: &[u8]) -> Result<CertificateRequest, Status> {
    let csr = CertificateRequest::parse(csr).map_err(bad_request)?;
    match csr.asks_for_more() {
        true => Err(bad_field(
            "csr",
            "a certificate request may ask for no extensions: the controller sets them",
        )),
        false => Ok(csr),
    }
}

fn bad_request(error: CaError) -> Status {
    bad_field("csr", error.to_string())
}

#[cfg(test)]
mod tests;
