//! `login`, `logout` and `context`.

use clap::Subcommand;

/// `login`.
#[derive(Debug, clap::Args)]
pub(crate) struct Login {
    /// The controller, for example https://controller:7443; port 7443 if none is given.
    #[arg(value_name = "URL")]
    pub(crate) to: Option<String>,
    /// The user's name.
    #[arg(short, long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// Read the password from stdin.
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Log in with the controller's OpenID provider, in a browser on this or another machine.
    #[arg(long, conflicts_with_all = ["username", "password_stdin"])]
    pub(crate) oidc: bool,
    /// Keep the tokens in the configuration file (readable by you only), not in the system's keyring.
    #[arg(long)]
    pub(crate) no_keyring: bool,
    /// What this login is called among others (see `context`); the controller's name unless given.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

/// `context`.
#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    /// List the logins; * marks the one in use.
    Ls,
    /// Use another login from now on.
    Use {
        /// Its name, as `context ls` shows it.
        #[arg(value_name = "CONTEXT")]
        name: String,
    },
    /// Forget a login; it does not end at the controller, as it does by `logout`.
    Rm {
        /// Its name, as `context ls` shows it.
        #[arg(value_name = "CONTEXT")]
        name: String,
    },
}

/// `logout`.
#[derive(Debug, clap::Args)]
pub(crate) struct Logout {
    /// End all your logins, on other machines too; API tokens stay.
    #[arg(long)]
    pub(crate) everywhere: bool,
}
