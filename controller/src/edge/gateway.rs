//! Everything that the users' port speaks: gRPC, gRPC-web, JSON, WebSocket and a few pages. Whatever comes
//! becomes a gRPC call, which [`Api`] answers; nothing here knows an rpc.

use std::{convert::Infallible, sync::Arc};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tonic::{Code, body::Body};
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, ServiceExt as _};

use super::{
    api::Api,
    json::{self, Json},
    origin::{self, Origins},
    pages::Pages,
    socket, whole,
};

/// What answers on the users' port; cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    /// Answers calls.
    pub api: Api,
    /// Reads and writes JSON.
    pub json: Arc<Json>,
    /// Which pages may ask.
    pub origins: Arc<Origins>,
    /// What is no call.
    pub pages: Pages,
}

impl Gateway {
    /// Answers one request.
    pub async fn serve(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let kind = Kind::of(&request);
        let request = match kind {
            Some(Kind::Grpc) => request.map(Body::new),
            _ => request.map(whole::read),
        };
        let origin = match self.origins.check(&request) {
            Ok(origin) => origin,
            Err(strange) => return Ok(strange.refusal()),
        };
        let is_preflight = request.method() == Method::OPTIONS && origin.is_some();
        let mut response = match is_preflight {
            true => origin::preflight(),
            false => self.answer(kind, request).await,
        };
        if let Some(origin) = origin {
            origin::readable(&mut response, origin);
        }
        Ok(response)
    }

    /// All but gRPC is boxed, so that a call has no room for it.
    async fn answer(self, kind: Option<Kind>, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            if path.starts_with(socket::PATH) {
                return Box::pin(socket::open(self, request)).await;
            }
            if let Some(page) = Box::pin(self.pages.get(path)).await {
                return page;
            }
        }
        if request.method() != Method::POST {
            let is_known = self.json.method(path).is_some() || path.starts_with("/grpc.");
            if !is_known {
                let message = "there is nothing here; see /docs";
                return json::refusal(StatusCode::NOT_FOUND, Code::NotFound, message);
            }
            let code = StatusCode::METHOD_NOT_ALLOWED;
            let mut refusal = json::refusal(code, Code::Unimplemented, "calls are POST requests");
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return refusal;
        }
        match kind {
            Some(Kind::Grpc) if request.version() < Version::HTTP_2 => json::refusal(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                Code::Unimplemented,
                "gRPC needs HTTP/2; over HTTP/1.1 send gRPC-web or JSON",
            ),
            Some(Kind::Grpc) => self.api.call(request).await,
            Some(Kind::GrpcWeb) => {
                let api = self.api;
                let call = tower::service_fn(move |request: Request<Body>| {
                    let api = api.clone();
                    async move { Ok::<_, Infallible>(api.call(request.map(Body::new)).await) }
                });
                match Box::pin(GrpcWebLayer::new().layer(call).oneshot(request)).await {
                    Ok(response) => response.map(Body::new),
                    Err(never) => match never {},
                }
            }
            Some(Kind::Json) => {
                let (head, body) = request.into_parts();
                let Self { api, json, .. } = self;
                match json.request(&head, body) {
                    Ok(call) => {
                        let answered = async { json.response(&head, api.call(call).await).await };
                        Box::pin(answered).await
                    }
                    Err(status) => json::error(&status),
                }
            }
            None => json::refusal(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Code::InvalidArgument,
                "this port speaks gRPC, gRPC-web and JSON: content-type application/grpc, \
                 application/grpc-web or application/json",
            ),
        }
    }
}

/// What a POST request speaks.
enum Kind {
    Grpc,
    GrpcWeb,
    Json,
}

impl Kind {
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let value = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
        let kind = value.split(';').next()?.trim().to_ascii_lowercase();
        let (base, _) = kind.split_once('+').unwrap_or((&kind, ""));
        match base {
            "application/grpc" => Some(Self::Grpc),
            "application/grpc-web" | "application/grpc-web-text" => Some(Self::GrpcWeb),
            json::JSON if kind == json::JSON => Some(Self::Json),
            _ => None,
        }
    }
}
