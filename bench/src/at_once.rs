//! A process that stands for an agent's host: a service that answers at once, served over one TLS hop
//! and, as an agent, over the link. It is a process of its own, as both are in life; started by
//! `link.rs`, it ends when its standard input does.

use std::{io::Read as _, sync::Arc};

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
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes};

/// The agent's name.
pub(crate) const NAME: &str = "bench-link";

/// Where and as what to serve.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The controller's port for agents.
    agents: String,
    /// A join token.
    token: String,
    /// SHA-256 of the controller's CA.
    ca_fingerprint: String,
}

/// What it prints once it serves.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Where the one hop leads to.
    pub(crate) address: String,
    /// The certificate of the one hop's CA, hex DER.
    pub(crate) ca: String,
}

/// Serves until standard input ends.
pub(crate) async fn run(args: Args) -> Result<()> {
    let routes = Routes::new(SystemServiceServer::new(AtOnce));
    let ready = one_hop(routes.clone()).await?;
    let connector = agent(args, routes).await?;
    let mut status = connector.status();
    tokio::spawn(connector.run(CancellationToken::new()));
    status.wait_for(|s| matches!(s, LinkStatus::Connected { .. })).await?;
    println!("{}", serde_json::to_string(&ready)?);
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

/// Serves over TLS under a CA of its own.
async fn one_hop(routes: Routes) -> Result<Ready> {
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
    let port = Port { listener, tls, service: routes, max_connections: 128, session_within: None };
    tokio::spawn(port.serve(CancellationToken::new()));
    Ok(Ready { address, ca: hex::encode(root) })
}

fn private_key(key: &KeyPair) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)
}

/// Enrols an agent of our own.
async fn agent(args: Args, routes: Routes) -> Result<Connector> {
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default().serialize_request(&key)?.der().to_vec();
    // dockctl1.SECRET.FINGERPRINT
    let secret = args.token.split('.').nth(1).context("a join token has three parts")?.to_owned();
    let request = EnrollRequest {
        token: secret,
        csr: csr.into(),
        name: NAME.to_owned(),
        ..Default::default()
    };
    let trust = Trust::CaFingerprint(args.ca_fingerprint);
    let enrolled = enroll(&args.agents, client_config(trust, None)?, request).await?;
    let certificate = enrolled.certificate.context("an empty EnrollResponse")?;
    let host = Agent { certificate, key: private_key(&key)?, routes };
    Ok(Connector::new(args.agents, Arc::new(host)))
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
