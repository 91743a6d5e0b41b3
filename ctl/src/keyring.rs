//! The system's keyring (Secret Service, macOS' keychain), where there is one: it holds the tokens of logins, so that
//! the configuration file holds none. Called by `config` and `session` only.

use std::{path::Path, sync::mpsc, thread, time::Duration};

use keyring::Entry;
use serde::{Deserialize, Serialize};

use crate::{
    config::Login,
    error::{Error, Exit, Result},
    output::clean,
};

/// How long the keyring may take; one that is locked asks its owner, who may be far away.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the entries are of.
const SERVICE: &str = "dockctl";

/// What an entry holds.
#[derive(Serialize, Deserialize)]
struct Tokens {
    access_token: String,
    refresh_token: String,
}

/// Whether this session has a keyring, as far as can be told without asking it.
pub(crate) fn may_be_there() -> bool {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    cfg!(target_os = "macos")
        || variable("DBUS_SESSION_BUS_ADDRESS").is_some()
        || variable("XDG_RUNTIME_DIR").is_some_and(|dir| Path::new(&dir).join("bus").exists())
}

/// Puts a login's tokens into its entry. A keyring that does not take them leaves them to the file, and that is said:
/// they are not lost.
pub(crate) fn put(login: &mut Login) {
    if login.keyring.is_empty() {
        return;
    }
    if let Err(error) = try_to_put(login) {
        let why = error.told().map(|failure| clean(&failure.message)).unwrap_or_default();
        eprintln!("dockctl: {why}; the configuration file holds it now");
        login.keyring.clear();
    }
}

fn try_to_put(login: &Login) -> Result<()> {
    let tokens = Tokens {
        access_token: login.access_token.clone(),
        refresh_token: login.refresh_token.clone(),
    };
    let text = serde_json::to_string(&tokens).map_err(|error| no_answer(&error.to_string()))?;
    entry(login, move |entry| entry.set_password(&text))
}

/// Fills in a login's tokens from its entry, where it has one; they stay empty where the entry is gone.
pub(crate) fn fill(login: &mut Login) -> Result<()> {
    if login.keyring.is_empty() || !login.access_token.is_empty() {
        return Ok(());
    }
    let found = entry(login, |entry| match entry.get_password() {
        Err(keyring::Error::NoEntry) => Ok(None),
        found => found.map(Some),
    })?;
    if let Some(tokens) = found.and_then(|text| serde_json::from_str::<Tokens>(&text).ok()) {
        login.access_token = tokens.access_token;
        login.refresh_token = tokens.refresh_token;
    }
    Ok(())
}

/// Removes a login's entry, where it has one and the keyring answers.
pub(crate) fn forget(login: &Login) {
    if !login.keyring.is_empty() {
        // One that cannot be removed holds what is no good any more, or soon will not be.
        let _ = entry(login, |entry| entry.delete_credential());
    }
}

/// Does something with a login's entry, beside the thread that waits for it: the library has no time limit.
fn entry<T: Send + 'static>(
    login: &Login,
    work: impl FnOnce(Entry) -> keyring::Result<T> + Send + 'static,
) -> Result<T> {
    let (name, (answer, answered)) = (login.keyring.clone(), mpsc::channel());
    thread::spawn(move || answer.send(Entry::new(SERVICE, &name).and_then(work)));
    match answered.recv_timeout(PATIENCE) {
        Ok(done) => done.map_err(|error| no_answer(&error.to_string())),
        Err(_) => Err(no_answer(&format!("it did not answer within {} s", PATIENCE.as_secs()))),
    }
}

fn no_answer(why: &str) -> Error {
    Error::new(
        Exit::Failed,
        format!("the system's keyring, which is to hold the login, fails: {why}"),
    )
    .hint("unlock it, or log in again with --no-keyring")
}
