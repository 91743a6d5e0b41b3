//! Registry logins as the engine takes them: JSON in base64, in a header. They are secrets: the headers
//! are marked so, and nothing here can be printed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use dockctl_api::{error::bad_field, v1::RegistryLogin};
use http::HeaderValue;
use serde_json::{Value, json};
use tonic::Status;

/// The header for one registry; where nobody is logged in as well, since the engine asks for it.
pub(super) fn auth(login: Option<&RegistryLogin>) -> Result<(&'static str, HeaderValue), Status> {
    header("x-registry-auth", &login.map_or_else(|| json!({}), value))
}

/// The header for all registries of a build.
pub(super) fn config(logins: &[RegistryLogin]) -> Result<(&'static str, HeaderValue), Status> {
    let all: serde_json::Map<String, Value> =
        logins.iter().map(|login| (login.server.clone(), value(login))).collect();
    header("x-registry-config", &Value::Object(all))
}

fn value(login: &RegistryLogin) -> Value {
    let RegistryLogin { username, password, identity_token, server } = login;
    match identity_token.as_str() {
        "" => json!({"username": username, "password": password, "serveraddress": server}),
        token => json!({"username": username, "identitytoken": token, "serveraddress": server}),
    }
}

fn header(name: &'static str, json: &Value) -> Result<(&'static str, HeaderValue), Status> {
    // Base64 is always a good header value.
    let mut value = HeaderValue::try_from(URL_SAFE.encode(json.to_string()))
        .map_err(|_| bad_field("login", "the login cannot be sent"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(identity_token: &str) -> RegistryLogin {
        RegistryLogin {
            username: "anna".to_owned(),
            password: "s3cret??>".to_owned(),
            identity_token: identity_token.to_owned(),
            server: "reg:5000".to_owned(),
        }
    }

    fn decoded((_, value): (&str, HeaderValue)) -> Value {
        serde_json::from_slice(&URL_SAFE.decode(value.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn logins_are_what_the_engine_takes() {
        assert_eq!(decoded(auth(None).unwrap()), json!({}));
        let want =
            json!({"username": "anna", "password": "s3cret??>", "serveraddress": "reg:5000"});
        assert_eq!(decoded(auth(Some(&login(""))).unwrap()), want);
        assert_eq!(decoded(config(&[login("")]).unwrap()), json!({"reg:5000": want}));
        let want = json!({"username": "anna", "identitytoken": "t0", "serveraddress": "reg:5000"});
        assert_eq!(decoded(auth(Some(&login("t0"))).unwrap()), want);
    }

    #[test]
    fn a_login_shows_no_secret() {
        let header = auth(Some(&login("t0ken"))).unwrap();
        for shown in [format!("{:?}", login("t0ken")), format!("{header:?}")] {
            assert!(!shown.contains("s3cret") && !shown.contains("t0ken"), "{shown}");
            assert!(!shown.contains("czNjcmV0"), "{shown}");
        }
    }
}
