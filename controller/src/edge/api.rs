//! The users' port: guard, then either the forwarder or the controller's own services. What the policy says
//! is audited is written down here.

use std::{convert::Infallible, sync::Arc};

use dockctl_api::{
    error::{reason, status},
    policy::Method,
    v1::{ServedBy, WithoutAgent},
};
use dockctl_link::{controller::listener::Peer, framing};
use futures_util::stream;
use http::{Method as HttpMethod, Request, Response, StatusCode, header, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::ServiceExt as _;

use super::{at_end, calls::Calls};
use crate::{
    app::{
        audit::{self, Audit, Begun, Deed},
        local,
        names::Selector,
    },
    error,
    fleet::{
        fanout::Fanout,
        forward::{self, Caller},
        registry::Registry,
    },
    guard::{Guard, Pass, Refusal},
};

/// Unary calls under way at once; beyond it callers are told to wait.
pub const MAX_UNARY: usize = 4_096;

/// What answers users; cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// Who may.
    pub guard: Guard,
    /// What was done.
    pub audit: Audit,
    /// How calls end and how long they take.
    pub calls: Calls,
    /// The live fleet.
    pub registry: Registry,
    /// The controller's own services.
    pub local: Routes,
    /// A permit for each unary call under way, so that a drain can await them.
    pub unary: Arc<Semaphore>,
    /// Cancelled when streams must end because the controller stops.
    pub draining: CancellationToken,
}

impl Api {
    /// Answers one request.
    pub async fn serve(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let call = self.calls.begin(request.uri().path());
        let answer = self.answer(request.map(Body::new)).await;
        Ok(call.answered(answer.unwrap_or_else(|status| error::response(&status))))
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (mut head, body) = request.into_parts();
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        if head.method != HttpMethod::POST {
            return Ok(error::plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "gRPC calls are POST requests\n",
            ));
        }
        if !content_type
            .is_some_and(|t| t == "application/grpc" || t.starts_with("application/grpc+"))
        {
            let message = "this port speaks gRPC: content-type application/grpc\n";
            return Ok(error::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let path = head.uri.path().to_owned();
        let peer = head.extensions.get::<Arc<Peer>>();
        let mut deed = Deed {
            address: peer.map(|peer| peer.address.to_string()).unwrap_or_default(),
            method: path.clone(),
            ..Default::default()
        };
        let Pass { method, principal } = match self.guard.check(&path, &head.headers).await {
            Ok(pass) => pass,
            Err(Refusal { status, denied: None }) => return Err(status),
            Err(Refusal { status, denied: Some((method, principal)) }) => {
                if method.policy.audited {
                    deed.principal = principal.name;
                    self.audit.denied(deed, &status).await;
                }
                return Err(status);
            }
        };
        let caller = principal.as_ref().map(Caller::from);
        deed.principal = caller.as_ref().map(|caller| caller.name.clone()).unwrap_or_default();
        if let Some(principal) = principal {
            head.extensions.insert(principal);
        }
        let Some(method) = method else {
            let response = self.local(Request::from_parts(head, body)).await?;
            return Ok(response.map(|body| until_drained(body, self.draining)));
        };

        let permit = match method.server_streaming || method.client_streaming {
            true => None,
            false => Some(self.unary.clone().try_acquire_owned().map_err(|_| {
                let message = "too many calls are under way; try again in a moment";
                status(Code::ResourceExhausted, reason::TOO_MANY, message, &[])
            })?),
        };
        let mut begun = None;
        let response = if method.policy.served_by() == ServedBy::Controller {
            match method.policy.audited {
                true => self.local_audited(head, body, &method, deed).await,
                false => self.local(Request::from_parts(head, body)).await,
            }
        } else {
            let caller = caller.unwrap_or_default();
            let opening = forward::open(&method, body).await?;
            let without = method.policy.without_agent();
            let target = forward::target(&opening.message, without != WithoutAgent::Unspecified)?;
            match (target.agent.is_empty(), without) {
                (false, _) => {
                    deed.target = audit::target(&method, &opening.message);
                    let spec = forward::spec(&method, opening, &head.headers, &caller)?;
                    if method.policy.audited {
                        deed.agent.clone_from(&target.agent);
                        begun = Some(self.audit.begin(deed).await);
                    }
                    forward::forward(&self.registry, &target.agent, spec).await
                }
                (true, WithoutAgent::Unspecified) => Err(forward::agent_required()),
                (true, without) => {
                    let call = Fanout {
                        registry: self.registry.clone(),
                        selector: Selector::parse(&target.selector)?,
                        message: opening.message,
                        headers: head.headers,
                        method,
                        caller,
                    };
                    match without {
                        WithoutAgent::Merged => call.start(),
                        _ => local::answer(call).await,
                    }
                }
            }
        };
        let response = response.map(|response| match permit {
            Some(_) => response,
            None => response.map(|body| until_drained(body, self.draining)),
        });
        match begun {
            Some(begun) => ended(begun, response),
            None => response,
        }
    }

    /// Answers a unary call by itself, and writes it down before the answer goes out.
    async fn local_audited(
        &self,
        head: Parts,
        body: Body,
        method: &Method,
        mut deed: Deed,
    ) -> Result<Response<Body>, Status> {
        let message = forward::open(method, body).await?.message;
        let of_agent = forward::target(&message, false)?.agent;
        deed.target = audit::target(method, &message);
        if method.has_agent {
            deed.agent = of_agent;
        }
        let body = Body::new(Full::new(framing::frame(&message)).map_err(|e| match e {}));
        let this = self.clone();
        let work = async move {
            let response = this.local(Request::from_parts(head, body)).await?;
            // tonic's answer to a failed unary call has its status in the head.
            let end = framing::end_in(response.headers()).unwrap_or_default();
            this.audit.done(deed, &end).await;
            Ok(response)
        };
        // A caller who goes meanwhile must not take the entry with him.
        self.audit.whole(work).await?
    }

    async fn local(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        match self.local.clone().oneshot(request).await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(never) => match never {},
        }
    }
}

/// Writes a call's end as it passes.
fn ended(
    mut begun: Begun,
    response: Result<Response<Body>, Status>,
) -> Result<Response<Body>, Status> {
    let response = response.inspect_err(|status| begun.end(&framing::end_of(status)))?;
    Ok(response.map(|body| at_end(body, move |end| begun.end(end))))
}

/// Ends a stream with UNAVAILABLE, reason DRAINING, when the controller stops.
fn until_drained(body: Body, draining: CancellationToken) -> Body {
    let frames = stream::unfold(Some((body, draining)), |state| async move {
        let (mut body, draining) = state?;
        tokio::select! {
            frame = body.frame() => frame.map(|frame| (frame, Some((body, draining)))),
            () = draining.cancelled() => {
                let message = "the controller is stopping; ask again in a moment";
                let stopping = status(Code::Unavailable, reason::DRAINING, message, &[]);
                let trailers = framing::trailers(&framing::end_of(&stopping));
                Some((Ok(Frame::trailers(trailers)), None))
            }
        }
    });
    Body::new(StreamBody::new(frames))
}
