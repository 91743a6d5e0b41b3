//! The services of `dockctl.v1` that an agent serves, on its engine. The link calls them as it would
//! any gRPC server; they know nothing of the link. Every stream ends its work at the engine as soon
//! as its response is dropped.

mod containers;
mod copy;
mod docker;
mod exec;
mod forward;
mod images;
mod networks;
mod stats;
mod system;
mod volumes;

use std::{pin::Pin, sync::Arc};

use dockctl_api::v1::{
    container_service_server::ContainerServiceServer, copy_service_server::CopyServiceServer,
    docker_service_server::DockerServiceServer, exec_service_server::ExecServiceServer,
    forward_service_server::ForwardServiceServer, image_service_server::ImageServiceServer,
    network_service_server::NetworkServiceServer, system_service_server::SystemServiceServer,
    volume_service_server::VolumeServiceServer,
};
use dockctl_link::agent::CallContext;
use futures_util::Stream;
use tonic::{Request, Status, service::Routes};

use crate::{engine::Engine, inventory::Handle};

/// The longest request, bytes: all of them are small.
const MAX_REQUEST: usize = 256 << 10;

/// The longest message of a request that is a stream of bytes: a piece of 1 MiB and its frame.
const MAX_MESSAGE: usize = (1 << 20) + 1024;

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What every service here works with.
#[derive(Clone)]
struct Agent {
    engine: Engine,
    inventory: Handle,
    name: Arc<str>,
}

impl Agent {
    /// The engine, asked for as long as this request's caller waits.
    fn engine<T>(&self, request: &Request<T>) -> Engine {
        let call = request.extensions().get::<CallContext>();
        self.engine.until(call.and_then(|call| call.deadline))
    }
}

/// One service, and the longest message that it takes.
macro_rules! service {
    ($server:ident, $agent:ident, $longest:ident) => {
        $server::new($agent.clone())
            .max_decoding_message_size($longest)
            .max_encoding_message_size(usize::MAX)
    };
}

/// The services of the agent called `name`.
pub fn routes(engine: Engine, inventory: Handle, name: Arc<str>) -> Routes {
    let agent = Agent { engine, inventory, name };
    Routes::new(service!(ContainerServiceServer, agent, MAX_REQUEST))
        .add_service(service!(ExecServiceServer, agent, MAX_MESSAGE))
        .add_service(service!(CopyServiceServer, agent, MAX_MESSAGE))
        .add_service(service!(ForwardServiceServer, agent, MAX_MESSAGE))
        .add_service(service!(DockerServiceServer, agent, MAX_MESSAGE))
        .add_service(service!(ImageServiceServer, agent, MAX_MESSAGE))
        .add_service(service!(VolumeServiceServer, agent, MAX_REQUEST))
        .add_service(service!(NetworkServiceServer, agent, MAX_REQUEST))
        .add_service(service!(SystemServiceServer, agent, MAX_REQUEST))
        .prepare()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use dockctl_api::{
        error::{reason, reason_of},
        v1::{DiffContainerRequest, container_service_server::ContainerService as _},
    };

    use super::*;
    use crate::{
        engine::fake::{Fake, Reply, usual},
        inventory::Inventory,
    };

    #[tokio::test(start_paused = true)]
    async fn a_call_may_take_as_long_as_its_caller_waits() {
        let fake = Fake::new(|request| match request {
            "GET /containers/web/changes" => Reply::Late(Duration::from_secs(40), "[]".into()),
            other => usual(other),
        });
        let (engine, name): (_, Arc<str>) = (fake.engine(), "host-1".into());
        let (inventory, _watcher) = Inventory::new(engine.clone(), name.clone());
        let agent = Agent { engine, inventory, name };
        let diff = async |wait: Option<u64>| {
            let mut request = Request::new(DiffContainerRequest {
                container: "web".to_owned(),
                ..Default::default()
            });
            let deadline = wait.map(|seconds| Instant::now() + Duration::from_secs(seconds));
            let (request_id, principal) = (String::new(), String::new());
            request.extensions_mut().insert(CallContext { request_id, principal, deadline });
            agent.diff_container(request).await
        };
        assert!(diff(Some(60)).await.is_ok());
        let late = diff(None).await.unwrap_err();
        assert_eq!(reason_of(&late).as_deref(), Some(reason::DOCKER_DOWN));
        assert!(late.message().ends_with("within 30 s"), "{late:?}");
    }
}
