//! The agent as a whole: identity, engine, inventory and services tied to the link. The binary runs
//! one; the controller's `--with-agent` runs one in its own process.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use dockctl_api::{
    link::v1::Certificate,
    tls::{ClientIdentity, Trust, client_config},
};
use dockctl_link::agent::{Connector, Host, HostResult, Status, Updates};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    engine::{Engine, EngineOptions},
    guard::Guard,
    inventory::{self, Inventory},
    join::{anew, csr, new_key},
    serve,
    state::{Identity, State},
};

/// Runs an enrolled agent until `shutdown`, within what `guard` allows; `ready` is told where it stands.
///
/// Errors: a bad engine URL. Everything else is retried for ever.
pub async fn run(
    state: State,
    identity: Identity,
    docker: String,
    guard: Guard,
    ready: impl FnOnce(watch::Receiver<Status>),
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let name: Arc<str> = identity.name.as_str().into();
    let engine = Engine::guarded(EngineOptions { host: docker }, guard).context("--docker")?;
    let (handle, inventory) = Inventory::new(engine.clone(), name.clone());
    let watcher = tokio::spawn(inventory.run(shutdown.clone()));
    let directory = state.directory();
    let host = Arc::new(AgentHost {
        state,
        routes: serve::routes(engine, handle.clone(), name),
        inventory: handle,
    });
    let connector = Connector::new(identity.controller, host);
    ready(connector.status());
    tokio::spawn(advise(connector.status(), directory));
    connector.run(shutdown).await;
    watcher.await.context("the inventory's task failed")
}

/// Says how a host that the controller shuts out comes back, once and not at each try; ends with the
/// link.
async fn advise(mut status: watch::Receiver<Status>, directory: PathBuf) {
    let mut told = false;
    while status.changed().await.is_ok() {
        let refused = matches!(*status.borrow_and_update(), Status::Refused { .. });
        if refused && !told {
            tracing::error!("to bring this host back, {}", anew(&directory));
        }
        told = refused;
    }
}

/// What the link needs of the agent.
struct AgentHost {
    state: State,
    routes: Routes,
    inventory: inventory::Handle,
}

impl AgentHost {
    /// Works on the state outside of the async threads: each write waits for the disk.
    async fn with_state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&State) -> HostResult<T> + Send + 'static,
    ) -> HostResult<T> {
        let state = self.state.clone();
        tokio::task::spawn_blocking(move || work(&state)).await?
    }
}

#[async_trait::async_trait]
impl Host for AgentHost {
    fn tls(&self) -> HostResult<ClientConfig> {
        let identity = self.state.identity().ok_or("the agent has no identity; join again")?;
        let client = ClientIdentity {
            certificate: CertificateDer::from(identity.certificate),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key)),
        };
        Ok(client_config(Trust::Ca(CertificateDer::from(identity.ca)), Some(client))?)
    }

    async fn begin_renewal(&self) -> HostResult<Vec<u8>> {
        self.with_state(|state| {
            let key = state.begin_renewal(new_key()?)?;
            Ok(csr(&key)?)
        })
        .await
    }

    async fn finish_renewal(&self, certificate: Certificate) -> HostResult<()> {
        self.with_state(move |state| {
            state.complete_renewal(certificate.certificate.to_vec(), certificate.ca.to_vec())?;
            Ok(())
        })
        .await
    }

    fn routes(&self) -> Routes {
        self.routes.clone()
    }

    fn updates(&self) -> Updates {
        Box::pin(self.inventory.updates())
    }
}
