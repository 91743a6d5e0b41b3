//! Queries of requests to the engine. Pure.

use super::names::encode;

/// The query of a request; values are encoded, empty ones left out.
#[derive(Default)]
pub(super) struct Query(String);

impl Query {
    /// Adds a value, unless it is empty.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            let begin = if self.0.is_empty() { '?' } else { '&' };
            self.0.push(begin);
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&encode(value));
        }
    }

    /// Adds what is true where it is set.
    pub(super) fn flag(&mut self, name: &str, set: bool) {
        if set {
            self.add(name, "1");
        }
    }

    /// The path with the query behind it.
    pub(super) fn on(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}
