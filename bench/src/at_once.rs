//! A process that stands for an agent's host: a service that answers at once, served over one TLS hop
//! and, as an agent, over the link. It is a process of its own, as both are in life; started by
//! `link.rs`, it ends when its standard input does.

use std::{io::Read as _, sync::Arc};

use anyhow::Result;
use dockctl_api::tls::{CONTROLLER_NAME, Trust};
use dockctl_link::controller::{
    listener::Port,
    tls::{ServerCertificate, users_config},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::{ServerConfig, crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    api::Api,
    fake_agent::{Identity, answers_at_once, private_key},
    measure::Processor,
};

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

impl Ready {
    /// Connects to it.
    pub(crate) async fn connect(&self) -> Result<Api> {
        Api::connect(&self.address, self.trust()?).await
    }

    /// Trusts it.
    pub(crate) fn trust(&self) -> Result<Trust> {
        Ok(Trust::Ca(hex::decode(&self.ca)?.into()))
    }
}

/// Serves until standard input ends.
pub(crate) async fn run(args: Args) -> Result<()> {
    let _here = Processor::last()?;
    let ready = one_hop().await?;
    let controller = (args.agents.as_str(), args.ca_fingerprint.as_str());
    let _agent = Identity::enroll(controller, &args.token, NAME).await?.start().await?;
    println!("{}", serde_json::to_string(&ready)?);
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

/// Serves over TLS.
async fn one_hop() -> Result<Ready> {
    let (tls, ca) = own_authority()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let port = Port {
        listener,
        tls: Some(tls),
        http1: true,
        service: answers_at_once(),
        max_connections: 128,
        traffic: Default::default(),
        session_within: None,
    };
    tokio::spawn(port.serve(CancellationToken::new()));
    Ok(Ready { address, ca })
}

/// TLS under a CA of its own, whose certificate is given as well (hex DER).
pub(crate) fn own_authority() -> Result<(Arc<ServerConfig>, String)> {
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
    Ok((Arc::new(users_config(Arc::new(certificate))?), hex::encode(root)))
}
