//! Attachments to a container's main process.

use std::{fs, io::Write as _};

use anyhow::{Context, Result, ensure};
use dockctl_api::v1::{
    AttachRequest, AttachResponse, AttachStart, StartContainerRequest, attach_request::Input,
    attach_response::Output,
};
use dockctl_tests::{Api, Docker, IMAGE, LONG, Signal, await_until, scenario};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Attaches with the API; the sender is the rest of the input.
async fn attached(
    api: &Api,
    container: &str,
    interactive: bool,
) -> Result<(mpsc::Sender<AttachRequest>, Streaming<AttachResponse>)> {
    let (input, requests) = mpsc::channel(1);
    let start = AttachStart { interactive, ..AttachStart::default() };
    let (agent, container) = ("web-1".to_owned(), container.to_owned());
    input.send(AttachRequest { agent, container, input: Some(Input::Start(start)) }).await?;
    let mut stream = api.exec().attach(ReceiverStream::new(requests)).await?.into_inner();
    let first = stream.message().await?.and_then(|m| m.output);
    ensure!(matches!(first, Some(Output::Started(_))), "{first:?}");
    Ok((input, stream))
}

/// A container that was created and not started.
async fn created(docker: &Docker, flags: &[&str], name: &str, script: &str) -> Result<String> {
    let (name, label) = (format!("{}-{name}", docker.label().1), docker.selector());
    let create = ["create", "--network", "none", "--name", &name, "--label", &label];
    docker.cli(&[&create[..], flags, &[IMAGE, "sh", "-c", script]].concat()).await?;
    Ok(name)
}

/// The rest of an attachment: standard output, standard error, and the exit code.
async fn rest(mut stream: Streaming<AttachResponse>) -> Result<(Vec<u8>, Vec<u8>, Option<i32>)> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(message) = stream.message().await? {
        match message.output.context("an empty message")? {
            Output::Stdout(data) => out.extend(data),
            Output::Stderr(data) => err.extend(data),
            Output::ExitCode(code) => return Ok((out, err, Some(code))),
            Output::Started(_) => anyhow::bail!("it has begun twice"),
        }
    }
    Ok((out, err, None))
}

#[test]
fn a_container_that_does_not_run_yet_is_attached_to_and_loses_no_byte_and_no_code() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let _agent = world.agent(&controller, "web-1").await?;
        let (api, docker) = (controller.admin().await?, world.docker());
        for (n, flags) in [&[][..], &["--rm"]].into_iter().enumerate() {
            let script = "echo out; echo err >&2; exit 6";
            let name = created(&docker, flags, &format!("short-{n}"), script).await?;
            let (_input, stream) = attached(&api, &name, false).await?;
            let start = StartContainerRequest { agent: "web-1".into(), container: name.clone() };
            api.containers().start_container(start).await?;
            let (out, err, code) = rest(stream).await?;
            let came = (out.as_slice(), err.as_slice(), code);
            ensure!(came == (b"out\n", b"err\n", Some(6)), "{flags:?}: {came:?}");
        }
        Ok(())
    });
}

#[test]
fn a_container_gets_its_input_its_signals_and_gives_its_exit_code() {
    scenario(async |world| {
        let (_controller, _agent, docker, dockctl) = world.one_host("web-1").await?;
        let reader = created(&docker, &["-i"], "reader", "wc -c; exit 5").await?;
        docker.cli(&["start", &reader]).await?;
        let mut command = dockctl.command(&["attach", &format!("web-1/{reader}")])?;
        let (pipe, mut input) = std::io::pipe()?;
        command.stdin(pipe).stdout(std::process::Stdio::piped());
        let child = command.spawn()?;
        drop(command);
        let ended = spawn_blocking(move || -> std::io::Result<_> {
            input.write_all(&vec![b'x'; 3_000_000])?;
            drop(input);
            child.wait_with_output()
        });
        let ended = ended.await??;
        ensure!(ended.stdout == b"3000000\n" && ended.status.code() == Some(5), "{ended:?}");

        let script = "trap 'echo told; exit 7' USR1 INT; echo ready; while :; do sleep 0.1; done";
        for (flags, code, running) in [
            (&[][..], 7, "false"),
            (&["--sig-proxy=false"], 130, "true"),
            (&["--no-stdin"], 7, "false"),
        ] {
            let name = format!("signalled{}", flags.concat().len());
            let name = docker.run_with(&["-i"], &name, script).await?.name;
            let at_host = format!("web-1/{name}");
            let words = [&["attach"], flags, &[&*at_host]].concat();
            let mut log = dockctl.start(&["logs", "-f", &at_host])?;
            log.wait_for_lines(1).await?;
            log.terminate().await?;
            let mut attached = dockctl.start(&words)?;
            await_until("it to be attached", LONG, async || {
                // From then on SIGINT is not its end.
                let status = fs::read_to_string(format!("/proc/{}/status", attached.pid()))?;
                let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:\t"));
                let caught = u64::from_str_radix(caught.context("no signals")?, 16)?;
                Ok((caught & 0b10 != 0).then_some(()))
            })
            .await?;
            attached.signal(Signal::INT)?;
            ensure!(attached.exit_code().await? == code, "{flags:?}: {}", attached.tail());
            let now = docker.inspect(&name, "{{.State.Running}}").await?;
            ensure!(now == running, "{flags:?}: running is {now}");
        }
        Ok(())
    });
}
