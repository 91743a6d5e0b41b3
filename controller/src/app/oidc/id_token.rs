//! Reads an ID token: who signed it, for whom, of whom. Pure; called by the login only.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What a token says, once it is found to be good.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Claims {
    /// What the provider calls the person, for ever.
    pub(super) sub: String,
    nonce: Option<String>,
    azp: Option<String>,
    /// All other claims.
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

/// Why a token is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// None of the provider's keys has signed it.
    #[error("its token is signed with a key that the provider does not show")]
    UnknownKey,
    /// It is not what it should be.
    #[error("its token is not good: {0}")]
    Bad(String),
}

/// The claims of a token of this issuer for this client, with this nonce where there must be one.
pub(super) fn read(
    token: &str,
    keys: &JwkSet,
    issuer: &str,
    client_id: &str,
    nonce: Option<&str>,
) -> Result<Claims, Problem> {
    let bad = |why: &str| Problem::Bad(why.to_owned());
    let header = decode_header(token).map_err(|error| Problem::Bad(error.to_string()))?;
    let mut validation = Validation::new(header.alg);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[client_id]);
    validation.validate_nbf = true;
    let may_have_signed = |key: &&Jwk| {
        (header.kid.is_none() || key.common.key_id == header.kid) && signs(key, header.alg)
    };
    let mut found = Err(Problem::UnknownKey);
    for key in keys.keys.iter().filter(may_have_signed) {
        let key = DecodingKey::from_jwk(key).map_err(|error| Problem::Bad(error.to_string()))?;
        match decode::<Claims>(token, &key, &validation) {
            Ok(read) => found = Ok(read.claims),
            Err(error) if *error.kind() == ErrorKind::InvalidSignature => continue,
            Err(error) => found = Err(Problem::Bad(error.to_string())),
        }
        break;
    }
    let claims = found?;
    let has_others =
        claims.others.get("aud").and_then(Value::as_array).is_some_and(|of| of.len() > 1);
    if has_others && claims.azp.is_none() {
        return Err(bad("it was made for several, and does not say for whom"));
    }
    if claims.azp.as_deref().is_some_and(|party| party != client_id) {
        return Err(bad("it was made for another client"));
    }
    if claims.sub.is_empty() || claims.sub.len() > 255 {
        return Err(bad("its subject is not one"));
    }
    if nonce.is_some() && claims.nonce.as_deref() != nonce {
        return Err(bad("it was made for another login"));
    }
    Ok(claims)
}

