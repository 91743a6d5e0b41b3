//! A certificate of an ACME authority (RFC 8555): asked for, kept in one file with its key, renewed when a third
//! of its time is left. Until the first one is there, browsers get our own.

use std::{
    collections::BTreeSet,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use dockctl_api::sha256_hex;
use dockctl_link::controller::tls;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType,
    HttpClient, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{extensions::GeneralName, prelude::*};

use super::{certified, challenges::Challenges};
use crate::{https::Https, store::file};

/// Let's Encrypt.
pub const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How long the authority may take to look at us, and to sign.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(90));
/// The first wait after a failure, doubled by each further one. Let's Encrypt takes five an hour.
const AGAIN: Duration = Duration::from_secs(120);
/// Longest wait after a failure.
const AGAIN_AT_MOST: Duration = Duration::from_secs(24 * 3_600);
/// Longest time between two looks at the certificate's age: the clock may be put forward.
const LOOK: Duration = Duration::from_secs(3_600);

/// What certificate to ask for, and of whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The names that it is for; at least one.
    pub domains: Vec<String>,
    /// The authority's directory URL.
    pub directory: String,
    /// Whom the authority may write to.
    pub email: Option<String>,
    /// Where the authority finds us by plain HTTP (http-01), as port 80 of the names; without it, it looks at
    /// the users' port as port 443 of the names (tls-alpn-01).
    pub http_listen: Option<SocketAddr>,
}

/// Keeps a certificate of an authority.
pub struct Acme {
    settings: Settings,
    /// The certificate, its chain and its key, PEM.
    path: PathBuf,
    /// Our account at this authority.
    account: PathBuf,
    https: Https,
    /// What the authority shall find.
    pub challenges: Arc<Challenges>,
    /// What handshakes get.
    pub served: Arc<tls::ServerCertificate>,
}

impl Acme {
    /// Serves the certificate that is in the data directory, or else `served` until there is one.
    pub fn new(
        settings: Settings,
        data_dir: &Path,
        served: Arc<tls::ServerCertificate>,
    ) -> anyhow::Result<Self> {
        let directory = settings.directory.clone();
        anyhow::ensure!(directory.starts_with("https://"), "{directory} is no https URL");
        let acme = Self {
            settings,
            path: data_dir.join("acme.pem"),
            account: data_dir
                .join(format!("acme-account-{}.json", &sha256_hex(directory.as_bytes())[..8])),
            https: Https::new()?,
            challenges: Arc::default(),
            served,
        };
        if let Some(pem) = file::read_optional(&acme.path)? {
            match certified(&pem, &pem) {
                Ok(certified) => acme.served.replace(certified),
                Err(error) => {
                    let path = acme.path.display();
                    tracing::warn!("{path} is damaged and will be replaced: {error:#}");
                }
            }
        }
        Ok(acme)
    }

    /// Asks for certificates for ever, when they are due.
    pub async fn keep_renewed(self) {
        let mut again = AGAIN;
        loop {
            match self.left() {
                Ok(left) if !left.is_zero() => {
                    tokio::time::sleep(left.min(LOOK)).await;
                    continue;
                }
                Ok(_) => tracing::info!("the certificate is to be renewed"),
                Err(why) => tracing::info!("a certificate is needed: {why:#}"),
            }
            let obtained = self.obtain().await;
            self.challenges.clear();
            match obtained.and_then(|()| self.is_good()) {
                Ok(()) => again = AGAIN,
                Err(error) => {
                    let wait = again.as_secs();
                    tracing::error!(
                        "no certificate from {}: {error:#}; trying again in {wait} s",
                        self.settings.directory
                    );
                    tokio::time::sleep(again).await;
                    again = (again * 2).min(AGAIN_AT_MOST);
                }
            }
        }
    }

    /// Whether the certificate that was given will do: it is not asked for another at once.
    fn is_good(&self) -> anyhow::Result<()> {
        let left = self.left().context("what it gave is not what was asked for")?;
        anyhow::ensure!(
            !left.is_zero(),
            "what it gave is to be renewed already: is the clock right?"
        );
        Ok(())
    }

    /// How long the certificate need not be renewed. Errors: why there is none that may be shown.
    fn left(&self) -> anyhow::Result<Duration> {
        let pem = file::read_optional(&self.path)?.context("there is none yet")?;
        certified(&pem, &pem)?;
        let der = CertificateDer::from_pem_slice(&pem)?;
        let (_, certificate) = X509Certificate::from_der(&der).context("it cannot be read")?;
        let wanted: BTreeSet<_> = self.settings.domains.iter().map(String::as_str).collect();
        anyhow::ensure!(wanted.is_subset(&names(&certificate)), "it is for other names");
        let seconds = |time: ASN1Time| u64::try_from(time.timestamp()).unwrap_or_default();
        let validity = certificate.validity();
        let (begins, ends) = (seconds(validity.not_before), seconds(validity.not_after));
        let due = Duration::from_secs(ends - ends.saturating_sub(begins) / 3);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(due.saturating_sub(now))
    }

