//! Who an agent's certificate says it is. The controller's CA puts id and generation into one URI
//! name, `dockctl://agents/<id>/generations/<n>`; TLS has proven that the peer holds the key.

use std::time::{Duration, SystemTime};

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The identity in an agent's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The agent's id.
    pub agent_id: String,
    /// Counts up with each renewal.
    pub generation: u64,
    /// When the certificate ends. TLS lets ended ones in, so that Renew can be called with them.
    pub not_after: SystemTime,
}

/// The URI name for an agent's certificate.
pub fn uri(agent_id: &str, generation: u64) -> String {
    format!("dockctl://agents/{agent_id}/generations/{generation}")
}

impl PeerIdentity {
    /// Reads a verified certificate (DER). None where it is not an agent's.
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let (agent_id, generation) = names.value.general_names.iter().find_map(|name| {
            let GeneralName::URI(uri) = name else { return None };
            let (id, generation) =
                uri.strip_prefix("dockctl://agents/")?.split_once("/generations/")?;
            Some((id.to_owned(), generation.parse().ok()?))
        })?;
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        (!agent_id.is_empty()).then_some(Self { agent_id, generation, not_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(uri: &str) -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn reads_id_and_generation() {
        let peer = PeerIdentity::from_certificate(&certificate(&uri("a1b2", 7))).unwrap();
        assert_eq!((peer.agent_id.as_str(), peer.generation), ("a1b2", 7));
    }

    #[test]
    fn other_certificates_are_nobody() {
        for uri in [
            "https://example.com",
            "dockctl://agents//generations/1",
            "dockctl://agents/a/generations/x",
        ] {
            assert_eq!(PeerIdentity::from_certificate(&certificate(uri)), None, "{uri}");
        }
        assert_eq!(PeerIdentity::from_certificate(b"garbage"), None);
    }
}
