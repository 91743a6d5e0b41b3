//! Where the engine listens: reads a `DOCKER_HOST` value and opens connections to it. Used by `wire`
//! and `raw`; speaks no HTTP.

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    gather::{Gather, Socket},
    pass::Confined,
};

/// The engine's address where none is given.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why an engine's address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The URL is of no accepted form.
    #[error(
        "{host:?} is no Docker address that dockctl can use: {problem}. Accepted are \
         unix:///path/to/docker.sock, tcp://host:port (http:// is the same), and https://host:port \
         (or tcp:// with DOCKER_TLS_VERIFY set) with ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH"
    )]
    BadHost {
        /// What was given.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate or key for TLS cannot be used.
    #[error(
        "Docker over TLS needs ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH: {path}: {problem}"
    )]
    Tls {
        /// The file or directory.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Docker's own environment variables for TLS.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsEnv {
    /// `DOCKER_TLS_VERIFY` is set to anything.
    pub(super) verify: bool,
    /// `DOCKER_CERT_PATH`, or `~/.docker`.
    pub(super) cert_dir: Option<PathBuf>,
}

impl TlsEnv {
    pub(super) fn from_env() -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        Self {
            verify: set("DOCKER_TLS_VERIFY").is_some(),
            cert_dir: set("DOCKER_CERT_PATH")
                .map(PathBuf::from)
                .or_else(|| set("HOME").map(|home| Path::new(&home).join(".docker"))),
        }
    }
}

/// A connection to the engine.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// Lets data gather from now on: fewer and larger reads.
    fn gather(&mut self);
}

impl<S: Socket + Send + Sync> Io for Gather<S>
where
    S::Plain: Send + Sync + Unpin,
{
    fn gather(&mut self) {
        self.gather();
    }
}

impl Io for TlsStream<Gather<TcpStream>> {
    fn gather(&mut self) {
        self.get_mut().0.gather();
    }
}

/// One engine's address.
#[derive(Clone)]
pub(super) struct Endpoint {
    host: String,
    kind: Kind,
    /// Every request on every connection is judged first.
    pub(super) confined: bool,
}

#[derive(Clone)]
enum Kind {
    Unix(PathBuf),
    Tcp { address: String },
    Tls { address: String, name: ServerName<'static>, connector: TlsConnector },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

impl Endpoint {
    /// Reads an address; empty means [`DEFAULT_HOST`]. Whether anything listens there is not asked.
    pub(super) fn parse(host: &str, env: &TlsEnv) -> Result<Self, EngineError> {
        let host = if host.is_empty() { DEFAULT_HOST } else { host };
        let bad = |problem: &str| EngineError::BadHost {
            host: host.to_owned(),
            problem: problem.to_owned(),
        };
        let (scheme, rest) = host.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        let kind = match scheme {
            "unix" if rest.starts_with('/') => Kind::Unix(PathBuf::from(rest)),
            "unix" => return Err(bad("the socket's path must be absolute")),
            "tcp" | "http" | "https" => {
                let tls = scheme == "https" || env.verify;
                let (name, port) =
                    host_and_port(rest, if tls { 2376 } else { 2375 }).map_err(bad)?;
                let address = format!("{name}:{port}");
                if tls {
                    let plain = name.trim_matches(['[', ']']).to_owned();
                    let name = ServerName::try_from(plain)
                        .map_err(|_| bad("the host is no DNS name and no IP address"))?;
                    Kind::Tls { address, name, connector: connector(env)? }
                } else {
                    Kind::Tcp { address }
                }
            }
            other => return Err(bad(&format!("{other}:// is not supported"))),
        };
        Ok(Self { host: host.to_owned(), kind, confined: false })
    }

    /// Whether it is a socket on this host.
    pub(super) fn is_unix(&self) -> bool {
        matches!(self.kind, Kind::Unix(_))
    }

    /// Opens a connection, within 10 s. On a confined host it is one for a single request, which
    /// reaches the engine only if it does not make its caller root.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Io>> {
        let io = self.direct().await?;
        if self.confined { Ok(Box::new(Confined::new(io, self.clone()))) } else { Ok(io) }
    }

    /// Opens a connection for `pass`, which judges what goes over it.
    pub(super) async fn direct(&self) -> io::Result<Box<dyn Io>> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.open()).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection within 10 s")),
        }
    }

    async fn open(&self) -> io::Result<Box<dyn Io>> {
        match &self.kind {
            Kind::Unix(path) => Ok(Box::new(Gather::new(UnixStream::connect(path).await?))),
            Kind::Tcp { address } => Ok(Box::new(tcp(address).await?)),
            Kind::Tls { address, name, connector } => {
                Ok(Box::new(connector.connect(name.clone(), tcp(address).await?).await?))
            }
        }
    }
}

async fn tcp(address: &str) -> io::Result<Gather<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Gather::new(stream))
}

