//! Every rpc that the policies give to agents is served: generated servers answer what nobody wrote by
//! themselves, and then the caller would be told that the agent is too old.

use dockctl_agent::{
    engine::{Engine, EngineOptions},
    inventory::Inventory,
    serve,
};
use dockctl_api::{policy::Policies, v1::ServedBy};
use dockctl_link::framing;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tonic::{Code, body::Body};
use tower::ServiceExt as _;

#[tokio::test]
async fn every_rpc_of_agents_is_served() {
    let host = "unix:///nonexistent/docker.sock".to_owned();
    let engine = Engine::new(EngineOptions { host }).unwrap();
    let (inventory, _keep) = Inventory::new(engine.clone(), "host-1".into());
    let routes = serve::routes(engine, inventory, "host-1".into());
    let policies = Policies::load().unwrap();
    let mut missing = Vec::new();
    for method in policies.iter().filter(|m| m.policy.served_by() == ServedBy::Agent) {
        let body = Full::new(framing::frame(&[])).map_err(|never| match never {});
        let request = Request::post(&method.path)
            .header("content-type", "application/grpc")
            .body(Body::new(body))
            .unwrap();
        let response = routes.clone().oneshot(request).await.unwrap();
        if framing::end_in(response.headers()).is_some_and(|e| e.code == Code::Unimplemented as i32)
        {
            missing.push(method.path.clone());
        }
    }
    missing.sort();
    assert!(missing.is_empty(), "nobody serves {missing:#?}");
}
