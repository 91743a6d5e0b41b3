//! Whatever is given up leaves nothing behind, and however much passes, little is kept.

use std::{
    fs,
    io::{self, Read as _},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use dockctl_api::v1::{ConnectDockerRequest, ConnectDockerResponse};
use dockctl_tests::{
    Api, Held, LONG, Process, Signal, await_until, counting_script, rounds, scenario,
};
use futures_util::{StreamExt as _, stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Socket;

/// At the latest this long after its beginning a client goes.
const LATEST: u64 = 300;

/// Waits until a process has no more of them than before.
async fn none_left(what: &str, process: &Process, before: usize) -> Result<()> {
    await_until(&format!("{what}'s descriptors to be {before}"), LONG, async || {
        let now = process.open_files()?;
        ensure!(now <= before, "there are {now}");
        Ok(Some(()))
    })
    .await
}

/// Opens a connection and sends these bytes.
async fn connection(
    api: &Api,
    bytes: Vec<u8>,
) -> Result<(mpsc::Sender<ConnectDockerRequest>, Streaming<ConnectDockerResponse>)> {
    let (send, receive) = mpsc::channel(64);
    let message = |agent: &str, data: Vec<u8>| ConnectDockerRequest {
        agent: agent.to_owned(),
        data: data.into(),
    };
    send.send(message("web-1", Vec::new())).await?;
    let mut answers = api.docker().connect_docker(ReceiverStream::new(receive)).await?.into_inner();
    let first = answers.message().await?.context("no first message")?;
    ensure!(first.data.is_empty(), "the first message has data");
    for piece in bytes.chunks(64 << 10) {
        send.send(message("", piece.to_vec())).await?;
    }
    Ok((send, answers))
}

fn request(head: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n{body}")
        .into_bytes()
}

#[test]
fn aborted_calls_leave_no_socket_task_or_exec() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let container = docker.run("c", "exec sleep 100000").await?;
        let api = controller.admin().await?;
        let name = &container.name;
        let processes = async || docker.cli(&["top", name]).await.map(|t| t.lines().count());
        let execs = processes().await?;
        let before = Held::by(&controller, &agent).await?;

        for round in 0..rounds(50, 1_000) {
            let exec = async || -> Result<Vec<u8>> {
                let body = r#"{"Cmd":["cat"],"AttachStdin":true,"AttachStdout":true}"#;
                let create = request(&format!("POST /containers/{name}/exec"), body);
                let (_send, mut answers) = connection(&api, create).await?;
                let answer = answers.message().await?.context("no answer")?.data;
                let answer = String::from_utf8_lossy(&answer).into_owned();
                let id = answer.split("\"Id\":\"").nth(1).and_then(|rest| rest.get(..64));
                let head = format!("POST /exec/{}/start", id.context(answer.clone())?);
                let mut start = request(&head, r#"{"Detach":false,"Tty":false}"#);
                start.extend(b"typed\n");
                Ok(start)
            };
            let (bytes, waits) = match round % 8 {
                0 => (Vec::new(), false),
                1 => (b"GET /cont".to_vec(), false),
                2 => (request("GET /events", ""), false),
                3 => (request(&format!("GET /containers/{name}/stats"), ""), true),
                4 => (request(&format!("POST /containers/{name}/wait"), ""), false),
                5 => (request(&format!("GET /containers/{name}/export"), ""), true),
                6 => (exec().await?, true),
                _ => {
                    let mut half =
                        b"POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 90000000\r\n\r\n"
                            .to_vec();
                    half.resize(1 << 20, 0);
                    (half, false)
                }
            };
            let (send, mut answers) = connection(&api, bytes).await?;
            if waits {
                answers.message().await?.context("no answer")?;
            }
            drop((send, answers)); // The caller hangs up.
        }
        before.again(&controller, &agent).await?;
        await_until("the execs to end", LONG, async || {
            let now = processes().await?;
            ensure!(now == execs, "there are {now} processes and not {execs}");
            Ok(Some(()))
        })
        .await
    });
}

