//! Agents with no engine: they answer a ping without asking anyone.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use dockctl_api::{
    link::v1::{Certificate, EnrollRequest},
    tls::{ClientIdentity, Trust, client_config},
    v1::{
        LogRecord, LogStream, PingRequest, PingResponse, ReadArchiveRequest, ReadArchiveResponse,
        StreamLogsRequest, StreamLogsResponse,
        container_service_server::{ContainerService, ContainerServiceServer},
        copy_service_server::{CopyService, CopyServiceServer},
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
use tokio::time::{interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, codegen::BoxStream, service::Routes};

const PATIENCE: Duration = Duration::from_secs(60);

/// The services of a fake agent.
pub(crate) fn answers_at_once() -> Routes {
    Routes::new(SystemServiceServer::new(AtOnce))
        .add_service(ContainerServiceServer::new(AtOnce))
        .add_service(CopyServiceServer::new(AtOnce))
        .prepare()
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

/// Answers a ping without asking anyone, and streams of any length.
#[derive(Clone)]
struct AtOnce;

/// Between two lines of a log that is followed.
const LINE_EVERY: Duration = Duration::from_millis(100);
/// A piece of an archive; so much of a log is sent at once, too.
pub(crate) const PIECE: usize = 64 * 1024;

#[tonic::async_trait]
impl ContainerService for AtOnce {
    /// A line now and then where it is followed; else as many pieces as the container's name says.
    async fn stream_logs(
        &self,
        request: Request<StreamLogsRequest>,
    ) -> Result<Response<BoxStream<StreamLogsResponse>>, Status> {
        let request = request.into_inner();
        let message = |data: Bytes| {
            let record = LogRecord { stream: LogStream::Stdout.into(), data };
            Ok(StreamLogsResponse { records: vec![record], ..Default::default() })
        };
        if request.follow {
            let lines = stream::unfold(interval(LINE_EVERY), move |mut every| async move {
                every.tick().await;
                Some((message(Bytes::from_static(LINE)), every))
            });
            return Ok(Response::new(Box::pin(lines)));
        }
        let lines = Bytes::from(LINE.repeat(PIECE / LINE.len()));
        let pieces = pieces(&request.container)?;
        Ok(Response::new(Box::pin(stream::iter((0..pieces).map(move |_| message(lines.clone()))))))
    }
}

/// 100 bytes.
const LINE: &[u8; 100] = &{
    let mut line = [b'x'; 100];
    line[99] = b'\n';
    line
};

#[tonic::async_trait]
impl CopyService for AtOnce {
    /// As many pieces as the container's name says.
    async fn read_archive(
        &self,
        request: Request<ReadArchiveRequest>,
    ) -> Result<Response<BoxStream<ReadArchiveResponse>>, Status> {
        let (data, pieces) =
            (Bytes::from(vec![b'x'; PIECE]), pieces(&request.get_ref().container)?);
        let message = move |_| Ok(ReadArchiveResponse { stat: None, data: data.clone() });
        Ok(Response::new(Box::pin(stream::iter((0..pieces).map(message)))))
    }
}

fn pieces(container: &str) -> Result<usize, Status> {
    container.parse().map_err(|_| Status::invalid_argument("the container is a number of pieces"))
}

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
