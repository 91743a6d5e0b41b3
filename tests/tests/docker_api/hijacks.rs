//! Connections that become something else after a request: a build's session and BuildKit's own API, which
//! are HTTP/2, and a websocket. Each does through the mesh what it does on the engine's socket.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use anyhow::{Context as _, Result, ensure};
use dockctl_tests::{LONG, scenario};

use super::Socket;

/// How an HTTP/2 client begins, by RFC 9113.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types and flags of frames.
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;

/// Sends a request to upgrade, and gives the connection behind the answer's head, and the head.
fn upgrade(path: &str, request: &str) -> Result<(UnixStream, String)> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(LONG))?;
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("the head")?;
        head.extend(byte);
    }
    let head = String::from_utf8(head)?;
    ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
    Ok((stream, head))
}

/// The upgrade's headers that say what the connection becomes.
fn becomes(head: &str) -> Vec<String> {
    let lines = head.lines().map(str::to_lowercase);
    let mut lines: Vec<String> =
        lines.filter(|l| l.starts_with("connection:") || l.starts_with("upgrade:")).collect();
    lines.sort();
    lines
}

fn send_frame(stream: &mut UnixStream, kind: u8, flags: u8, payload: &[u8]) -> Result<()> {
    let length = u8::try_from(payload.len())?;
    stream.write_all(&[0, 0, length, kind, flags, 0, 0, 0, 0])?;
    Ok(stream.write_all(payload)?)
}

/// Reads frames up to one of that type and flags, and gives its payload.
fn frame(stream: &mut UnixStream, kind: u8, flags: u8) -> Result<Vec<u8>> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).with_context(|| format!("no frame {kind}/{flags}"))?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload)?;
        if (head[3], head[4]) == (kind, flags) {
            return Ok(payload);
        }
    }
}

/// Goes on in HTTP/2 as the side that `serves`, until the engine has answered a ping.
fn http2(stream: &mut UnixStream, serves: bool) -> Result<()> {
    if serves {
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface)?;
        ensure!(preface == PREFACE, "{}", String::from_utf8_lossy(&preface));
    } else {
        stream.write_all(PREFACE)?;
    }
    send_frame(stream, SETTINGS, 0, &[])?;
    frame(stream, SETTINGS, 0)?;
    send_frame(stream, SETTINGS, ACK, &[])?;
    send_frame(stream, PING, 0, b"dockctl!")?;
    ensure!(frame(stream, PING, ACK)? == b"dockctl!", "another ping's answer");
    Ok(())
}

/// The path of an engine's socket.
fn path(host: &str) -> &str {
    host.trim_start_matches("unix://")
}

#[test]
fn build_sessions_work() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let socket = Socket::open(world, &controller.dockctl().await?).await?;
        let mut heads = Vec::new();
        for (name, engine) in [("direct", path(world.docker().host())), ("mesh", &socket.path)] {
            // As docker's client opens one: the engine calls what is exposed there.
            let session = format!(
                "POST /session HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\
                 X-Docker-Expose-Session-Uuid: {0}\r\nX-Docker-Expose-Session-Name: {0}\r\n\
                 X-Docker-Expose-Session-Sharedkey: {0}\r\n\
                 X-Docker-Expose-Session-Grpc-Method: /grpc.health.v1.Health/Check\r\n\
                 X-Docker-Expose-Session-Grpc-Method: /moby.filesync.v1.FileSync/DiffCopy\r\n\r\n",
                world.own(name),
            );
            let (mut stream, head) = upgrade(engine, &session)?;
            heads.push(becomes(&head));
            http2(&mut stream, true).with_context(|| format!("a session at {engine}"))?;

            let api = "POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
            let (mut stream, head) = upgrade(engine, api)?;
            heads.push(becomes(&head));
            http2(&mut stream, false).with_context(|| format!("BuildKit's API at {engine}"))?;
        }
        ensure!(heads[..2] == heads[2..], "{heads:?}");
        Ok(())
    });
}

#[test]
fn a_websocket_is_attached_to_a_container() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let socket = Socket::open(world, &controller.dockctl().await?).await?;
        let container = world.docker().run_with(&["-i"], "c", "exec cat").await?;
        for engine in [path(world.docker().host()), socket.path.as_str()] {
            let attach = format!(
                "GET /containers/{}/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: docker\r\n\
                 Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://docker\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                container.name,
            );
            let (mut stream, head) = upgrade(engine, &attach)?;
            // RFC 6455's own example.
            ensure!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
            // A text, masked with zeros.
            let text = b"typed\n";
            stream.write_all(&[0x81, 0x80 | 6, 0, 0, 0, 0])?;
            stream.write_all(text)?;
            let mut answer = [0; 2 + 6];
            stream.read_exact(&mut answer).context("no answer")?;
            ensure!(answer[1] == 6 && &answer[2..] == text, "{answer:?}");
        }
        Ok(())
    });
}
