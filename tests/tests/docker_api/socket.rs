//! docker-socket: its file, who may use it, and lost links.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
};

use anyhow::ensure;
use dockctl_api::v1::AgentState;
use dockctl_tests::{LONG, Signal, await_until, scenario};

use super::Socket;

#[test]
fn a_socket_is_its_owners_and_goes_with_its_program() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let mut socket = Socket::open(world, &dockctl).await?;
            let mode = fs::metadata(&socket.path)?.permissions().mode();
            ensure!(mode & 0o777 == 0o600, "{mode:o}");
            socket.docker.cli(&["ps"]).await?;
            socket.process.signal(signal)?;
            ensure!(socket.process.exit_code().await? == 0, "{}", socket.process.tail());
            ensure!(!fs::exists(&socket.path)?, "its file is left");
        }

        // One in use is left alone, and so is any other file.
        let mut socket = Socket::open(world, &dockctl).await?;
        let listen = format!("unix://{}", socket.path);
        let again = ["docker-socket", "web-1", "--listen", &listen];
        let said = dockctl.run(&again).await?.failed(1)?;
        ensure!(said.contains("another program listens there"), "{said}");
        socket.docker.cli(&["ps"]).await?;
        let file = world.dir("file")?.join("notes.txt");
        fs::write(&file, "mine")?;
        let url = format!("unix://{}", file.display());
        let said = dockctl.run(&["docker-socket", "web-1", "--listen", &url]).await?.failed(1)?;
        ensure!(said.contains("no socket") && fs::read(&file)? == b"mine", "{said}");

        // What a killed one has left is replaced; and a file that is another's by now is not removed.
        socket.process.kill9()?;
        ensure!(fs::exists(&socket.path)?, "a killed program cleans nothing up");
        let mut next = dockctl.start(&[&again[..], &["--ready"]].concat())?;
        next.wait_for_log("ready").await?;
        socket.docker.cli(&["ps"]).await?;
        fs::remove_file(&socket.path)?;
        let _other = UnixListener::bind(&socket.path)?;
        next.signal(Signal::TERM)?;
        ensure!(next.exit_code().await? == 0 && fs::exists(&socket.path)?, "{}", next.tail());
        Ok(())
    });
}

#[test]
fn a_port_is_on_loopback_only_and_comes_with_a_warning() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        for open in ["tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://192.0.2.1:2375"] {
            let refused = dockctl.run(&["docker-socket", "web-1", "--listen", open]).await?;
            let said = refused.failed(2)?;
            ensure!(said.contains("only loopback"), "{said}");
        }
        let port = ["docker-socket", "web-1", "--listen", "tcp://127.0.0.1:0", "--ready"];
        let process = dockctl.start(&port)?;
        let ready = process.wait_for_log("ready tcp://127.0.0.1:").await?;
        ensure!(process.log()?.contains("root on web-1"), "{}", process.log()?);
        let docker = world.docker_at(ready.trim_start_matches("ready "));
        docker.cli(&["ps"]).await?;
        let container = world.docker().run("c", "exec sleep 100000").await?;
        let said = docker.cli(&["exec", &container.name, "echo", "hello"]).await?;
        ensure!(said == "hello", "{said}");
        Ok(())
    });
}

#[test]
fn a_socket_goes_on_through_lost_links_and_says_meanwhile_what_is_wrong() {
    scenario(async |world| {
        let mut controller = world.controller().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let socket = Socket::open(world, &controller.dockctl().await?).await?;
        socket.docker.cli(&["ps"]).await?;

        agent.process.terminate().await?;
        await_until("docker to be told", LONG, async || {
            let said = socket.docker.raw(&["ps"]).await?;
            ensure!(said.code == 1 && said.stderr.contains("dockctl: web-1"), "{said:?}");
            Ok(Some(()))
        })
        .await?;
        agent.start_again().await?;
        await_until("the agent's return", LONG, async || Ok(socket.docker.cli(&["ps"]).await.ok()))
            .await?;

        controller.terminate().await?;
        let said = socket.docker.raw(&["ps"]).await?;
        ensure!(said.code == 1 && said.stderr.contains("dockctl: "), "{said:?}");
        controller.start_again().await?;
        await_until("the controller's return", LONG, async || {
            Ok(socket.docker.cli(&["ps"]).await.ok())
        })
        .await?;
        Ok(())
    });
}

#[test]
fn a_socket_to_a_host_that_is_away_or_unknown_says_so_when_it_opens() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let mut agent = world.agent(&controller, "web-1").await?;
        let dockctl = controller.dockctl().await?;
        let socket = Socket::open(world, &dockctl).await?;
        ensure!(!socket.process.log()?.contains("warning"), "{}", socket.process.log()?);

        agent.process.terminate().await?;
        controller.await_state("web-1", AgentState::Offline).await?;
        let socket = Socket::open(world, &dockctl).await?;
        let said = socket.process.log()?;
        ensure!(said.contains("warning: web-1 is offline"), "{said}");
        agent.start_again().await?;
        await_until("the agent's return", LONG, async || Ok(socket.docker.cli(&["ps"]).await.ok()))
            .await?;

        let path = world.dir("socket")?.join("docker.sock").display().to_string();
        let listen = format!("unix://{path}");
        let refused =
            dockctl.run(&["docker-socket", "web-9", "--listen", &listen, "--ready"]).await?;
        let said = refused.failed(4)?;
        ensure!(said.contains("web-9") && said.contains("did you mean web-1?"), "{said}");
        ensure!(!std::path::Path::new(&path).exists(), "the socket is left");
        Ok(())
    });
}

#[test]
fn an_engine_that_is_down_is_told_in_its_own_form() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent =
            world.agent_at(&controller, "web-1", "unix:///nonexistent/docker.sock").await?;
        let socket = Socket::open(world, &controller.dockctl().await?).await?;
        let said = socket.docker.raw(&["ps"]).await?;
        ensure!(said.code == 1, "{said:?}");
        ensure!(
            said.stderr
                .contains("Error response from daemon: dockctl: there is no Docker socket at"),
            "{said:?}"
        );
        Ok(())
    });
}
