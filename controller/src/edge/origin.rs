//! Which pages may ask: none but those of origins that are allowed by name, and our own. No cookie is ever read,
//! so a page without a token can do nothing; this keeps requests of strange pages from reaching a handler at all.

use std::collections::HashSet;

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{self, HeaderName},
    uri::Authority,
};
use tonic::{Code, body::Body};

use super::json;

/// What pages may send.
const SENT: &str =
    "authorization, content-type, dockctl-request-id, grpc-timeout, x-grpc-web, x-user-agent";
/// What pages may read.
const READ: &str = "grpc-message, grpc-status, grpc-status-details-bin, retry-after";
/// How long a browser may remember that, seconds.
const REMEMBERED: &str = "600";

/// The origins that are allowed.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    allowed: HashSet<String>,
    /// Our own names, as a browser's address bar may show them.
    own: HashSet<String>,
}

/// A page that may not ask.
#[derive(Debug)]
pub(super) struct Strange;

impl Origins {
    /// Origins such as "https://ops.example:8443", and the names that this controller is reached by.
    pub fn new(
        allowed: impl IntoIterator<Item = String>,
        own: impl IntoIterator<Item = String>,
    ) -> Self {
        let allowed = allowed.into_iter().map(|origin| origin.trim_end_matches('/').to_lowercase());
        let own = own.into_iter().map(|name| name.to_lowercase());
        let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        Self { allowed: allowed.collect(), own: own.chain(loopback).collect() }
    }

    /// The origin of the page that asks, None where no page does. Errors: a page that may not.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<Option<HeaderValue>, Strange> {
        let headers = request.headers();
        let Some(origin) = headers.get(header::ORIGIN) else {
            // Browsers say of each request whose it is; other clients do not.
            let site = text(headers, HeaderName::from_static("sec-fetch-site")).unwrap_or("none");
            let is_visit = matches!(*request.method(), Method::GET | Method::HEAD);
            return match site {
                "none" | "same-origin" => Ok(None),
                // A link on another page may be followed to a page of ours.
                _ if is_visit
                    && text(headers, HeaderName::from_static("sec-fetch-mode"))
                        == Some("navigate") =>
                {
                    Ok(None)
                }
                _ => Err(Strange),
            };
        };
        let named = origin.to_str().unwrap_or_default().to_lowercase();
        match self.allowed.contains(&named) || self.is_own(&named, request) {
            true => Ok(Some(origin.clone())),
            false => Err(Strange),
        }
    }

    /// Whether a page is of an origin that is allowed, or under one of our own names.
    pub fn has_page(&self, page: &Uri) -> bool {
        let (Some(scheme), Some(authority)) = (page.scheme_str(), page.authority()) else {
            return false;
        };
        let origin = format!("{scheme}://{authority}").to_lowercase();
        self.allowed.contains(&origin) || self.own.contains(&name_in(authority).to_lowercase())
    }

    /// Whether a page comes from this very port, under one of our names: a stranger's name may be made to lead
    /// here.
    fn is_own<B>(&self, origin: &str, request: &Request<B>) -> bool {
        let host = request.uri().authority().map(Authority::as_str);
        let host = host.or_else(|| text(request.headers(), header::HOST));
        let Some(authority) = host.and_then(|host| host.to_lowercase().parse::<Authority>().ok())
        else {
            return false;
        };
        let is_same = origin.split_once("://").is_some_and(|(_, of)| of == authority.as_str());
        is_same && self.own.contains(name_in(&authority))
    }
}

/// The name or address in an authority, an IPv6 address without its brackets.
fn name_in(authority: &Authority) -> &str {
    authority.host().trim_start_matches('[').trim_end_matches(']')
}

/// The answer to a browser that asks whether a page may ask.
pub(super) fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, SENT),
        (header::ACCESS_CONTROL_MAX_AGE, REMEMBERED),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets a page read the answer.
pub(super) fn readable(response: &mut Response<Body>, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(READ));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

impl Strange {
    /// What it is told.
    pub(super) fn refusal(&self) -> Response<Body> {
        let message =
            "pages of this origin may not ask; the controller's --allow-origin allows more";
        json::refusal(StatusCode::FORBIDDEN, Code::PermissionDenied, message)
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(method: &str, uri: &str, headers: &[(&str, &str)]) -> Option<Option<String>> {
        let origins = Origins::new(
            ["https://ops.example".to_owned(), "http://localhost:5173/".to_owned()],
            ["mesh.example".to_owned()],
        );
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let checked = origins.check(&request.body(()).unwrap()).ok()?;
        Some(checked.map(|origin| origin.to_str().unwrap().to_owned()))
    }

    #[test]
    fn only_pages_of_allowed_origins_and_our_own_may_ask() {
        let rpc = "/dockctl.v1.AuthService/Login";
        for (origin, host, allowed) in [
            ("https://ops.example", "mesh.example:7443", true),
            ("HTTPS://OPS.EXAMPLE", "mesh.example:7443", true),
            ("http://localhost:5173", "mesh.example:7443", true),
            ("https://mesh.example:7443", "mesh.example:7443", true),
            ("https://127.0.0.1:7443", "127.0.0.1:7443", true),
            ("https://[::1]:7443", "[::1]:7443", true),
            ("https://ops.example:444", "mesh.example:7443", false),
            ("http://ops.example", "mesh.example:7443", false),
            ("https://ops.example.evil.example", "mesh.example:7443", false),
            ("https://mesh.example", "mesh.example:7443", false),
            // A stranger's name that leads here.
            ("https://evil.example:7443", "evil.example:7443", false),
            ("null", "mesh.example:7443", false),
            ("", "mesh.example:7443", false),
        ] {
            let headers = [("origin", origin), ("host", host)];
            let seen = checked("POST", rpc, &headers);
            assert_eq!(seen.is_some(), allowed, "{origin} at {host}");
        }
        let by_authority = checked(
            "POST",
            "https://mesh.example:7443/x",
            &[("origin", "https://mesh.example:7443")],
        );
        assert!(by_authority.is_some(), "HTTP/2 has no host header");
    }

    #[test]
    fn what_a_strange_page_asks_without_saying_its_origin_is_refused_too() {
        for (method, headers, allowed) in [
            ("POST", &[][..], true),
            ("POST", &[("sec-fetch-site", "same-origin")], true),
            ("POST", &[("sec-fetch-site", "cross-site")], false),
            ("POST", &[("sec-fetch-site", "same-site")], false),
            ("GET", &[("sec-fetch-site", "cross-site")], false),
            ("GET", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], true),
            ("POST", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], false),
        ] {
            let seen = checked(method, "/docs", headers);
            assert_eq!(seen.is_some(), allowed, "{method} {headers:?}");
        }
    }
}
