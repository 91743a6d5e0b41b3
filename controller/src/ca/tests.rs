//! What the CA signs, and what it does about its own files.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use rcgen::{CustomExtension, date_time_ymd};
use x509_parser::extensions::GeneralName;

use super::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_800_000_123)
}

fn request(key: &KeyPair) -> CertificateRequest {
    let der = CertificateParams::default().serialize_request(key).unwrap();
    CertificateRequest::parse(der.der()).unwrap()
}

fn seconds(time: SystemTime) -> i64 {
    crate::store::unix_ms(time) / 1000
}

#[test]
fn a_request_that_asks_for_more_gets_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Ca::open_or_create(directory.path(), now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::default();
    greedy.distinguished_name = common_name("dockctl CA");
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    greedy.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
    greedy.subject_alt_names = vec![
        SanType::DnsName(CONTROLLER_NAME.try_into().unwrap()),
        SanType::URI("dockctl://agents/victim/generations/1".try_into().unwrap()),
    ];
    greedy.custom_extensions =
        vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0x05, 0x00])];
    // PKCS#10 knows no lifetime, but an extension could carry anything.
    greedy.not_after = date_time_ymd(2125, 1, 1);
    let der = greedy.serialize_request(&key).unwrap();
    let request = CertificateRequest::parse(der.der()).unwrap();
    assert_eq!(request.fingerprint(), sha256_hex(&key.subject_public_key_info()));

    let issued = ca.issue_agent(&request, "0123456789abcdef0123", 7, now()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&issued.der).unwrap();
    assert_eq!(certificate.subject().to_string(), "CN=0123456789abcdef0123");
    assert_eq!(certificate.issuer().to_string(), "CN=dockctl CA");
    assert_eq!(certificate.public_key().raw, key.subject_public_key_info());
    let (_, authority) = X509Certificate::from_der(&ca.authority.certificate).unwrap();
    certificate.verify_signature(Some(authority.public_key())).unwrap();

    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(!constraints.value.ca && !certificate.is_ca());
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert_eq!(usage.flags, 1, "digitalSignature and nothing else");
    let extended = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth && !extended.any);
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    let uri = "dockctl://agents/0123456789abcdef0123/generations/7";
    assert_eq!(names.as_slice(), [GeneralName::URI(uri)]);
    assert!(certificate.iter_extensions().all(|e| e.oid.to_id_string() != "1.2.3.4"));

    let validity = certificate.validity();
    assert_eq!(validity.not_before.timestamp(), seconds(now()) - 300);
    assert_eq!(validity.not_after.timestamp(), seconds(now()) + 86_400);
    assert_eq!(seconds(issued.not_after), validity.not_after.timestamp());
}

#[test]
fn serial_numbers_and_lifetimes() {
    let directory = tempfile::tempdir().unwrap();
    let minute = Duration::from_secs(60);
    let ca = Ca::open_or_create(directory.path(), now()).unwrap().with_agent_lifetime(minute);
    let request = request(&KeyPair::generate().unwrap());
    let serial = |issued: &IssuedCertificate| {
        let (_, certificate) = X509Certificate::from_der(&issued.der).unwrap();
        assert!(certificate.raw_serial().len() == 16 && certificate.raw_serial()[0] < 0x80);
        certificate.raw_serial().to_vec()
    };
    let one = ca.issue_agent(&request, "a", 1, now()).unwrap();
    let two = ca.issue_agent(&request, "a", 1, now()).unwrap();
    assert_ne!(serial(&one), serial(&two));
    assert_eq!(seconds(one.not_after), seconds(now()) + 60);
}

#[test]
fn bad_requests_are_refused() {
    let key = KeyPair::generate().unwrap();
    let good = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    let fingerprint = CertificateRequest::parse(&good).unwrap().fingerprint;
    for length in 0..good.len() {
        assert!(CertificateRequest::parse(&good[..length]).is_err(), "cut at {length}");
    }
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        // What is not signed, such as the tag of the algorithm, may differ; the key may not.
        if let Ok(parsed) = CertificateRequest::parse(&flipped) {
            assert_eq!(parsed.fingerprint(), fingerprint, "flipped at {at}");
        }
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert!(CertificateRequest::parse(&longer).is_err());
    assert!(CertificateRequest::parse(&vec![0x30; 20_000]).is_err());

    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    request(&p384);
    request(&ed25519);
    let der = CertificateParams::default().serialize_request(&p521).unwrap();
    assert!(CertificateRequest::parse(der.der()).is_err());
}

