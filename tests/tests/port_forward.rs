//! Ports of containers, published or not, through the agent.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use dockctl_api::{
    error::{reason, reason_of},
    v1::{AgentState, ForwardPortRequest},
};
use dockctl_tests::{Dockctl, Held, LONG, Running, SHORT, Signal, await_until, rounds, scenario};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// Port 7 gives back what it gets, 8 counts it after its end.
const SERVERS: &str = "nc -ll -p 7 -e cat & nc -ll -p 8 -e wc -c & exec sleep 100000";

/// A running `dockctl port-forward` and where it listens, pair by pair.
async fn forward(
    dockctl: &Dockctl<'_>,
    arguments: &[&str],
    pairs: usize,
) -> Result<(Running, Vec<String>)> {
    let running = dockctl.start(&[&["port-forward"], arguments].concat())?;
    let lines = String::from_utf8(running.wait_for_lines(pairs).await?)?;
    let address = |line: &str| {
        let rest = line.strip_prefix("Forwarding from ")?;
        rest.split_once(" -> ").map(|(address, _)| address.to_owned())
    };
    let addresses = lines.lines().map(|line| address(line).with_context(|| line.to_owned()));
    Ok((running, addresses.collect::<Result<_>>()?))
}

/// Connects and waits for the servers behind to be there: they begin a little after their container.
async fn echoing(address: &str) -> Result<TcpStream> {
    await_until("an echo", LONG, async || {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"?").await?;
        let mut answer = [0];
        stream.read_exact(&mut answer).await?;
        Ok(Some(stream))
    })
    .await
}

#[test]
fn bytes_are_exact_both_ways_and_each_direction_ends_alone() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = docker.run_on("bridge", "db", SERVERS).await?.name;
        let reference = format!("web-1/{name}");
        let (mut running, at) = forward(&dockctl, &[&reference, "0:7", "0:8"], 2).await?;
        let told = String::from_utf8(running.stdout()?)?;
        ensure!(told.contains(&format!("Forwarding from {} -> {reference}:7\n", at[0])), "{told}");
        ensure!(at[0].starts_with("127.0.0.1:"), "{told}");

        let (mut read, mut write) = echoing(&at[0]).await?.into_split();
        let sent: Vec<u8> =
            (0..4_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let copy = sent.clone();
        let writing = tokio::spawn(async move {
            write.write_all(&copy).await?;
            write.shutdown().await
        });
        let mut came = Vec::new();
        read.read_to_end(&mut came).await?;
        writing.await??;
        ensure!(came == sent, "{} bytes came of {}, or others", came.len(), sent.len());

        // The count comes only after the end of what is sent, so the end went through and the way back stayed.
        let mut counted = await_until("the counter", LONG, async || {
            let mut stream = TcpStream::connect(&at[1]).await?;
            stream.write_all(&[b'x'; 100_000]).await?;
            stream.shutdown().await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok((!answer.is_empty()).then_some(answer))
        })
        .await?;
        counted.retain(|c| c.is_ascii_digit());
        ensure!(counted == "100000", "{counted}");

        // What is small is not kept back.
        let mut stream = echoing(&at[0]).await?;
        for n in 0..100_u8 {
            stream.write_all(&[n]).await?;
            ensure!(timeout(SHORT, stream.read_u8()).await?? == n);
        }
        // An idle one does not keep it from ending.
        running.signal(Signal::INT)?;
        ensure!(running.exit_code().await? == 0, "{}", running.tail());
        // Nothing is told but tries before the servers in the container were there.
        let log = running.log()?;
        ensure!(log.lines().all(|line| line.contains("nothing listens there")), "{log}");
        Ok(())
    });
}

#[test]
fn many_connections_at_once_and_a_refused_one_that_ends_alone() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = docker.run_on("bridge", "db", SERVERS).await?.name;
        let (running, at) = forward(&dockctl, &[&format!("web-1/{name}"), "0:7", ":9"], 2).await?;
        let mut open = Vec::new();
        for _ in 0..60 {
            open.push(echoing(&at[0]).await?);
        }
        let mut refused = TcpStream::connect(&at[1]).await?;
        ensure!(refused.read(&mut [0; 8]).await.unwrap_or(0) == 0, "nothing listens on port 9");
        running.wait_for_log("nothing listens there").await?;
        ensure!(running.log()?.contains(&format!("web-1/{name}")), "{}", running.log()?);
        for (n, stream) in open.iter_mut().enumerate() {
            let line = format!("line of {n}\n").repeat(1000);
            let (mut read, mut write) = stream.split();
            let mut came = vec![0; line.len()];
            tokio::try_join!(write.write_all(line.as_bytes()), async {
                read.read_exact(&mut came).await.map(drop)
            })?;
            ensure!(came == line.as_bytes(), "connection {n}");
        }
        Ok(())
    });
}