/// A client of docker-socket that goes at a random moment: before it has asked, in the middle of its
/// request, in that of the answer, or of what the connection has become. `app` reads input, `talks` prints.
async fn gone(socket: &str, app: &str, talks: &str, n: usize) {
    let moment = Duration::from_micros(u64::from_le_bytes(dockctl_api::random()) % (LATEST * 1000));
    let client = async {
        let mut stream = UnixStream::connect(socket).await?;
        let bytes = match n % 12 {
            0 => Vec::new(),
            1 => b"GET /containers/js".to_vec(),
            2 => request("GET /containers/json?all=1", "").repeat(20),
            3 => request("GET /events", ""),
            4 => request(&format!("GET /containers/{talks}/logs?follow=1&stdout=1&stderr=1"), ""),
            5 => request(&format!("GET /containers/{talks}/stats"), ""),
            6 => request(&format!("GET /containers/{talks}/export"), ""),
            7 => request(&format!("POST /containers/{app}/wait"), ""),
            8 => request(&format!("POST /containers/{app}/attach?stream=1&stdin=1&stdout=1"), ""),
            9 => request(&format!("POST /containers/{talks}/attach?stream=1&stdout=1"), ""),
            10 => {
                let mut half =
                    b"POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 90000000\r\n\r\n".to_vec();
                half.resize(1 << 20, 0);
                half
            }
            _ => {
                let body = r#"{"Cmd":["cat"],"AttachStdin":true,"AttachStdout":true}"#;
                stream.write_all(&request(&format!("POST /containers/{app}/exec"), body)).await?;
                let mut answer = vec![0; 4096];
                let length = stream.read(&mut answer).await?;
                let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
                let id = answer.split("\"Id\":\"").nth(1).and_then(|rest| rest.get(..64));
                let head = format!("POST /exec/{}/start", id.unwrap_or("none"));
                let mut start = request(&head, r#"{"Detach":false,"Tty":false}"#);
                start.extend(b"typed\n");
                start
            }
        };
        stream.write_all(&bytes).await?;
        // Some have said all that they want to say.
        if n.is_multiple_of(5) {
            stream.shutdown().await?;
        }
        let mut answer = vec![0; 64 << 10];
        while stream.read(&mut answer).await? > 0 {}
        std::future::pending::<io::Result<()>>().await
    };
    let _ = timeout(moment, client).await;
}

#[test]
fn a_thousand_clients_of_docker_socket_that_go_at_any_moment_leave_nothing_behind() {
    scenario(async |world| {
        let (controller, agent, docker, dockctl) = world.one_host("web-1").await?;
        let app = docker.run_with(&["-i"], "app", "exec sleep 100000").await?.name;
        let talks = docker.run("talks", counting_script()).await?.name;
        let socket = Socket::open(world, &dockctl).await?;
        // What the first ones open and keep, such as the connection to the controller, is no leak.
        for n in 0..12 {
            gone(&socket.path, &app, &talks, n).await;
        }
        socket.docker.cli(&["ps"]).await?;
        let alone = async || {
            await_until("the container to be alone", LONG, async || {
                let top = docker.cli(&["top", &app]).await?;
                ensure!(top.lines().count() == 3, "{top}");
                Ok(Some(()))
            })
            .await
        };
        alone().await?;
        let before = Held::by(&controller, &agent).await?;
        let here = socket.process.open_files()?;

        let clients = (0..rounds(120, 1_000)).map(|n| gone(&socket.path, &app, &talks, n));
        stream::iter(clients).buffer_unordered(8).collect::<Vec<()>>().await;
        alone().await?;
        none_left("docker-socket", &socket.process, here).await?;
        before.again(&controller, &agent).await?;
        // And it still serves.
        socket.docker.cli(&["exec", &app, "true"]).await?;
        Ok(())
    });
}

#[test]
fn a_killed_docker_client_leaves_nothing_at_the_host() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let agent = world.agent(&controller, "web-1").await?;
        let container = world.docker().run("c", "echo hello; exec sleep 100000").await?;
        let socket = Socket::open(world, &controller.dockctl().await?).await?;
        let name = container.name.as_str();
        socket.docker.cli(&["ps"]).await?; // Now the connection to the controller is open.
        let count = || agent.process.open_files();
        let here = socket.process.open_files()?;
        let before = count()?;
        for words in [
            &["events"][..],
            &["logs", "-f", name],
            &["stats", name],
            &["wait", name],
            &["attach", name],
            &["exec", "-i", name, "sleep", "1000"],
        ] {
            let mut client = socket.docker.start(world, words)?;
            await_until("the call to reach the engine", LONG, async || {
                Ok((count()? > before).then_some(()))
            })
            .await?;
            client.signal(Signal::KILL)?;
            client.ended().await?;
            none_left(&format!("the agent after {words:?}"), &agent.process, before).await?;
            none_left("docker-socket", &socket.process, here).await?;
        }
        Ok(())
    });
}

#[test]
fn memory_is_bounded_however_large_the_data() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let agent = world.agent(&controller, "web-1").await?;
        let container = world.docker().run("c", "exec sleep 100000").await?;
        let socket = Socket::open(world, &controller.dockctl().await?).await?;
        socket.docker.cli(&["ps"]).await?;
        let all = [&agent.process, &controller.process, &socket.process];
        let before: Vec<u64> = all.iter().map(|p| p.peak_memory()).collect::<Result<_>>()?;
        let dir = world.dir("large")?;
        let file = dir.join("large").display().to_string();
        fs::File::create(&file)?.set_len(rounds(300, 2_000) << 20)?;
        let inside = format!("{}:/large", container.name);
        socket.docker.cli(&["cp", &file, &inside]).await?;
        // A reader that is slow to begin, and then reads all.
        let mut reader = Command::new("docker");
        reader.args(["-H", socket.docker.host(), "cp", &inside, "-"]).stdout(Stdio::piped());
        let mut reader = reader.spawn()?;
        let mut out = reader.stdout.take().context("a pipe")?;
        out.read_exact(&mut [0])?;
        socket.docker.cli(&["ps"]).await?;
        let read = 1 + io::copy(&mut out, &mut io::sink())?;
        ensure!(reader.wait()?.success(), "docker cp failed");
        ensure!(read > rounds(300, 2_000) << 20, "only {read} bytes came back");
        for (process, before) in all.into_iter().zip(before) {
            let more = process.peak_memory()? - before;
            ensure!(more < 64, "{process:?} took {more} MiB more");
        }
        Ok(())
    });
}