#[test]
fn the_controllers_certificate_passes_the_clients_verifier() {
    use rustls::pki_types::{ServerName, UnixTime};
    let directory = tempfile::tempdir().unwrap();
    let ca = Ca::open_or_create(directory.path(), now()).unwrap();
    let names = ["10.1.2.3", "fleet.example.org", "localhost"].map(str::to_owned);
    let controller = ca.issue_controller(&names, now()).unwrap();
    assert_eq!(controller.chain[1], ca.certificate_der());
    assert_eq!(sha256_hex(&controller.chain[1]), ca.fingerprint());

    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.certificate_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
    let verify = |name: &str, at: SystemTime| {
        use rustls::client::danger::ServerCertVerifier as _;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        verifier.verify_server_cert(&controller.chain[0], &[], &name, &[], at)
    };
    for name in [CONTROLLER_NAME, "localhost", "127.0.0.1", "::1", "10.1.2.3", "fleet.example.org"]
    {
        verify(name, now()).unwrap();
    }
    verify("elsewhere.example.org", now()).unwrap_err();
    verify(CONTROLLER_NAME, now() - DAY - DAY / 2).unwrap();
    verify(CONTROLLER_NAME, now() - 3 * DAY).unwrap_err();
    verify(CONTROLLER_NAME, now() + 29 * DAY).unwrap();
    verify(CONTROLLER_NAME, now() + 31 * DAY).unwrap_err();

    for bad in ["", "a b", "bad_host!", "10.1.2.3:7443"] {
        let refused = ca.issue_controller(&[bad.to_owned()], now()).err();
        assert!(matches!(refused, Some(CaError::BadName(_))), "{bad:?}");
    }
}

#[test]
fn openssl_agrees() {
    if Command::new("openssl").arg("version").output().is_err() {
        return; // rustls and x509-parser have looked at the same in the other tests
    }
    let directory = tempfile::tempdir().unwrap();
    let ca = Ca::open_or_create(directory.path(), SystemTime::now()).unwrap();
    let request = request(&KeyPair::generate().unwrap());
    let issued = ca.issue_agent(&request, "agent", 1, SystemTime::now()).unwrap();
    fs::write(directory.path().join("agent.der"), &issued.der).unwrap();
    let openssl = |arguments: &[&str]| {
        let out = Command::new("openssl").args(arguments).current_dir(directory.path()).output();
        let out = out.unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
        text
    };
    openssl(&["x509", "-inform", "der", "-in", "agent.der", "-out", "agent.pem"]);
    openssl(&["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "ca.crt", "agent.pem"]);
    let text = openssl(&["x509", "-in", "agent.pem", "-noout", "-text"]);
    for line in
        ["CA:FALSE", "TLS Web Client Authentication", "URI:dockctl://agents/agent/generations/1"]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
    let print = openssl(&["x509", "-in", "ca.crt", "-noout", "-fingerprint", "-sha256"]);
    let print = print.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(print, ca.fingerprint());
}

#[test]
fn the_ca_outlives_a_restart_and_keeps_its_key_to_itself() {
    let directory = tempfile::tempdir().unwrap();
    let first = Ca::open_or_create(directory.path(), now()).unwrap();
    let later = now() + 400 * DAY;
    let second = Ca::open_or_create(directory.path(), later).unwrap();
    assert_eq!(first.certificate_der(), second.certificate_der());
    let mode = |file: &str| {
        fs::metadata(directory.path().join(file)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("ca.key"), mode("ca.crt")), (0o600, 0o644));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    let request = request(&KeyPair::generate().unwrap());
    let issued = second.issue_agent(&request, "a", 1, later).unwrap();
    let (_, certificate) = X509Certificate::from_der(&issued.der).unwrap();
    let (_, authority) = X509Certificate::from_der(&first.authority.certificate).unwrap();
    certificate.verify_signature(Some(authority.public_key())).unwrap();
}

#[test]
fn a_crash_while_the_ca_is_made_is_recovered_from() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let fingerprint = Ca::open_or_create(directory.path(), now()).unwrap().fingerprint().to_owned();
    // After the key got its name, before the certificate got its own.
    fs::rename(path("ca.crt"), path("ca.crt.new")).unwrap();
    let ca = Ca::open_or_create(directory.path(), now()).unwrap();
    assert_eq!(ca.fingerprint(), fingerprint);
    assert!(path("ca.crt").exists());
    // Before either had its name: nobody has seen that CA, so a new one is as good.
    fs::rename(path("ca.crt"), path("ca.crt.new")).unwrap();
    fs::rename(path("ca.key"), path("ca.key.new")).unwrap();
    Ca::open_or_create(directory.path(), now()).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn files_that_are_gone_or_foreign_are_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    Ca::open_or_create(directory.path(), now()).unwrap();
    Ca::open_or_create(other.path(), now()).unwrap();
    let (certificate, key) = (fs::read(path("ca.crt")).unwrap(), fs::read(path("ca.key")).unwrap());
    let refused = |problem: &str| {
        let error = Ca::open_or_create(directory.path(), now()).err().unwrap().to_string();
        assert!(error.contains(problem) && error.contains("restore"), "{error}");
    };
    fs::remove_file(path("ca.key")).unwrap();
    refused("key is gone");
    fs::copy(other.path().join("ca.key"), path("ca.key")).unwrap();
    refused("do not belong together");
    fs::write(path("ca.key"), "nonsense").unwrap();
    refused("key cannot be read");
    fs::write(path("ca.key"), &key).unwrap();
    for length in [0, 1, certificate.len() / 2] {
        fs::write(path("ca.crt"), &certificate[..length]).unwrap();
        refused("certificate cannot be read");
    }
    fs::remove_file(path("ca.crt")).unwrap();
    refused("certificate is gone");
    fs::write(path("ca.crt"), &certificate).unwrap();
    Ca::open_or_create(directory.path(), now()).unwrap();
}
