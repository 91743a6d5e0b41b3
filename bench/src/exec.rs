//! A key typed in a container and seen again: through ExecService and on the engine's own hijacked socket,
//! each with a `cat` of its own on a terminal, whose echo is off so that `cat` itself answers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dockctl_api::v1::{
    ExecRequest, ExecResponse, ExecStart, exec_request::Input, exec_response::Output,
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
};
use tonic::Streaming;

use crate::{
    api::Api,
    engine::{Engine, PREFIX},
    harness::{AGENT, Bench, Fleet},
    measure::{Caller, alternate_latency},
    report::{Figure, Goal},
};

const NAME: &str = "exec";
/// Says that it is there when the terminal is as it should be.
const COMMAND: [&str; 3] = ["sh", "-c", "stty raw -echo; echo ready; exec cat"];

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Figure>> {
    let fleet = Fleet::start(bench).await?;
    let id = bench.engine.create(NAME, "exec sleep 100000").await?;
    bench.engine.start(&id).await?;
    let mut direct = Direct::open(&bench.engine, &id).await?;
    let mut dockctl = Through::open(&fleet.controller.client().await?).await?;
    let (direct, dockctl) =
        alternate_latency(bench.pick(40, 4), 25, &mut direct, &mut dockctl).await?;
    bench.engine.remove(&id).await?;
    let figure = Figure::beside("exec, a key and its echo", "ms", ("engine", &direct), &dockctl);
    Ok(vec![figure.goal(Goal::AtMost(5.0))])
}

/// On the engine's socket.
struct Direct(UnixStream);

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "Id")]
    id: String,
}

impl Direct {
    async fn open(engine: &Engine, container: &str) -> Result<Self> {
        let create = json!({
            "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Tty": true,
            "Cmd": COMMAND,
        });
        let path = format!("/containers/{container}/exec");
        let created = engine.connect().await?.post(&path, create.to_string()).await?;
        let Created { id } = serde_json::from_slice(&created)?;
        let body = json!({ "Detach": false, "Tty": true }).to_string();
        let head = format!(
            "POST /exec/{id}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut socket = UnixStream::connect(&engine.socket).await?;
        socket.write_all((head + &body).as_bytes()).await?;
        let mut seen = Vec::new();
        while !seen.ends_with(b"ready\n") {
            let more = tokio::time::timeout(Duration::from_secs(30), socket.read_buf(&mut seen));
            ensure!(more.await?? > 0, "the engine says {}", String::from_utf8_lossy(&seen));
        }
        Ok(Self(socket))
    }
}

impl Caller for Direct {
    async fn call(&mut self) -> Result<()> {
        self.0.write_all(b"x").await?;
        ensure!(self.0.read_u8().await? == b'x', "another key came back");
        Ok(())
    }
}

/// Through controller and agent.
struct Through {
    input: mpsc::Sender<ExecRequest>,
    output: Streaming<ExecResponse>,
}

impl Through {
    async fn open(api: &Api) -> Result<Self> {
        let (input, received) = mpsc::channel(1);
        let start = ExecStart {
            command: COMMAND.map(str::to_owned).into(),
            tty: true,
            interactive: true,
            ..ExecStart::default()
        };
        let (agent, container) = (AGENT.to_owned(), format!("{PREFIX}{NAME}"));
        input.send(ExecRequest { agent, container, input: Some(Input::Start(start)) }).await?;
        let requests = stream::unfold(received, |mut all| async { Some((all.recv().await?, all)) });
        let output = api.exec().exec(requests).await?.into_inner();
        let mut session = Self { input, output };
        let mut seen = Vec::new();
        while !seen.ends_with(b"ready\n") {
            seen.extend(session.next().await?);
        }
        Ok(session)
    }

    /// The next piece of the terminal's output.
    async fn next(&mut self) -> Result<bytes::Bytes> {
        loop {
            let message = self.output.message().await?.context("the session has ended")?;
            match message.output {
                Some(Output::Stdout(data)) => return Ok(data),
                Some(Output::Started(_)) => {}
                other => anyhow::bail!("the session says {other:?}"),
            }
        }
    }
}

impl Caller for Through {
    async fn call(&mut self) -> Result<()> {
        let input = Some(Input::Stdin("x".into()));
        self.input.send(ExecRequest { input, ..ExecRequest::default() }).await?;
        ensure!(self.next().await? == "x", "another key came back");
        Ok(())
    }
}
