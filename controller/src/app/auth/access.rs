//! Access tokens: short JWTs with one algorithm, one key, one issuer, one audience and one type, all
//! of which must be there. Called by `Auth` only; knows no user but by id.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use dockctl_api::{
    error::{reason, status},
    sha256_hex,
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};

use super::not_logged_in;

/// How long an access token is good for.
pub(super) const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How far the clocks of several controllers may differ.
const LEEWAY: Duration = Duration::from_secs(5);
const ISSUER: &str = "dockctl";
const AUDIENCE: &str = "dockctl-api";
/// RFC 9068; a token of another kind that the same key might sign one day is not taken for this one.
const TYPE: &str = "at+jwt";
/// Longest token that is looked at, bytes; a real one has about 300.
const MAX: usize = 4096;
/// Most tokens whose signature is remembered as good.
const VERIFIED: usize = 1024;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    /// The version of the user's logins.
    ver: i64,
    /// The login.
    #[serde(default)]
    fam: String,
    iat: u64,
    exp: u64,
}

/// What an access token says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) user_id: String,
    pub(super) login_version: i64,
    pub(super) family: String,
    pub(super) expires_at: SystemTime,
}

/// Makes and reads access tokens.
pub(super) struct AccessTokens {
    key_id: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    /// What tokens say whose signature was found good: looking again would be a quarter of the
    /// controller's work for a small call. Whether a token has run out is looked at each time.
    verified: Mutex<HashMap<Box<str>, Claims>>,
}

