//! The fleet's own certificate authority: one key, two kinds of certificate.
//!
//! Owns `ca.crt` and `ca.key` in the data directory. Called by `app::enroll` (agents' certificates)
//! and at start (the controller's own). It takes nothing but the public key from what an agent asks
//! for, keeps no list of what it issued, and decides about nobody: the store says who may have one.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use dockctl_api::{random, sha256_hex, tls::CONTROLLER_NAME};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use rustls::pki_types::{
    CertificateDer, DnsName, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _,
};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest};

use crate::store::file::{self, PRIVATE, PUBLIC};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Lifetime of the CA's own certificate.
const CA_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
/// Lifetime of the controller's certificate; it makes a new one at each start and long before the end.
const CONTROLLER_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Default lifetime of an agent's certificate.
const AGENT_LIFETIME: Duration = DAY;
/// How far the clock of a host may be behind and it still trusts the controller.
const CONTROLLER_BACKDATE: Duration = Duration::from_secs(2 * 24 * 60 * 60);
/// How far the clocks of several controllers may differ.
const AGENT_BACKDATE: Duration = Duration::from_secs(5 * 60);

/// What the CA cannot do.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// One of its files cannot be read or written.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why; no `source`, which `{:#}` would say a second time.
        problem: io::Error,
    },
    /// Its files are not what it wrote. It makes no new ones: that would shut every agent out.
    #[error(
        "{path}: {problem}; restore ca.crt and ca.key from a backup, or remove both to begin a new fleet that every agent must join anew"
    )]
    Files {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// A certificate signing request is malformed, not signed by its own key, or its key is of a kind
    /// that is not taken. The text is for whoever sent it.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The controller cannot have a certificate for a name.
    #[error("{0:?} is neither a host name nor an address")]
    BadName(String),
    /// Signing failed.
    #[error("a certificate could not be made: {0}")]
    Issue(#[from] rcgen::Error),
}

/// The certificate authority; clones share it.
#[derive(Clone)]
pub struct Ca {
    authority: Arc<Authority>,
    agent_lifetime: Duration,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    fingerprint: String,
}

/// An agent's certificate.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// When it ends.
    pub not_after: SystemTime,
}

/// The controller's certificate and key.
pub struct ControllerIdentity {
    /// The controller's certificate, then the CA's, by whose fingerprint clients trust it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

impl Ca {
    /// Reads the CA from `ca.crt` and `ca.key` in a directory, or makes one if neither is there.
    /// Blocks on the disk.
    pub fn open_or_create(data_dir: &Path, now: SystemTime) -> Result<Self, CaError> {
        let (certificate_path, key_path) = (data_dir.join("ca.crt"), data_dir.join("ca.key"));
        let key = read(&key_path)?;
        let mut certificate = read(&certificate_path)?;
        if key.is_some() && certificate.is_none() {
            certificate = finish_creation(&certificate_path)?;
        }
        let authority = match (certificate, key) {
            (Some(certificate), Some(key)) => Authority::read(&certificate, &key)
                .map_err(|problem| CaError::Files { path: key_path, problem })?,
            (None, None) => Authority::create(&certificate_path, &key_path, now)?,
            (Some(_), None) => {
                return Err(CaError::Files { path: key_path, problem: "the CA's key is gone" });
            }
            (None, Some(_)) => {
                let problem = "the CA's certificate is gone";
                return Err(CaError::Files { path: certificate_path, problem });
            }
        };
        Ok(Self { authority: Arc::new(authority), agent_lifetime: AGENT_LIFETIME })
    }

    /// Changes how long the agents' certificates live; 24 hours otherwise.
    pub fn with_agent_lifetime(self, agent_lifetime: Duration) -> Self {
        Self { agent_lifetime, ..self }
    }

    /// How long the agents' certificates live.
    pub fn agent_lifetime(&self) -> Duration {
        self.agent_lifetime
    }

    /// SHA-256 of the CA's certificate (DER): 64 lower-case hex digits.
    pub fn fingerprint(&self) -> &str {
        &self.authority.fingerprint
    }

    /// The CA's certificate.
    pub fn certificate_der(&self) -> CertificateDer<'static> {
        self.authority.certificate.clone()
    }

