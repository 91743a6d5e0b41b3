//! The harness itself: what the scenarios rely on must break things the way it says.

use std::process::Command;

use anyhow::{Result, ensure};
use dockctl_tests::{
    DockerProxy, LONG, Netns, Process, SHORT, Signal, TcpProxy, Way, await_until,
    consecutive_lines, counting_script, scenario,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Answers every byte on every connection.
async fn echo() -> Result<TcpListener> {
    Ok(TcpListener::bind("127.0.0.1:0").await?)
}

async fn serve_echo(listener: TcpListener) {
    while let Ok((mut tcp, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut from, mut to) = tcp.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });
    }
}

#[test]
fn a_process_is_awaited_and_killed() {
    scenario(async |world| {
        let mut command = Command::new("sh");
        command.args(["-c", "echo '{\"port\":7}'; echo 'now serving' >&2; exec sleep 1000"]);
        let mut process = Process::spawn("fake", command, world.logs())?;
        let ready: serde_json::Value = process.ready().await?;
        ensure!(ready["port"] == 7);
        process.wait_for_log("serving").await?;
        process.signal(Signal::TERM)?;
        ensure!(process.exit_code().await? == -15);
        Ok(())
    });
}

#[test]
fn a_process_that_ends_before_it_is_ready_is_told_with_its_log() {
    scenario(async |world| {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'no such port' >&2; exit 3"]);
        let mut process = Process::spawn("fake", command, world.logs())?;
        let error = process.ready::<serde_json::Value>().await.expect_err("it never was ready");
        ensure!(error.to_string().contains("no such port"), "{error}");
        Ok(())
    });
}

#[test]
fn the_tcp_proxy_stalls_cuts_and_refuses() {
    scenario(async |_| {
        let listener = echo().await?;
        let proxy = TcpProxy::start(listener.local_addr()?).await?;
        tokio::spawn(serve_echo(listener));
        let mut byte = [0];

        let mut tcp = TcpStream::connect(proxy.address()).await?;
        tcp.write_all(b"a").await?;
        tcp.read_exact(&mut byte).await?;

        proxy.stall();
        tcp.write_all(b"b").await?;
        let silent = timeout(std::time::Duration::from_millis(200), tcp.read(&mut byte)).await;
        ensure!(silent.is_err(), "a byte came through a stalled proxy");
        proxy.resume();
        tcp.read_exact(&mut byte).await?;
        ensure!(byte == *b"b");

        proxy.cut();
        ensure!(timeout(SHORT, tcp.read(&mut byte)).await?.unwrap_or(0) == 0, "not cut");
        let mut tcp = TcpStream::connect(proxy.address()).await?;
        tcp.write_all(b"c").await?;
        tcp.read_exact(&mut byte).await?;

        proxy.refuse();
        ensure!(timeout(SHORT, tcp.read(&mut byte)).await?.unwrap_or(0) == 0, "not cut");
        let mut tcp = TcpStream::connect(proxy.address()).await?;
        ensure!(timeout(SHORT, tcp.read(&mut byte)).await?.unwrap_or(0) == 0, "not refused");
        Ok(())
    });
}

#[test]
fn a_namespace_swallows_packets_and_heals() {
    scenario(async |_| {
        let netns = Netns::new()?;
        let listener = TcpListener::bind((netns.host(), 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(serve_echo(listener));
        // busybox nc, one line there and back.
        let ask = async || -> Result<bool> {
            let script =
                format!("echo hello | busybox nc -w 2 {} {}", netns.host(), address.port());
            let output = tokio::process::Command::new("ip")
                .args(["netns", "exec", netns.name(), "sh", "-c", &script])
                .output()
                .await?;
            Ok(output.stdout == b"hello\n")
        };
        await_until("an answer", SHORT, async || Ok(ask().await?.then_some(()))).await?;
        netns.blackhole(Way::Both)?;
        ensure!(!ask().await?, "a packet came through");
        netns.heal()?;
        await_until("an answer", SHORT, async || Ok(ask().await?.then_some(()))).await
    });
}

#[test]
fn the_docker_proxy_lets_reads_through_and_refuses_changes() {
    scenario(async |world| {
        let docker = world.docker();
        let container = docker.run("c", "exec sleep 1000").await?;
        let proxy = DockerProxy::start(docker.host()).await?;
        let through = world.docker_at(&proxy.url());
        let listed = through.cli(&["ps", "-q", "--no-trunc"]).await?;
        ensure!(listed.contains(&container.id), "{listed}");
        let refused = through.raw(&["stop", &container.name]).await?;
        ensure!(refused.code != 0 && refused.stderr.contains("forbidden"), "{refused:?}");
        Ok(())
    });
}

#[test]
fn a_counting_container_counts() {
    scenario(async |world| {
        let docker = world.docker();
        let container = docker.run("count", counting_script()).await?;
        let output = await_until("50 lines", LONG, async || {
            let output = docker.raw(&["logs", &container.name]).await?.done()?.into_bytes();
            Ok((consecutive_lines(&output)? >= 50).then_some(output))
        })
        .await?;
        let doubled = [&output[..], b"line 50\n"].concat();
        ensure!(consecutive_lines(&doubled).is_err());
        Ok(())
    });
}

#[test]
fn a_private_dockerd_restarts_with_its_containers() {
    scenario(async |world| {
        let mut engine = world.private_dockerd().await?;
        let container = engine.docker().run("c", "exec sleep 1000").await?;
        engine.stop().await?;
        engine.start().await?;
        let state = engine.docker().inspect(&container.name, "{{.State.Status}}").await?;
        ensure!(state == "exited", "it is {state}");
        Ok(())
    });
}