fn host_and_port(text: &str, default_port: u16) -> Result<(&str, u16), &'static str> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains(['/', '@', '?', '#']) {
        return Err("it has more than a host and a port");
    }
    let (name, port) = match text.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((name, port)) if !port.ends_with(']') => {
            (name, port.parse().ok().filter(|p| *p != 0).ok_or("the port is no number")?)
        }
        _ => (text, default_port),
    };
    match name {
        "" => Err("the host is missing"),
        name if name.contains(':') && !name.starts_with('[') => Err("IPv6 addresses need brackets"),
        name => Ok((name, port)),
    }
}

fn connector(env: &TlsEnv) -> Result<TlsConnector, EngineError> {
    let dir = env.cert_dir.clone().ok_or_else(|| EngineError::Tls {
        path: "DOCKER_CERT_PATH".to_owned(),
        problem: "is not set".to_owned(),
    })?;
    let bad = |file: &str, problem: String| EngineError::Tls {
        path: dir.join(file).display().to_string(),
        problem,
    };
    let read = |file: &str| fs::read(dir.join(file)).map_err(|e| bad(file, e.to_string()));
    let certificates = |file: &str| {
        CertificateDer::pem_slice_iter(&read(file)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| bad(file, e.to_string()))
    };
    let mut roots = RootCertStore::empty();
    for ca in certificates("ca.pem")? {
        roots.add(ca).map_err(|e| bad("ca.pem", e.to_string()))?;
    }
    let key = PrivateKeyDer::from_pem_slice(&read("key.pem")?)
        .map_err(|e| bad("key.pem", e.to_string()))?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("", e.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates("cert.pem")?, key)
        .map_err(|e| bad("cert.pem", e.to_string()))?;
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn parse(host: &str) -> Result<Endpoint, EngineError> {
        Endpoint::parse(host, &TlsEnv::default())
    }

    #[test]
    fn accepts_what_docker_host_accepts() {
        let tcp = |host: &str| match parse(host).unwrap().kind {
            Kind::Tcp { address } => address,
            _ => panic!("not tcp"),
        };
        assert_eq!(tcp("tcp://proxy:2375"), "proxy:2375");
        assert_eq!(tcp("tcp://proxy"), "proxy:2375");
        assert_eq!(tcp("http://10.0.0.1:80/"), "10.0.0.1:80");
        assert_eq!(tcp("tcp://[::1]:2375"), "[::1]:2375");
        assert_eq!(tcp("tcp://[::1]"), "[::1]:2375");
        assert_eq!(parse("").unwrap().to_string(), DEFAULT_HOST);
        assert!(matches!(parse("unix:///run/d.sock").unwrap().kind, Kind::Unix(_)));
    }

    #[test]
    fn a_bad_address_says_what_is_accepted() {
        for host in [
            "/var/run/docker.sock",
            "unix://docker.sock",
            "ssh://host",
            "tcp://",
            "tcp://host:port",
            "tcp://host:0",
            "tcp://::1:2375",
            "tcp://host:1/path",
            "tcp://user@host:1",
        ] {
            let error = parse(host).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("Accepted are unix:///path"), "{host}: {error}");
        }
    }

    #[test]
    fn tls_needs_its_three_files_and_names_the_missing_one() {
        let dir = tempfile::tempdir().unwrap();
        let env = TlsEnv { verify: true, cert_dir: Some(dir.path().to_owned()) };
        let error = Endpoint::parse("tcp://host", &env).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("ca.pem"), "{error}");
        let none = TlsEnv { verify: false, cert_dir: None };
        let error = Endpoint::parse("https://host", &none).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("DOCKER_CERT_PATH"), "{error}");
    }

    /// A CA's certificate and key for TLS tests.
    fn authority() -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap()
    }

    fn issue(
        ca: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    ) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, ca).unwrap(), key)
    }

    /// Listens with TLS, wants a client certificate of `ca`, and greets whoever has one.
    async fn greeter(ca: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>) -> u16 {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            provider.clone(),
        );
        let (certificate, key) = issue(ca);
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.write_all(b"hello").await;
                    let _ = stream.shutdown().await;
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn tls_shows_its_certificate_and_trusts_only_its_ca() {
        let (ca, foreign) = (authority(), authority());
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = issue(&ca);
        fs::write(dir.path().join("cert.pem"), certificate.pem()).unwrap();
        fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        let port = greeter(&ca).await;
        let connect = async |trusted: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>| {
            fs::write(dir.path().join("ca.pem"), trusted.pem()).unwrap();
            let env = TlsEnv { verify: true, cert_dir: Some(dir.path().to_owned()) };
            Endpoint::parse(&format!("tcp://localhost:{port}"), &env).unwrap().connect().await
        };
        let mut greeting = String::new();
        connect(&ca).await.unwrap().read_to_string(&mut greeting).await.unwrap();
        assert_eq!(greeting, "hello");
        assert!(connect(&foreign).await.is_err(), "a foreign engine is not trusted");
    }
}
