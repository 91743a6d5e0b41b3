//! The configuration file: the login that `dockctl login` keeps in its table `[login]`, and the user's
//! own `[defaults]`. Read by `main` and `session`, written by `session` and `context` only. Writing replaces
//! the table [login] and leaves every other line, comments too, as the user wrote it. The logins of other
//! contexts wait in `contexts.toml` beside it.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::error::{Error, Exit, Result};

/// The file of the contexts that are not used, beside the configuration file.
const OTHERS: &str = "contexts.toml";

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The controller that was logged in to.
    pub(crate) login: Option<Login>,
    /// Default values of flags, by the flags' long names.
    #[serde(default)]
    pub(crate) defaults: toml::Table,
}

/// A login. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Login {
    /// What it is called among others.
    #[serde(default)]
    pub(crate) context: String,
    /// The controller's URL in its normal spelling.
    pub(crate) url: String,
    /// The CA certificate that it was trusted by, base64 of its DER; empty for plain HTTP.
    #[serde(default)]
    pub(crate) ca: String,
    /// The user's name.
    #[serde(default)]
    pub(crate) username: String,
    /// The entry of the system's keyring that holds the tokens; empty where they are here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) keyring: String,
    /// The access token; empty after a logout.
    #[serde(default)]
    pub(crate) access_token: String,
    /// When the access token ends.
    #[serde(default)]
    pub(crate) access_expires_at: i64,
    /// The refresh token, good for one use.
    #[serde(default)]
    pub(crate) refresh_token: String,
    /// When the refresh token ends.
    #[serde(default)]
    pub(crate) refresh_expires_at: i64,
}

impl Login {
    /// Keeps a CA certificate.
    pub(crate) fn set_ca(&mut self, der: Option<&[u8]>) {
        self.ca = der.map(|der| BASE64_STANDARD.encode(der)).unwrap_or_default();
    }

    /// Whether it can be used no more.
    pub(crate) fn has_ended(&self, now: i64) -> bool {
        self.refresh_expires_at <= now
    }
}

/// Where the file is when nobody says otherwise.
pub(crate) fn default_path() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = var("XDG_CONFIG_HOME").or_else(|| var("HOME").map(|home| home.join(".config")))?;
    Some(base.join("dockctl/config.toml"))
}

/// Reads the file; a missing one is an empty one.
pub(crate) fn read(path: &Path) -> Result<Config> {
    let text = read_text(path)?;
    toml::from_str(&text).map_err(|error| {
        Error::new(Exit::Usage, format!("{} cannot be understood", path.display()))
            .hint(error.to_string().trim_end().replace('\n', "\n  "))
    })
}

/// Puts a login into the file in place of the one there, or takes it out; without the tokens that the keyring holds.
pub(crate) fn write(path: &Path, login: Option<&Login>) -> Result<()> {
    let mut login = login.cloned();
    if let Some(login) = login.as_mut().filter(|login| !login.keyring.is_empty()) {
        login.access_token.clear();
        login.refresh_token.clear();
    }
    replace(path, &with_login(&read_text(path)?, login.as_ref())?)
}

/// The logins of the contexts that are not used, by name.
pub(crate) fn others(path: &Path) -> Result<BTreeMap<String, Login>> {
    let path = path.with_file_name(OTHERS);
    toml::from_str(&read_text(&path)?).map_err(|error| {
        Error::new(Exit::Usage, format!("{} cannot be understood", path.display()))
            .hint(error.to_string().trim_end().replace('\n', "\n  "))
    })
}

/// Writes the logins of the contexts that are not used.
pub(crate) fn write_others(path: &Path, others: &BTreeMap<String, Login>) -> Result<()> {
    let text = toml::to_string(others)
        .map_err(|e| Error::new(Exit::Failed, format!("the contexts cannot be kept: {e}")))?;
    replace(&path.with_file_name(OTHERS), &text)
}

