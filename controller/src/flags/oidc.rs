//! The flags of logins with an OpenID provider.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use dockctl_api::v1::Role;
use dockctl_controller::app::oidc::Settings;

#[derive(Args)]
pub(super) struct OidcFlags {
    /// Let people log in with this OpenID provider; the issuer's URL as its tokens spell it.
    #[arg(long, env = "DOCKCTL_OIDC_ISSUER", value_name = "URL", requires = "oidc_client_id")]
    oidc_issuer: Option<String>,
    /// What the provider calls this controller.
    #[arg(long, env = "DOCKCTL_OIDC_CLIENT_ID", value_name = "ID", requires = "oidc_issuer")]
    oidc_client_id: Option<String>,
    /// A file with the secret that the provider gave it; none for a public client.
    #[arg(
        long,
        env = "DOCKCTL_OIDC_CLIENT_SECRET_FILE",
        value_name = "FILE",
        requires = "oidc_issuer"
    )]
    oidc_client_secret_file: Option<PathBuf>,
    /// What to ask the provider for beside openid; some tell groups only where "groups" is asked for.
    #[arg(
        long = "oidc-scope",
        env = "DOCKCTL_OIDC_SCOPE",
        value_delimiter = ',',
        value_name = "SCOPE",
        default_values = ["profile", "email"]
    )]
    oidc_scopes: Vec<String>,
    /// The claim that names a user here.
    #[arg(
        long,
        env = "DOCKCTL_OIDC_USERNAME_CLAIM",
        value_name = "CLAIM",
        default_value = "preferred_username"
    )]
    oidc_username_claim: String,
    /// The claim that holds a person's groups.
    #[arg(long, env = "DOCKCTL_OIDC_GROUPS_CLAIM", value_name = "CLAIM", default_value = "groups")]
    oidc_groups_claim: String,
    /// Let in only who is in this group; may be given several times. Without it everybody whom the provider knows may
    /// log in, and do nothing until it is granted.
    #[arg(
        long = "oidc-allow-group",
        env = "DOCKCTL_OIDC_ALLOW_GROUP",
        value_delimiter = ',',
        value_name = "GROUP",
        requires = "oidc_issuer"
    )]
    oidc_allow_groups: Vec<String>,
    /// Who is in GROUP has ROLE (viewer, operator, admin) for the whole fleet, looked at in each login; may be given
    /// several times. Without it roles are given here.
    #[arg(
        long = "oidc-role",
        env = "DOCKCTL_OIDC_ROLE",
        value_delimiter = ',',
        value_name = "GROUP=ROLE",
        value_parser = role,
        requires = "oidc_issuer"
    )]
    oidc_roles: Vec<(String, Role)>,
    /// How many hours such a login goes on; then the provider is asked anew.
    #[arg(
        long,
        env = "DOCKCTL_OIDC_LOGIN_HOURS",
        value_name = "N",
        default_value_t = 24,
        value_parser = clap::value_parser!(u64).range(1..=720)
    )]
    oidc_login_hours: u64,
    /// Let no device log in (`dockctl login --oidc`): who is sent a code by a stranger might enter it.
    #[arg(long, env = "DOCKCTL_OIDC_NO_DEVICES", requires = "oidc_issuer")]
    oidc_no_devices: bool,
}

/// A group and the role that it gives.
fn role(text: &str) -> Result<(String, Role), String> {
    let (group, role) = text.rsplit_once('=').unwrap_or_default();
    match Role::from_word(role) {
        Some(role) if !group.is_empty() && role != Role::None => Ok((group.to_owned(), role)),
        _ => Err("this is no GROUP=ROLE with one of viewer, operator and admin".to_owned()),
    }
}

impl OidcFlags {
    /// What the library takes, where there is a provider. Errors: the secret cannot be read.
    pub(super) fn settings(&self) -> anyhow::Result<Option<Settings>> {
        let (Some(issuer), Some(client_id)) = (&self.oidc_issuer, &self.oidc_client_id) else {
            return Ok(None);
        };
        let secret = self.oidc_client_secret_file.as_ref().map(|path| {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("cannot read the secret {}", path.display()));
            text.map(|text| text.trim_end().to_owned())
        });
        Ok(Some(Settings {
            issuer: issuer.clone(),
            client_id: client_id.clone(),
            client_secret: secret.transpose()?,
            scopes: self.oidc_scopes.clone(),
            username_claim: self.oidc_username_claim.clone(),
            groups_claim: self.oidc_groups_claim.clone(),
            allow_groups: self.oidc_allow_groups.clone(),
            roles: self.oidc_roles.clone(),
            lifetime: Duration::from_secs(self.oidc_login_hours * 3_600),
            devices: !self.oidc_no_devices,
        }))
    }
}
