//! Scripts speak gRPC: the real grpcurl, which knows nothing of dockctl but what reflection tells it.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use dockctl_tests::{Api, Controller, LONG, await_until, scenario};

/// What one run of grpcurl gave: exit code, standard output and error.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs grpcurl on the API with those flags and arguments.
fn grpcurl(controller: &Controller<'_>, flags: &[&str], arguments: &[&str]) -> Result<Said> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(root.join(".tools/bin/grpcurl"));
    // The CA is pinned by fingerprint, which grpcurl cannot do.
    command.args(["-insecure", "-max-time", "60"]).args(flags).current_dir(root);
    command.arg(controller.api.to_string()).args(arguments);
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

/// The flag value that logs grpcurl in.
fn authorization(admin: &Api) -> Result<String> {
    Ok(format!("authorization: {}", admin.authorization().context("no token")?))
}

#[test]
fn grpcurl_lists_describes_calls_and_streams() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let container = docker.run("c", "echo hello; exec sleep 100000").await?;
        let token = authorization(&controller.admin().await?)?;
        let run = |data: &str, arguments: &[&str]| {
            let flags: &[&str] = if data.is_empty() { &[] } else { &["-d", data] };
            done(grpcurl(&controller, &[&["-H", &token], flags].concat(), arguments)?)
        };

        let services = run("", &["list"])?;
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
        let described = run("", &["describe", "dockctl.v1.ContainerService"])?;
        ensure!(described.contains("rpc StreamLogs"), "{described}");

        let listed = run(r#"{"agent":"web-1"}"#, &["dockctl.v1.ContainerService/ListContainers"])?;
        let listed: serde_json::Value = serde_json::from_str(&listed)?;
        let listed = listed["containers"].as_array().context("no containers")?;
        ensure!(listed.iter().any(|c| c["id"] == *container.id), "{listed:?}");

        let data = format!(r#"{{"agent":"web-1","container":"{}"}}"#, container.name);
        await_until("the log", LONG, async || {
            let streamed = run(&data, &["dockctl.v1.ContainerService/StreamLogs"])?;
            // "hello\n" in base64.
            Ok(streamed.contains("aGVsbG8K").then_some(()))
        })
        .await
    });
}

#[test]
fn grpcurl_sees_errors_with_their_details() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let token = authorization(&controller.admin().await?)?;
        let flags = ["-H", &token, "-d", r#"{"agent":"web-9"}"#];
        let said = grpcurl(&controller, &flags, &["dockctl.v1.AgentService/GetAgent"])?;
        ensure!(said.code != Some(0) && said.err.contains("Code: NotFound"), "{}", said.err);
        ensure!(said.err.contains("web-9"), "{}", said.err);
        ensure!(said.err.contains("ErrorInfo"), "{}", said.err);
        Ok(())
    });
}

#[test]
fn without_a_token_grpcurl_reaches_health_and_login_and_nothing_else() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let said = grpcurl(&controller, &[], &["list"])?;
        ensure!(said.code != Some(0) && said.err.contains("log in"), "{}", said.err);

        // The token is for reflection alone: the call itself has none.
        let token = authorization(&controller.admin().await?)?;
        let flags = ["-reflect-header", &token, "-d", "{}"];
        let said = grpcurl(&controller, &flags, &["dockctl.v1.ContainerService/ListContainers"])?;
        ensure!(said.code != Some(0) && said.err.contains("Unauthenticated"), "{}", said.err);
        let health = done(grpcurl(&controller, &flags, &["grpc.health.v1.Health/Check"])?)?;
        ensure!(health.contains("SERVING"), "{health}");

        // As a script logs in: with the .proto files, since reflection is not open yet.
        let data =
            format!(r#"{{"username":"admin","password":"{}"}}"#, dockctl_tests::ADMIN_PASSWORD);
        let flags = ["-import-path", "proto", "-proto", "dockctl/v1/auth.proto", "-d", &data];
        let login = done(grpcurl(&controller, &flags, &["dockctl.v1.AuthService/Login"])?)?;
        let login: serde_json::Value = serde_json::from_str(&login)?;
        let token = login["tokens"]["accessToken"].as_str().context("no token")?;
        let flags = ["-H", &format!("authorization: Bearer {token}")];
        let who = done(grpcurl(&controller, &flags, &["dockctl.v1.AuthService/WhoAmI"])?)?;
        ensure!(who.contains("\"admin\""), "{who}");
        Ok(())
    });
}