/// Replaces a file, which appears whole or not at all, readable by its owner only.
fn replace(path: &Path, text: &str) -> Result<()> {
    let failed = |error: io::Error| {
        Error::new(Exit::Failed, format!("{} cannot be written: {error}", path.display()))
    };
    let folder = folder(path).map_err(failed)?;
    let store = || -> io::Result<()> {
        let mut file = NamedTempFile::new_in(folder)?; // mode 0600
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(folder)?.sync_all()
    };
    store().map_err(failed)
}

/// Holds the lock under which tokens are refreshed: a refresh token that is used twice ends its whole
/// family, so only one dockctl at a time may use it. Released when dropped.
pub(crate) async fn lock(path: &Path) -> Result<File> {
    let failed = |error: io::Error| {
        Error::new(Exit::Failed, format!("{} cannot be locked: {error}", path.display()))
    };
    folder(path).map_err(failed)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let mut options = File::options();
    options.create(true).append(true).mode(0o600);
    let file = options.open(path.with_file_name(name)).map_err(failed)?;
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            Err(fs::TryLockError::WouldBlock) if Instant::now() > end => {
                return Err(Error::new(
                    Exit::Failed,
                    "another dockctl holds the login for too long",
                )
                .hint(format!(
                    "see what it does, or log in with another --config than {}",
                    path.display()
                )));
            }
            // There is no blocking wait that a timeout could end.
            Err(fs::TryLockError::WouldBlock) => {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
        }
    }
}

fn read_text(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => {
            Err(Error::new(Exit::Failed, format!("{} cannot be read: {error}", path.display())))
        }
    }
}

/// The file's folder, made (mode 0700) if need be.
fn folder(path: &Path) -> io::Result<&Path> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    Ok(folder)
}

/// The text with its table [login] replaced.
fn with_login(text: &str, login: Option<&Login>) -> Result<String> {
    let mut kept = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        let head = line.trim_start();
        if head.starts_with('[') {
            inside = head.starts_with("[login]");
        }
        if !inside {
            kept.push_str(line);
        }
    }
    let mut out = kept.trim_end().to_owned();
    if let Some(login) = login {
        let table = toml::to_string(login)
            .map_err(|e| Error::new(Exit::Failed, format!("the login cannot be kept: {e}")))?;
        if !out.is_empty() {
            out.push_str("\n\n");
        }
        out.push_str("[login]\n");
        out.push_str(&table);
    } else if !out.is_empty() {
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn login(token: &str) -> Login {
        Login {
            url: "https://c:7443".to_owned(),
            access_token: token.to_owned(),
            ..Login::default()
        }
    }

    #[test]
    fn only_the_login_is_replaced() {
        let mine = "# mine\n[defaults]\noutput = \"json\" # always\n";
        let first = with_login(mine, Some(&login("one"))).unwrap();
        assert!(first.starts_with(mine.trim_end()));
        let second = with_login(&first, Some(&login("two"))).unwrap();
        assert_eq!(second.matches("[login]").count(), 1);
        let config: Config = toml::from_str(&second).unwrap();
        assert_eq!(config.login, Some(login("two")));
        assert_eq!(config.defaults["output"].as_str(), Some("json"));
        assert_eq!(with_login(&second, None).unwrap(), mine);
    }

    #[test]
    fn files_are_private_and_their_folder_too() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("deep/dockctl/config.toml");
        assert_eq!(read(&path).unwrap(), Config::default());
        write(&path, Some(&login("t"))).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(read(&path).unwrap().login, Some(login("t")));
    }

    #[test]
    fn other_contexts_wait_beside_it() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("config.toml");
        assert!(others(&path).unwrap().is_empty());
        let all = BTreeMap::from([("controller:7443".to_owned(), login("t"))]);
        write_others(&path, &all).unwrap();
        assert_eq!(others(&path).unwrap(), all);
        let mode = fs::metadata(base.path().join(OTHERS)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_broken_file_is_a_usage_error_that_names_it() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("config.toml");
        fs::write(&path, "[defaults\n").unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.code(), 2);
        assert!(error.told().unwrap().to_string().contains("config.toml"));
    }
}
