//! The owner's rules, as `--docker-api-allow` has them.

use std::str::FromStr;

use http::{Method, Uri};

use super::{line::Line, pattern};

/// Requests that are allowed: `METHOD /path/pattern`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// In capitals; None for all.
    method: Option<String>,
    pattern: Vec<String>,
}

impl Rule {
    pub(super) fn allows(&self, line: &Line) -> bool {
        self.method.as_ref().is_none_or(|method| *method == line.method)
            && pattern::fits(&self.pattern, &line.parts)
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write METHOD /path, for example 'GET /containers/**'".to_owned();
        let mut words = text.split_whitespace();
        let (Some(method), Some(path), None) = (words.next(), words.next(), words.next()) else {
            return Err(wrong());
        };
        let is_name = |method: &str| method.bytes().all(|b| b.is_ascii_alphabetic());
        if !(method == "*" || is_name(method)) || !path.starts_with('/') || path.contains('?') {
            return Err(wrong());
        }
        // A rule in another spelling than paths are judged in would never fit.
        let uri: Uri = path.parse().map_err(|_| wrong())?;
        let line = Line::new(&Method::GET, &uri).map_err(|why| format!("{path}: {why}"))?;
        if path != line.path() || line.parts.is_empty() {
            return Err(format!("write the path without version and detours: {}", line.path()));
        }
        let method = (method != "*").then(|| method.to_ascii_uppercase());
        Ok(Self { method, pattern: line.parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Guard;

    fn guard(rules: &[&str]) -> Guard {
        let docker_api_allow = rules.iter().map(|r| r.parse().unwrap()).collect();
        Guard { docker_api_allow, ..Guard::default() }
    }

    fn allowed(guard: &Guard, request: &str) -> bool {
        let (method, uri) = request.split_once(' ').unwrap();
        guard.allows(&Line::new(&method.parse().unwrap(), &uri.parse().unwrap()).unwrap())
    }

    #[test]
    fn without_rules_all_is_allowed_and_with_them_only_they() {
        assert!(allowed(&guard(&[]), "POST /containers/create"));
        let guard = guard(&["GET /containers/*/logs", "get /_ping", "* /volumes/**"]);
        for request in [
            "GET /v1.41/containers/web/logs?follow=1",
            "GET //containers/./web/lo%67s",
            "GET http://x/_ping",
            "DELETE /volumes/data",
            "POST /v1.50/volumes/create",
        ] {
            assert!(allowed(&guard, request), "{request}");
        }
        for request in [
            "POST /containers/create",
            "POST /containers/web/logs",
            "HEAD /_ping",
            "GET /containers/web/logs/x",
            "GET /containers/a/b/logs",
            "GET /volumes",
            "POST /volumes/../containers/create",
            "POST /volumes/%2e%2e/containers/create",
            "POST /v1.41/volumes/x/..%2f..%2fcontainers/create",
            "GET /v1.41/v1.41/_ping",
            "GET /",
        ] {
            assert!(!allowed(&guard, request), "{request}");
        }
    }

    #[test]
    fn rules_that_could_never_fit_are_told() {
        for bad in [
            "",
            "GET",
            "/containers/json",
            "GET containers/json",
            "GET /v1.41/containers/json",
            "GET /containers//json",
            "GET /containers/../json",
            "GET /containers/json/",
            "GET /containers/json?all=1",
            "GET /a /b",
            "G,T /a",
            "GET /",
        ] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }
}
