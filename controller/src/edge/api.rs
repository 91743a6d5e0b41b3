//! A user's call: limits, guard, then either the forwarder or the controller's own services. What the policy
//! says is audited is written down here.

use std::{net::IpAddr, sync::Arc};

use dockctl_api::{
    error::{reason, status},
    link::v1::End,
    policy::Method,
    v1::{RateClass, ServedBy, WithoutAgent},
};
use dockctl_link::{controller::listener::Peer, framing};
use http::{Request, Response, request::Parts};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::ServiceExt as _;

use super::{at_end, calls::Calls, ending, limits::Limiter, right::Right};
use crate::{
    app::{
        audit::{self, Audit, Begun, Deed, LoggedIn},
        auth::{Auth, Principal},
        local,
        names::Selector,
    },
    error,
    fleet::{
        fanout::Fanout,
        forward::{self, Caller, Opening},
        registry::Registry,
    },
    guard::{self, Guard, Pass, Refusal},
};

/// Unary calls under way at once; beyond it callers are told to wait.
pub const MAX_UNARY: usize = 4_096;

/// What answers users; cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// How much each caller may ask.
    pub limits: Limiter,
    /// Who may.
    pub guard: Guard,
    /// Whether he still may.
    pub auth: Auth,
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
    /// Answers one gRPC request.
    pub async fn call(self, request: Request<Body>) -> Response<Body> {
        let call = self.calls.begin(request.uri().path());
        let answer = self.answer(request).await;
        call.answered(answer.unwrap_or_else(|status| error::response(&status)))
    }

    /// What only some calls need is boxed, so that starting a forwarded one does not copy the room for it.
    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let class = self.guard.method(&path).map_or(RateClass::Read, |m| m.policy.rate_class());
        let mut deed = Deed { method: path.clone(), ..Default::default() };
        let mut client = None;
        if let Some(peer) = head.extensions.get::<Arc<Peer>>() {
            let address = self.limits.client(peer.address.ip(), &head.headers);
            deed.address = match address == peer.address.ip() {
                true => peer.address.to_string(),
                false => address.to_string(),
            };
            self.limits.address(class, address)?;
            client = Some(address);
        }
        let Pass { method, principal } = match self.guard.check(&path, &head.headers).await {
            Ok(pass) => pass,
            Err(Refusal { status, denied: None }) => return Err(status),
            Err(Refusal { status, denied: Some((method, principal)) }) => {
                deed.principal = principal.name;
                // What he asked for is told, but not waited for where it is not written down.
                if method.policy.audited
                    && let Ok(opening) = forward::open(&method, body).await
                {
                    name(&mut deed, &method, &opening);
                }
                return Err(Box::pin(self.denied(&method, deed, status)).await);
            }
        };
        if let Some(principal) = &principal {
            self.limits.principal(class, &principal.user_id)?;
            deed.principal.clone_from(&principal.name);
        }
        let Some(method) = method else {
            // Health and reflection: one of them may be a stream for ever.
            let open = self.limits.stream(&whose(client))?;
            let response = Box::pin(self.local(Request::from_parts(head, body))).await?;
            let drained = self.drained();
            return Ok(response.map(|body| ending::until(body, drained, open)));
        };

        // The message first: who is slow to send it takes no place of those who are not.
        let opening = forward::open(&method, body).await?;
        // Either is held as long as the call goes on.
        let (mut unary, mut stream) = (None, None);
        match (method.server_streaming || method.client_streaming, &principal) {
            (true, Some(principal)) => stream = Some(self.limits.stream(&principal.user_id)?),
            (true, None) => stream = Some(self.limits.stream(&whose(client))?),
            (false, _) => {
                unary = Some(self.unary.clone().try_acquire_owned().map_err(|_| {
                    let message = "too many calls are under way; try again in a moment";
                    status(Code::ResourceExhausted, reason::TOO_MANY, message, &[])
                })?);
            }
        }
        if let (ServedBy::Controller, Some(principal)) = (method.policy.served_by(), &principal) {
            head.extensions.insert(principal.clone());
        }
        let mut agent = String::new();
        let response = match (method.policy.served_by(), &principal) {
            (ServedBy::Agent, Some(principal)) => {
                let without = method.policy.without_agent();
                let with_selector = without != WithoutAgent::Unspecified;
                let target = forward::target(&opening.message, with_selector)?;
                agent = target.agent;
                match agent.as_str() {
                    "" => {
                        Box::pin(self.whole_fleet(
                            &method,
                            principal,
                            opening,
                            head,
                            &target.selector,
                        ))
                        .await
                    }
                    agent => self.forward(&method, principal, opening, &head, agent, deed).await,
                }
            }
            _ if method.policy.audited && method.server_streaming => {
                let begun = Box::pin(self.audit.begin(deed)).await;
                ended(begun, Box::pin(self.local(whole(head, opening))).await)
            }
            _ if method.policy.audited => {
                Box::pin(self.local_audited(head, opening, &method, deed, client)).await
            }
            _ => Box::pin(self.local(whole(head, opening))).await,
        }?;
        drop(unary);
        let drained = self.drained();
        Ok(match (stream, principal) {
            (Some(open), Some(principal)) => {
                let Self { auth, registry, .. } = self;
                let right = Right { auth, registry, method, principal, agent };
                let over = async move {
                    tokio::select! {
                        status = right.lost() => status,
                        status = drained => status,
                    }
                };
                response.map(|body| ending::until(body, over, open))
            }
            (Some(open), None) => response.map(|body| ending::until(body, drained, open)),
            (None, _) => response,
        })
    }

    /// Sends a call to one agent.
    async fn forward(
        &self,
        method: &Method,
        principal: &Principal,
        opening: Opening,
        head: &Parts,
        agent: &str,
        mut deed: Deed,
    ) -> Result<Response<Body>, Status> {
        agent.clone_into(&mut deed.agent);
        deed.target = audit::target(method, &opening.message);
        let spec = forward::spec(method, opening, &head.headers, &Caller::from(principal))?;
        let check = |labels: &_| guard::check_agent(method, principal, agent, labels);
        // One that is not there is told of below, and written down.
        if let Ok(Err(status)) = self.registry.with_labels(agent, check) {
            return Err(Box::pin(self.denied(method, deed, status)).await);
        }
        if !method.policy.audited {
            return forward::forward(&self.registry, agent, spec).await;
        }
        let begun = Box::pin(self.audit.begin(deed)).await;
        ended(begun, forward::forward(&self.registry, agent, spec).await)
    }

    /// Answers a call that names no agent, for all that the caller may see.
    async fn whole_fleet(
        &self,
        method: &Arc<Method>,
        principal: &Principal,
        opening: Opening,
        head: Parts,
        selector: &str,
    ) -> Result<Response<Body>, Status> {
        let without = method.policy.without_agent();
        if without == WithoutAgent::Unspecified {
            return Err(forward::agent_required());
        }
        let selector = Selector::parse(selector)?;
        let call = Fanout {
            registry: self.registry.clone(),
            selector: principal.authority.within(method.policy.role(), selector),
            message: opening.message,
            headers: head.headers,
            method: method.clone(),
            caller: Caller::from(principal),
        };
        match without {
            WithoutAgent::Merged => call.start(),
            _ => local::answer(call).await,
        }
    }

    /// Writes down that somebody was refused what is audited.
    async fn denied(&self, method: &Method, deed: Deed, status: Status) -> Status {
        if method.policy.audited {
            self.audit.denied(deed, &status).await;
        }
        status
    }

    /// Resolves when streams must end because the controller stops: UNAVAILABLE, reason DRAINING.
    fn drained(&self) -> impl Future<Output = Status> + Send + use<> {
        let draining = self.draining.clone();
        async move {
            draining.cancelled().await;
            let message = "the controller is stopping; ask again in a moment";
            status(Code::Unavailable, reason::DRAINING, message, &[])
        }
    }

    /// Answers a unary call by itself, and writes it down before the answer goes out.
    async fn local_audited(
        &self,
        head: Parts,
        opening: Opening,
        method: &Method,
        mut deed: Deed,
        client: Option<IpAddr>,
    ) -> Result<Response<Body>, Status> {
        name(&mut deed, method, &opening);
        // Where no account is named there is none to guess the password of.
        let is_login = method.policy.rate_class() == RateClass::Auth && method.policy.is_public;
        let login = (is_login && !deed.target.is_empty()).then(|| (deed.target.clone(), client));
        if let Some((account, client)) = &login {
            self.limits.account(account, *client)?;
        }
        let this = self.clone();
        let work = async move {
            let response = this.local(whole(head, opening)).await?;
            // tonic's answer to a failed unary call has its status in the head.
            let end = framing::end_in(response.headers()).unwrap_or_default();
            if let (Some((account, client)), 0) = (login, end.code) {
                this.limits.logged_in(account, client);
            }
            if let Some(login) = response.extensions().get::<LoggedIn>().and_then(LoggedIn::told) {
                deed.principal.clone_from(&login.who);
                if !login.what.is_empty() {
                    deed.target.clone_from(&login.what);
                }
            }
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

/// Writes down what a call names.
fn name(deed: &mut Deed, method: &Method, opening: &Opening) {
    deed.target = audit::target(method, &opening.message);
    if method.has_agent
        && let Ok(target) = forward::target(&opening.message, false)
    {
        deed.agent = target.agent;
    }
}

/// By what streams are counted of who has no login.
fn whose(client: Option<IpAddr>) -> String {
    client.map(|client| client.to_string()).unwrap_or_default()
}

/// The request that a call's only message is.
fn whole(head: Parts, opening: Opening) -> Request<Body> {
    let message = Full::new(framing::frame(&opening.message)).map_err(|e| match e {});
    Request::from_parts(head, Body::new(message))
}

/// Writes a call's end as it passes.
fn ended(
    mut begun: Begun,
    response: Result<Response<Body>, Status>,
) -> Result<Response<Body>, Status> {
    let response = response.inspect_err(|status| begun.end(&framing::end_of(status)))?;
    // tonic's answer to a call that failed at once has its status in the head.
    if let Some(end) = framing::end_in(response.headers()) {
        begun.end(&end);
    }
    let login: Option<LoggedIn> = response.extensions().get().cloned();
    let told = move |end: &End| {
        if let Some(login) = login.as_ref().and_then(LoggedIn::told) {
            begun.by(login);
        }
        begun.end(end);
    };
    Ok(response.map(|body| at_end(body, told)))
}
