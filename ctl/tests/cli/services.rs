//! The fake controller's services: what each call answers, and the faults that the tests are about.

use std::{collections::HashMap, pin::Pin, sync::atomic::Ordering};

use bytes::Bytes;
use dockctl_api::{
    error::{reason, status},
    v1::{
        agent_service_server::AgentService, auth_service_server::AuthService,
        container_service_server::ContainerService, system_service_server::SystemService, *,
    },
};
use futures_util::{Stream, StreamExt, stream};
use prost_types::Timestamp;
use tonic::{Code, Request, Response, Status};

use crate::fake::{LINES, Service, agents, fleet, line, lock, no_container, offline, record};

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl AuthService for Service {
    async fn login(&self, request: Request<LoginRequest>) -> Answer<LoginResponse> {
        let request = request.into_inner();
        if request.password != "secret" {
            let text = "wrong user name or password";
            return Err(status(Code::Unauthenticated, reason::BAD_CREDENTIALS, text, &[]));
        }
        let user = User { name: request.username, role: Role::Admin.into(), ..User::default() };
        Ok(Response::new(LoginResponse { tokens: Some(self.tokens(0)), user: Some(user) }))
    }

    async fn refresh(&self, request: Request<RefreshRequest>) -> Answer<RefreshResponse> {
        let token = request.into_inner().refresh_token;
        if !lock(&self.0.refreshed).insert(token) {
            let text = "this refresh token was used before";
            return Err(status(Code::Unauthenticated, reason::REFRESH_REUSED, text, &[]));
        }
        let serial = self.0.refreshes.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Response::new(RefreshResponse { tokens: Some(self.tokens(serial)) }))
    }

    async fn logout(&self, request: Request<LogoutRequest>) -> Answer<LogoutResponse> {
        self.admit(&request)?;
        Ok(Response::new(LogoutResponse {}))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Answer<WhoAmIResponse> {
        self.admit(&request)?;
        let user = User { name: "admin".to_owned(), role: Role::Admin.into(), ..User::default() };
        Ok(Response::new(WhoAmIResponse { user: Some(user), ..Default::default() }))
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    async fn list_agents(&self, request: Request<ListAgentsRequest>) -> Answer<ListAgentsResponse> {
        self.admit(&request)?;
        Ok(Response::new(ListAgentsResponse { agents: agents() }))
    }

    async fn get_agent(&self, request: Request<GetAgentRequest>) -> Answer<GetAgentResponse> {
        self.admit(&request)?;
        let name = request.into_inner().agent;
        match agents().into_iter().find(|a| a.name == name) {
            Some(agent) => Ok(Response::new(GetAgentResponse { agent: Some(agent) })),
            None => Err(status(Code::NotFound, reason::AGENT_NOT_FOUND, "no such agent", &[])),
        }
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Answer<CreateJoinTokenResponse> {
        self.admit(&request)?;
        let request = request.into_inner();
        let record = JoinToken {
            id: "t1".to_owned(),
            max_uses: request.max_uses,
            labels: request.labels,
            expires_at: Some(Timestamp { seconds: 4_000_000_000, nanos: 0 }),
            ..JoinToken::default()
        };
        let token = "dct_secret".to_owned();
        let agents_port = self.0.agents_port.load(Ordering::SeqCst);
        Ok(Response::new(CreateJoinTokenResponse { token, join_token: Some(record), agents_port }))
    }

    async fn delete_agent(
        &self,
        request: Request<DeleteAgentRequest>,
    ) -> Answer<DeleteAgentResponse> {
        self.admit(&request)?;
        lock(&self.0.acted).push(format!("rm {}", request.into_inner().agent));
        Ok(Response::new(DeleteAgentResponse {}))
    }
}

impl Service {
    /// Records an action, or says why it cannot be.
    fn act<T>(
        &self,
        request: &Request<T>,
        what: &str,
        agent: &str,
        container: &str,
    ) -> Result<(), Status> {
        self.admit(request)?;
        if agent == "web-9" {
            return Err(offline());
        }
        if !agents().iter().any(|a| a.name == agent) {
            return Err(status(Code::NotFound, reason::AGENT_NOT_FOUND, "no such agent", &[]));
        }
        let fits = |c: &Container| {
            c.agent == agent && (c.name == container || c.id.starts_with(container))
        };
        if !fleet().iter().any(fits) {
            return Err(no_container());
        }
        lock(&self.0.acted).push(format!("{what} {agent}/{container}"));
        Ok(())
    }
}

#[tonic::async_trait]
impl ContainerService for Service {
    /// Pages of two, whatever is asked for.
    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        self.admit(&request)?;
        let request = request.into_inner();
        let wanted = |c: &Container| {
            (request.agent.is_empty() || c.agent == request.agent)
                && (request.container.is_empty()
                    || c.name == request.container
                    || c.id.starts_with(&request.container))
        };
        let all: Vec<Container> = fleet().into_iter().filter(wanted).collect();
        let from: usize = request.page_token.parse().unwrap_or(0);
        let page: Vec<Container> = all.iter().skip(from).take(2).cloned().collect();
        let next = from + page.len();
        let view = AgentView {
            agent: "web-9".to_owned(),
            stale: true,
            cause: "no heartbeat".to_owned(),
            as_of: None,
        };
        Ok(Response::new(ListContainersResponse {
            containers: page,
            next_page_token: if next < all.len() { next.to_string() } else { String::new() },
            views: if from == 0 { vec![view] } else { Vec::new() },
        }))
    }

    async fn inspect_container(
        &self,
        request: Request<InspectContainerRequest>,
    ) -> Answer<InspectContainerResponse> {
        let r = request.get_ref();
        self.act(&request, "inspect", &r.agent, &r.container)?;
        let json = format!(r#"{{"Zeta":1,"Name":"/{}","Alpha":{{}}}}"#, r.container);
        Ok(Response::new(InspectContainerResponse { json }))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let r = request.get_ref();
        self.act(&request, "start", &r.agent, &r.container)?;
        Ok(Response::new(StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Answer<StopContainerResponse> {
        let r = request.get_ref();
        self.act(&request, "stop", &r.agent, &r.container)?;
        let (now, most) = &self.0.stopping;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let gather = lock(&self.0.gather).clone();
        match gather {
            Some(all) => {
                all.wait().await;
            }
            // Room for others to come, if they may.
            None => tokio::task::yield_now().await,
        }
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(Response::new(StopContainerResponse {}))
    }

    /// The model of an engine's log. The first follow loses the link with a line half sent; the second
    /// gets as far and waits for the test to cut the connection; the third reaches the end.
    async fn stream_logs(
        &self,
        request: Request<StreamLogsRequest>,
    ) -> Answer<Boxed<StreamLogsResponse>> {
        self.admit(&request)?;
        let request = request.into_inner();
        if request.agent == "web-9" {
            return Err(offline());
        }
        if request.container == "evil" {
            let data = Bytes::from_static(b"a\x1b]0;t\x07\x1b[31mb\xc2\x9b2Jc\n");
            let records = vec![LogRecord { stream: LogStream::Stdout.into(), data }];
            let message = StreamLogsResponse { records, ..StreamLogsResponse::default() };
            return Ok(Response::new(stream::iter([Ok(message)]).boxed()));
        }
        if request.container == "endless" {
            let message = || StreamLogsResponse {
                records: vec![LogRecord {
                    stream: LogStream::Stdout.into(),
                    data: Bytes::from("y\n".repeat(32 * 1024)),
                }],
                ..StreamLogsResponse::default()
            };
            return Ok(Response::new(stream::repeat_with(move || Ok(message())).boxed()));
        }
        let asked = {
            let mut logs = lock(&self.0.logs);
            logs.push(request.clone());
            logs.len()
        };
        let since = request.since.map_or((0, 0), |t| (t.seconds, t.nanos));
        let past: Vec<usize> = (0..LINES)
            .filter(|i| {
                let time = line(*i).1;
                (time.seconds, time.nanos) >= since
            })
            .collect();
        let skip = request.tail.map_or(0, |n| past.len().saturating_sub(n as usize));
        let stamps = request.timestamps;
        let mut messages: Vec<Result<StreamLogsResponse, Status>> = past[skip..]
            .chunks(7)
            .map(|chunk| {
                let records = chunk.iter().map(|i| record(*i, stamps)).collect();
                Ok(StreamLogsResponse { records, ..StreamLogsResponse::default() })
            })
            .collect();
        if !request.follow || asked > 2 {
            return Ok(Response::new(stream::iter(messages).boxed()));
        }
        messages.truncate(10);
        // Half a line, then the loss.
        let half = record(past[skip] + 70, stamps);
        let half = LogRecord { data: half.data.slice(..half.data.len() - 2), ..half };
        messages
            .push(Ok(StreamLogsResponse { records: vec![half], ..StreamLogsResponse::default() }));
        if asked == 1 {
            let lost = status(Code::Unavailable, reason::LINK_LOST, "the link was lost", &[]);
            messages.push(Err(lost));
            return Ok(Response::new(stream::iter(messages).boxed()));
        }
        Ok(Response::new(stream::iter(messages).chain(stream::pending()).boxed()))
    }

    async fn stream_stats(
        &self,
        request: Request<StreamStatsRequest>,
    ) -> Answer<Boxed<StreamStatsResponse>> {
        self.admit(&request)?;
        let samples = fleet().into_iter().take(2).map(|c| {
            Ok(StreamStatsResponse {
                agent: c.agent,
                container_id: c.id,
                container_name: c.name,
                cpu_percent: 1.5,
                memory_usage: 1 << 20,
                memory_limit: 1 << 30,
                pids: 3,
                ..StreamStatsResponse::default()
            })
        });
        Ok(Response::new(stream::iter(samples.collect::<Vec<_>>()).boxed()))
    }
}

#[tonic::async_trait]
impl SystemService for Service {
    async fn get_version(&self, request: Request<GetVersionRequest>) -> Answer<GetVersionResponse> {
        self.admit(&request)?;
        Ok(Response::new(GetVersionResponse {
            version: "9.9.9".to_owned(),
            ..GetVersionResponse::default()
        }))
    }

    async fn ping(&self, request: Request<PingRequest>) -> Answer<PingResponse> {
        self.admit(&request)?;
        Ok(Response::new(PingResponse { engine_latency: None }))
    }

    async fn stream_events(
        &self,
        request: Request<StreamEventsRequest>,
    ) -> Answer<Boxed<StreamEventsResponse>> {
        self.admit(&request)?;
        let event = Event {
            r#type: "container".to_owned(),
            action: "start".to_owned(),
            actor_id: "aaaa".to_owned(),
            attributes: HashMap::from([("name".to_owned(), "app".to_owned())]),
            time: Some(Timestamp { seconds: 1_700_000_000, nanos: 1 }),
            inferred: false,
        };
        let message =
            StreamEventsResponse { agent: "web-1".to_owned(), event: Some(event), notice: None };
        Ok(Response::new(stream::iter([Ok(message)]).boxed()))
    }
}
