//! One connection of a Docker client that came through the mesh: its requests are read, checked against
//! the owner's rules, written to the audit log and passed on, each over a connection of its own.

use std::sync::{Arc, Mutex};

use dockctl_api::error::{reason, status};
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, UPGRADE},
};
use http_body_util::{BodyExt as _, Empty, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{
    Engine,
    fault::{Call, Fault},
    lock,
    pass::{Failed, Hijack, drain, hijacks, message, pass, refusal},
    wire::Body,
};
use crate::guard::line::Line;

/// Query keys whose values are shown in the audit log: names, never what could be a secret.
const SHOWN: [&str; 10] =
    ["container", "dockerfile", "force", "fromImage", "name", "path", "repo", "signal", "t", "tag"];

/// Whose connection it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// The user.
    pub(crate) principal: String,
    /// Names the user's call; may be empty.
    pub(crate) request_id: String,
}

impl Engine {
    /// Whether the host's owner lets the Docker API be used over the mesh at all.
    ///
    /// Errors: PERMISSION_DENIED if not.
    pub(crate) fn check_docker_api(&self) -> Result<(), Status> {
        match self.guard.no_docker_api {
            false => Ok(()),
            true => Err(status(
                Code::PermissionDenied,
                reason::DOCKER_REFUSED,
                "this host does not allow the Docker API over the mesh: its agent runs with \
                 --no-docker-api",
                &[("call", "ConnectDocker")],
            )),
        }
    }

    /// Serves a Docker client until either side has ended the connection; `gone` is cancelled when the
    /// client has closed its side. Dropped, it ends whatever it has begun at the engine.
    pub(crate) async fn serve_docker_client(
        &self,
        client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        caller: Caller,
        gone: CancellationToken,
    ) {
        let hijack = Arc::new(Mutex::new(None));
        let tunnel =
            Arc::new(Tunnel { engine: self.clone(), caller, gone, hijack: hijack.clone() });
        let service = service_fn(move |request| {
            let tunnel = tunnel.clone();
            async move { Ok::<_, std::convert::Infallible>(tunnel.answer(request).await) }
        });
        let mut server = Builder::new();
        // As the engine does: who has closed his side may still read.
        let server = server.half_close(true).serve_connection(TokioIo::new(client), service);
        if server.with_upgrades().await.is_ok() {
            let hijack = lock(&hijack).take();
            if let Some(hijack) = hijack {
                hijack.copy().await;
            }
        }
    }
}

struct Tunnel {
    engine: Engine,
    caller: Caller,
    gone: CancellationToken,
    hijack: Arc<Mutex<Option<Hijack>>>,
}

impl Tunnel {
    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let mut audit = Audit::new(&self.caller, &request);
        let line = match Line::new(request.method(), request.uri()) {
            Ok(line) => line,
            Err(why) => {
                drain(request.body_mut()).await;
                return audit.refused(&format!("dockctl: this request is refused: {why}"));
            }
        };
        let call = format!("{} {}", line.method, line.path());
        audit.line(&line);
        let is_session = line.parts == ["session"] && hijacks(&line, request.headers()).is_some();
        if !self.engine.guard.allows(&line) {
            drain(request.body_mut()).await;
            let refused = audit.refused(&format!("dockctl: this host does not allow {call}"));
            return if is_session { over() } else { refused };
        }
        let endpoint = &self.engine.wire.endpoint;
        let passing = pass(endpoint, &line, request, endpoint.direct(), self.gone.clone());
        // Large, so that it is kept out of the future of everything around it.
        match Box::pin(passing).await {
            Ok((response, hijack)) => {
                audit.status = response.status();
                if hijack.is_some() {
                    *lock(&self.hijack) = hijack;
                }
                response.map(|body| UnsyncBoxBody::new(body.map_err(Into::into)))
            }
            Err(Failed::Refused(why)) => {
                let refused = audit.refused(&refusal(&call, &why));
                if is_session { over() } else { refused }
            }
            Err(Failed::Absent(why)) => audit.failed(StatusCode::NOT_FOUND, why),
            Err(Failed::Down(error)) => {
                audit.failed(StatusCode::SERVICE_UNAVAILABLE, self.told(Fault::Connect(error)))
            }
            Err(Failed::Lost(error)) => {
                audit.failed(StatusCode::BAD_GATEWAY, self.told(Fault::Lost(error.to_string())))
            }
        }
    }

    fn told(&self, fault: Fault) -> String {
        let told = self.engine.wire.status(&fault, Call::new("the request"));
        format!("dockctl: {}", told.message())
    }
}

/// The answer to a build session that is refused. Docker's client shows nothing of a refusal but its number,
/// so the session begins and is over at once: the build that it is for is then refused in a sentence.
fn over() -> Response<Body> {
    let nothing = Empty::new().map_err(|never| match never {});
    let mut over = Response::new(UnsyncBoxBody::new(nothing));
    *over.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    over.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    over.headers_mut().insert(UPGRADE, HeaderValue::from_static("h2c"));
    over
}

/// A line of the audit log; written when the answer has begun, or was not waited for.
struct Audit<'a> {
    caller: &'a Caller,
    method: String,
    path: String,
    query: String,
    allowed: bool,
    /// 499 as long as there is none: the client has hung up.
    status: StatusCode,
}

impl<'a> Audit<'a> {
    fn new(caller: &'a Caller, request: &Request<Incoming>) -> Self {
        Self {
            caller,
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: String::new(),
            allowed: true,
            status: StatusCode::from_u16(499).unwrap_or_default(),
        }
    }

    fn line(&mut self, line: &Line) {
        (self.method, self.path) = (line.method.clone(), line.path());
        let query = line.query().unwrap_or_default();
        let shown = query.into_iter().filter(|(key, _)| SHOWN.contains(&key.as_str()));
        let shown: Vec<String> = shown.map(|(key, value)| format!("{key}={value}")).collect();
        self.query = shown.join("&");
    }

    fn refused(mut self, text: &str) -> Response<Body> {
        self.allowed = false;
        self.failed(StatusCode::FORBIDDEN, text.to_owned())
    }

    fn failed(mut self, status: StatusCode, text: String) -> Response<Body> {
        self.status = status;
        message(status, &text)
    }
}

impl Drop for Audit<'_> {
    fn drop(&mut self) {
        tracing::info!(
            target: "audit",
            principal = ?self.caller.principal,
            request_id = ?self.caller.request_id,
            method = ?self.method,
            path = ?self.path,
            query = ?self.query,
            allowed = self.allowed,
            status = self.status.as_u16(),
            "a request of the Docker API"
        );
    }
}
