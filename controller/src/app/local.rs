//! The rpcs that agents serve, where a call names no agent and the policy has the controller answer
//! (WITHOUT_AGENT_LOCAL). Called by the edge; the only place that knows these rpcs by their paths.

use bytes::Bytes;
use dockctl_api::{
    error::bad_field,
    v1::{ListContainersRequest, ListImagesRequest, PingResponse},
};
use dockctl_link::framing;
use futures_util::{Stream, StreamExt as _, stream};
use http::Response;
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use tonic::{Code, Status, body::Body};

use super::{containers, images, system};
use crate::fleet::{fanout::Fanout, forward::agent_required};

/// Answers a call for the whole fleet; `call` is what every agent would be asked.
pub async fn answer(call: Fanout) -> Result<Response<Body>, Status> {
    let message = call.message.clone();
    match call.method.path.as_str() {
        "/dockctl.v1.ContainerService/ListContainers" => {
            let request: ListContainersRequest = read(message)?;
            needs_agent("filters", !request.filters.is_empty())?;
            needs_agent("last", request.last > 0)?;
            needs_agent("size", request.size)?;
            one(&containers::list(&call.registry, &call.selector, &request)?)
        }
        "/dockctl.v1.ImageService/ListImages" => {
            let request: ListImagesRequest = read(message)?;
            needs_agent("filters", !request.filters.is_empty())?;
            needs_agent("all", request.all)?;
            one(&images::list(&call.registry, &call.selector))
        }
        "/dockctl.v1.SystemService/GetVersion" => one(&system::version()),
        "/dockctl.v1.SystemService/Ping" => one(&PingResponse::default()),
        "/dockctl.v1.SystemService/StreamEvents" => {
            Ok(many(system::events(read(message)?, call).await?))
        }
        _ => Err(agent_required()),
    }
}

/// Refuses a field that only an engine can answer: passed over, it would give what nobody asked for.
fn needs_agent(field: &str, is_set: bool) -> Result<(), Status> {
    match is_set {
        true => Err(bad_field(
            field,
            format!("`{field}` needs an `agent`: the fleet's list asks no engine"),
        )),
        false => Ok(()),
    }
}

fn read<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| bad_field("", format!("the request is malformed: {error}")))
}

#[allow(clippy::unnecessary_wraps)] // reads better above
fn one(message: &impl Message) -> Result<Response<Body>, Status> {
    let message = Frame::data(framing::frame_message(message));
    Ok(response(stream::iter([Ok(message), Ok(end(&Status::new(Code::Ok, "")))])))
}

fn many(framed: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Response<Body> {
    let frames = framed.map(|piece| match piece {
        Ok(piece) => (Frame::data(piece), true),
        Err(status) => (end(&status), false),
    });
    let whole = frames.chain(stream::iter([(end(&Status::new(Code::Ok, "")), false)]));
    // Nothing follows trailers.
    response(whole.scan(true, |goes_on, (frame, more)| {
        let frame = std::mem::replace(goes_on, more).then_some(Ok(frame));
        std::future::ready(frame)
    }))
}

fn end(status: &Status) -> Frame<Bytes> {
    Frame::trailers(framing::trailers(&framing::end_of(status)))
}

fn response(
    frames: impl Stream<Item = Result<Frame<Bytes>, Status>> + Send + 'static,
) -> Response<Body> {
    framing::response(Body::new(StreamBody::new(frames)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{app::names::Selector, fleet::registry::Registry};
    use dockctl_api::{
        error::metadata_of,
        policy::{Method, Policies},
        v1::{ServedBy, WithoutAgent},
    };

    fn call(method: Arc<Method>, message: Bytes) -> Fanout {
        Fanout {
            registry: Registry::new(Vec::new()),
            method,
            message,
            selector: Selector::default(),
            headers: Default::default(),
            caller: Default::default(),
        }
    }

    #[tokio::test]
    async fn every_rpc_with_a_local_answer_has_one() {
        let policies = Policies::load().unwrap();
        let local = policies.iter().filter(|m| {
            m.policy.served_by() == ServedBy::Agent
                && m.policy.without_agent() == WithoutAgent::Local
        });
        for method in local {
            answer(call(method.clone(), Bytes::new()))
                .await
                .unwrap_or_else(|status| panic!("{}: {status}", method.path));
        }
    }

    #[tokio::test]
    async fn what_only_an_engine_can_answer_is_refused_and_not_passed_over() {
        let policies = Policies::load().unwrap();
        let filters = || vec!["status=exited".to_owned()];
        let containers = |request: ListContainersRequest| ("Container", request.encode_to_vec());
        let images = |request: ListImagesRequest| ("Image", request.encode_to_vec());
        for (field, (noun, message)) in [
            (
                "filters",
                containers(ListContainersRequest { filters: filters(), ..Default::default() }),
            ),
            ("last", containers(ListContainersRequest { last: 1, ..Default::default() })),
            ("size", containers(ListContainersRequest { size: true, ..Default::default() })),
            ("filters", images(ListImagesRequest { filters: filters(), ..Default::default() })),
            ("all", images(ListImagesRequest { all: true, ..Default::default() })),
        ] {
            let path = format!("/dockctl.v1.{noun}Service/List{noun}s");
            let method = policies.iter().find(|m| m.path == path).unwrap().clone();
            let refused = answer(call(method, message.into())).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{path} {field}");
            assert_eq!(metadata_of(&refused, "field").as_deref(), Some(field), "{path}");
        }
    }
}
