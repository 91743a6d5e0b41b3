//! dockctl's API through the generated clients, over one HTTP/2 connection that pins the CA.

use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use dockctl_api::{
    tls::{Trust, client_config},
    v1::{
        ListContainersRequest, LoginRequest, PingRequest, agent_service_client::AgentServiceClient,
        auth_service_client::AuthServiceClient, container_service_client::ContainerServiceClient,
        copy_service_client::CopyServiceClient, exec_service_client::ExecServiceClient,
        system_service_client::SystemServiceClient,
    },
};
use dockctl_link::channel::Channel;
use http::{HeaderValue, Request, header::AUTHORIZATION};
use tonic::body::Body;
use tower::Service;

use crate::{engine::TWENTY, measure::Caller};

/// A connection that says who calls; clones share it.
#[derive(Clone)]
pub(crate) struct Authorized {
    channel: Channel,
    token: Option<HeaderValue>,
}

impl Service<Request<Body>> for Authorized {
    type Response = <Channel as Service<Request<Body>>>::Response;
    type Error = <Channel as Service<Request<Body>>>::Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        self.channel.call(request)
    }
}

/// A client of the API on one connection.
#[derive(Clone)]
pub(crate) struct Api(Authorized);

impl Api {
    /// Connects without a login.
    pub(crate) async fn connect(address: &str, trust: Trust) -> Result<Self> {
        let channel = Channel::dial(address, client_config(trust, None)?).await?;
        Ok(Self(Authorized { channel, token: None }))
    }

    /// The same connection with an access token.
    pub(crate) fn with_token(mut self, token: &str) -> Result<Self> {
        self.0.token = Some(HeaderValue::from_str(&format!("Bearer {token}"))?);
        Ok(self)
    }

    /// Logs in; gives the access token, which is good for 15 minutes.
    pub(crate) async fn login(&self, username: &str, password: &str) -> Result<String> {
        let mut auth =
            AuthServiceClient::with_origin(self.0.clone(), self.0.channel.origin.clone());
        let request = LoginRequest { username: username.to_owned(), password: password.to_owned() };
        let tokens = auth.login(request).await?.into_inner().tokens;
        Ok(tokens.context("an empty LoginResponse")?.access_token)
    }

    /// AgentService.
    pub(crate) fn agents(&self) -> AgentServiceClient<Authorized> {
        AgentServiceClient::with_origin(self.0.clone(), self.0.channel.origin.clone())
    }

    /// ContainerService.
    pub(crate) fn containers(&self) -> ContainerServiceClient<Authorized> {
        ContainerServiceClient::with_origin(self.0.clone(), self.0.channel.origin.clone())
    }

    /// CopyService.
    pub(crate) fn copy(&self) -> CopyServiceClient<Authorized> {
        CopyServiceClient::with_origin(self.0.clone(), self.0.channel.origin.clone())
    }

    /// ExecService.
    pub(crate) fn exec(&self) -> ExecServiceClient<Authorized> {
        ExecServiceClient::with_origin(self.0.clone(), self.0.channel.origin.clone())
    }

    /// SystemService.
    pub(crate) fn system(&self) -> SystemServiceClient<Authorized> {
        SystemServiceClient::with_origin(self.0.clone(), self.0.channel.origin.clone())
    }
}

/// Lists all containers: of one agent, or of the fleet where `agent` is empty.
pub(crate) struct List {
    pub(crate) client: ContainerServiceClient<Authorized>,
    pub(crate) agent: &'static str,
}

impl Caller for List {
    async fn call(&mut self) -> Result<()> {
        let agent = self.agent.to_owned();
        let request = ListContainersRequest { agent, all: true, ..Default::default() };
        let listed = self.client.list_containers(request).await?.into_inner().containers.len();
        anyhow::ensure!(listed >= TWENTY, "only {listed} containers are listed");
        Ok(())
    }
}

/// Pings one agent.
pub(crate) struct Ping {
    pub(crate) client: SystemServiceClient<Authorized>,
    pub(crate) agent: String,
}

impl Caller for Ping {
    async fn call(&mut self) -> Result<()> {
        self.client.ping(PingRequest { agent: self.agent.clone() }).await?;
        Ok(())
    }
}
