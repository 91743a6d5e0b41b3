//! The controller as a whole: opens what is on disk, binds the ports, serves, and drains.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use dockctl_api::{
    policy::Policies,
    v1::{
        CreateJoinTokenRequest, agent_service_server::AgentServiceServer,
        api_token_service_server::ApiTokenServiceServer, audit_service_server::AuditServiceServer,
        auth_service_server::AuthServiceServer, user_service_server::UserServiceServer,
    },
};
use dockctl_link::{
    controller::{listener::Port, router, tls},
    wire,
};
use rustls::ServerConfig;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;

use crate::{
    app::{
        agents::Agents,
        api_tokens::ApiTokens,
        audit::Audit,
        auth::{Auth, LoginOptions, system_clock},
        enroll::Enroller,
        join_tokens::JoinTokens,
        oidc::{self, Oidc},
        users::Users,
    },
    ca::Ca,
    certificates::{
        FromFiles, OwnCertificate, PublicCertificate,
        acme::{self, Acme},
        challenges::{ACME_TLS, WithChallenges},
    },
    edge::{
        api::{Api, MAX_UNARY},
        calls::Calls,
        gateway::Gateway,
        json::Json,
        limits::{Limiter, Limits},
        metrics::{self, Metrics},
        origin::Origins,
        pages::Pages,
    },
    fleet::{host::LinkHost, registry::Registry},
    guard::Guard,
    store::{self, Sqlite},
};

/// Connections of users and of agents at once, each.
const MAX_CONNECTIONS: usize = 20_000;
/// Connections at once where an authority looks at us.
const MAX_CHALLENGES: usize = 100;
/// How long unary calls may go on after the drain began.
const DRAIN_UNARY: Duration = Duration::from_secs(10);
/// Within what time agents come back after a planned stop.
const RETURN_WITHIN: Duration = Duration::from_secs(30);

/// Largest request of health, which anybody may ask, bytes.
const MAX_HEALTH: usize = 1024;

/// What the controller is told to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where CA, keys and store are.
    pub data_dir: PathBuf,
    /// The users' port.
    pub listen: SocketAddr,
    /// The agents' port.
    pub agent_listen: SocketAddr,
    /// The metrics' port.
    pub metrics_listen: SocketAddr,
    /// Further names and addresses for the controller's certificate.
    pub names: Vec<String>,
    /// Time between two pings.
    pub heartbeat: Duration,
    /// How long agents' certificates are good for.
    pub certificate_lifetime: Duration,
    /// The password of the first user; else random.
    pub admin_password: Option<String>,
    /// Whether strangers may make users, who may do nothing until it is granted.
    pub allow_signup: bool,
    /// An OpenID provider that people may log in with.
    pub oidc: Option<oidc::Settings>,
    /// How much each caller may ask.
    pub limits: Limits,
    /// Whose pages may ask, for example "https://ops.example:8443".
    pub allow_origins: Vec<String>,
    /// What the users' port shows to whom.
    pub users_tls: UsersTls,
}

/// What the users' port shows.
#[derive(Debug, Clone, Default)]
pub enum UsersTls {
    /// A certificate of our own CA.
    #[default]
    Own,
    /// The same to our own clients, and to others one from files, PEM: the chain and its key. They are read
    /// again when they change.
    Files(PathBuf, PathBuf),
    /// The same to our own clients, and to others one that an ACME authority gives.
    Acme(acme::Settings),
    /// Nothing: plain HTTP, on loopback, behind a proxy.
    Plain,
}

/// A controller whose ports are bound.
pub struct Controller {
    /// The users' port.
    pub api: SocketAddr,
    /// The agents' port.
    pub agents: SocketAddr,
    /// The metrics' port.
    pub metrics: SocketAddr,
    /// SHA-256 of the CA's certificate, hex.
    pub ca_fingerprint: String,
    join_tokens: JoinTokens,
    ports: [TcpListener; 3],
    gateway: Gateway,
    link_host: Arc<LinkHost>,
    metrics_service: Metrics,
    certificate: OwnCertificate,
    public: Option<PublicCertificate>,
    /// Where an authority finds us by plain HTTP.
    http_listen: Option<TcpListener>,
    is_plain: bool,
    _lock: File,
}

