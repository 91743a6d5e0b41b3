//! Agents with no engine: they answer a ping without asking anyone.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use dockctl_api::{
    link::v1::{Certificate, EnrollRequest},
    tls::{ClientIdentity, Trust, client_config},
    v1::{
        PingRequest, PingResponse,
        system_service_server::{SystemService, SystemServiceServer},
    },
};
use dockctl_link::agent::{Connector, Host, HostResult, Status as LinkStatus, Updates, enroll};
use futures_util::stream;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, service::Routes};

const PATIENCE: Duration = Duration::from_secs(60);

/// The services of a fake agent.
pub(crate) fn answers_at_once() -> Routes {
    Routes::new(SystemServiceServer::new(AtOnce)).prepare()
}

/// An agent that has enrolled.
pub(crate) struct Identity {
    /// Where the controller listens for agents.
    pub(crate) controller: String,
    certificate: Certificate,
    key: PrivateKeyDer<'static>,
    routes: Routes,
}

impl Identity {
    /// Enrols with a join token at the controller whose CA has that fingerprint.
    pub(crate) async fn enroll(
        (controller, ca_fingerprint): (&str, &str),
        token: &str,
        name: &str,
    ) -> Result<Self> {
        let key = KeyPair::generate()?;
        let csr = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        // dockctl1.SECRET.FINGERPRINT
        let secret = token.split('.').nth(1).context("a join token has three parts")?.to_owned();
        let request = EnrollRequest {
            token: secret,
            csr: csr.into(),
            name: name.to_owned(),
            ..Default::default()
        };
        let trust = Trust::CaFingerprint(ca_fingerprint.to_owned());
        let enrolled = enroll(controller, client_config(trust, None)?, request).await?;
        let certificate = enrolled.certificate.context("an empty EnrollResponse")?;
        Ok(Self {
            controller: controller.to_owned(),
            certificate,
            key: private_key(&key)?,
            routes: answers_at_once(),
        })
    }

    /// Connects it and keeps it connected; gives what ends it.
    pub(crate) async fn start(self) -> Result<DropGuard> {
        let connector = Connector::new(self.controller.clone(), Arc::new(self));
        let (mut status, stop) = (connector.status(), CancellationToken::new());
        tokio::spawn(connector.run(stop.clone()));
        let stop = stop.drop_guard();
        let connected = status.wait_for(|s| matches!(s, LinkStatus::Connected { .. }));
        timeout(PATIENCE, connected).await.context("the link did not come up")??;
        Ok(stop)
    }
}

#[tonic::async_trait]
impl Host for Identity {
    fn tls(&self) -> HostResult<ClientConfig> {
        let der = |bytes: &[u8]| CertificateDer::from(bytes.to_vec());
        let certificate = der(&self.certificate.certificate);
        let identity = ClientIdentity { certificate, key: self.key.clone_key() };
        Ok(client_config(Trust::Ca(der(&self.certificate.ca)), Some(identity))?)
    }

    async fn begin_renewal(&self) -> HostResult<Vec<u8>> {
        Err("this agent does not live that long".into())
    }

    async fn finish_renewal(&self, _: Certificate) -> HostResult<()> {
        Ok(())
    }

    fn routes(&self) -> Routes {
        self.routes.clone()
    }

    fn updates(&self) -> Updates {
        Box::pin(stream::pending())
    }
}

/// Answers a ping without asking anyone.
struct AtOnce;

#[tonic::async_trait]
impl SystemService for AtOnce {
    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse::default()))
    }
}

/// The key as rustls has it.
pub(crate) fn private_key(key: &KeyPair) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)
}
