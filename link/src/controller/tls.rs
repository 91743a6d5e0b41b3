//! TLS of the agents' port: our CA only, client certificates optional (Enroll has none), no
//! resumption, since it would let a revoked agent back in without a check (FACTS). TLS of the users' port: our
//! CA too, and where there is one a public certificate for browsers and curl.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use dockctl_api::tls::OWN_CA;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, UnixTime},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The controller's certificate, replaceable while it serves.
#[derive(Debug)]
pub struct ServerCertificate(RwLock<Arc<CertifiedKey>>);

impl ServerCertificate {
    /// Begins with this one.
    pub fn new(key: CertifiedKey) -> Self {
        Self(RwLock::new(Arc::new(key)))
    }

    /// New handshakes get this one.
    pub fn replace(&self, key: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Our own certificate for our own clients, a public one for everybody else.
#[derive(Debug)]
pub struct TwoCertificates {
    /// Of our CA.
    pub own: Arc<ServerCertificate>,
    /// Of an authority that browsers know.
    pub public: Arc<ServerCertificate>,
}

impl ResolvesServerCert for TwoCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_ours = hello.alpn().is_some_and(|mut offered| offered.any(|p| p == OWN_CA));
        if is_ours { self.own.resolve(hello) } else { self.public.resolve(hello) }
    }
}

/// The configuration of the agents' port.
pub fn agents_config(
    ca: CertificateDer<'static>,
    certificate: Arc<ServerCertificate>,
) -> Result<ServerConfig, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| Error::General(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AgentVerifier { inner }))
        .with_cert_resolver(certificate);
    harden(&mut config);
    Ok(config)
}

/// The configuration of the users' port: TLS 1.3, no client certificates.
pub fn users_config(certificate: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    harden(&mut config);
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(config)
}

fn harden(config: &mut ServerConfig) {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
}

/// Accepts certificates of our CA whose time is over, so that an agent that was off for weeks can
/// prove its old key and renew; what an ended certificate may do is decided per rpc.
#[derive(Debug)]
struct AgentVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for AgentVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let (_, certificate) = X509Certificate::from_der(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let begins = u64::try_from(certificate.validity().not_before.timestamp()).unwrap_or(0);
        let within = UnixTime::since_unix_epoch(Duration::from_secs(begins.saturating_add(1)));
        self.inner.verify_client_cert(end_entity, intermediates, within)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
