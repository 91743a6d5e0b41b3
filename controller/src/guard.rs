//! Who may: every request passes here first. It reads the method's policy, finds out who asks, and
//! refuses before any handler runs. It knows no method by name but health and reflection.

use std::{collections::HashMap, sync::Arc};

use dockctl_api::{
    error::{reason, status},
    policy::{Method, Policies},
    v1::{Role, ServedBy},
};
use http::{HeaderMap, header};
use tonic::{Code, Status};

use crate::{
    app::auth::{Auth, Principal},
    fleet::registry::not_found,
};

/// The guard; cheap to clone.
#[derive(Clone)]
pub struct Guard {
    auth: Auth,
    policies: Arc<Policies>,
}

/// A request that may pass.
#[derive(Debug)]
pub struct Pass {
    /// The rpc; None for health and reflection.
    pub method: Option<Arc<Method>>,
    /// Who asks; None where no login is needed.
    pub principal: Option<Principal>,
}

/// A request that may not pass.
#[derive(Debug)]
pub struct Refusal {
    /// What the caller is told.
    pub status: Status,
    /// The rpc and who asked for it, where he is known and has not the right.
    pub denied: Option<(Arc<Method>, Principal)>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { status, denied: None }
    }
}

impl Guard {
    /// A guard over the rpcs of `policies`.
    pub fn new(auth: Auth, policies: Arc<Policies>) -> Self {
        Self { auth, policies }
    }

    /// The rpc at a path.
    pub fn method(&self, path: &str) -> Option<&Arc<Method>> {
        self.policies.get(path)
    }

    /// Lets a request pass or says why not.
    pub async fn check(&self, path: &str, headers: &HeaderMap) -> Result<Pass, Refusal> {
        if path.starts_with("/grpc.health.v1.Health/") {
            return Ok(Pass { method: None, principal: None });
        }
        if path.starts_with("/grpc.reflection.") {
            let principal = self.authenticate(headers).await?;
            return Ok(Pass { method: None, principal: Some(principal) });
        }
        let Some(method) = self.policies.get(path).cloned() else {
            return Err(
                Status::unimplemented(format!("this controller has no method {path}")).into()
            );
        };
        if method.policy.is_public {
            return Ok(Pass { method: Some(method), principal: None });
        }
        let principal = self.authenticate(headers).await?;
        if !may_begin(&method, &principal) {
            let status = not_allowed(&method, &principal, "");
            return Err(Refusal { status, denied: Some((method, principal)) });
        }
        Ok(Pass { method: Some(method), principal: Some(principal) })
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Status> {
        let value = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let token = value
            .and_then(|v| v.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = token else {
            return Err(status(
                Code::Unauthenticated,
                reason::NOT_LOGGED_IN,
                "log in first, and send `authorization: Bearer TOKEN`",
                &[],
            ));
        };
        self.auth.authenticate(token.trim()).await
    }
}

/// Whether there is anything for which a caller may begin a call. Where the role may be had on some agents
/// only, which one a call names is looked at once it is read, by [`check_agent`].
pub fn may_begin(method: &Method, principal: &Principal) -> bool {
    let role = method.policy.role();
    match method.policy.served_by() {
        ServedBy::Agent => principal.authority.somewhere(role),
        _ if method.policy.filtered => principal.authority.somewhere(role),
        _ => principal.authority.everywhere(role),
    }
}

/// Refuses a call on an agent with these labels. One on which the caller may not even look is not there for him.
pub fn check_agent(
    method: &Method,
    principal: &Principal,
    agent: &str,
    labels: &HashMap<String, String>,
) -> Result<(), Status> {
    let authority = &principal.authority;
    if authority.on(method.policy.role(), labels) {
        return Ok(());
    }
    match authority.on(Role::Viewer, labels) {
        true => Err(not_allowed(method, principal, agent)),
        false => Err(not_found(agent)),
    }
}

/// The refusal of a call for want of a role, on an agent where one is named.
pub fn not_allowed(method: &Method, principal: &Principal, agent: &str) -> Status {
    let (permission, role) = (&method.policy.permission, method.policy.role().word());
    let place = match agent {
        "" if method.policy.served_by() == ServedBy::Controller && !method.policy.filtered => {
            " for the whole fleet".to_owned()
        }
        "" => String::new(),
        agent => format!(" on {agent}"),
    };
    let message = format!(
        "{} may not do this: it needs {permission}, so the role {role}{place}",
        principal.name
    );
    let metadata = [("permission", permission.as_str()), ("role", role), ("agent", agent)];
    status(Code::PermissionDenied, reason::NOT_ALLOWED, message, &metadata)
}
