//! `images VERB`, and docker's own short names for the same.

use std::{ffi::OsString, path::PathBuf};

use clap::Subcommand;

use super::Images;

/// Where a command works.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct On {
    /// The agent; may be left out where the fleet has just one that is connected.
    #[arg(long, value_name = "AGENT")]
    pub(crate) on: Option<String>,
}

/// `images`: the list, or a verb.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ImagesCommand {
    #[command(flatten)]
    pub(crate) list: Images,
    #[command(subcommand)]
    pub(crate) verb: Option<ImageVerb>,
}

/// `images VERB`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// List images.
    #[command(visible_alias = "list")]
    Ls(Images),
    /// Pull an image from a registry.
    Pull(Pull),
    /// Push an image to a registry.
    Push(Push),
    /// Give an image a further name.
    Tag(Tag),
    /// Remove images.
    #[command(visible_alias = "remove")]
    Rm(Rmi),
    /// Show all that the engine knows of images.
    Inspect(ImageNames),
    /// Show the layers of an image.
    History(History),
    /// Remove images that nothing uses.
    Prune(PruneAll),
    /// Save images as a tar archive.
    Save(Save),
    /// Load images from a tar archive.
    Load(Load),
    /// Make an image of a tar archive of files.
    Import(Import),
    /// Move images from one host to another, without a registry.
    Transfer(Transfer),
    /// Build an image from a Dockerfile.
    Build(Box<Build>),
}

/// `pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pull {
    #[command(flatten)]
    pub(crate) on: On,
    /// All tags of the repository.
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// The platform, for example linux/arm64.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) platform: String,
    /// No progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// NAME[:TAG|@DIGEST]
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// `push`.
#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    #[command(flatten)]
    pub(crate) on: On,
    /// No progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// NAME[:TAG]
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// `tag`.
#[derive(Debug, clap::Args)]
pub(crate) struct Tag {
    #[command(flatten)]
    pub(crate) on: On,
    /// The image.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Its further name.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// `rmi`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rmi {
    #[command(flatten)]
    pub(crate) on: On,
    /// Also where stopped containers or several names use it.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Keep untagged parents.
    #[arg(long)]
    pub(crate) no_prune: bool,
    /// Names or ids.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// Images on a host, and nothing else.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageNames {
    #[command(flatten)]
    pub(crate) on: On,
    /// Names or ids.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `history`.
#[derive(Debug, clap::Args)]
pub(crate) struct History {
    #[command(flatten)]
    pub(crate) on: On,
    /// Only ids.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Whole ids and commands.
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// The image.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// A prune of images, volumes or the build cache.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneAll {
    /// All that is unused: images with names too, named volumes too, all of the cache.
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) prune: Pruning,
}

/// A prune.
#[derive(Debug, clap::Args)]
pub(crate) struct Pruning {
    #[command(flatten)]
    pub(crate) on: On,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only what fits, for example until=24h or label=k=v; can be repeated.
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
}

/// `save`.
#[derive(Debug, clap::Args)]
pub(crate) struct Save {
    #[command(flatten)]
    pub(crate) on: On,
    /// The file to write, instead of stdout; docker's -o FILE is understood as well.
    #[arg(long, value_name = "FILE")]
    pub(crate) to_file: Option<PathBuf>,
    /// Names or ids.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) on: On,
    /// The archive, instead of stdin.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// No progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) on: On,
    /// A Dockerfile instruction to apply; can be repeated.
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// What it is.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) message: String,
    /// The platform, for example linux/arm64.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) platform: String,
    /// The archive; - for stdin.
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
    /// The image's name.
    #[arg(value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) name: String,
}

/// `images transfer`.
#[derive(Debug, clap::Args)]
pub(crate) struct Transfer {
    /// The agent that has them.
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// The agent that gets them.
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// Names or ids.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) on: On,
    /// The Dockerfile, instead of PATH/Dockerfile; - for stdin.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A name for the image; can be repeated.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// A build argument, k=v, or k to take the variable's value; can be repeated.
    #[arg(long, value_name = "K=V")]
    pub(crate) build_arg: Vec<String>,
    /// A label for the image, k=v; can be repeated.
    #[arg(long, value_name = "K=V")]
    pub(crate) label: Vec<String>,
    /// The stage to build.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) target: String,
    /// Build every step anew.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Pull the base images anew.
    #[arg(long)]
    pub(crate) pull: bool,
    /// The platform, for example linux/arm64.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) platform: String,
    /// The network of the steps.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) network: String,
    /// An entry for /etc/hosts, name:address; can be repeated.
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// Print nothing but the image's id.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The directory with the context; - for a tar archive or a Dockerfile on stdin.
    #[arg(value_name = "PATH|-")]
    pub(crate) path: PathBuf,
}

/// Flags of every command that take a value in the word after them.
const WITH_VALUE: [&str; 8] = [
    "-o",
    "--output",
    "--config",
    "--timeout",
    "--url",
    "--token",
    "--ca-fingerprint",
    "--ca-file",
];

/// `save -o FILE` as docker has it: everywhere else -o is dockctl's own flag for the format of what is
/// printed, which a tar archive does not have.
pub(crate) fn with_save_output(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let mut at = 1;
    let mut verb = None;
    while let Some(word) = words.get(at).and_then(|w| w.to_str()) {
        match word {
            "images" | "image" => {}
            flag if WITH_VALUE.contains(&flag) => at += 1,
            flag if flag.starts_with('-') => {}
            word => {
                verb = Some(word.to_owned());
                break;
            }
        }
        at += 1;
    }
    if verb.as_deref() != Some("save") {
        return words;
    }
    for word in words.iter_mut().skip(at).take_while(|w| *w != "--") {
        let Some(text) = word.to_str() else { continue };
        let file = match text {
            "-o" | "--output" => Some("--to-file".to_owned()),
            _ => text
                .strip_prefix("--output=")
                .or_else(|| text.strip_prefix("-o"))
                .map(|file| format!("--to-file={file}")),
        };
        if let Some(file) = file {
            *word = file.into();
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn save_takes_dockers_output_flag() {
        let after = |line: &str| {
            let words = with_save_output(line.split(' ').map(OsString::from));
            words.iter().map(|w| w.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        for (line, want) in [
            ("dockctl save -o a.tar x", "dockctl save --to-file a.tar x"),
            ("dockctl --url u save x --output=a", "dockctl --url u save x --to-file=a"),
            ("dockctl images save -oa x", "dockctl images save --to-file=a x"),
            ("dockctl -o json save x", "dockctl -o json save x"),
            ("dockctl ps -o json", "dockctl ps -o json"),
            ("dockctl save -- -o", "dockctl save -- -o"),
        ] {
            assert_eq!(after(line), want);
        }
    }
}
