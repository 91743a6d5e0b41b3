//! TLS to a controller that has its own CA: the client trusts a CA by the SHA-256 fingerprint of its
//! certificate, which the controller sends in its chain, or by the certificate itself.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
};

/// The DNS name that every controller's certificate carries, besides its own addresses.
pub const CONTROLLER_NAME: &str = "controller.dockctl.internal";

/// An application protocol that our own clients offer beside HTTP/2 and nobody ever speaks: it tells a controller
/// that has a public certificate too which of the two is trusted.
pub const OWN_CA: &[u8] = b"dockctl";

/// How a client decides to trust a controller.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The chain must contain, and lead to, a CA certificate with this SHA-256 (64 hex digits of its
    /// DER, any case, colons allowed). The name in the URL does not matter: only this CA's
    /// controllers have such a certificate.
    CaFingerprint(String),
    /// The chain must lead to this CA certificate (DER). The name does not matter, as above.
    Ca(CertificateDer<'static>),
}

/// A client's own certificate and key.
pub struct ClientIdentity {
    /// The certificate, DER.
    pub certificate: CertificateDer<'static>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

/// The configuration of a TLS 1.3 client that speaks HTTP/2 and trusts as told.
pub fn client_config(
    trust: Trust,
    identity: Option<ClientIdentity>,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa { trust: normal(trust)?, provider }));
    let mut config = match identity {
        Some(id) => builder.with_client_auth_cert(vec![id.certificate], id.key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), OWN_CA.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// A fingerprint in its one spelling: 64 lower-case hex digits. None where it is not one.
pub fn normal_fingerprint(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix("sha256:").or(text.strip_prefix("SHA256:")).unwrap_or(text);
    let digits: String = text.chars().filter(|c| *c != ':').collect::<String>().to_lowercase();
    (digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then_some(digits)
}

fn normal(trust: Trust) -> Result<Trust, Error> {
    match trust {
        Trust::CaFingerprint(text) => normal_fingerprint(&text)
            .map(Trust::CaFingerprint)
            .ok_or_else(|| Error::General("a CA fingerprint has 64 hexadecimal digits".to_owned())),
        ca => Ok(ca),
    }
}

#[derive(Debug)]
struct PinnedCa {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let ca = match &self.trust {
            Trust::Ca(ca) => ca.clone(),
            Trust::CaFingerprint(wanted) => intermediates
                .iter()
                .find(|c| crate::sha256_hex(c) == *wanted)
                .map(|c| c.clone().into_owned())
                .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?,
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|e| Error::General(e.to_string()))?;
        let name =
            ServerName::try_from(CONTROLLER_NAME).map_err(|e| Error::General(e.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_have_one_spelling() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(normal_fingerprint(&plain).as_deref(), Some(plain.as_str()));
        assert_eq!(
            normal_fingerprint(&format!("SHA256:{colons}")).as_deref(),
            Some(plain.as_str())
        );
        assert_eq!(normal_fingerprint("abc"), None);
        assert_eq!(normal_fingerprint(&"zz".repeat(32)), None);
    }
}
