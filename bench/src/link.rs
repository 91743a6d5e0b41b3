//! What the way over controller and link costs a small unary call. The same service, which answers at
//! once, is called over one TLS hop and through a real controller; agent and hop live in this process.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use dockctl_api::{
    link::v1::{Certificate, EnrollRequest},
    tls::{CONTROLLER_NAME, ClientIdentity, Trust, client_config},
    v1::{
        GetInfoRequest, GetInfoResponse, GetVersionRequest, GetVersionResponse, PingRequest,
        PingResponse, StreamEventsRequest, StreamEventsResponse,
        system_service_server::{SystemService, SystemServiceServer},
    },
};
use dockctl_link::{
    agent::{Connector, Host, HostResult, Status as LinkStatus, Updates, enroll},
    controller::{
        listener::Port,
        tls::{ServerCertificate, users_config},
    },
};
use futures_util::stream;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, service::Routes};

use crate::{
    api::{Api, Ping},
    harness::{Bench, Controller},
    measure::{alternate_latency, alternate_rate},
    report::{Figure, Goal},
};

const NAME: &str = "bench-link";
/// Callers at once in the busy figure, on one connection.
const CALLERS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let routes = Routes::new(SystemServiceServer::new(AtOnce));
    let controller = Controller::start(bench, &[]).await?;
    let _agent = start_agent(&controller, routes.clone()).await?;
    let over_link = controller.client().await?;
    let (one_hop, _hop) = one_hop(routes).await?;
    let ping = |api: &Api| Ping { client: api.system(), agent: NAME };

    let rounds = bench.pick(40, 4);
    let (hop, link) =
        alternate_latency(rounds, 50, &mut ping(&one_hop), &mut ping(&over_link)).await?;
    let alone = Figure::ratio("unary over the link, 1 caller", "ms", ("one hop", &hop), &link);

    let (rounds, span) =
        bench.pick((5, Duration::from_millis(500)), (1, Duration::from_millis(200)));
    let mut hop: Vec<_> = (0..CALLERS).map(|_| ping(&one_hop)).collect();
    let mut link: Vec<_> = (0..CALLERS).map(|_| ping(&over_link)).collect();
    let (hop, link) = alternate_rate(rounds, span, &mut hop, &mut link).await?;
    let busy =
        Figure::ratio("unary over the link, 64 callers", "calls/s", ("one hop", &hop), &link);
    Ok(vec![alone.goal(Goal::AtMost(2.0)), busy])
}

/// Serves over TLS under a CA of its own; gives a client, and what ends it.
async fn one_hop(routes: Routes) -> Result<(Api, DropGuard)> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key)?.der().clone();
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![SanType::DnsName(CONTROLLER_NAME.try_into()?)];
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?.der().clone();
    let key = any_supported_type(&private_key(&key)?)?;
    let certificate = ServerCertificate::new(CertifiedKey::new(vec![leaf, root.clone()], key));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let tls = Some(Arc::new(users_config(Arc::new(certificate))?));
    let stop = CancellationToken::new();
    tokio::spawn(Port { listener, tls, service: routes, max_connections: 4 }.serve(stop.clone()));
    Ok((Api::connect(&address, Trust::Ca(root)).await?, stop.drop_guard()))
}

fn private_key(key: &KeyPair) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)
}

/// Enrols an agent of our own and connects it; gives what ends it.
async fn start_agent(controller: &Controller, routes: Routes) -> Result<DropGuard> {
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default().serialize_request(&key)?.der().to_vec();
    let token = controller.join_token().await?;
    // dockctl1.SECRET.FINGERPRINT
    let secret = token.split('.').nth(1).context("a join token has three parts")?.to_owned();
    let request = EnrollRequest {
        token: secret,
        csr: csr.into(),
        name: NAME.to_owned(),
        ..Default::default()
    };
    let trust = Trust::CaFingerprint(controller.ca_fingerprint.clone());
    let enrolled = enroll(&controller.agents, client_config(trust, None)?, request).await?;
    let certificate = enrolled.certificate.context("an empty EnrollResponse")?;
    let host = Agent { certificate, key: private_key(&key)?, routes };

    let connector = Connector::new(controller.agents.clone(), Arc::new(host));
    let (mut status, stop) = (connector.status(), CancellationToken::new());
    tokio::spawn(connector.run(stop.clone()));
    let stop = stop.drop_guard();
    let connected = status.wait_for(|s| matches!(s, LinkStatus::Connected { .. }));
    timeout(PATIENCE, connected).await.context("the link did not come up")??;
    Ok(stop)
}

struct Agent {
    certificate: Certificate,
    key: PrivateKeyDer<'static>,
    routes: Routes,
}

#[tonic::async_trait]
impl Host for Agent {
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
    type StreamEventsStream = stream::Empty<Result<StreamEventsResponse, Status>>;

    async fn get_version(
        &self,
        _: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        Err(Status::unimplemented("only Ping is measured"))
    }

    async fn get_info(
        &self,
        _: Request<GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        Err(Status::unimplemented("only Ping is measured"))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        Ok(Response::new(PingResponse::default()))
    }

    async fn stream_events(
        &self,
        _: Request<StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        Err(Status::unimplemented("only Ping is measured"))
    }
}
