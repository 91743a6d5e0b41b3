//! A real registry (Debian's docker-registry) on a port of this machine, which Docker trusts without TLS.

use std::{fs, net::SocketAddr, process::Command};

use anyhow::{Context, Result};

use crate::{process::Process, world::World};

/// A running registry with no images yet. Ends when dropped.
#[derive(Debug)]
pub struct Registry {
    /// Its address, as images' names begin with it.
    pub address: SocketAddr,
    /// The running program.
    pub process: Process,
}

/// The name and password that a registry with a login takes.
pub const REGISTRY_LOGIN: (&str, &str) = ("anna", "s3cret-of-anna");
/// The same as htpasswd writes it.
const HTPASSWD: &str = "anna:$2y$04$42.aIhbk7wIVn.nfN1HeXe5FWAOd8ndfIp6Wqc08I2CUoikLZb83W\n";

impl World {
    /// Starts a registry, one that wants [`REGISTRY_LOGIN`] or one that is open to all.
    ///
    /// # Errors
    /// When it does not listen.
    pub async fn registry(&self, with_login: bool) -> Result<Registry> {
        let dir = self.dir("registry")?;
        let data = dir.join("data");
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:0\", secret: x}}\n",
            data.display()
        );
        if with_login {
            let file = dir.join("htpasswd");
            fs::write(&file, HTPASSWD)?;
            let auth = format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", file.display());
            config.push_str(&auth);
        }
        let path = dir.join("config.yml");
        fs::write(&path, config)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path);
        let process = Process::spawn("registry", command, self.logs())?;
        let line = process.wait_for_log("listening on ").await?;
        let address = line
            .split_once("listening on ")
            .and_then(|(_, rest)| rest.split('"').next())
            .context("no address in the registry's log")?
            .parse()?;
        Ok(Registry { address, process })
    }
}
