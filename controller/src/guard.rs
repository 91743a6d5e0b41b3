//! Who may: every request passes here first. It reads the method's policy, finds out who asks, and
//! refuses before any handler runs. It knows no method by name but health and reflection.

use std::sync::Arc;

use dockctl_api::{
    error::{reason, status},
    policy::{Method, Policies},
};
use http::{HeaderMap, header};
use tonic::{Code, Status};

use crate::app::auth::{Auth, Principal};

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
        let permission = &method.policy.permission;
        if !principal.allows(permission) {
            let status = status(
                Code::PermissionDenied,
                reason::NOT_ALLOWED,
                format!("{} may not do this: it needs {permission}", principal.name),
                &[("permission", permission)],
            );
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
