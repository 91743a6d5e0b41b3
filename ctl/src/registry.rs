//! Logins for registries as docker keeps them: `~/.docker/config.json` and its credential helpers. Only
//! the one registry that is asked is looked up. Nothing here is printed or kept.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dockctl_api::v1::RegistryLogin;
use serde::Deserialize;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{
    error::{Error, Exit, Result},
    output::clean,
};

/// Docker Hub under the name that docker keeps its login by.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";
/// A helper may ask a person for a passphrase.
const HELPER_PATIENCE: Duration = Duration::from_secs(120);

/// docker's configuration file, as far as it is about logins.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: HashMap<String, Kept>,
    cred_helpers: HashMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Kept {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

/// The registry that an image's name speaks of, by the name that its login is kept under.
pub(crate) fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => match first {
            "docker.io" | "index.docker.io" => HUB,
            registry => registry,
        },
        _ => HUB,
    }
}

/// The login for an image's registry, if there is one.
pub(crate) async fn login(image: &str) -> Result<Option<RegistryLogin>> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let dir = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|h| h.join(".docker")));
    match dir {
        Some(dir) => login_in(&dir.join("config.json"), registry_of(image)).await,
        None => Ok(None),
    }
}

async fn login_in(path: &Path, registry: &str) -> Result<Option<RegistryLogin>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unusable(path, &e.to_string())),
    };
    // serde's message names the place, never what stands there.
    let config: Config = serde_json::from_slice(&text).map_err(|e| {
        unusable(path, &format!("it is no JSON as docker writes it (line {})", e.line()))
    })?;
    let helper = config.cred_helpers.get(registry).unwrap_or(&config.creds_store);
    if !helper.is_empty() {
        return helped(helper, registry).await;
    }
    let auths = &config.auths;
    let kept = auths.get(registry).or_else(|| {
        auths.iter().find(|(name, _)| host(name) == host(registry)).map(|(_, kept)| kept)
    });
    kept.map_or(Ok(None), |kept| of_file(kept, registry).map_err(|e| unusable(path, e)))
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::new(Exit::Failed, format!("{}: {why}", path.display()))
        .hint("docker's logins are read from there; log in anew: docker login REGISTRY")
}

/// The host of a registry's name, which may be kept as a URL.
fn host(name: &str) -> &str {
    let name = name.strip_prefix("https://").or(name.strip_prefix("http://")).unwrap_or(name);
    name.split('/').next().unwrap_or(name)
}

fn of_file(
    kept: &Kept,
    registry: &str,
) -> std::result::Result<Option<RegistryLogin>, &'static str> {
    let (mut username, mut password) = (kept.username.clone(), kept.password.clone());
    if !kept.auth.is_empty() {
        let text = STANDARD.decode(&kept.auth).ok().and_then(|t| String::from_utf8(t).ok());
        let text = text.ok_or("the auth of a registry is not base64")?;
        let (name, secret) =
            text.split_once(':').ok_or("the auth of a registry has no password")?;
        (username, password) = (name.to_owned(), secret.trim_end_matches('\0').to_owned());
    }
    if username.is_empty() && kept.identitytoken.is_empty() {
        return Ok(None);
    }
    let (identity_token, server) = (kept.identitytoken.clone(), registry.to_owned());
    Ok(Some(RegistryLogin { username, password, identity_token, server }))
}

/// Asks a credential helper, by docker's own protocol.
async fn helped(helper: &str, registry: &str) -> Result<Option<RegistryLogin>> {
    if helper.contains('/') {
        let why = format!("\"{}\" is no name of a credential helper", clean(helper));
        return Err(Error::new(Exit::Failed, why));
    }
    helped_by(&format!("docker-credential-{helper}"), registry).await
}

