//! Certificates of a real ACME authority (Let's Encrypt's own test server), which looks at the controller by DNS names
//! as Let's Encrypt does, and what browsers see of them.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use dockctl_tests::{Controller, Dockctl, LONG, Process, World, await_until, scenario};
use serde_json::json;

const NAME: &str = "fleet.example.com";

/// An authority that reaches every name at one address of its own: by TLS at port 5001, by HTTP at port 5002.
struct Authority<'w> {
    world: &'w World,
    address: &'static str,
    /// The certificate of its API, PEM.
    own: PathBuf,
    _dns: Process,
    _pebble: Process,
}

impl<'w> Authority<'w> {
    /// Its certificates are good for so many seconds.
    async fn start(world: &'w World, address: &'static str, seconds: u64) -> Result<Self> {
        let dir = world.dir("pebble")?;
        let made = rcgen::generate_simple_self_signed([address.to_owned()])?;
        let (own, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        fs::write(&own, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let config = json!({"pebble": {
            "listenAddress": format!("{address}:14000"),
            "managementListenAddress": format!("{address}:15000"),
            "certificate": own,
            "privateKey": key,
            "httpPort": 5002,
            "tlsPort": 5001,
            "certificateValidityPeriod": seconds,
        }});
        fs::write(dir.join("config.json"), config.to_string())?;
        let dns = format!("{address}:8053");
        let mut names = Command::new("pebble-challtestsrv");
        names
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""])
            .args(["-defaultIPv4", address, "-dns01", &dns])
            .args(["-management", &format!("{address}:8055")]);
        let names = Process::spawn("dns", names, world.logs())?;
        let mut pebble = Command::new("pebble");
        pebble
            .args(["-strict", "-dnsserver", &dns, "-config"])
            .arg(dir.join("config.json"))
            .env("PEBBLE_VA_NOSLEEP", "1");
        let pebble = Process::spawn("pebble", pebble, world.logs())?;
        let authority = Self { world, address, own, _dns: names, _pebble: pebble };
        await_until("the authority to answer", LONG, async || Ok(authority.root().ok())).await?;
        Ok(authority)
    }

    /// A controller at its address that asks it for a certificate.
    async fn controller(&self, arguments: &[&str]) -> Result<Controller<'w>> {
        let directory = format!("https://{}:14000/dir", self.address);
        let listen = format!("{}:5001", self.address);
        let acme = ["--listen", &listen, "--acme-domain", NAME, "--acme-directory", &directory];
        let own = self.own.display().to_string();
        self.world.controller_in(&[&acme[..], arguments].concat(), &[("SSL_CERT_FILE", &own)]).await
    }

    /// What it signs with, PEM.
    fn root(&self) -> Result<PathBuf> {
        let url = format!("https://{}:15000/roots/0", self.address);
        let own = self.own.display().to_string();
        let root = self.own.with_file_name("root.pem");
        fs::write(&root, curl(&["--cacert", &own, &url])?)?;
        Ok(root)
    }

    /// What a browser gets that trusts the authority.
    fn visit(&self, more: &[&str]) -> Result<String> {
        let root = self.root()?.display().to_string();
        let (url, at) =
            (format!("https://{NAME}:5001/healthz"), format!("{NAME}:5001:{}", self.address));
        curl(&[&["--cacert", &root, "--resolve", &at, &url], more].concat())
    }
}

fn curl(arguments: &[&str]) -> Result<String> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail"])
        .args(arguments)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn the_users_port_proves_itself_to_an_authority_and_shows_its_certificate_to_browsers() {
    scenario(async |world| {
        let authority = Authority::start(world, "127.84.0.1", 3_600).await?;
        let mut controller = authority.controller(&["--acme-email", "ops@example.com"]).await?;
        controller.process.wait_for_log("has a new certificate").await?;
        ensure!(authority.visit(&[])? == "ok\n");

        // dockctl goes on with the fleet's own CA, at the same port and name.
        let dockctl = Dockctl::new(world)?;
        let url = format!("https://{}", controller.api);
        let login = ["login", &url, "--username", "admin", "--password-stdin", "--ca-fingerprint"];
        let login = [&login[..], &[&*controller.ca_fingerprint]].concat();
        dockctl.run_with_input(&login, dockctl_tests::ADMIN_PASSWORD).await?.done()?;

        // A certificate that is there is not asked for again.
        let shown = authority.visit(&["--write-out", "%{certs}"])?;
        controller.terminate().await?;
        controller.start_again().await?;
        ensure!(authority.visit(&["--write-out", "%{certs}"])? == shown);
        ensure!(!controller.process.log()?.contains("a certificate is needed"));
        Ok(())
    });
}

#[test]
fn an_authority_may_look_by_plain_http_and_its_certificate_is_renewed_in_time() {
    scenario(async |world| {
        let authority = Authority::start(world, "127.84.0.2", 15).await?;
        let http = ["--acme-http-listen", "127.84.0.2:5002"];
        let controller = authority.controller(&http).await?;
        controller.process.wait_for_log("has a new certificate").await?;
        let certificate = || authority.visit(&["--write-out", "%{certs}"]);
        let first = certificate()?;
        await_until("another certificate", LONG, async || {
            // Never a moment without a good one.
            let now = certificate()?;
            Ok((now != first).then_some(()))
        })
        .await
    });
}

#[test]
fn an_authority_that_does_not_find_us_is_told_of_and_hinders_nobody() {
    scenario(async |world| {
        let authority = Authority::start(world, "127.84.0.3", 3_600).await?;
        let elsewhere = ["--acme-http-listen", "127.84.0.3:5003"];
        let controller = authority.controller(&elsewhere).await?;
        let told = controller.process.wait_for_log("no certificate from").await?;
        let line = told.lines().find(|l| l.contains("no certificate from")).context("no line")?;
        ensure!(line.contains("it did not find us") && line.contains(NAME), "{line}");
        ensure!(line.contains("refused") && line.contains("trying again in 120 s"), "{line}");
        ensure!(controller.dockctl().await?.ok(&["agents", "ls"]).await?.starts_with("NAME"));
        Ok(())
    });
}
