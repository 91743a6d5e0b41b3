//! A certificate signing request: refused, or its key and nothing else of it is in the certificate.
#![no_main]

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use dockctl_controller::ca::{Ca, CertificateRequest};
use dockctl_link::identity::PeerIdentity;
use libfuzzer_sys::fuzz_target;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

static CA: LazyLock<Ca> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    Ca::open_or_create(dir.path(), now()).unwrap()
});

fuzz_target!(|der: &[u8]| {
    let _ = PeerIdentity::from_certificate(der);
    if let Ok(request) = CertificateRequest::parse(der) {
        let issued = CA.issue_agent(&request, "a1b2", 7, now()).unwrap();
        let peer = PeerIdentity::from_certificate(&issued.der).unwrap();
        assert_eq!((peer.agent_id.as_str(), peer.generation), ("a1b2", 7));
        assert_eq!(peer.not_after, issued.not_after);
    }
});
