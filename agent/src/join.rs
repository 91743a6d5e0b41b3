//! Gets an identity from a controller. What is needed to ask again is stored before anything is sent,
//! so that a crash at any moment neither uses up a second token nor leaves half an agent.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, bail};
use dockctl_api::{
    error::{metadata_of, reason, reason_of},
    link::v1::EnrollRequest,
    tls::{Trust, client_config},
};
use dockctl_link::{
    agent::{EnrollError, enroll},
    backoff::{self, Backoff},
};
use tokio_util::sync::CancellationToken;

use crate::state::{Identity, PendingEnrollment, State, token::JoinToken};

/// What an operator says to let an agent join.
#[derive(Debug, Clone)]
pub struct Join {
    /// The controller's agent port, host:port.
    pub controller: String,
    /// The join token.
    pub token: String,
    /// The name that the agent wants.
    pub name: String,
    /// The labels that it wants.
    pub labels: BTreeMap<String, String>,
}

/// Enrols unless the agent has an identity already. Tries for ever while the controller cannot be
/// reached. Errors: a refusal, with the controller's reason and what to do; a controller whose CA is
/// not the token's.
pub async fn join(
    state: &State,
    join: Join,
    shutdown: &CancellationToken,
) -> anyhow::Result<Identity> {
    if let Some(identity) = state.identity() {
        if identity.controller != join.controller {
            bail!(
                "this data directory belongs to agent {} of {}; use another --data-dir to join {}",
                identity.name,
                identity.controller,
                join.controller
            );
        }
        tracing::info!(name = %identity.name, "already enrolled; the token was not used");
        return Ok(identity);
    }
    let token = JoinToken::parse(&join.token)?;
    let pending = pending(state, join)?;
    let request = EnrollRequest {
        token: token.secret,
        csr: csr(&pending.key)?.into(),
        name: pending.name.clone(),
        labels: pending.labels.clone().into_iter().collect(),
    };

    let mut backoff = Backoff::default();
    let response = loop {
        let tls = client_config(Trust::CaFingerprint(token.ca_fingerprint.clone()), None)?;
        let error = tokio::select! {
            answer = enroll(&pending.controller, tls, request.clone()) => match answer {
                Ok(response) => break response,
                Err(error) => error,
            },
            () = shutdown.cancelled() => bail!("stopped before the controller answered"),
        };
        if is_final(&error) {
            state.abandon_enrollment()?;
            return Err(explain(&error, &pending));
        }
        let wait = backoff.failed(Instant::now(), backoff::random());
        tracing::warn!(%error, "cannot enrol yet; next try in {:.1} s", wait.as_secs_f64());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => bail!("stopped before the controller answered"),
        }
    };
    let certificate = response.certificate.context("the controller's answer has no certificate")?;
    let identity = Identity {
        agent_id: response.agent_id,
        name: response.name,
        key: pending.key,
        certificate: certificate.certificate.to_vec(),
        ca: certificate.ca.to_vec(),
        controller: pending.controller,
    };
    let (state, kept) = (state.clone(), identity.clone());
    tokio::task::spawn_blocking(move || state.complete_enrollment(kept)).await??;
    tracing::info!(name = %identity.name, id = %identity.agent_id, "enrolled");
    Ok(identity)
}

/// The enrolment that was begun with this token, or a new one, stored before it is used.
fn pending(state: &State, join: Join) -> anyhow::Result<PendingEnrollment> {
    if let Some(pending) = state.pending_enrollment()
        && pending.token == join.token
        && pending.controller == join.controller
        && pending.name == join.name
        && pending.labels == join.labels
    {
        return Ok(pending);
    }
    let pending = PendingEnrollment {
        key: new_key()?,
        name: join.name,
        labels: join.labels,
        token: join.token,
        controller: join.controller,
    };
    state.begin_enrollment(pending.clone())?;
    Ok(pending)
}

/// A new P-256 key, PKCS#8 DER.
pub(crate) fn new_key() -> anyhow::Result<Vec<u8>> {
    Ok(rcgen::KeyPair::generate()?.serialize_der())
}

/// A certificate signing request, DER. The controller takes nothing from it but the public key.
pub(crate) fn csr(key: &[u8]) -> anyhow::Result<Vec<u8>> {
    let key = rcgen::KeyPair::try_from(key)?;
    Ok(rcgen::CertificateParams::default().serialize_request(&key)?.der().to_vec())
}

/// Whether asking again with the same token is useless.
fn is_final(error: &EnrollError) -> bool {
    match error {
        EnrollError::Dial(error) => error.is_untrusted(),
        EnrollError::Refused(status) => {
            use tonic::Code::*;
            matches!(
                status.code(),
                Unauthenticated
                    | PermissionDenied
                    | InvalidArgument
                    | AlreadyExists
                    | FailedPrecondition
                    | Unimplemented
            )
        }
    }
}

fn explain(error: &EnrollError, pending: &PendingEnrollment) -> anyhow::Error {
    let advice = match error {
        EnrollError::Dial(_) => format!(
            "{} is not the controller that made this token: its CA has another fingerprint. Check the address, or make a new token there",
            pending.controller
        ),
        EnrollError::Refused(status) => match reason_of(status).as_deref() {
            Some(reason::TOKEN_INVALID | reason::TOKEN_EXPIRED | reason::TOKEN_USED_UP) => {
                "make a new one with: dockctl agents token create".to_owned()
            }
            Some(reason::NAME_TAKEN) => format!(
                "choose another with --name, or free this one with: dockctl agents rm {}",
                pending.name
            ),
            _ => metadata_of(status, "field").map(|f| format!("see {f}")).unwrap_or_default(),
        },
    };
    match advice.as_str() {
        "" => anyhow::anyhow!("the controller refused: {error}"),
        advice => anyhow::anyhow!("the controller refused: {error}; {advice}"),
    }
}
