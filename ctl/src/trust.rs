//! Which controller is trusted: by a CA certificate's fingerprint, by the certificate from a file or
//! from the login, or by a person who compared the fingerprint. Explains a refusal with both
//! fingerprints. The probe that looks at an untrusted controller's certificates sends nothing to it.

use std::{path::Path, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use dockctl_api::{
    sha256_hex,
    tls::{self, Trust},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{
    client::{self, Connected, Failure},
    endpoint::Endpoint,
    error::{Error, Exit, Result},
};

/// Connects to a controller within `limit` and refuses any other than the trusted one.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    trust: Option<Trust>,
    limit: Duration,
) -> Result<Connected> {
    if !endpoint.secure {
        return client::connect(endpoint, None, limit).await.map_err(told);
    }
    let trust = trust.ok_or_else(|| unknown(endpoint))?;
    let config = tls::client_config(trust.clone(), None)
        .map_err(|e| Error::usage(format!("the CA cannot be used: {e}")))?;
    match client::connect(endpoint, Some(config), limit).await {
        Ok(connected) => Ok(connected),
        Err(Failure::Unreachable(error)) => Err(error),
        Err(Failure::Untrusted(error)) => Err(mismatch(endpoint, &trust, &error, limit).await),
    }
}

/// Trust in the CA with this fingerprint; a usage error where it is none.
pub(crate) fn by_fingerprint(text: &str) -> Result<Trust> {
    tls::normal_fingerprint(text).map(Trust::CaFingerprint).ok_or_else(|| {
        Error::usage("a CA fingerprint has 64 hexadecimal digits").hint(
            "the controller prints it at its start; \
             or: openssl x509 -in ca.crt -noout -fingerprint -sha256",
        )
    })
}

/// Trust in the CA certificate in a file, PEM or DER; a usage error where it is none.
pub(crate) fn by_file(path: &Path) -> Result<Trust> {
    let wrong = |why: String| Error::usage(format!("{}: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let der = match bytes.starts_with(&[0x30]) {
        true => CertificateDer::from(bytes),
        false => CertificateDer::from_pem_slice(&bytes)
            .map_err(|_| wrong("there is no certificate in it, PEM or DER".to_owned()))?,
    };
    Ok(Trust::Ca(der))
}

/// The CA certificate to keep after a login: the one trusted by file, or the one in the chain that
/// has the fingerprint.
pub(crate) fn trusted_ca(trust: &Trust, chain: &[CertificateDer<'static>]) -> Option<Vec<u8>> {
    match trust {
        Trust::Ca(der) => Some(der.to_vec()),
        Trust::CaFingerprint(wanted) => {
            let wanted = tls::normal_fingerprint(wanted)?;
            chain.iter().find(|c| sha256_hex(c) == wanted).map(|c| c.to_vec())
        }
    }
}

/// The fingerprint of the CA that a controller shows, trusted or not.
pub(crate) async fn shown_fingerprint(endpoint: &Endpoint, limit: Duration) -> Result<String> {
    let connected = client::connect(endpoint, Some(probe()?), limit).await.map_err(told)?;
    connected
        .chain
        .last()
        .map(|ca| sha256_hex(ca))
        .ok_or_else(|| Error::new(Exit::Failed, format!("{} shows no certificate", endpoint.url())))
}

async fn mismatch(
    endpoint: &Endpoint,
    trust: &Trust,
    error: &rustls::Error,
    limit: Duration,
) -> Error {
    let url = endpoint.url();
    let wanted = match trust {
        Trust::CaFingerprint(text) => text.clone(),
        Trust::Ca(der) => sha256_hex(der),
    };
    match shown_fingerprint(endpoint, limit).await {
        Ok(shown) if shown != wanted => Error::new(
            Exit::Failed,
            format!("{url} is not the controller that is trusted"),
        )
        .hint(format!("trusted CA: {wanted}"))
        .hint(format!("shown CA:   {shown}"))
        .hint("if the controller was set up anew, compare with what it prints at its start and")
        .hint(format!("log in again: dockctl login {url} --username USER --ca-fingerprint …"))
        .hint("if not, someone else answers in its place: do not go on"),
        _ => {
            Error::new(Exit::Failed, format!("{url} shows a certificate that is no good: {error}"))
                .hint("check the clocks of both machines, and restart the controller to renew it")
        }
    }
}

fn unknown(endpoint: &Endpoint) -> Error {
    Error::usage(format!("nothing says which CA to trust for {}", endpoint.url())).hint(
        "pass --ca-fingerprint SHA256 (the controller prints it at its start) or --ca-file FILE, \
         or log in: dockctl login URL --username USER",
    )
}

/// What a failed connection without pinning has to say.
fn told(failure: Failure) -> Error {
    match failure {
        Failure::Unreachable(error) => error,
        Failure::Untrusted(error) => Error::new(Exit::Failed, error.to_string()),
    }
}

/// A CA certificate as it is kept in the configuration file: base64 of DER, or PEM.
pub(crate) fn by_text(text: &str) -> Option<Trust> {
    let der = match text.trim_start().starts_with("-----BEGIN") {
        true => CertificateDer::from_pem_slice(text.as_bytes()).ok()?,
        false => CertificateDer::from(BASE64_STANDARD.decode(text.trim()).ok()?),
    };
    (!der.is_empty()).then_some(Trust::Ca(der))
}

/// A configuration that looks at any certificate and trusts it with nothing.
fn probe() -> Result<ClientConfig> {
    let failed = |e: rustls::Error| Error::new(Exit::Failed, e.to_string());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Look))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), tls::OWN_CA.to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Look;

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
