//! A real controller on loopback.

use std::{net::SocketAddr, path::PathBuf, process::ExitStatus};

use anyhow::{Context, Result};
use dockctl_api::v1::{CreateJoinTokenRequest, CreateJoinTokenResponse};
use serde::Deserialize;

use crate::{api::Api, cli::Dockctl, fake_clock::FakeClock, process::Process, world::World};

/// The password of user `admin` in every scenario.
pub const ADMIN_PASSWORD: &str = "correct horse battery staple";

#[derive(Debug, Deserialize)]
struct Ready {
    api: SocketAddr,
    agents: SocketAddr,
    metrics: SocketAddr,
    ca_fingerprint: String,
}

/// A controller with its own data directory. It may be killed and started again on the same ports.
#[derive(Debug)]
pub struct Controller<'w> {
    world: &'w World,
    /// The running program.
    pub process: Process,
    /// The API's address.
    pub api: SocketAddr,
    /// The agents' address.
    pub agents: SocketAddr,
    /// The address of metrics and health.
    pub metrics: SocketAddr,
    /// SHA-256 of the CA's certificate.
    pub ca_fingerprint: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Further variables of its environment, from its next start on.
    pub env: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl World {
    /// Starts a controller on ports of the system's choice.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn controller(&self) -> Result<Controller<'_>> {
        self.controller_with(&[], "127.0.0.1:0").await
    }

    /// The same with further arguments, its agents' port at the address given.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn controller_with(
        &self,
        arguments: &[&str],
        agents: &str,
    ) -> Result<Controller<'_>> {
        self.start_controller(arguments, agents, Vec::new()).await
    }

    /// One with further variables in its environment.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn controller_in(
        &self,
        arguments: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Controller<'_>> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.start_controller(arguments, "127.0.0.1:0", env.collect()).await
    }

    /// One that lives by a clock of its own.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn controller_by(
        &self,
        clock: &FakeClock,
        arguments: &[&str],
    ) -> Result<Controller<'_>> {
        self.start_controller(arguments, "127.0.0.1:0", clock.environment()?).await
    }

    async fn start_controller(
        &self,
        arguments: &[&str],
        agents: &str,
        env: Vec<(String, String)>,
    ) -> Result<Controller<'_>> {
        let data_dir = self.dir("controller")?;
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let listen = ["127.0.0.1:0".to_owned(), agents.to_owned(), "127.0.0.1:0".to_owned()];
        let (process, ready) = serve(self, &data_dir, &arguments, &listen, &env).await?;
        Ok(Controller {
            world: self,
            process,
            api: ready.api,
            agents: ready.agents,
            metrics: ready.metrics,
            ca_fingerprint: ready.ca_fingerprint,
            data_dir,
            env,
            arguments,
        })
    }
}

/// Scenarios ask much in little time; those of the limits set their own.
const NO_LIMITS: [&str; 4] =
    ["DOCKCTL_LIMIT_AUTH", "DOCKCTL_LIMIT_ACTION", "DOCKCTL_LIMIT_READ", "DOCKCTL_LIMIT_STREAMS"];

async fn serve(
    world: &World,
    data_dir: &PathBuf,
    arguments: &[String],
    [api, agents, metrics]: &[String; 3],
    env: &[(String, String)],
) -> Result<(Process, Ready)> {
    let mut command = world.binary("dockctl-controller")?;
    command
        .args(["serve", "--ready-json", "--listen", api, "--agent-listen", agents])
        .args(["--metrics-listen", metrics, "--data-dir"])
        .arg(data_dir)
        .args(arguments)
        .envs(NO_LIMITS.map(|limit| (limit, "0")))
        .envs(env.iter().cloned())
        .env("DOCKCTL_ADMIN_PASSWORD", ADMIN_PASSWORD);
    let mut process = Process::spawn("controller", command, world.logs())?;
    let ready = process.ready().await?;
    Ok((process, ready))
}

impl<'w> Controller<'w> {
    /// Starts it again, on the same ports and data, after it has ended.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_again(&mut self) -> Result<()> {
        let listen = [self.api, self.agents, self.metrics].map(|a| a.to_string());
        let (process, ready) =
            serve(self.world, &self.data_dir, &self.arguments, &listen, &self.env).await?;
        anyhow::ensure!(ready.ca_fingerprint == self.ca_fingerprint, "it made a new CA");
        self.process = process;
        Ok(())
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.terminate().await
    }

    /// A client with no login.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn anonymous(&self) -> Result<Api> {
        Api::connect(self.api, &self.ca_fingerprint, None).await
    }

    /// A client logged in as `admin`.
    ///
    /// # Errors
    /// When the connection or the login fails.
    pub async fn admin(&self) -> Result<Api> {
        Api::login(self.api, &self.ca_fingerprint, "admin", ADMIN_PASSWORD).await
    }

    /// dockctl, logged in as `admin`.
    ///
    /// # Errors
    /// When the login fails.
    pub async fn dockctl(&self) -> Result<Dockctl<'w>> {
        self.dockctl_as("admin", ADMIN_PASSWORD).await
    }

    /// dockctl, logged in as somebody.
    ///
    /// # Errors
    /// When the login fails.
    pub async fn dockctl_as(&self, username: &str, password: &str) -> Result<Dockctl<'w>> {
        let dockctl = Dockctl::new(self.world)?;
        let url = format!("https://{}", self.api);
        let login = ["login", &url, "--username", username, "--password-stdin", "--ca-fingerprint"];
        let arguments = [&login[..], &[&*self.ca_fingerprint]].concat();
        dockctl.run_with_input(&arguments, password).await?.done()?;
        Ok(dockctl)
    }

    /// Makes a join token.
    ///
    /// # Errors
    /// When the controller refuses.
    pub async fn join_token(
        &self,
        request: CreateJoinTokenRequest,
    ) -> Result<CreateJoinTokenResponse> {
        let response = self.admin().await?.agents().create_join_token(request).await;
        Ok(response.context("CreateJoinToken")?.into_inner())
    }
}