/// Whether a key checks signatures of this kind. One that is no public key, of which a client knows as much as
/// the provider, never does.
fn signs(key: &Jwk, algorithm: Algorithm) -> bool {
    use {AlgorithmFamily as Family, AlgorithmParameters as Key};
    let is_of_kind = matches!(
        (&key.algorithm, algorithm.family()),
        (Key::RSA(_), Family::Rsa)
            | (Key::EllipticCurve(_), Family::Ec)
            | (Key::OctetKeyPair(_), Family::Ed)
    );
    let common = &key.common;
    let is_for_signatures =
        common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
    let is_for_this =
        common.key_algorithm.is_none_or(|of| of.to_string() == format!("{algorithm:?}"));
    is_of_kind && is_for_signatures && is_for_this
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use jsonwebtoken::{EncodingKey, Header, encode};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://id.example";

    struct Signer {
        key: EncodingKey,
        keys: JwkSet,
    }

    impl Signer {
        fn new(kid: &str) -> Self {
            let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
            let key = EncodingKey::from_ec_der(&pair.serialize_der());
            let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
            jwk.common.key_id = Some(kid.to_owned());
            Self { key, keys: JwkSet { keys: vec![jwk] } }
        }

        fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
            let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) };
            encode(&header, claims, &self.key).unwrap()
        }
    }

    fn good() -> Value {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        json!({"iss": ISSUER, "aud": "dockctl", "sub": "7", "exp": now + 300, "iat": now, "nonce": "n", "name": "Ada"})
    }

    fn read_it(token: &str, keys: &JwkSet) -> Result<Claims, Problem> {
        read(token, keys, ISSUER, "dockctl", Some("n"))
    }

    #[test]
    fn a_good_token_is_read() {
        let signer = Signer::new("k");
        for kid in [Some("k"), None] {
            let claims = read_it(&signer.sign(kid, &good()), &signer.keys).unwrap();
            assert_eq!((claims.sub.as_str(), &claims.others["name"]), ("7", &json!("Ada")));
        }
        let mut for_two = good();
        for_two["aud"] = json!(["other", "dockctl"]);
        for_two["azp"] = json!("dockctl");
        read_it(&signer.sign(Some("k"), &for_two), &signer.keys).unwrap();
    }

    #[test]
    fn every_other_token_is_refused() {
        let (signer, stranger) = (Signer::new("k"), Signer::new("k"));
        let past = 1_000_000_000;
        for (claim, value) in [
            ("iss", json!("https://evil.example")),
            ("iss", json!("https://id.example/")),
            ("iss", Value::Null),
            ("aud", json!("other")),
            ("aud", json!([])),
            ("aud", json!(["dockctl", "other"])),
            ("aud", Value::Null),
            ("azp", json!("other")),
            ("exp", json!(past)),
            ("exp", Value::Null),
            ("nbf", json!(9_000_000_000_u64)),
            ("sub", json!("")),
            ("sub", json!("x".repeat(256))),
            ("sub", json!(7)),
            ("nonce", json!("m")),
            ("nonce", Value::Null),
        ] {
            let mut claims = good();
            claims[claim] = value.clone();
            let refused = read_it(&signer.sign(Some("k"), &claims), &signer.keys);
            assert!(matches!(refused, Err(Problem::Bad(_))), "{claim}={value}: {refused:?}");
            claims.as_object_mut().unwrap().remove(claim);
            let without = read_it(&signer.sign(Some("k"), &claims), &signer.keys);
            let may_lack = ["azp", "nbf"].contains(&claim);
            assert_eq!(without.is_ok(), may_lack, "without {claim}");
        }
        // A second key of the same name, as one has during a change of keys, is tried too.
        let forged = read_it(&stranger.sign(Some("k"), &good()), &signer.keys);
        assert!(matches!(forged, Err(Problem::UnknownKey)));
        let both = JwkSet { keys: [signer.keys.keys.clone(), stranger.keys.keys.clone()].concat() };
        read_it(&stranger.sign(Some("k"), &good()), &both).unwrap();
        let unknown = read_it(&signer.sign(Some("other"), &good()), &signer.keys);
        assert!(matches!(unknown, Err(Problem::UnknownKey)));
        let token = signer.sign(Some("k"), &good());
        for cut in 0..token.len() {
            assert!(read_it(&token[..cut], &signer.keys).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_secret_in_the_keys_signs_nothing() {
        let secret = EncodingKey::from_secret(b"known to all");
        let mut jwk = Jwk::from_encoding_key(&secret, Algorithm::HS256).unwrap();
        jwk.common.key_id = Some("k".to_owned());
        let keys = JwkSet { keys: vec![jwk] };
        let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &good(), &secret).unwrap();
        assert!(matches!(read_it(&token, &keys), Err(Problem::UnknownKey)));
    }

    #[test]
    fn a_key_for_encryption_or_another_algorithm_signs_nothing() {
        let signer = Signer::new("k");
        let token = signer.sign(Some("k"), &good());
        let mut keys = signer.keys.clone();
        keys.keys[0].common.public_key_use = Some(PublicKeyUse::Encryption);
        assert!(matches!(read_it(&token, &keys), Err(Problem::UnknownKey)));
        let mut keys = signer.keys.clone();
        keys.keys[0].common.key_algorithm = Some(jsonwebtoken::jwk::KeyAlgorithm::ES384);
        assert!(matches!(read_it(&token, &keys), Err(Problem::UnknownKey)));
    }
}