async fn helped_by(program: &str, registry: &str) -> Result<Option<RegistryLogin>> {
    let failed = |why: String| Error::new(Exit::Failed, format!("{program}: {}", clean(&why)));
    let talk = async {
        let mut child = Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read its input says by its end what is wrong.
            let _ = stdin.write_all(format!("{registry}\n").as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(HELPER_PATIENCE, talk).await;
    let output = output
        .map_err(|_| failed("it does not answer".to_owned()))?
        .map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        // Its way to say that nobody is logged in there.
        return match said.contains("credentials not found") {
            true => Ok(None),
            false => Err(failed(said)),
        };
    }
    let Helped { username, secret } = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed("its answer is not what a credential helper says".to_owned()))?;
    let server = registry.to_owned();
    Ok(Some(match username.as_str() {
        "<token>" => RegistryLogin { identity_token: secret, server, ..Default::default() },
        _ => RegistryLogin { username, password: secret, server, ..Default::default() },
    }))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn registries_are_found_as_docker_finds_them() {
        for (image, want) in [
            ("nginx", HUB),
            ("team/app:1", HUB),
            ("docker.io/team/app", HUB),
            ("localhost/app", "localhost"),
            ("reg:5000/app", "reg:5000"),
            ("reg.example.com/team/app@sha256:0", "reg.example.com"),
        ] {
            assert_eq!(registry_of(image), want, "{image}");
        }
    }

    async fn found(config: &str, registry: &str) -> Option<RegistryLogin> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, config).unwrap();
        login_in(&path, registry).await.unwrap()
    }

    #[tokio::test]
    async fn only_the_registry_that_is_asked_gets_a_login() {
        // anna:pw:1
        let config = r#"{"auths":{"reg:5000":{"auth":"YW5uYTpwdzox"},
            "https://other.example.com/v1/":{"auth":"YW5uYTpwdzox","identitytoken":"t0"}}}"#;
        let login = found(config, "reg:5000").await.unwrap();
        assert_eq!((login.username.as_str(), login.password.as_str()), ("anna", "pw:1"));
        assert_eq!(login.server, "reg:5000");
        assert_eq!(found(config, "other.example.com").await.unwrap().identity_token, "t0");
        assert!(found(config, HUB).await.is_none());
        assert!(found("{}", "reg:5000").await.is_none());
    }

    #[tokio::test]
    async fn a_broken_file_is_told_without_its_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        for text in [r#"{"auths":{"r":{"auth":"s3cret"}}}"#, r#"{"auths": "s3cret"}"#] {
            fs::write(&path, text).unwrap();
            let error = login_in(&path, "r").await.unwrap_err();
            let told = error.told().unwrap().to_string();
            assert!(told.contains("config.json") && !told.contains("s3cret"), "{told}");
        }
    }

    #[tokio::test]
    async fn helpers_are_asked_by_dockers_protocol() {
        let dir = tempfile::tempdir().unwrap();
        let helper = dir.path().join("docker-credential-x");
        let script = "#!/bin/sh\nread -r server\ncase $1-$server in\n\
            get-reg) echo '{\"ServerURL\":\"reg\",\"Username\":\"anna\",\"Secret\":\"pw\"}';;\n\
            get-tok) echo '{\"ServerURL\":\"tok\",\"Username\":\"<token>\",\"Secret\":\"t0\"}';;\n\
            get-bad) echo 'the keychain is locked'; exit 1;;\n\
            *) echo 'credentials not found in native keychain'; exit 1;;\nesac\n";
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        // By its path, since a test cannot change PATH for itself alone.
        let ask = async |server: &str| helped_by(helper.to_str().unwrap(), server).await;
        assert_eq!(ask("reg").await.unwrap().unwrap().password, "pw");
        assert_eq!(ask("tok").await.unwrap().unwrap().identity_token, "t0");
        assert!(ask("none").await.unwrap().is_none());
        let told = ask("bad").await.unwrap_err().told().unwrap().to_string();
        assert!(told.contains("the keychain is locked"), "{told}");
    }
}