impl Controller {
    /// Opens or creates everything on disk and binds the ports.
    pub async fn open(options: Options) -> anyhow::Result<Self> {
        let now = SystemTime::now();
        let is_plain = matches!(options.users_tls, UsersTls::Plain);
        if is_plain && !options.listen.ip().is_loopback() {
            let address = options.listen;
            anyhow::bail!(
                "{address} is not on loopback: passwords would cross the network unencrypted"
            );
        }
        let recorder = metrics::recorder()?;
        let dir = &options.data_dir;
        make_private(dir)?;
        let lock = lock(dir)?;
        let ports = [
            bind(options.listen, "--listen").await?,
            bind(options.agent_listen, "--agent-listen").await?,
            bind(options.metrics_listen, "--metrics-listen").await?,
        ];
        let ca = Ca::open_or_create(dir, now)?.with_agent_lifetime(options.certificate_lifetime);
        let store: store::Handle = Arc::new(Sqlite::open(&dir.join("dockctl.db")).await?);
        let mut names = options.names.clone();
        if let UsersTls::Acme(settings) = &options.users_tls {
            names.extend(settings.domains.iter().cloned());
        }
        names.extend([options.listen.ip().to_string(), options.agent_listen.ip().to_string()]);
        let origins = Arc::new(Origins::new(options.allow_origins, names.clone()));
        let pages = origins.clone();
        let is_page: oidc::IsPage = Arc::new(move |page| pages.has_page(page));
        let login = LoginOptions {
            allow_signup: options.allow_signup,
            oidc: options.oidc.map(|settings| Oidc::new(settings, is_page)).transpose()?,
        };
        let password = options.admin_password;
        let auth = Auth::open(store.clone(), dir, password, login, system_clock()).await?;
        let registry = Registry::new(store.list_agents().await?);
        let policies = Arc::new(Policies::load()?);
        let agents = ports[1].local_addr()?;
        let join_tokens = JoinTokens::new(store.clone(), ca.fingerprint(), agents.port());

        let draining = CancellationToken::new();
        let pages = Pages::new(store.clone(), draining.clone(), policies.clone())?;
        let http_listen = match &options.users_tls {
            UsersTls::Acme(acme::Settings { http_listen: Some(address), .. }) => {
                Some(bind(*address, "--acme-http-listen").await?)
            }
            _ => None,
        };
        let certificate = OwnCertificate::new(ca.clone(), names)?;
        let public = match options.users_tls {
            UsersTls::Files(chain, key) => {
                Some(PublicCertificate::Files(FromFiles::read(&chain, &key)?))
            }
            UsersTls::Acme(settings) => {
                let acme = Acme::new(settings, dir, certificate.another()?)?;
                Some(PublicCertificate::Acme(Box::new(acme)))
            }
            UsersTls::Own | UsersTls::Plain => None,
        };
        let audit = Audit::new(store.clone());
        let unary = Arc::new(Semaphore::new(MAX_UNARY));
        let local = local_services(
            &policies,
            Agents {
                registry: registry.clone(),
                store: store.clone(),
                join_tokens: join_tokens.clone(),
                auth: auth.clone(),
            },
            auth.clone(),
            audit.clone(),
            &store,
        );
        let local = local.await?;
        let api = Api {
            calls: Calls::new(&policies),
            limits: Limiter::new(options.limits),
            guard: Guard::new(auth.clone(), policies),
            auth: auth.clone(),
            audit: audit.clone(),
            registry: registry.clone(),
            local,
            unary: unary.clone(),
            draining,
        };
        let gateway = Gateway { api, json: Arc::new(Json::new()?), origins, pages: pages.clone() };
        let link_host = Arc::new(LinkHost {
            registry: registry.clone(),
            store: store.clone(),
            audit,
            enroller: Enroller::new(store.clone(), ca.clone()),
            certificate_lifetime: ca.agent_lifetime(),
            heartbeat: options.heartbeat,
        });
        let metrics_service = Metrics {
            recorder,
            registry,
            store,
            pages,
            unary,
            traffic: [("users", Arc::default()), ("agents", Arc::default())],
        };
        Ok(Self {
            api: ports[0].local_addr()?,
            agents,
            metrics: ports[2].local_addr()?,
            ca_fingerprint: ca.fingerprint().to_owned(),
            join_tokens,
            ports,
            gateway,
            link_host,
            metrics_service,
            certificate,
            public,
            http_listen,
            is_plain,
            _lock: lock,
        })
    }

    /// A join token for an agent in this very process.
    pub async fn own_join_token(&self) -> anyhow::Result<String> {
        let request = CreateJoinTokenRequest {
            description: "the agent inside the controller".to_owned(),
            ..Default::default()
        };
        let created = self.join_tokens.create(request, "controller", SystemTime::now()).await;
        Ok(created.map_err(|status| anyhow::anyhow!("{}", status.message()))?.token)
    }

