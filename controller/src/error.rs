//! The one place where a status becomes an HTTP answer.

use http::{HeaderValue, Response, StatusCode, header};
use tonic::{Status, body::Body};

/// A gRPC error as its response: trailers only.
pub fn response(status: &Status) -> Response<Body> {
    status.clone().into_http()
}

/// A refusal of something that is not gRPC at all.
pub fn plain(code: StatusCode, message: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::from(message)));
    *response.status_mut() = code;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
