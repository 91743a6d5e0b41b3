//! `agents` and `agents token`.

use clap::Subcommand;

use crate::moment::Span;

/// `agents`.
#[derive(Debug, Subcommand)]
pub(crate) enum Agents {
    /// List the agents.
    Ls {
        /// Only agents with these labels: k=v or k, several with commas.
        #[arg(short = 'l', long, value_name = "SELECTOR")]
        selector: Option<String>,
        /// Only names.
        #[arg(short, long)]
        quiet: bool,
        /// "json", "table TEMPLATE" or a Go template: {{.Name}} {{.State}}.
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
    },
    /// Show all of one agent.
    Show {
        /// The agent's name or id.
        agent: String,
    },
    /// Set labels (k=v) and remove them (k-).
    Label {
        /// The agent's name or id.
        agent: String,
        /// k=v sets, k- removes.
        #[arg(required = true, value_name = "LABEL")]
        labels: Vec<String>,
    },
    /// Shut an agent out for good.
    Revoke {
        /// The agent's name or id.
        agent: String,
        /// Why; the agent is told.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Revoke an agent and remove it from the list.
    Rm {
        /// The agent's name or id.
        agent: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Watch agents come, go and change.
    Watch {
        /// Only agents with these labels: k=v or k, several with commas.
        #[arg(short = 'l', long, value_name = "SELECTOR")]
        selector: Option<String>,
    },
    /// The tokens that let new hosts in.
    #[command(subcommand)]
    Token(Tokens),
}

/// `agents token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Make a join token; it is shown this once.
    Create {
        /// How many hosts may use it.
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it lives.
        #[arg(long, default_value = "30m", value_name = "SPAN")]
        ttl: Span,
        /// A label that its hosts get; can be repeated.
        #[arg(long, value_name = "K=V")]
        label: Vec<String>,
        /// What it is for.
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
    },
    /// List the tokens, without their secrets.
    Ls,
    /// Delete a token; hosts that used it stay.
    Rm {
        /// The token's id.
        id: String,
    },
}