    /// Serves until `shutdown`, then drains: calls under way end, agents are told to come back.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let [api, agents, metrics] = self.ports;
        let (stop_users, stop_agents, stop_metrics) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let service = self.gateway.clone();
        let [users_traffic, agents_traffic] =
            self.metrics_service.traffic.clone().map(|(_, traffic)| traffic);
        let own = self.certificate.served.clone();
        let users = Port {
            listener: api,
            tls: if self.is_plain {
                None
            } else {
                Some(Arc::new(users_tls(own, self.public.as_ref())?))
            },
            http1: true,
            service: tower::service_fn(move |request| service.clone().serve(request)),
            max_connections: MAX_CONNECTIONS,
            traffic: users_traffic,
            session_within: None,
        };
        let ca = self.certificate.ca.certificate_der();
        let link = Port {
            listener: agents,
            tls: Some(Arc::new(tls::agents_config(ca, self.certificate.served.clone())?)),
            http1: false,
            service: router(self.link_host.clone()),
            max_connections: MAX_CONNECTIONS,
            traffic: agents_traffic,
            session_within: Some(wire::SESSION_WITHIN),
        };
        let store = self.metrics_service.store.clone();
        let recorder = self.metrics_service.recorder.clone();
        let users = tokio::spawn(users.serve(stop_users.clone()));
        let link = tokio::spawn(link.serve(stop_agents.clone()));
        let serving = tokio::spawn(self.metrics_service.serve(metrics, stop_metrics.clone()));
        let renewals = tokio::spawn(self.certificate.keep_renewed());
        if let (Some(listener), Some(PublicCertificate::Acme(acme))) =
            (self.http_listen, &self.public)
        {
            let challenges = acme.challenges.clone();
            let port = Port {
                listener,
                tls: None,
                http1: true,
                service: tower::service_fn(move |request| challenges.clone().serve(request)),
                max_connections: MAX_CHALLENGES,
                traffic: Arc::default(),
                session_within: None,
            };
            tokio::spawn(port.serve(stop_users.clone()));
        }
        let renewing = tokio::spawn(async move {
            if let Some(public) = self.public {
                public.keep_new().await;
            }
        });
        let upkeep = tokio::spawn(metrics::keep_small(recorder));
        let limits = self.gateway.api.limits.clone();
        let tidying = tokio::spawn(async move {
            let mut minutes = tokio::time::interval(Duration::from_secs(60));
            loop {
                minutes.tick().await;
                limits.tidy();
            }
        });

        shutdown.cancelled().await;
        tracing::info!("draining");
        stop_users.cancel();
        let all = u32::try_from(MAX_UNARY).unwrap_or(u32::MAX);
        let unary = self.gateway.api.unary.acquire_many(all);
        if tokio::time::timeout(DRAIN_UNARY, unary).await.is_err() {
            tracing::warn!("calls still under way after {} s; ending them", DRAIN_UNARY.as_secs());
        }
        self.gateway.api.draining.cancel();
        users.await?;
        stop_agents.cancel();
        self.link_host.registry.drain(RETURN_WITHIN);
        link.await?;
        stop_metrics.cancel();
        serving.await?;
        renewals.abort();
        renewing.abort();
        upkeep.abort();
        tidying.abort();
        self.link_host.audit.close().await;
        store.close().await;
        Ok(())
    }
}

/// Gives the user `admin` of a controller that is not running a new password, and tells it.
pub async fn reset_admin(data_dir: &Path) -> anyhow::Result<String> {
    let database = data_dir.join("dockctl.db");
    anyhow::ensure!(database.exists(), "there is no controller's data in {}", data_dir.display());
    let _lock = lock(data_dir)?;
    let store: store::Handle = Arc::new(Sqlite::open(&database).await?);
    let options = LoginOptions::default();
    let auth = Auth::open(store.clone(), data_dir, None, options, system_clock()).await?;
    let password = auth.reset_admin().await?;
    store.close().await;
    Ok(password)
}

/// What the users' port shows: our own certificate to our own clients, a public one where there is one to others.
fn users_tls(
    own: Arc<tls::ServerCertificate>,
    public: Option<&PublicCertificate>,
) -> Result<ServerConfig, rustls::Error> {
    let Some(public) = public else { return tls::users_config(own) };
    let both = Arc::new(tls::TwoCertificates { own, public: public.served().clone() });
    let PublicCertificate::Acme(acme) = public else { return tls::users_config(both) };
    let challenges = acme.challenges.clone();
    let mut config = tls::users_config(Arc::new(WithChallenges { challenges, others: both }))?;
    config.alpn_protocols.push(ACME_TLS.to_vec());
    Ok(config)
}

async fn local_services(
    policies: &Policies,
    agents: Agents,
    auth: Auth,
    audit: Audit,
    store: &store::Handle,
) -> anyhow::Result<Routes> {
    let users = Users { store: store.clone(), auth: auth.clone() };
    let api_tokens = ApiTokens { store: store.clone(), auth: auth.clone() };
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(dockctl_api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in policies.iter().filter_map(|method| method.path.split('/').nth(1)) {
        health.set_service_status(service, ServingStatus::Serving).await;
    }
    let mut routes = Routes::builder();
    routes
        .add_service(AuthServiceServer::new(auth).max_decoding_message_size(wire::MAX_REQUEST))
        .add_service(AgentServiceServer::new(agents).max_decoding_message_size(wire::MAX_REQUEST))
        .add_service(UserServiceServer::new(users).max_decoding_message_size(wire::MAX_REQUEST))
        .add_service(
            ApiTokenServiceServer::new(api_tokens).max_decoding_message_size(wire::MAX_REQUEST),
        )
        .add_service(AuditServiceServer::new(audit).max_decoding_message_size(wire::MAX_REQUEST))
        .add_service(health_service.max_decoding_message_size(MAX_HEALTH))
        .add_service(reflection().build_v1()?.max_decoding_message_size(wire::MAX_REQUEST))
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(wire::MAX_REQUEST));
    Ok(routes.routes().prepare())
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another with {flag}"))
}

/// Keeps a second controller off the data; the lock ends with the process.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            anyhow::bail!("a controller is running that uses {}; stop it first", dir.display())
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn make_private(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let context = || format!("cannot create the data directory {}", dir.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(context)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).with_context(context)
}
