//! The controller's front door: no rpc without a login, what is not gRPC, health, reflection, metrics.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a test fails by panicking

mod common;

use common::*;
use dockctl_api::{
    error::{reason, reason_of},
    policy::Policies,
    v1::*,
};
use http_body_util::BodyExt as _;
use tonic::{Code, body::Body};
use tower::{Service as _, ServiceExt as _};

async fn status_of(world: &World, path: &str, authorization: Option<&str>) -> tonic::Status {
    let mut channel = world.channel().await;
    let mut request = http::Request::post(format!("https://{}{path}", world.api))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let body = Body::new(http_body_util::Full::from(&[0u8, 0, 0, 0, 0][..]));
    let response = channel.ready().await.unwrap().call(request.body(body).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    if let Some(status) = tonic::Status::from_header_map(&head.headers) {
        return status;
    }
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    tonic::Status::from_header_map(&trailers).unwrap()
}

#[tokio::test]
async fn every_rpc_but_login_and_refresh_needs_a_login() {
    let world = World::new().await;
    for method in Policies::load().unwrap().iter() {
        let status = status_of(&world, &method.path, None).await;
        if method.policy.is_public {
            assert_ne!(
                reason_of(&status).as_deref(),
                Some(reason::NOT_LOGGED_IN),
                "{}",
                method.path
            );
        } else {
            assert_eq!(status.code(), Code::Unauthenticated, "{}", method.path);
            assert_eq!(
                reason_of(&status).as_deref(),
                Some(reason::NOT_LOGGED_IN),
                "{}",
                method.path
            );
        }
    }
    for path in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        assert_eq!(status_of(&world, path, None).await.code(), Code::Unauthenticated, "{path}");
    }
}

#[tokio::test]
async fn every_rpc_of_the_controller_is_served() {
    let world = World::new().await;
    let user = world.user().await;
    let bearer = format!("Bearer {}", user.token);
    for method in Policies::load().unwrap().iter() {
        if method.policy.served_by() == ServedBy::Controller && !method.server_streaming {
            let status = status_of(&world, &method.path, Some(&bearer)).await;
            assert_ne!(status.code(), Code::Unimplemented, "{}", method.path);
        }
    }
}

#[tokio::test]
async fn both_versions_of_reflection_answer_who_is_logged_in() {
    let world = World::new().await;
    let user = world.user().await;
    let bearer = format!("Bearer {}", user.token);
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let status = status_of(&world, &path, Some(&bearer)).await;
        // The empty question that is asked is none that it knows.
        assert_eq!(status.code(), Code::InvalidArgument, "{version}: {status}");
    }
}

#[tokio::test]
async fn forged_and_odd_credentials_are_refused() {
    let world = World::new().await;
    let user = world.user().await;
    let (head, rest) = user.token.split_once('.').unwrap();
    let path = "/dockctl.v1.AuthService/WhoAmI";
    let none = format!("Bearer eyJhbGciOiJub25lIn0.{rest}");
    let cut = format!("Bearer {head}.{}", &rest[..rest.len() - 2]);
    let refresh = format!("Bearer {}", user.refresh);
    for credential in ["", "Bearer", "Bearer ", "Basic YWRtaW46YWRtaW4=", &none, &cut, &refresh] {
        let status = status_of(&world, path, Some(credential)).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{credential}");
    }
    let good = format!("Bearer {}", user.token);
    assert_eq!(status_of(&world, path, Some(&good)).await.code(), Code::Ok);
}

#[tokio::test]
async fn what_is_not_grpc_never_reaches_a_handler() {
    let world = World::new().await;
    let mut channel = world.channel().await;
    let path = format!("https://{}/dockctl.v1.AuthService/Login", world.api);
    let with = |method: &str, content_type: Option<&str>| {
        let mut request = http::Request::builder().method(method).uri(&path);
        if let Some(value) = content_type {
            request = request.header("content-type", value);
        }
        request.body(Body::empty()).unwrap()
    };
    for (request, code) in [
        (with("GET", None), 405),
        (with("POST", None), 415),
        (with("POST", Some("text/plain")), 415),
        (with("POST", Some("application/x-www-form-urlencoded")), 415),
        (with("POST", Some("multipart/form-data")), 415),
        (with("POST", Some("application/grpcish")), 415),
    ] {
        let response = channel.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status().as_u16(), code);
    }
}

#[tokio::test]
async fn an_unknown_method_and_a_wrong_password_say_so() {
    let world = World::new().await;
    assert_eq!(
        status_of(&world, "/dockctl.v1.NoService/Nothing", None).await.code(),
        Code::Unimplemented
    );
    let user = world.user().await;
    for (username, password) in [("admin", "wrong"), ("nobody", PASSWORD)] {
        let login = LoginRequest { username: username.into(), password: password.into() };
        let refused = user.auth().login(login).await.unwrap_err();
        assert_eq!(reason_of(&refused).as_deref(), Some(reason::BAD_CREDENTIALS));
    }
}

#[tokio::test]
async fn health_and_metrics_answer() {
    let world = World::new().await;
    assert_eq!(status_of(&world, "/grpc.health.v1.Health/Check", None).await.code(), Code::Ok);
    for n in 0..100 {
        status_of(&world, &format!("/grpc.health.v1.Health/{n}"), None).await;
        status_of(&world, &format!("/nothing/{n}"), None).await;
    }
    let _agent = world.join("web-1").await;
    assert!(get(world.metrics, "/healthz").await.contains("200 OK"));
    assert!(get(world.metrics, "/readyz").await.ends_with("ready\n"));
    let metrics = get(world.metrics, "/metrics").await;
    assert!(metrics.contains("dockctl_agents{state=\"connected\"} 1"), "{metrics}");
    // A stranger cannot make label values.
    assert!(
        metrics.lines().filter(|l| l.starts_with("dockctl_calls_total{method=\"other")).count()
            < 20
    );
}