    async fn obtain(&self) -> anyhow::Result<()> {
        let account = self.account().await?;
        let names = self.settings.domains.iter().cloned().map(Identifier::Dns).collect::<Vec<_>>();
        let mut order = match account.new_order(&NewOrder::new(&names)).await {
            Err(instant_acme::Error::Api(problem)) if is_forgotten(&problem) => {
                std::fs::remove_file(&self.account)?;
                anyhow::bail!("it has forgotten our account; the next try makes another");
            }
            order => order?,
        };
        self.answer_challenges(&mut order).await?;
        let looked = order.poll_ready(&PATIENCE).await;
        if !matches!(looked, Ok(OrderStatus::Ready)) {
            let why = problems(&mut order).await;
            anyhow::bail!("it did not find us: {}", why.unwrap_or_else(|| format!("{looked:?}")));
        }
        let key = KeyPair::generate()?;
        let mut request = CertificateParams::new(self.settings.domains.clone())?;
        request.distinguished_name = DistinguishedName::new();
        order.finalize_csr(request.serialize_request(&key)?.der()).await?;
        let chain = order.poll_certificate(&PATIENCE).await?;
        let pem = format!("{}\n{}", chain.trim_end(), key.serialize_pem());
        // Shown first: a disk that is full does not take it away.
        self.served.replace(certified(pem.as_bytes(), pem.as_bytes())?);
        let written = file::write(&self.path, pem.as_bytes(), file::PRIVATE);
        written.with_context(|| format!("cannot write {}", self.path.display()))?;
        tracing::info!(domains = self.settings.domains.join(" "), "has a new certificate");
        Ok(())
    }

    async fn answer_challenges(&self, order: &mut Order) -> anyhow::Result<()> {
        let kind = match self.settings.http_listen {
            Some(_) => ChallengeType::Http01,
            None => ChallengeType::TlsAlpn01,
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                status => anyhow::bail!("an authorization is {status:?}"),
            }
            let challenge = authorization.challenge(kind.clone());
            let mut challenge = challenge.with_context(|| format!("it does not offer {kind:?}"))?;
            let (name, proof) = (challenge.identifier().to_string(), challenge.key_authorization());
            match kind {
                ChallengeType::Http01 => {
                    self.challenges.show_text(&challenge.token, proof.as_str())
                }
                _ => self.challenges.show_certificate(&name, proof.digest().as_ref())?,
            }
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// The account that was made at this authority before, or a new one.
    async fn account(&self) -> anyhow::Result<Account> {
        let builder = || Account::builder_with_http(Box::new(Sender(self.https.clone())));
        if let Some(text) = file::read_optional(&self.account)? {
            let kept: AccountCredentials = serde_json::from_slice(&text)
                .with_context(|| format!("{} is damaged; remove it", self.account.display()))?;
            return Ok(builder().from_credentials(kept).await?);
        }
        let contact = self.settings.email.as_ref().map(|address| format!("mailto:{address}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) =
            builder().create(&wanted, self.settings.directory.clone(), None).await?;
        file::write(&self.account, &serde_json::to_vec(&credentials)?, file::PRIVATE)?;
        Ok(account)
    }
}

fn is_forgotten(problem: &instant_acme::Problem) -> bool {
    problem.r#type.as_deref().is_some_and(|of| of.ends_with(":accountDoesNotExist"))
}

/// The DNS names of a certificate.
fn names<'a>(certificate: &'a X509Certificate<'_>) -> BTreeSet<&'a str> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return BTreeSet::new() };
    let dns = |name: &'a GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
}

/// What the authority says went wrong, for people.
async fn problems(order: &mut Order) -> Option<String> {
    let mut found = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        let of = state.identifier().to_string();
        let errors = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        found.extend(errors.map(|error| format!("{of}: {error}")));
    }
    (!found.is_empty()).then(|| found.join("; "))
}

/// The way to the authority, as instant-acme wants it.
struct Sender(Https);

impl HttpClient for Sender {
    fn request(
        &self,
        request: Request<BodyWrapper<bytes::Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let https = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let answer = https.send(Request::from_parts(head, body)).await;
            let answer = answer.map_err(|error| instant_acme::Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(answer.map(Full::new)))
        })
    }
}
