//! The flags of a certificate from an ACME authority.

use std::net::{IpAddr, SocketAddr};

use clap::Args;
use dockctl_controller::certificates::acme::{DIRECTORY, Settings};

#[derive(Args)]
pub(super) struct AcmeFlags {
    /// A name to get such a certificate for from an ACME authority, whose terms you agree to; may be given several
    /// times. The authority looks for it on the users' port, as port 443 of the name, unless --acme-http-listen says
    /// otherwise.
    #[arg(
        long = "acme-domain",
        env = "DOCKCTL_ACME_DOMAIN",
        value_delimiter = ',',
        value_name = "NAME",
        value_parser = domain,
        conflicts_with_all = ["tls_cert", "plain_http"])]
    acme_domains: Vec<String>,
    /// The authority's directory.
    #[arg(long, env = "DOCKCTL_ACME_DIRECTORY", value_name = "URL", default_value = DIRECTORY)]
    acme_directory: String,
    /// Whom the authority may write to.
    #[arg(long, env = "DOCKCTL_ACME_EMAIL", value_name = "ADDRESS", requires = "acme_domains")]
    acme_email: Option<String>,
    /// Let the authority look here by plain HTTP, as port 80 of the name, for example 0.0.0.0:80.
    #[arg(
        long,
        env = "DOCKCTL_ACME_HTTP_LISTEN",
        value_name = "ADDRESS",
        requires = "acme_domains"
    )]
    acme_http_listen: Option<SocketAddr>,
}

/// A name that an authority may know, in lower case.
fn domain(text: &str) -> Result<String, String> {
    let is_name = text.contains('.') && !text.contains(['*', '/', ':', ' ']);
    match is_name && text.parse::<IpAddr>().is_err() {
        true => Ok(text.to_lowercase()),
        false => Err("this is no full DNS name such as fleet.example.com".to_owned()),
    }
}

impl AcmeFlags {
    /// What the library takes, where there is a name.
    pub(super) fn settings(&self) -> Option<Settings> {
        (!self.acme_domains.is_empty()).then(|| Settings {
            domains: self.acme_domains.clone(),
            directory: self.acme_directory.clone(),
            email: self.acme_email.clone(),
            http_listen: self.acme_http_listen,
        })
    }
}
