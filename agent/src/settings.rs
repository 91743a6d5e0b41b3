//! What both daemons do before they work: flags from three places with one meaning each (the command
//! line wins over `DOCKCTL_…` variables, which win over a TOML file), logs, and signals.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::{
    Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// The command line with the flags of the TOML file in it, see [`arguments`].
///
/// Errors: those of [`arguments`]; a [`clap::Error`], which may be help that was asked for, and which
/// names the file where the flag that nobody knows came from there.
pub fn parse<C: Parser>(given: Vec<OsString>) -> anyhow::Result<C> {
    let typed = given.clone();
    let error = match C::try_parse_from(arguments(given)?) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return Err(error.into());
    };
    let is_typed = typed.iter().any(|word| word.to_string_lossy().starts_with(flag.as_str()));
    match config_file(&typed) {
        Some(file) if error.kind() == ErrorKind::UnknownArgument && !is_typed => {
            let key = flag.trim_start_matches('-');
            let text = format!("{}: \"{key}\" is no flag of this command\n", file.display());
            Err(clap::Error::raw(ErrorKind::UnknownArgument, text).into())
        }
        _ => Err(error.into()),
    }
}

/// What a failed start says, and its exit code: 2 for a command line that makes no sense.
pub fn fail(program: &str, error: anyhow::Error) -> ExitCode {
    match error.downcast::<clap::Error>() {
        Ok(usage) => {
            // Nobody reads it: nothing can be done about that.
            let _ = usage.print();
            ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2))
        }
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments with those of the TOML file (named by `--config` or `DOCKCTL_CONFIG`) put in after the
/// subcommand, so that the user's own, which come later, override them. Keys are the flags' names
/// without dashes in front; a key whose variable is set is left to the variable.
///
/// Errors: the file cannot be read, is no TOML, or holds odd values. Tables are left alone.
pub fn arguments(given: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    let Some(path) = config_file(&given) else { return Ok(given) };
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    let added = from_toml(&text, |name| std::env::var_os(name).is_some())
        .with_context(|| format!("in the configuration file {}", path.display()))?;
    let mut all = given;
    let at = all.len().min(2); // After the program and its subcommand.
    all.splice(at..at, added);
    Ok(all)
}

/// The TOML file that the command line or else the environment names.
fn config_file(given: &[OsString]) -> Option<PathBuf> {
    let mut file = None;
    for (n, argument) in given.iter().enumerate() {
        let text = argument.to_string_lossy();
        if text == "--config" {
            file = given.get(n + 1).cloned();
        } else if let Some(path) = text.strip_prefix("--config=") {
            file = Some(path.into());
        }
    }
    file.or_else(|| std::env::var_os("DOCKCTL_CONFIG")).map(PathBuf::from)
}

fn from_toml(text: &str, is_set: impl Fn(&str) -> bool) -> anyhow::Result<Vec<OsString>> {
    let table: toml::Table = text.parse()?;
    let mut added = Vec::new();
    for (key, value) in table {
        if value.is_table() {
            continue; // A section of another program: dockctl keeps its login in the same file.
        }
        if is_set(&format!("DOCKCTL_{}", key.replace('-', "_").to_uppercase())) {
            continue;
        }
        let values = match value {
            toml::Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            match value {
                toml::Value::Boolean(true) => added.push(format!("--{key}").into()),
                toml::Value::Boolean(false) => {}
                toml::Value::String(text) => added.push(format!("--{key}={text}").into()),
                toml::Value::Integer(n) => added.push(format!("--{key}={n}").into()),
                _ => bail!(
                    "{key}: a flag's value is a string, a number, true, false or a list of strings"
                ),
            }
        }
    }
    Ok(added)
}

/// Sends logs to stderr, as text or JSON; `DOCKCTL_LOG` says of which targets and levels
/// (`debug`, `info,h2=debug`), "info" by default.
pub fn start_logs(json: bool) {
    let chosen = std::env::var("DOCKCTL_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let usual =
        || Targets::new().with_default(LevelFilter::INFO).with_target("sled", LevelFilter::WARN);
    // Who did what on this host is told whatever else is not.
    let filter = chosen.unwrap_or_else(usual).with_target("audit", LevelFilter::INFO);
    let logs =
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(std::io::stderr);
    // A second call (standalone mode) keeps the first one's settings.
    let _ = match json {
        true => logs.json().finish().with(filter).try_init(),
        false => logs.with_ansi(false).finish().with(filter).try_init(),
    };
}

/// A token that SIGTERM and SIGINT cancel.
pub fn shutdown_on_signals() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        token.cancel();
    });
    Ok(shutdown)
}

/// Logs how many tasks are alive at each SIGUSR1: the agent has no port that could tell. What calls have
/// left, if they have, is the difference of two counts.
pub fn count_tasks_on_signal() -> anyhow::Result<()> {
    let mut asked = signal(SignalKind::user_defined1()).context("cannot handle SIGUSR1")?;
    tokio::spawn(async move {
        while asked.recv().await.is_some() {
            let tasks = Handle::current().metrics().num_alive_tasks();
            tracing::info!(tasks, "counted");
        }
    });
    Ok(())
}

/// The host's name in the characters that agents' names may have.
pub fn host_name() -> anyhow::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("cannot read the host's name; give one with --name")?;
    let name: String = text
        .trim()
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .take(63)
        .collect();
    let name = name.trim_start_matches(['.', '_', '-']);
    if name.is_empty() {
        bail!("the host has no usable name; give one with --name");
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::from_toml;

    #[test]
    fn toml_becomes_flags() {
        let text = "listen = '127.0.0.1:1'\nwith-agent = true\nready-json = false\nlabel = ['a=b', 'c=d']\n";
        let flags = from_toml(text, |name| name == "DOCKCTL_LISTEN").unwrap();
        assert_eq!(flags, ["--label=a=b", "--label=c=d", "--with-agent"]);
    }

    #[test]
    fn odd_values_are_named() {
        let error = from_toml("listen = 1.5\n[login]\nurl = 'x'\n", |_| false).unwrap_err();
        assert!(error.to_string().starts_with("listen:"), "{error}");
    }
}
