//! Scripts speak gRPC: the real grpcurl, which knows nothing of dockctl but what reflection tells it.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use dockctl_tests::{Controller, LONG, await_until, scenario};

/// What one run of grpcurl gave: exit code, standard output and error.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs grpcurl on the API with that token.
fn grpcurl(controller: &Controller<'_>, token: Option<&str>, arguments: &[&str]) -> Result<Said> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/grpcurl");
    let mut command = Command::new(program);
    // The CA is pinned by fingerprint, which grpcurl cannot do.
    command.args(["-insecure", "-max-time", "60"]);
    if let Some(token) = token {
        command.args(["-H", &format!("authorization: {token}")]);
    }
    let (flags, rest) = match arguments {
        ["-d", data, rest @ ..] => (&["-d", *data][..], rest),
        rest => (&[][..], rest),
    };
    command.args(flags).arg(controller.api.to_string()).args(rest);
    let output = command.output().context("grpcurl is missing: run `make test`")?;
    Ok(Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

fn done(said: Said) -> Result<String> {
    ensure!(said.code == Some(0), "grpcurl ended with {:?}: {}", said.code, said.err);
    Ok(said.out)
}

#[test]
fn grpcurl_lists_describes_calls_and_streams() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let container = docker.run("c", "echo hello; exec sleep 100000").await?;
        let admin = controller.admin().await?;
        let token = admin.authorization();

        let services = done(grpcurl(&controller, token, &["list"])?)?;
        for service in [
            "dockctl.v1.AgentService",
            "dockctl.v1.AuthService",
            "dockctl.v1.ContainerService",
            "dockctl.v1.ImageService",
            "dockctl.v1.SystemService",
            "grpc.health.v1.Health",
        ] {
            ensure!(services.lines().any(|l| l == service), "{service} is not in {services}");
        }
        let described =
            done(grpcurl(&controller, token, &["describe", "dockctl.v1.ContainerService"])?)?;
        ensure!(described.contains("rpc StreamLogs"), "{described}");

        let list = ["-d", r#"{"agent":"web-1"}"#, "dockctl.v1.ContainerService/ListContainers"];
        let listed: serde_json::Value =
            serde_json::from_str(&done(grpcurl(&controller, token, &list)?)?)?;
        let listed = listed["containers"].as_array().context("no containers")?;
        ensure!(listed.iter().any(|c| c["id"] == *container.id), "{listed:?}");

        let data = format!(r#"{{"agent":"web-1","container":"{}"}}"#, container.name);
        let logs = ["-d", &data, "dockctl.v1.ContainerService/StreamLogs"];
        await_until("the log", LONG, async || {
            let streamed = done(grpcurl(&controller, token, &logs)?)?;
            // "hello\n" in base64.
            Ok(streamed.contains("aGVsbG8K").then_some(()))
        })
        .await
    });
}

#[test]
fn grpcurl_sees_errors_with_their_reason() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let admin = controller.admin().await?;
        let get = ["-d", r#"{"agent":"web-9"}"#, "dockctl.v1.AgentService/GetAgent"];
        let said = grpcurl(&controller, admin.authorization(), &get)?;
        ensure!(said.code != Some(0) && said.err.contains("Code: NotFound"), "{}", said.err);
        ensure!(said.err.contains("web-9"), "{}", said.err);
        ensure!(said.err.contains("ErrorInfo"), "{}", said.err);
        Ok(())
    });
}

#[test]
fn grpcurl_without_a_token_is_unauthenticated_and_health_is_open() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let list = ["-d", "{}", "dockctl.v1.ContainerService/ListContainers"];
        let said = grpcurl(&controller, None, &list)?;
        ensure!(said.code != Some(0) && said.err.contains("Unauthenticated"), "{}", said.err);
        let health = done(grpcurl(&controller, None, &["grpc.health.v1.Health/Check"])?)?;
        ensure!(health.contains("SERVING"), "{health}");
        Ok(())
    });
}

#[test]
fn grpcurl_logs_in() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let data =
            format!(r#"{{"username":"admin","password":"{}"}}"#, dockctl_tests::ADMIN_PASSWORD);
        let login = ["-d", &data, "dockctl.v1.AuthService/Login"];
        let login: serde_json::Value =
            serde_json::from_str(&done(grpcurl(&controller, None, &login)?)?)?;
        let token = login["tokens"]["accessToken"].as_str().context("no token")?;
        let who = ["-d", "{}", "dockctl.v1.AuthService/WhoAmI"];
        let who = done(grpcurl(&controller, Some(&format!("Bearer {token}")), &who)?)?;
        ensure!(who.contains("\"admin\""), "{who}");
        Ok(())
    });
}
