//! The one place where a status becomes an HTTP answer.

use http::Response;
use tonic::{Status, body::Body};

/// A gRPC error as its response: trailers only.
pub fn response(status: &Status) -> Response<Body> {
    status.clone().into_http()
}
