//! `audit`.

use clap::Subcommand;

/// `audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List the newest entries, the newest last.
    Ls {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 100, value_name = "NUMBER")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
        last: u32,
        /// Only what this user did.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "USER")]
        by: String,
        /// Only calls that named this agent so.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "AGENT")]
        on: String,
    },
    /// Print all entries in their order, one JSON object a line.
    Export {
        /// Only those after this one.
        #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "SEQUENCE")]
        after: u64,
        /// Go on with new ones.
        #[arg(short, long)]
        follow: bool,
    },
    /// Check that no entry was changed, taken out or cut off.
    Verify {
        /// An entry whose hash was noted earlier; without it an end that was cut off is not found.
        #[arg(long, value_name = "SEQUENCE:HASH", value_parser = known)]
        known: Option<(u64, String)>,
    },
}

fn known(text: &str) -> Result<(u64, String), String> {
    let parsed = text.split_once(':').and_then(|(sequence, hash)| {
        let good = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        good.then_some((sequence.parse().ok()?, hash.to_ascii_lowercase()))
    });
    parsed.ok_or_else(|| "write SEQUENCE:HASH, as `audit verify` prints it".to_owned())
}
