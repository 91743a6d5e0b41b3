//! The certificates that the ports show: our own, which is renewed, and a public one, from files, which are read
//! again, or from an ACME authority.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use dockctl_link::controller::tls;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use crate::ca::Ca;

pub mod acme;
pub mod challenges;

use acme::Acme;

/// How often our own certificate is looked at; it is renewed long before its 30 days.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(24 * 3_600);
/// How often the files of a certificate are looked at.
const FILES_CHECK: Duration = Duration::from_secs(5);

/// The controller's own certificate, renewed while it serves.
pub struct OwnCertificate {
    /// Who signs it.
    pub ca: Ca,
    names: Vec<String>,
    /// What handshakes get.
    pub served: Arc<tls::ServerCertificate>,
}

impl OwnCertificate {
    /// The first one, for these names and addresses.
    pub fn new(ca: Ca, names: Vec<String>) -> anyhow::Result<Self> {
        let served = Arc::new(tls::ServerCertificate::new(issue(&ca, &names)?));
        Ok(Self { ca, names, served })
    }

    /// Another one of the same kind.
    pub fn another(&self) -> anyhow::Result<Arc<tls::ServerCertificate>> {
        Ok(Arc::new(tls::ServerCertificate::new(issue(&self.ca, &self.names)?)))
    }

    /// Renews it for ever.
    pub async fn keep_renewed(self) {
        let mut checks = tokio::time::interval(CERTIFICATE_CHECK);
        checks.tick().await; // The first one is at once, and the certificate is new.
        loop {
            checks.tick().await;
            match issue(&self.ca, &self.names) {
                Ok(key) => self.served.replace(key),
                Err(error) => tracing::error!(%error, "cannot renew the controller's certificate"),
            }
        }
    }
}

fn issue(ca: &Ca, names: &[String]) -> anyhow::Result<CertifiedKey> {
    let identity = ca.issue_controller(names, SystemTime::now())?;
    Ok(CertifiedKey::new(identity.chain, any_supported_type(&identity.key)?))
}

/// What browsers get in place of our own.
pub enum PublicCertificate {
    /// From files.
    Files(FromFiles),
    /// From an authority.
    Acme(Box<Acme>),
}

impl PublicCertificate {
    /// What handshakes get.
    pub fn served(&self) -> &Arc<tls::ServerCertificate> {
        match self {
            Self::Files(files) => &files.served,
            Self::Acme(acme) => &acme.served,
        }
    }

    /// Keeps it new for ever.
    pub async fn keep_new(self) {
        match self {
            Self::Files(files) => files.keep_read().await,
            Self::Acme(acme) => acme.keep_renewed().await,
        }
    }
}

/// A certificate from files, read again when they change.
pub struct FromFiles {
    chain: PathBuf,
    key: PathBuf,
    seen: [Option<SystemTime>; 2],
    /// What handshakes get.
    pub served: Arc<tls::ServerCertificate>,
}

impl FromFiles {
    /// Reads a chain and its key, PEM.
    pub fn read(chain: &Path, key: &Path) -> anyhow::Result<Self> {
        let seen = changed_at(chain, key);
        let served = Arc::new(tls::ServerCertificate::new(certificate_of(chain, key)?));
        Ok(Self { chain: chain.to_owned(), key: key.to_owned(), seen, served })
    }

    /// Reads them again for ever, when they change.
    pub async fn keep_read(mut self) {
        let mut checks = tokio::time::interval(FILES_CHECK);
        loop {
            checks.tick().await;
            let seen = changed_at(&self.chain, &self.key);
            if seen == self.seen {
                continue;
            }
            match certificate_of(&self.chain, &self.key) {
                Ok(key) => {
                    self.served.replace(key);
                    self.seen = seen;
                    tracing::info!(chain = %self.chain.display(), "the certificate was read again");
                }
                // One of the two may be new already and the other not.
                Err(error) => tracing::warn!("the certificate is kept as it was: {error:#}"),
            }
        }
    }
}

fn changed_at(chain: &Path, key: &Path) -> [Option<SystemTime>; 2] {
    [chain, key].map(|path| path.metadata().and_then(|found| found.modified()).ok())
}

fn certificate_of(chain: &Path, key: &Path) -> anyhow::Result<CertifiedKey> {
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let whose = || format!("the certificate {} and its key {}", chain.display(), key.display());
    certified(&read(chain)?, &read(key)?).with_context(whose)
}

/// A chain and its key, PEM.
fn certified(chain: &[u8], key: &[u8]) -> anyhow::Result<CertifiedKey> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .context("the certificate cannot be read")?;
    anyhow::ensure!(!certificates.is_empty(), "there is no certificate");
    let secret = PrivateKeyDer::from_pem_slice(key).context("the key cannot be read")?;
    let signer = any_supported_type(&secret).context("the key is of no kind that is known")?;
    let certified = CertifiedKey::new(certificates, signer);
    anyhow::ensure!(certified.keys_match().is_ok(), "the key is not that of the certificate");
    Ok(certified)
}
