//! A container's port: a TCP connection to the container's address, and one through `dockctl port-forward`, in
//! turn: how fast what the container sends without end comes, and what a round trip takes. Three relays that do
//! nothing but read and write show what of that is the price of three more processes' TCP on this machine.

use std::{
    io::{Read as _, Write as _},
    net,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::{
    engine::PREFIX,
    harness::{AGENT, Bench, Fleet, timed},
    measure::{Caller, Series, alternate_latency},
    report::{Figure, Goal},
};

const NAME: &str = "forward";
/// The port that sends without end, and the one that gives back what it gets.
const FLOOD: u16 = 9;
const ECHO: u16 = 7;
/// How long the servers may take to be there.
const READY: Duration = Duration::from_secs(30);
const MEMORY: Goal = Goal::AtMost(64.0);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspect {
    network_settings: Settings,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(rename = "IPAddress")]
    address: String,
}

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let script =
        format!("nc -ll -p {ECHO} -e cat & nc -ll -p {FLOOD} -e cat /dev/zero & exec sleep 100000");
    let name = format!("{PREFIX}{NAME}");
    let mut docker = bench.docker();
    docker.args(["run", "-d", "--label", "dockctl.bench=1", "--name", &name]);
    docker.args(["dockctl/busybox:test", "sh", "-c", &script]);
    let (_, id) = timed(&mut docker, Stdio::piped()).await?;
    let id = String::from_utf8(id)?.trim().to_owned();
    let inspect: Inspect =
        bench.engine.connect().await?.get_json(&format!("/containers/{id}/json")).await?;
    let address = inspect.network_settings.address;
    ensure!(!address.is_empty(), "the container has no address on the bridge");

    let fleet = Fleet::start(bench).await?;
    let config = fleet.controller.dockctl_login(bench).await?;
    let mut forward = bench.program("dockctl")?;
    forward.env("DOCKCTL_CONFIG", &config).args(["port-forward", &format!("{AGENT}/{name}")]);
    forward.args([format!("0:{ECHO}"), format!("0:{FLOOD}")]).stdout(Stdio::piped());
    let mut forward = forward.kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(forward.stdout.take().context("no standard output")?).lines();
    let [echo, flood] = [next(&mut lines).await?, next(&mut lines).await?];
    let direct = [format!("{address}:{ECHO}"), format!("{address}:{FLOOD}")];

    let mut direct_ping = Echo(ready(&direct[0]).await?);
    let mut forwarded_ping = Echo(ready(&echo).await?);
    let (rounds, calls) = bench.pick((40, 50), (4, 20));
    let (direct_ms, forwarded_ms) =
        alternate_latency(rounds, calls, &mut direct_ping, &mut forwarded_ping).await?;

    let bytes = bench.pick(1_000_000_000, 32_000_000);
    let mut relayed = direct[1].clone();
    for _ in ["agent", "controller", "dockctl"] {
        relayed = relay(relayed)?;
    }
    let [mut direct_speed, mut relayed_speed, mut forwarded_speed] =
        std::array::from_fn(|_| Series::default());
    fleet.agent.forget_peak()?;
    fleet.controller.daemon.forget_peak()?;
    for _ in 0..bench.pick(5, 1) {
        direct_speed.push(read(&direct[1], bytes).await?);
        relayed_speed.push(read(&relayed, bytes).await?);
        forwarded_speed.push(read(&flood, bytes).await?);
    }
    let agent = fleet.agent.peak()?.into();
    let controller = fleet.controller.daemon.peak()?.into();
    bench.engine.remove(&id).await?;
    Ok(vec![
        Figure::ratio("port-forward", "MB/s", ("direct TCP", &direct_speed), &forwarded_speed)
            .goal(Goal::AtLeast(0.7)),
        Figure::ratio(
            "port-forward",
            "MB/s",
            ("three TCP relays", &relayed_speed),
            &forwarded_speed,
        ),
        Figure::added(
            "port-forward, a round trip",
            "ms",
            ("direct TCP", &direct_ms),
            &forwarded_ms,
        )
        .goal(Goal::AtMost(0.5)),
        Figure::alone("agent's peak memory, port-forward", "MiB", &agent).goal(MEMORY),
        Figure::alone("controller's peak memory, port-forward", "MiB", &controller).goal(MEMORY),
    ])
}

/// The address of the next "Forwarding from ADDRESS -> …".
async fn next(
    lines: &mut tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
) -> Result<String> {
    let line = timeout(READY, lines.next_line()).await??.context("port-forward ended")?;
    Ok(line.split_whitespace().nth(2).with_context(|| line.clone())?.to_owned())
}

/// A connection to the echo, once it is there.
async fn ready(address: &str) -> Result<TcpStream> {
    let end = Instant::now() + READY;
    loop {
        let tried = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_all(b"?").await?;
            stream.read_u8().await?;
            anyhow::Ok(stream)
        };
        match tried.await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > end => return Err(error.context(address.to_owned())),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// A relay to an address, without TLS, HTTP or anything else; gives its own address.
fn relay(to: String) -> Result<String> {
    let listener = net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(mut client), Ok(mut server)) = (client, net::TcpStream::connect(&to)) else {
                continue;
            };
            thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = server.read(&mut buffer) {
                    if client.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok(address)
}

struct Echo(TcpStream);

impl Caller for Echo {
    async fn call(&mut self) -> Result<()> {
        self.0.write_all(b"x").await?;
        ensure!(self.0.read_u8().await? == b'x', "another byte came back");
        Ok(())
    }
}

/// Reads that much and hangs up; gives MB/s.
async fn read(address: &str, bytes: usize) -> Result<f64> {
    let mut stream = TcpStream::connect(address).await?;
    let (mut buffer, mut came) = (vec![0; 256 << 10], 0);
    let start = Instant::now();
    while came < bytes {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "{address} ended after {came} bytes");
        came += read;
    }
    Ok(came as f64 / 1e6 / start.elapsed().as_secs_f64())
}