impl AccessTokens {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        // jsonwebtoken would ask the system's clock; `read` asks ours.
        validation.validate_exp = false;
        Self {
            key_id: sha256_hex(key)[..16].to_owned(),
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            validation,
            verified: Mutex::default(),
        }
    }

    /// A new token for a user's login, and when it ends.
    pub(super) fn make(
        &self,
        user_id: &str,
        login_version: i64,
        family: &str,
        now: SystemTime,
    ) -> Result<(String, SystemTime), Status> {
        let iat = seconds(now);
        let exp = iat + LIFETIME.as_secs();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user_id.to_owned(),
            ver: login_version,
            fam: family.to_owned(),
            iat,
            exp,
        };
        let header = Header {
            typ: Some(TYPE.to_owned()),
            kid: Some(self.key_id.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let token = jsonwebtoken::encode(&header, &claims, &self.encoding).map_err(|error| {
            tracing::error!(%error, "an access token could not be signed");
            status(Code::Internal, reason::INTERNAL, "the token could not be made", &[])
        })?;
        Ok((token, time(exp)))
    }

    /// Reads a token. Errors: UNAUTHENTICATED, TOKEN_EXPIRED for one that was ours and has run out,
    /// NOT_LOGGED_IN for everything else.
    pub(super) fn read(&self, token: &str, now: SystemTime) -> Result<Access, Status> {
        let claims = self.verify(token)?;
        let (now, leeway) = (seconds(now), LEEWAY.as_secs());
        let over = claims.exp.saturating_add(leeway) <= now;
        // One that would live longer than any that is made was made before our clock was put back.
        let too_long = claims.exp > now + LIFETIME.as_secs() + leeway;
        if over || too_long {
            let message = "the access token has run out; refresh it";
            return Err(status(Code::Unauthenticated, reason::TOKEN_EXPIRED, message, &[]));
        }
        Ok(Access {
            user_id: claims.sub,
            login_version: claims.ver,
            family: claims.fam,
            expires_at: time(claims.exp),
        })
    }

    /// What a token says that we made, whenever that was.
    fn verify(&self, token: &str) -> Result<Claims, Status> {
        let verified = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = verified().get(token) {
            return Ok(claims.clone());
        }
        let bad = || not_logged_in("the access token is not valid; log in again");
        if token.len() > MAX {
            return Err(bad());
        }
        let read = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|_| bad())?;
        let ours = read.header.typ.as_deref() == Some(TYPE)
            && read.header.kid.as_deref() == Some(self.key_id.as_str())
            && read.claims.iat < read.claims.exp;
        if !ours {
            return Err(bad());
        }
        let mut verified = verified();
        if verified.len() >= VERIFIED {
            verified.clear();
        }
        verified.insert(token.into(), read.claims.clone());
        Ok(read.claims)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use dockctl_api::error::reason_of;
    use serde_json::{Value, json};

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn now() -> SystemTime {
        time(1_763_800_000)
    }

    fn reason(tokens: &AccessTokens, token: &str, at: SystemTime) -> String {
        let refused = tokens.read(token, at).unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        reason_of(&refused).unwrap()
    }

    fn signed(header: &Value, claims: &Value, algorithm: Algorithm, key: &[u8]) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let key = EncodingKey::from_secret(key);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn good_claims() -> Value {
        let iat = seconds(now());
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "ver": 1, "iat": iat, "exp": iat + 900})
    }

    #[test]
    fn a_token_says_who_and_until_when() {
        let tokens = AccessTokens::new(&KEY);
        let (token, expires_at) = tokens.make("ada", 1, "f", now()).unwrap();
        assert_eq!(expires_at, now() + LIFETIME);
        let access = Access {
            user_id: "ada".to_owned(),
            login_version: 1,
            family: "f".to_owned(),
            expires_at,
        };
        assert_eq!(tokens.read(&token, now()).unwrap(), access);
        assert_eq!(tokens.read(&token, now() + LIFETIME).unwrap(), access, "leeway");
    }

    #[test]
    fn clocks_that_jump_ask_for_a_refresh() {
        let tokens = AccessTokens::new(&KEY);
        let (token, _) = tokens.make("ada", 1, "f", now()).unwrap();
        let day = Duration::from_secs(86_400);
        tokens.read(&token, now() - LEEWAY).unwrap();
        for at in [now() + LIFETIME + LEEWAY, now() + day, now() - day, now() - LEEWAY * 2] {
            assert_eq!(reason(&tokens, &token, at), "TOKEN_EXPIRED");
        }
    }

    #[test]
    fn forged_tokens_are_refused() {
        let tokens = AccessTokens::new(&KEY);
        let kid = tokens.key_id.clone();
        let header = json!({"alg": "HS256", "typ": TYPE, "kid": kid});
        let good = signed(&header, &good_claims(), Algorithm::HS256, &KEY);
        tokens.read(&good, now()).unwrap();
        let mut forged = BTreeSet::new();

        // Other algorithms, the same key and others.
        for alg in
            ["none", "None", "NONE", "HS384", "HS512", "RS256", "ES256", "EdDSA", "", "hs256"]
        {
            let header = json!({"alg": alg, "typ": TYPE, "kid": kid});
            let token = signed(&header, &good_claims(), Algorithm::HS256, &KEY);
            forged.insert(format!("{}.", token.rsplit_once('.').unwrap().0));
            forged.insert(token);
            forged.insert(signed(&header, &good_claims(), Algorithm::HS512, &KEY));
        }
        for key in [&[0; 32][..], b"", b"secret", b"dockctl", kid.as_bytes()] {
            forged.insert(signed(&header, &good_claims(), Algorithm::HS256, key));
        }
        // Other headers, well signed.
        for (field, values) in [
            ("typ", [json!("JWT"), json!("rt+jwt"), json!(""), Value::Null]),
            ("kid", [json!("other"), json!("../jwt.key"), json!(""), Value::Null]),
        ] {
            for value in values {
                let mut header = header.clone();
                header[field] = value;
                forged.insert(signed(&header, &good_claims(), Algorithm::HS256, &KEY));
            }
        }
        // Other claims, well signed: each one missing, of another type, of another value.
        for claim in ["iss", "aud", "sub", "ver", "iat", "exp"] {
            let mut claims = good_claims();
            claims.as_object_mut().unwrap().remove(claim);
            forged.insert(signed(&header, &claims, Algorithm::HS256, &KEY));
            let others = [
                Value::Null,
                json!(true),
                json!({}),
                json!([]),
                json!([ISSUER, AUDIENCE]),
                json!(-1),
                json!("99999999999999999999"),
            ];
            // A well signed token of another user is no forgery.
            let is_another = |o: &Value| match claim {
                "sub" => o.is_string(),
                "ver" => o.is_number(),
                _ => false,
            };
            for other in others.into_iter().filter(|o| !is_another(o)) {
                let mut claims = good_claims();
                claims[claim] = other;
                forged.insert(signed(&header, &claims, Algorithm::HS256, &KEY));
            }
        }
        for (claim, value) in
            [("iss", "evil"), ("aud", "dockctl-refresh"), ("iss", ""), ("aud", "")]
        {
            let mut claims = good_claims();
            claims[claim] = json!(value);
            forged.insert(signed(&header, &claims, Algorithm::HS256, &KEY));
        }
        // Cut, flipped, grown.
        forged.extend((0..good.len()).step_by(4).map(|cut| good[..cut].to_owned()));
        for at in (0..good.len()).step_by(3) {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            forged.insert(String::from_utf8(bytes).unwrap());
        }
        forged.extend([
            format!("{good}A"),
            format!("{good}.x"),
            format!(".{good}"),
            "..".to_owned(),
        ]);
        forged.insert("A".repeat(100_000));

        assert!(forged.len() >= 200, "{}", forged.len());
        for token in &forged {
            assert_ne!(*token, good);
            assert_eq!(reason(&tokens, token, now()), "NOT_LOGGED_IN", "{token}");
        }
    }

    #[test]
    fn another_key_reads_nothing() {
        let (token, _) = AccessTokens::new(&KEY).make("ada", 1, "f", now()).unwrap();
        assert_eq!(reason(&AccessTokens::new(&[8; 32]), &token, now()), "NOT_LOGGED_IN");
    }
}
