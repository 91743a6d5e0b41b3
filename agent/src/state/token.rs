//! Reads a join token; the controller's `app/join_tokens.rs` spells it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// What a join token holds: what to show the controller, and how to know the controller.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The secret part, as Enroll wants it.
    pub secret: String,
    /// SHA-256 of the certificate of the controller's CA: 64 lower-case hex digits.
    pub ca_fingerprint: String,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("ca_fingerprint", &self.ca_fingerprint)
            .finish_non_exhaustive()
    }
}

/// Why a string is no join token. None of these repeats the string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not look like one.
    #[error(
        "this is not a join token: one looks like dockctl1.….… and comes from `dockctl agents token create`"
    )]
    Foreign,
    /// It is of a version that this agent does not know.
    #[error("this join token is of a newer kind than this agent knows; update the agent")]
    Version,
    /// It looks like one, but is cut or mistyped.
    #[error("this join token is incomplete or mistyped; copy the whole of it")]
    Damaged,
}

impl JoinToken {
    /// Reads `dockctl1.SECRET.FINGERPRINT` (base64url without padding, 16 and 32 bytes); blanks around
    /// it do not count.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().split('.');
        match parts.next().and_then(|kind| kind.strip_prefix("dockctl")) {
            Some("1") => {}
            Some(version) if version.parse::<u32>().is_ok() => return Err(TokenError::Version),
            _ => return Err(TokenError::Foreign),
        }
        let (Some(secret), Some(fingerprint), None) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Damaged);
        };
        let decode = |part, length| {
            URL_SAFE_NO_PAD
                .decode(part)
                .ok()
                .filter(|b| b.len() == length)
                .ok_or(TokenError::Damaged)
        };
        decode(secret, 16)?;
        let fingerprint = decode(fingerprint, 32)?;
        Ok(Self { secret: secret.to_owned(), ca_fingerprint: hex::encode(fingerprint) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The controller's `app/join_tokens.rs` spells the very same literal.
    const TOKEN: &str =
        "dockctl1.AAECAwQFBgcICQoLDA0ODw.ABEiM0RVZneImaq7zN3u_wARIjNEVWZ3iJmqu8zd7v8";

    #[test]
    fn a_token_holds_the_secret_and_the_fingerprint() {
        let token = JoinToken::parse(TOKEN).unwrap();
        assert_eq!(token.secret, "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(
            token.ca_fingerprint,
            "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        );
        assert_eq!(JoinToken::parse(&format!(" {TOKEN}\r\n")).unwrap(), token);
        assert!(!format!("{token:?}").contains("AAECAwQ"));
    }

    #[test]
    fn what_is_none_says_so() {
        for foreign in ["", "x", "docker1.a.b", "eyJhbGciOiJIUzI1NiJ9.e30.x", "dockctl.a.b"] {
            assert_eq!(JoinToken::parse(foreign), Err(TokenError::Foreign), "{foreign}");
        }
        assert_eq!(JoinToken::parse("dockctl2.a.b.c"), Err(TokenError::Version));
        for cut in "dockctl1".len()..TOKEN.len() {
            assert_eq!(JoinToken::parse(&TOKEN[..cut]), Err(TokenError::Damaged), "{cut}");
        }
        for damaged in [format!("{TOKEN}.x"), format!("{TOKEN}A"), TOKEN.replace('A', "$")] {
            assert_eq!(JoinToken::parse(&damaged), Err(TokenError::Damaged), "{damaged}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in ".{0,200}") {
            let _ = JoinToken::parse(&text);
        }
    }
}
