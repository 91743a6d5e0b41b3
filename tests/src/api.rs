//! dockctl's API through the generated clients, over one HTTP/2 connection that pins the CA.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use anyhow::{Context, Result};
use dockctl_api::{
    link::v1::agent_link_client::AgentLinkClient,
    tls::{CONTROLLER_NAME, Trust, client_config},
    v1::{
        LoginRequest, agent_service_client::AgentServiceClient,
        auth_service_client::AuthServiceClient, container_service_client::ContainerServiceClient,
        copy_service_client::CopyServiceClient, docker_service_client::DockerServiceClient,
        exec_service_client::ExecServiceClient, forward_service_client::ForwardServiceClient,
        image_service_client::ImageServiceClient, system_service_client::SystemServiceClient,
    },
};
use http::{HeaderValue, Uri, header::AUTHORIZATION};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tower::Service;

use crate::wait::SHORT;

/// Room for many streams that nobody reads: FACTS says what a small window does to the others.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// One HTTP/2 connection to a controller; clones share it. It ends with the last clone.
#[derive(Debug, Clone)]
pub struct Channel {
    send: http2::SendRequest<Body>,
    authorization: Option<HeaderValue>,
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future =
        Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send + 'static>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.send.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        Box::pin(self.send.send_request(request))
    }
}

/// A client of the API.
#[derive(Debug, Clone)]
pub struct Api {
    channel: Channel,
    origin: Uri,
}

impl Api {
    /// Connects; `token` is an access token.
    ///
    /// # Errors
    /// When the connection or the TLS handshake fails.
    pub async fn connect(
        api: SocketAddr,
        ca_fingerprint: &str,
        token: Option<&str>,
    ) -> Result<Self> {
        let config = client_config(Trust::CaFingerprint(ca_fingerprint.to_owned()), None)?;
        let connect = async {
            let tcp = TcpStream::connect(api).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(CONTROLLER_NAME)?;
            let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
            let (send, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake(TokioIo::new(tls))
                .await?;
            // Ends when the last clone of `send` and the last response are gone.
            tokio::spawn(connection);
            anyhow::Ok(send)
        };
        let send = timeout(SHORT, connect).await.context("no answer from the API's port")??;
        let authorization =
            token.map(|t| HeaderValue::from_str(&format!("Bearer {t}"))).transpose()?;
        let origin = Uri::builder()
            .scheme("https")
            .authority(api.to_string())
            .path_and_query("/")
            .build()?;
        Ok(Self { channel: Channel { send, authorization }, origin })
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// When the connection or the login fails.
    pub async fn login(
        api: SocketAddr,
        ca_fingerprint: &str,
        username: &str,
        password: &str,
    ) -> Result<Self> {
        let mut client = Self::connect(api, ca_fingerprint, None).await?;
        let request = LoginRequest { username: username.to_owned(), password: password.to_owned() };
        let tokens = client.auth().login(request).await?.into_inner().tokens;
        let token = tokens.context("an empty LoginResponse")?.access_token;
        client.channel.authorization = Some(HeaderValue::from_str(&format!("Bearer {token}"))?);
        Ok(client)
    }

    /// The access token, as `authorization` has it.
    pub fn authorization(&self) -> Option<&str> {
        self.channel.authorization.as_ref().and_then(|v| v.to_str().ok())
    }

    /// AgentLink, where the connection is one to the agents' port.
    pub fn link(&self) -> AgentLinkClient<Channel> {
        AgentLinkClient::with_origin(self.channel.clone(), self.origin.clone())
    }

    /// AuthService.
    pub fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::with_origin(self.channel.clone(), self.origin.clone())
    }

    /// AgentService.
    pub fn agents(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::with_origin(self.channel.clone(), self.origin.clone())
    }

    /// ContainerService.
    pub fn containers(&self) -> ContainerServiceClient<Channel> {
        ContainerServiceClient::with_origin(self.channel.clone(), self.origin.clone())
    }

    /// ExecService.
    pub fn exec(&self) -> ExecServiceClient<Channel> {
        ExecServiceClient::with_origin(self.channel.clone(), self.origin.clone())
    }

    /// CopyService.
    pub fn copies(&self) -> CopyServiceClient<Channel> {
        CopyServiceClient::with_origin(self.channel.clone(), self.origin.clone())
    }

    /// ForwardService.
    pub fn forwards(&self) -> ForwardServiceClient<Channel> {
        ForwardServiceClient::with_origin(self.channel.clone(), self.origin.clone())
    }

    /// DockerService.
    pub fn docker(&self) -> DockerServiceClient<Channel> {
        DockerServiceClient::with_origin(self.channel.clone(), self.origin.clone())
    }

    /// ImageService.
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::with_origin(self.channel.clone(), self.origin.clone())
    }

    /// SystemService.
    pub fn system(&self) -> SystemServiceClient<Channel> {
        SystemServiceClient::with_origin(self.channel.clone(), self.origin.clone())
    }
}
