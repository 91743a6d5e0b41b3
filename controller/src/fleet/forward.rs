//! Forwards any rpc to the agent that its first field names. There is no code for any one method: the
//! policy says that agents serve it, the request's bytes go on as they are.

use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use dockctl_api::{
    error::{bad_field, reason, status},
    policy::Method,
};
use dockctl_link::{controller::CallSpec, framing::Deframer, wire};
use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field, string};
use tonic::{Code, Status, body::Body};

use super::registry::Registry;
use crate::app::auth::Principal;

/// How long a unary call may take whose caller sets no deadline.
const UNARY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the first request message may take to arrive.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

/// The first message of a request, and what may follow.
pub struct Opening {
    /// The message, not framed.
    pub message: Bytes,
    /// The rest of the body, where the caller streams.
    pub rest: Option<Body>,
}

/// Reads the first message. Errors: INVALID_ARGUMENT, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED.
pub async fn open(method: &Method, mut body: Body) -> Result<Opening, Status> {
    let mut deframer = Deframer::default();
    let message = tokio::time::timeout(FIRST_MESSAGE, async {
        loop {
            if let Some(message) = deframer.next(wire::MAX_REQUEST)? {
                return Ok(message);
            }
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        deframer.push(&data);
                    }
                }
                // A request that is none says so itself; else its caller has gone.
                Some(Err(error)) if error.code() == Code::InvalidArgument => return Err(error),
                Some(Err(error)) => return Err(Status::cancelled(error.to_string())),
                None => return Err(Status::invalid_argument("the request has no message")),
            }
        }
    })
    .await
    .map_err(|_| Status::deadline_exceeded("no request message came"))??;
    let rest = method.client_streaming.then(|| {
        let left = deframer.into_rest();
        let first = futures_util::stream::iter([Ok::<_, Status>(http_body::Frame::data(left))]);
        let body = futures_util::StreamExt::chain(first, http_body_util::BodyStream::new(body));
        Body::new(http_body_util::StreamBody::new(body))
    });
    Ok(Opening { message, rest })
}

/// Which agents a request is for: its fields 1 (`agent`) and 2 (`agent_selector`, only read where the
/// policy merges or answers locally).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The agent's name or id; empty for none.
    pub agent: String,
    /// The selector; empty selects all.
    pub selector: String,
}

/// Reads the target from the raw message, as protobuf has it: the last value of a field counts.
pub fn target(message: &[u8], with_selector: bool) -> Result<Target, Status> {
    let malformed = |_| bad_field("agent", "the request message is malformed");
    let (mut rest, mut target) = (message, Target::default());
    while rest.has_remaining() {
        let (number, wire_type) = decode_key(&mut rest).map_err(malformed)?;
        let context = DecodeContext::default();
        let field = match number {
            1 => Some(&mut target.agent),
            2 if with_selector => Some(&mut target.selector),
            _ => None,
        };
        match field {
            Some(field) if wire_type == WireType::LengthDelimited => {
                string::merge(wire_type, field, &mut rest, context).map_err(malformed)?;
            }
            _ => skip_field(wire_type, number, &mut rest, context).map_err(malformed)?,
        }
    }
    Ok(target)
}

/// When the caller gives up: what `grpc-timeout` says; a default for unary calls without it.
pub fn deadline(method: &Method, headers: &HeaderMap) -> Result<Option<Instant>, Status> {
    let asked = match headers.get("grpc-timeout") {
        None => None,
        Some(value) => {
            let text = value.to_str().ok();
            let parsed = text.and_then(timeout);
            Some(parsed.ok_or_else(|| bad_field("grpc-timeout", "grpc-timeout is malformed"))?)
        }
    };
    let default = (!method.server_streaming && !method.client_streaming).then_some(UNARY_TIMEOUT);
    Ok(asked.or(default).and_then(|wait| Instant::now().checked_add(wait)))
}

/// Reads a `grpc-timeout` header: up to 8 digits and one of H, M, S, m, u, n.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3_600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// Who asks, for the agent's dedupe and log.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The user's id.
    pub user_id: String,
    /// The user's name.
    pub name: String,
}

impl From<&Principal> for Caller {
    fn from(principal: &Principal) -> Self {
        Self { user_id: principal.user_id.clone(), name: principal.name.clone() }
    }
}

/// The description of a call as the link wants it.
pub fn spec(
    method: &Method,
    opening: Opening,
    headers: &HeaderMap,
    caller: &Caller,
) -> Result<CallSpec, Status> {
    // A user's own request id is only his: another user's equal one is another request.
    let request_id = match headers.get("dockctl-request-id") {
        _ if !method.policy.audited => String::new(),
        None => dockctl_api::new_id(),
        Some(id) => match id.to_str() {
            Ok(id) if (8..=128).contains(&id.len()) => format!("{}:{id}", caller.user_id),
            _ => {
                return Err(bad_field(
                    "dockctl-request-id",
                    "a request id has 8 to 128 ASCII characters",
                ));
            }
        },
    };
    Ok(CallSpec {
        path: method.path.clone(),
        message: opening.message,
        rest: opening.rest,
        unary: !method.server_streaming,
        deadline: deadline(method, headers)?,
        request_id,
        principal: caller.name.clone(),
    })
}

/// Forwards a call to one agent.
pub async fn forward(
    registry: &Registry,
    agent: &str,
    spec: CallSpec,
) -> Result<Response<Body>, Status> {
    registry.session(agent)?.call(spec).await
}

/// The status of a call that needs an agent and names none.
pub fn agent_required() -> Status {
    status(
        Code::InvalidArgument,
        reason::AGENT_REQUIRED,
        "this call needs an agent: set the field `agent`",
        &[("field", "agent")],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use dockctl_api::v1::{ListContainersRequest, StopContainerRequest};
    use proptest::prelude::*;
    use prost::Message as _;

    #[test]
    fn the_target_is_read_from_raw_bytes() {
        let request = ListContainersRequest {
            agent: "web-1".into(),
            agent_selector: "env=prod".into(),
            all: true,
            page_size: 7,
            ..Default::default()
        };
        let read = target(&request.encode_to_vec(), true).unwrap();
        assert_eq!(read, Target { agent: "web-1".into(), selector: "env=prod".into() });
        let stop = StopContainerRequest { container: "db".into(), ..Default::default() };
        assert_eq!(target(&stop.encode_to_vec(), false).unwrap(), Target::default());
    }

    #[test]
    fn the_last_value_counts_as_it_does_for_the_agent() {
        let first =
            StopContainerRequest { agent: "a".into(), ..Default::default() }.encode_to_vec();
        let second =
            StopContainerRequest { agent: "b".into(), ..Default::default() }.encode_to_vec();
        assert_eq!(target(&[first, second].concat(), false).unwrap().agent, "b");
    }

    #[test]
    fn timeouts() {
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for bad in ["", "m", "1", "1x", "-1S", "999999999S", "1 S", "ä"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,12}") {
            let _ = target(&bytes, true);
            let _ = timeout(&text);
        }
    }
}
