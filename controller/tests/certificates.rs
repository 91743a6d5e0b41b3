//! What the users' port shows to whom: the fleet's own certificate to dockctl, a public one from files to
//! everybody else, read again when it changes; and plain HTTP on loopback, for a proxy in front.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test fails by panicking

mod common;

use std::{path::Path, sync::Arc};

use common::*;
use dockctl_api::tls::{Trust, client_config};
use dockctl_controller::run::{Controller, Options, UsersTls};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

const NAME: &str = "mesh.example";

/// Writes a certificate and its key, as certbot does, and returns the certificate.
fn write(dir: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([NAME.to_owned()]).unwrap();
    std::fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("chain.pem"), cert.pem()).unwrap();
    cert.der().clone()
}

/// The certificate that a client is shown, where it trusts it.
async fn shown(world: &World, config: ClientConfig) -> Option<CertificateDer<'static>> {
    let tcp = TcpStream::connect(world.api).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
    Some(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
}

/// A browser that knows this authority.
fn browser(authority: &CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let mut config = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

#[tokio::test]
async fn browsers_see_the_public_certificate_and_dockctl_the_fleets_own() {
    let files = TempDir::new().unwrap();
    let first = write(files.path());
    let [chain, key] = ["chain.pem", "key.pem"].map(|name| files.path().join(name));
    let users_tls = UsersTls::Files(chain.clone(), key.clone());
    let dir = Arc::new(TempDir::new().unwrap());
    let world = World::with(dir, |options| Options { users_tls, ..options }).await;
    assert_eq!(shown(&world, browser(&first)).await, Some(first.clone()));
    let own = client_config(Trust::CaFingerprint(world.fingerprint.clone()), None).unwrap();
    assert!(shown(&world, own).await.is_some_and(|seen| seen != first), "its own");
    world.user().await; // A login through the pinned authority.

    // What cannot be used is not taken; what can be is, without a restart.
    std::fs::write(&chain, "nonsense").unwrap();
    let second = write(files.path());
    let replaced = async { while shown(&world, browser(&second)).await.is_none() {} };
    timeout(LIMIT, replaced).await.unwrap();
    assert_eq!(shown(&world, browser(&first)).await, None);
}

#[tokio::test]
async fn files_that_do_not_fit_keep_it_from_starting_with_a_sentence() {
    let files = TempDir::new().unwrap();
    write(files.path());
    let [chain, key, other] =
        ["chain.pem", "key.pem", "other.pem"].map(|name| files.path().join(name));
    std::fs::rename(&key, &other).unwrap();
    write(files.path());
    for (chain, key, why) in [
        (&chain, &other, "other.pem: the key is not that of the certificate"),
        (&key, &key, "key.pem: there is no certificate"),
        (&files.path().join("none.pem"), &key, "cannot read"),
    ] {
        let users_tls = UsersTls::Files(chain.clone(), key.clone());
        let dir = TempDir::new().unwrap();
        let Err(error) = Controller::open(Options { users_tls, ..options(dir.path()) }).await
        else {
            panic!("it started")
        };
        assert!(format!("{error:#}").contains(why), "{error:#}");
    }
}

#[tokio::test]
async fn plain_http_is_for_loopback_only() {
    let dir = Arc::new(TempDir::new().unwrap());
    let world = World::with(dir, |options| Options { users_tls: UsersTls::Plain, ..options }).await;
    let mut tcp = TcpStream::connect(world.api).await.unwrap();
    let body = format!(r#"{{"username":"admin","password":"{PASSWORD}"}}"#);
    let request = format!(
        "POST /dockctl.v1.AuthService/Login HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, tcp.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("accessToken"), "{answer}");

    let dir = TempDir::new().unwrap();
    let listen = "0.0.0.0:0".parse().unwrap();
    let options = Options { users_tls: UsersTls::Plain, listen, ..options(dir.path()) };
    let Err(error) = Controller::open(options).await else { panic!("it started") };
    assert!(error.to_string().contains("not on loopback"), "{error}");
}