    /// Makes an agent's certificate. Of the request only the public key is used: whatever else it asks
    /// for (a CA, names, usages, a lifetime) is not read.
    pub fn issue_agent(
        &self,
        request: &CertificateRequest,
        agent_id: &str,
        generation: u64,
        now: SystemTime,
    ) -> Result<IssuedCertificate, CaError> {
        let now = whole_seconds(now);
        let not_after = now + self.agent_lifetime;
        let mut params = leaf(agent_id, now - AGENT_BACKDATE, not_after);
        let identity = dockctl_link::identity::uri(agent_id, generation);
        params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&request.key, &self.authority.issuer)?;
        Ok(IssuedCertificate { der: certificate.der().clone(), not_after })
    }

    /// Makes a key and certificate for the controller, good for [`CONTROLLER_NAME`], this machine's
    /// loopback and the given host names and addresses.
    pub fn issue_controller(
        &self,
        names: &[String],
        now: SystemTime,
    ) -> Result<ControllerIdentity, CaError> {
        let now = whole_seconds(now);
        let mut params =
            leaf("dockctl controller", now - CONTROLLER_BACKDATE, now + CONTROLLER_LIFETIME);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let own = [CONTROLLER_NAME, "localhost", "127.0.0.1", "::1"];
        for name in own.into_iter().chain(names.iter().map(String::as_str)) {
            let name = alternative_name(name)?;
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority.issuer)?;
        Ok(ControllerIdentity {
            chain: vec![certificate.der().clone(), self.certificate_der()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }
}

impl Authority {
    fn create(certificate: &Path, key: &Path, now: SystemTime) -> Result<Self, CaError> {
        let now = whole_seconds(now);
        let pair = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("dockctl CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - CONTROLLER_BACKDATE).into();
        params.not_after = (now + CA_LIFETIME).into();
        params.serial_number = Some(serial_number());
        let issued = params.self_signed(&pair)?;

        // Both are on the disk before either has its name, and the key gets its name first: a crash
        // in between leaves what `finish_creation` can finish.
        let write = |path: &Path, done: io::Result<()>| done.map_err(|e| file_error(path, e));
        write(certificate, file::stage(certificate, issued.pem().as_bytes(), PUBLIC))?;
        write(key, file::write(key, pair.serialize_pem().as_bytes(), PRIVATE))?;
        write(certificate, file::publish(certificate))?;
        Ok(Self::new(issued.der().clone(), pair)?)
    }

    fn read(certificate: &[u8], key: &[u8]) -> Result<Self, &'static str> {
        let key = std::str::from_utf8(key).ok().and_then(|pem| KeyPair::from_pem(pem).ok());
        let key = key.ok_or("the CA's key cannot be read")?;
        let der = CertificateDer::from_pem_slice(certificate)
            .map_err(|_| "the CA's certificate cannot be read")?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|_| "the CA's certificate cannot be read")?;
        if !parsed.is_ca() {
            return Err("the CA's certificate is not one of a CA");
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err("the CA's key and certificate do not belong together");
        }
        Self::new(der.into_owned(), key).map_err(|_| "the CA's certificate cannot be used")
    }

    fn new(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { issuer, fingerprint: sha256_hex(&certificate), certificate })
    }
}

/// A certificate signing request whose sender has the private key.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    key: SubjectPublicKeyInfo,
    fingerprint: String,
    asks_for_more: bool,
}

impl CertificateRequest {
    /// Largest request that is looked at, bytes; one with an ECDSA key has about 250.
    const MAX: usize = 16 * 1024;

    /// Reads a PKCS#10 request (DER) with an ECDSA P-256, P-384 or Ed25519 key and checks that it is
    /// signed by that key. Errors: [`CaError::BadRequest`].
    pub fn parse(der: &[u8]) -> Result<Self, CaError> {
        if der.len() > Self::MAX {
            return Err(CaError::BadRequest("the certificate request is too large"));
        }
        let malformed = CaError::BadRequest("the certificate request is not a PKCS#10 request");
        let Ok((rest, request)) = X509CertificationRequest::from_der(der) else {
            return Err(malformed);
        };
        if !rest.is_empty() {
            return Err(malformed);
        }
        let key = &request.certification_request_info.subject_pki;
        let kinds =
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        let parsed = SubjectPublicKeyInfo::from_der(key.raw)
            .ok()
            .filter(|key| kinds.contains(&key.algorithm()))
            .ok_or(CaError::BadRequest("the key must be ECDSA P-256, P-384 or Ed25519"))?;
        request.verify_signature().map_err(|_| {
            CaError::BadRequest("the certificate request is not signed by its own key")
        })?;
        let asks_for_more = request.requested_extensions().is_some_and(|mut e| e.next().is_some());
        Ok(Self { key: parsed, fingerprint: sha256_hex(key.raw), asks_for_more })
    }

    /// Whether it asks for anything but a certificate for its key: names, uses, to be an authority. None of it
    /// would be given.
    pub fn asks_for_more(&self) -> bool {
        self.asks_for_more
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER): 64 lower-case hex digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn leaf(name: &str, not_before: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    params.serial_number = Some(serial_number());
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn alternative_name(name: &str) -> Result<SanType, CaError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let bad = || CaError::BadName(name.to_owned());
    DnsName::try_from(name).map_err(|_| bad())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| bad())?))
}

/// 127 random bits, positive and never zero.
fn serial_number() -> SerialNumber {
    let mut bytes = random::<16>();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// Certificates have no fractions of a second.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// Gives the CA's certificate its name where a crash came before that; none where there is nothing
/// to finish.
fn finish_creation(certificate: &Path) -> Result<Option<Vec<u8>>, CaError> {
    let staged = read(&file::staged(certificate))?;
    if staged.is_some() {
        file::publish(certificate).map_err(|e| file_error(certificate, e))?;
    }
    Ok(staged)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CaError> {
    file::read_optional(path).map_err(|e| file_error(path, e))
}

fn file_error(path: &Path, problem: io::Error) -> CaError {
    CaError::File { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests;
