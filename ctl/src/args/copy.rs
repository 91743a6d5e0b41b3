//! `cp`.

/// `cp`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Use '-' as the source to read a tar archive from stdin and unpack it into a directory of \
    the container.\nUse '-' as the destination to write the tar archive to stdout.\nA local path with a ':' \
    in it begins with '/' or './'."
)]
pub(crate) struct Cp {
    /// As docker: files belong to the user that the container runs as.
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Copy what a symbolic link in SRC leads to, instead of the link.
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// No progress bar; there is none without a terminal.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// REF:/path, a local path, or '-'.
    #[arg(value_name = "SRC")]
    pub(crate) source: String,
    /// REF:/path, a local path, or '-'.
    #[arg(value_name = "DST")]
    pub(crate) destination: String,
}
