//! Whether a stream may still be seen that could be begun: looked at anew with each change of anybody's rights
//! or of an agent's labels.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use dockctl_api::{
    error::{reason, status},
    policy::Method,
};
use tonic::{Code, Status};

use crate::{
    app::auth::{Auth, Principal},
    fleet::registry::Registry,
    guard,
};

/// The wait where rights cannot be looked up, because the database does not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// What a stream was begun with.
pub(super) struct Right {
    pub(super) auth: Auth,
    pub(super) registry: Registry,
    pub(super) method: Arc<Method>,
    pub(super) principal: Principal,
    /// The agent that it is of; empty for the whole fleet.
    pub(super) agent: String,
}

impl Right {
    /// Resolves when the stream must end, with the reason.
    pub(super) async fn lost(self) -> Status {
        let mut changes = self.auth.rights();
        // One may have come since the call was let in.
        changes.mark_changed();
        loop {
            tokio::select! {
                change = changes.changed() => if change.is_err() { return std::future::pending().await },
                () = until(self.principal.ends_at()) => {}
            }
            while let Err(status) = self.look().await {
                if status.code() != Code::Internal {
                    return status;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    async fn look(&self) -> Result<(), Status> {
        let now = self.auth.again(&self.principal).await?;
        if !guard::may_begin(&self.method, &now) {
            return Err(guard::not_allowed(&self.method, &now, &self.agent));
        }
        if !self.agent.is_empty() {
            let check = |labels: &_| guard::check_agent(&self.method, &now, &self.agent, labels);
            return self.registry.with_labels(&self.agent, check)?;
        }
        // Who is granted less sees less, and the stream was begun for more; which agents have which labels is
        // looked at where they are merged.
        match now.authority == self.principal.authority {
            true => Ok(()),
            false => {
                let message = "what you may see has changed; ask again";
                Err(status(Code::Unavailable, reason::RIGHTS_CHANGED, message, &[]))
            }
        }
    }
}

async fn until(end: Option<SystemTime>) {
    match end {
        Some(end) => {
            let left = end.duration_since(SystemTime::now()).unwrap_or_default();
            tokio::time::sleep(left + Duration::from_millis(10)).await;
        }
        None => std::future::pending().await,
    }
}
