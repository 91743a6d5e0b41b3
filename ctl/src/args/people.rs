//! `users`, `tokens` and `roles`: who may do what, and the tokens that scripts carry.

use clap::Subcommand;
use dockctl_api::v1::Role;

use crate::moment::Span;

/// `users`.
#[derive(Debug, Subcommand)]
pub(crate) enum Users {
    /// Make a user.
    Create {
        /// The user's name.
        name: String,
        /// The role for the whole fleet; give roles on some agents with `users grant`.
        #[arg(long, default_value = "none", value_parser = any_role, value_name = "ROLE")]
        role: Role,
        /// Read the password from stdin.
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the users and their roles.
    Ls,
    /// Give a user a role, for the whole fleet or on some agents.
    Grant {
        /// The user's name.
        name: String,
        /// viewer, operator or admin.
        #[arg(long, value_parser = useful_role, value_name = "ROLE")]
        role: Role,
        /// Only on agents with these labels, now and later: k=v or k, several with commas.
        #[arg(long, value_name = "SELECTOR")]
        on: Option<String>,
    },
    /// Take a user's role for the whole fleet away, or on some agents.
    Revoke {
        /// The user's name.
        name: String,
        /// What was granted on agents with these labels, as `users ls` shows it.
        #[arg(long, value_name = "SELECTOR")]
        on: Option<String>,
    },
    /// Change your own password, or as an admin another user's; this ends all logins.
    Passwd {
        /// The user's name; your own unless given.
        name: Option<String>,
        /// Read it from stdin; for your own the old one stands in the first line, the new one in the second.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Remove a user, with all logins and tokens.
    Rm {
        /// The user's name.
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// `tokens`.
#[derive(Debug, Subcommand)]
pub(crate) enum ApiTokens {
    /// Make a token for a script; it is shown this once.
    Create {
        /// What it is called.
        name: String,
        /// What it may do at most, and never more than you: viewer, operator or admin.
        #[arg(long, value_parser = useful_role, value_name = "ROLE")]
        role: Role,
        /// Only on agents with these labels: k=v or k, several with commas.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "SELECTOR")]
        on: String,
        /// How long it lives, for example 12h or 90d.
        #[arg(long, default_value = "30d", value_name = "SPAN")]
        expires: Span,
    },
    /// List your tokens, without their secrets.
    Ls {
        /// Everybody's; for admins.
        #[arg(short, long)]
        all: bool,
    },
    /// Delete a token; what uses it ends.
    Rm {
        /// The token's name or id.
        #[arg(value_name = "TOKEN")]
        id: String,
    },
}

fn any_role(word: &str) -> Result<Role, String> {
    Role::from_word(word).ok_or_else(|| "a role is none, viewer, operator or admin".to_owned())
}

fn useful_role(word: &str) -> Result<Role, String> {
    let role = Role::from_word(word).filter(|role| *role != Role::None);
    role.ok_or_else(|| "the role here is viewer, operator or admin".to_owned())
}