#[test]
fn only_a_containers_own_address_is_forwarded_to() {
    scenario(async |world| {
        let (controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let host = docker.run_on("host", "host", "exec sleep 100000").await?;
        let none = docker.run_on("none", "none", "exec sleep 100000").await?;
        let bridge = docker.run_on("bridge", "bridge", SERVERS).await?;
        let shares = docker
            .run_on(&format!("container:{}", bridge.name), "shares", "exec sleep 100000")
            .await?;
        let shares_host = docker
            .run_on(&format!("container:{}", host.name), "hosts", "exec sleep 100000")
            .await?;
        let stopped = docker.run_on("bridge", "stopped", "true").await?;
        docker.cli(&["wait", &stopped.name]).await?;

        let (_shared, at) =
            forward(&dockctl, &[&format!("web-1/{}", shares.name), "0:7"], 1).await?;
        echoing(&at[0]).await?;

        let mut api = controller.admin().await?.forwards();
        for (container, port, says, why) in [
            (&host.name, 22, "host's own network", reason::NO_ADDRESS),
            (&shares_host.name, 22, "host's own network", reason::NO_ADDRESS),
            (&none.name, 80, "no network", reason::NO_ADDRESS),
            (&stopped.name, 80, "not running", reason::NO_ADDRESS),
            (&bridge.name, 0, "1 to 65,535", reason::BAD_FIELD),
            (&bridge.name, 65_536, "1 to 65,535", reason::BAD_FIELD),
            (&"169.254.169.254".to_owned(), 80, "called", reason::CONTAINER_NOT_FOUND),
            (&"localhost".to_owned(), 80, "called", reason::CONTAINER_NOT_FOUND),
            (&"[::1]".to_owned(), 80, "named", reason::BAD_FIELD),
        ] {
            let agent = "web-1".to_owned();
            let first = ForwardPortRequest {
                agent,
                container: container.clone(),
                port,
                data: Bytes::new(),
            };
            let error = match api.forward_port(tokio_stream::iter([first])).await {
                Err(error) => error,
                Ok(answer) => match answer.into_inner().message().await {
                    Err(error) => error,
                    Ok(opened) => bail!("{container}:{port} was opened: {opened:?}"),
                },
            };
            ensure!(reason_of(&error).as_deref() == Some(why), "{container}:{port}: {error}");
            ensure!(error.message().contains(says), "{container}:{port}: {error}");
            ensure!(error.code() != Code::Internal, "{error}");
        }
        dockctl.run(&["port-forward", "web-1/ghost", "80"]).await?.failed(4)?;
        dockctl.run(&["port-forward", "web-1/ghost", "80:x"]).await?.failed(2)?;
        Ok(())
    });
}

#[test]
fn it_goes_on_when_the_link_is_back() {
    scenario(async |world| {
        let (controller, mut agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = docker.run_on("bridge", "db", SERVERS).await?.name;
        let (running, at) = forward(&dockctl, &[&format!("web-1/{name}"), "0:7"], 1).await?;
        let mut before = echoing(&at[0]).await?;
        agent.process.kill9()?;
        controller.await_state("web-1", AgentState::Offline).await?;
        ensure!(before.read(&mut [0; 8]).await.unwrap_or(0) == 0, "it outlived its link");
        let mut meanwhile = TcpStream::connect(&at[0]).await?;
        ensure!(meanwhile.read(&mut [0; 8]).await.unwrap_or(0) == 0, "there is no agent");
        running.wait_for_log("connection from").await?;
        agent.start_again().await?;
        echoing(&at[0]).await?;
        Ok(())
    });
}

#[test]
fn forwards_that_are_hung_up_leave_nothing_behind() {
    scenario(async |world| {
        let (controller, agent, docker, dockctl) = world.one_host("web-1").await?;
        let name = docker.run_on("bridge", "db", SERVERS).await?.name;
        let (running, at) = forward(&dockctl, &[&format!("web-1/{name}"), "0:7"], 1).await?;
        drop(echoing(&at[0]).await?);
        let mut api = controller.admin().await?.forwards();
        let (before, here) = (Held::by(&controller, &agent).await?, running.open_files()?);
        for n in 0..rounds(50, 1000) {
            // One hangs up as a client of the API, one as whoever connects to dockctl.
            let (queue, requests) = mpsc::channel(1);
            let (agent, container) = ("web-1".to_owned(), name.clone());
            queue
                .send(ForwardPortRequest { agent, container, port: 7, data: Bytes::new() })
                .await?;
            let mut answer = api.forward_port(ReceiverStream::new(requests)).await?.into_inner();
            answer.message().await?;
            let mut stream = TcpStream::connect(&at[0]).await?;
            if n % 2 == 0 {
                stream.write_all(&[1; 1000]).await?;
                stream.read_u8().await?;
            }
        }
        before.again(&controller, &agent).await?;
        await_until("dockctl's sockets to be closed", LONG, async || {
            let now = running.open_files()?;
            ensure!(now <= here, "{now}, and {here} before");
            Ok(Some(()))
        })
        .await
    });
}
