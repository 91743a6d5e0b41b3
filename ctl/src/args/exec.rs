//! The command lines of `exec` and `attach`.

use clap::ArgAction;

use crate::refs::Ref;

/// What `--help` says of exit codes.
const CODES: &str =
    "It ends with the program's exit code, and with 125 for a failure of dockctl's own.";

/// `exec`.
#[derive(Debug, clap::Args)]
#[command(after_help = CODES)]
pub(crate) struct Exec {
    /// Keep standard input open.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Start the command and leave it running.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Set a variable: KEY=VALUE, or KEY for its value here; can be repeated.
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read variables from a file, one a line; can be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<String>,
    /// Run it as this user: name or uid, with :group or :gid if wanted.
    #[arg(short, long, value_name = "USER", default_value = "", hide_default_value = true)]
    pub(crate) user: String,
    /// Run it in this directory of the container.
    #[arg(short, long, value_name = "DIR", default_value = "", hide_default_value = true)]
    pub(crate) workdir: String,
    /// Give the command all rights on the host.
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Keys that leave the session and let the command run, instead of ctrl-p,ctrl-q.
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    pub(crate) detach_keys: String,
    /// host/container, or container where the name is unique.
    #[arg(value_name = "REF")]
    pub(crate) container: Ref,
    /// The command and its arguments.
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
}

/// `attach`.
#[derive(Debug, clap::Args)]
#[command(after_help = CODES)]
pub(crate) struct Attach {
    /// Do not pass standard input on.
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Pass signals on to the container, where it has no terminal.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(hide_default_value = true, hide_possible_values = true)]
    pub(crate) sig_proxy: bool,
    /// Keys that leave the session and let the container run, instead of ctrl-p,ctrl-q.
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    pub(crate) detach_keys: String,
    /// host/container, or container where the name is unique.
    #[arg(value_name = "REF")]
    pub(crate) container: Ref,
}
