//! Gets an identity from a controller. What is needed to ask again is stored before anything is sent,
//! so that a crash at any moment neither uses up a second token nor leaves half an agent.

use std::{collections::BTreeMap, path::Path, time::Instant};

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
        tracing::info!(
            name = %identity.name,
            "already enrolled, so the token is not used; to enrol anew, {}",
            anew(&state.directory())
        );
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
        asked_labels: Some(pending.labels),
    };
    let (state, kept) = (state.clone(), identity.clone());
    tokio::task::spawn_blocking(move || state.complete_enrollment(kept)).await??;
    tracing::info!(name = %identity.name, id = %identity.agent_id, "enrolled");
    Ok(identity)
}

/// What of a join is not as it was when the host enrolled, and what to do about it: a sentence for
/// each. A `name` is given where the operator named one, `labels` where he gave any.
pub fn differences(
    state: &State,
    name: Option<&str>,
    labels: &BTreeMap<String, String>,
) -> Vec<String> {
    let Some(identity) = state.identity() else { return Vec::new() };
    let mut all = Vec::new();
    if let Some(name) = name.filter(|name| *name != identity.name) {
        all.push(format!(
            "this host is enrolled as {}, and --name {name} changes nothing; to enrol it under the new name, {}",
            identity.name,
            anew(&state.directory())
        ));
    }
    let same = |asked: &BTreeMap<_, _>| labels.is_empty() || labels == asked;
    if !identity.asked_labels.as_ref().is_none_or(same) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        all.push(format!(
            "this host is enrolled, and --label changes nothing; use: dockctl agents label {} {}",
            identity.name,
            labels.join(" ")
        ));
    }
    all
}

/// How a host becomes another agent than the one whose identity is in `dir`.
pub(crate) fn anew(dir: &Path) -> String {
    format!(
        "stop the agent, delete the old one with `dockctl agents rm`, remove {}, and join with a new token",
        dir.display()
    )
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
        // The users' port serves nothing of the link.
        EnrollError::Refused(status) if status.code() == tonic::Code::Unimplemented => format!(
            "{} seems to be the controller's port for users; agents join at another one, 7444 by default",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn enrolled(asked_labels: Option<BTreeMap<String, String>>) -> (tempfile::TempDir, State) {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(directory.path()).unwrap();
        let identity = Identity {
            agent_id: "id".to_owned(),
            name: "web-1".to_owned(),
            key: Vec::new(),
            certificate: Vec::new(),
            ca: Vec::new(),
            controller: "controller:7444".to_owned(),
            asked_labels,
        };
        state.complete_enrollment(identity).unwrap();
        (directory, state)
    }

    fn labels(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("room".to_owned(), value.to_owned())])
    }

    #[test]
    fn a_second_join_says_what_it_does_not_change() {
        let (directory, state) = enrolled(Some(labels("7")));
        assert!(differences(&state, None, &BTreeMap::new()).is_empty());
        assert!(differences(&state, Some("web-1"), &labels("7")).is_empty());

        let [name, label] = &differences(&state, Some("web-2"), &labels("8"))[..] else { panic!() };
        assert!(name.contains("enrolled as web-1"), "{name}");
        let remove = format!("remove {}", directory.path().display());
        assert!(name.contains(&remove) && name.contains("new token"), "{name}");
        assert!(label.ends_with("dockctl agents label web-1 room=8"), "{label}");
    }

    #[test]
    fn labels_of_an_agent_that_did_not_keep_them_are_left_alone() {
        let (_directory, state) = enrolled(None);
        assert!(differences(&state, None, &labels("7")).is_empty());
    }
}
