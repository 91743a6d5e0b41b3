//! A join token that somebody pasted.
#![no_main]

use dockctl_agent::state::token::JoinToken;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(token) = JoinToken::parse(text) {
        assert_eq!(token.ca_fingerprint.len(), 64);
        assert!(text.contains(&token.secret));
    }
});
