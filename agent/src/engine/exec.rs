//! Commands in running containers. The engine lets a command run on whose caller has gone; here it is
//! ended. Called by `serve::exec`.
//!
//! How it is ended: the command's process group gets SIGHUP, as from a terminal that is closed, and
//! SIGKILL if it still runs after 0.4 s. Docker has no call for that. Where this host has the process and
//! the agent may not send it signals (it need not be root), a shell within the container does. Where the
//! process cannot be seen (an engine on another host, an agent in a container without the host's process
//! numbers), the command has a variable more in its environment, by which that shell finds it. Where the
//! container has no shell either, the command finds its input closed, or ^C and ^D typed on its terminal.

use std::{future::pending, time::Duration};

use bollard::{
    exec::{ResizeExecOptions, StartExecOptions},
    models::ExecConfig,
};
use dockctl_api::{
    error::{bad_field, reason, status},
    v1::{ExecStart, TerminalSize},
};
use futures_util::{Stream, StreamExt as _};
use rustix::process::Signal;
use serde::Deserialize;
use tokio::{
    io::AsyncWriteExt as _,
    sync::mpsc,
    time::{sleep, timeout},
};
use tonic::{Code, Status};

use super::{
    Engine,
    detach::Keys,
    fault::{Call, Fault},
    hijack, names,
    process::{self, Process},
    raw::Raw,
    session::{AtEnd, End, Input, Output, Outputs, Program, QUEUE, Session, Talk, is_size},
    wire::of_bollard,
};

const CREATE: &str = "POST /containers/{id}/exec";
const START: &str = "POST /exec/{id}/start";
const INSPECT: &str = "GET /exec/{id}/json";

/// How long the engine may take to start a command, on a busy host.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long until it is asked again.
const AGAIN: Duration = Duration::from_millis(20);
/// The variable that marks a command whose process cannot be seen from here.
const MARK: &str = "DOCKCTL_EXEC";

/// How long a command may take to end after SIGHUP.
const GRACE: Duration = Duration::from_millis(400);

/// What the engine knows of an exec.
#[derive(Debug, Deserialize)]
struct State {
    #[serde(rename = "Running")]
    running: bool,
    #[serde(rename = "ExitCode")]
    exit_code: Option<i32>,
    /// On the engine's host; 0 before it is started.
    #[serde(rename = "Pid", default)]
    pid: i32,
    #[serde(rename = "ContainerID", default)]
    container_id: String,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Actor")]
    actor: Actor,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "Attributes")]
    attributes: Attributes,
}

#[derive(Deserialize)]
struct Attributes {
    #[serde(rename = "execID", default)]
    exec_id: String,
}

/// An exec that was created.
struct Exec {
    engine: Engine,
    id: String,
    container: String,
    /// The value of its `MARK`, where it has one.
    mark: Option<String>,
}

impl Engine {
    /// Runs a command and gives its output; the first piece is `Started` or an error. Dropping the
    /// receiver ends the command, except a detached one.
    pub(crate) fn exec(
        &self,
        container: String,
        start: ExecStart,
        input: impl Stream<Item = Result<Input, Status>> + Send + 'static,
    ) -> mpsc::Receiver<Result<Output, Status>> {
        let (outputs, received) = mpsc::channel(QUEUE);
        let engine = self.clone();
        // A task, because what a caller began must be ended after he has gone.
        tokio::spawn(async move {
            if let Err(status) = engine.run_exec(container, start, input, &outputs).await {
                let _ = outputs.send(Err(status)).await;
            }
        });
        received
    }

    /// Creating and starting are not given up in between, so that no exec stays behind that never ran.
    async fn run_exec(
        &self,
        container: String,
        mut start: ExecStart,
        input: impl Stream<Item = Result<Input, Status>> + Send,
        outputs: &Outputs,
    ) -> Result<(), Status> {
        names::container("container", &container)?;
        if start.command.is_empty() {
            return Err(bad_field("start.command", "no command was given"));
        }
        let keys = Keys::parse(&start.detach_keys)?;
        let (tty, interactive, detach, size) =
            (start.tty, start.interactive && !start.detach, start.detach, start.size);
        // A detached one is nobody's to end.
        let mark = (!detach && !self.sees(&container).await).then(dockctl_api::new_id);
        start.env.extend(mark.iter().map(|mark| format!("{MARK}={mark}")));
        let exec = Exec { mark, ..self.new_exec(container, config(start)).await? };
        let started = Output::Started { exec_id: exec.id.clone(), tty };

        if detach {
            let options = Some(StartExecOptions { detach, tty, output_capacity: None });
            return match self.docker.start_exec(&exec.id, options).await.map_err(of_bollard) {
                Ok(_) => {
                    let _ = outputs.send(Ok(started)).await;
                    Ok(())
                }
                Err(fault) => exec.not_started(fault, started, outputs).await,
            };
        }

        let json = serde_json::json!({ "Detach": false, "Tty": tty }).to_string();
        let path = format!("/exec/{}/start", exec.id);
        let hijacked = hijack::open(&self.wire, &path, json.into(), self.limit).await;
        let (mut reader, mut writer) = match hijacked {
            Ok(halves) => halves,
            Err(fault) => return exec.not_started(fault, started, outputs).await,
        };
        let _ = outputs.send(Ok(started)).await;
        let session = Session {
            program: &exec,
            tty,
            size,
            keys: (tty && interactive).then_some(keys),
            at_end: match (interactive, tty) {
                (true, false) => AtEnd::HalfClose,
                (true, true) => AtEnd::EndKey,
                (false, _) => AtEnd::Nothing,
            },
            outputs,
        };
        let end = session.run(&mut reader, &mut writer, input).await;
        let ended = match end {
            Ok(End::Detached) => return Ok(()),
            Ok(End::Closed) => tokio::select! {
                code = exec.exit_code() => Some(code),
                () = outputs.closed() => None,
            },
            Ok(End::HungUp) => None,
            Err(Talk::Caller(status)) => Some(Err(status)),
            Err(Talk::Engine(fault)) => Some(Err(exec.fault(&fault, START))),
        };
        if let Some(Ok(code)) = ended {
            let _ = outputs.send(Ok(Output::Exit(code))).await;
            return Ok(());
        }
        drop(reader);
        if !exec.end().await && tty {
            let _ = writer.write_all(b"\x03\x04").await;
        }
        ended.map_or(Ok(()), |failed| failed.map(drop))
    }

    async fn new_exec(&self, container: String, config: ExecConfig) -> Result<Exec, Status> {
        let create = || self.docker.create_exec(&container, config.clone());
        let id = self.act(Call::on(CREATE, &container), self.limit, create).await?.id;
        Ok(Exec { engine: self.clone(), id, container, mark: None })
    }

    /// Whether this host has a container's processes.
    async fn sees(&self, container: &str) -> bool {
        match self.look(container).await {
            Ok(facts) => Process::find(facts.state.pid, &facts.id).is_some(),
            // What is wrong with it is told when the command is made.
            Err(_) => true,
        }
    }
}

fn config(start: ExecStart) -> ExecConfig {
    let text = |text: String| (!text.is_empty()).then_some(text);
    let attach = !start.detach;
    ExecConfig {
        attach_stdin: Some(start.interactive && attach),
        attach_stdout: Some(attach),
        attach_stderr: Some(attach),
        // Engines before API 1.42 do not know it; they are told when it runs.
        console_size: start
            .size
            .filter(|size| start.tty && is_size(size))
            .map(|size| vec![size.rows as usize, size.columns as usize]),
        detach_keys: text(start.detach_keys),
        tty: Some(start.tty),
        env: Some(start.env),
        cmd: Some(start.command),
        privileged: Some(start.privileged),
        user: text(start.user),
        working_dir: text(start.working_dir),
    }
}

/// Where an exec's process is.
enum Found {
    /// It has ended.
    Ended,
    /// Here.
    Here(Process),
    /// Where this host cannot see it.
    Elsewhere,
}

impl Exec {
    fn fault(&self, fault: &Fault, call: &'static str) -> Status {
        self.engine.wire.status(fault, Call::on(call, &self.container))
    }

    async fn state(&self) -> Result<State, Status> {
        let path = format!("/exec/{}/json", self.id);
        self.engine.look_at(Call::on(INSPECT, &self.container), &path).await
    }

    /// Tells of a command that could not be started as docker does: its sentence, and exit code 126 or
    /// 127. (Engines before Docker 25 send the sentence as output.)
    async fn not_started(
        &self,
        fault: Fault,
        started: Output,
        outputs: &Outputs,
    ) -> Result<(), Status> {
        let Fault::Answer { message, .. } = &fault else { return Err(self.fault(&fault, START)) };
        match self.state().await {
            Ok(State { running: false, exit_code: Some(code @ (126 | 127)), .. }) => {
                let sentence = format!("{message}\n").into_bytes().into();
                for output in [started, Output::Stderr(sentence), Output::Exit(code)] {
                    let _ = outputs.send(Ok(output)).await;
                }
                Ok(())
            }
            _ => Err(self.fault(&fault, START)),
        }
    }

    /// The exit code of a command whose output has ended. It may have closed its output before its end.
    async fn exit_code(&self) -> Result<i32, Status> {
        let state = self.state().await?;
        if !state.running {
            return Ok(state.exit_code.unwrap_or(0));
        }
        let filters =
            serde_json::json!({ "event": ["exec_die"], "container": [state.container_id] });
        let path = format!("/events?filters={}", names::encode(&filters.to_string()));
        let events = Raw::open(&self.engine.wire, &path).await;
        let events = events.map_err(|fault| self.fault(&fault, "GET /events"))?.json::<Event>();
        let mut events = std::pin::pin!(events);
        loop {
            // Asked only after the events are listened to, so that none is missed.
            let state = self.state().await?;
            if !state.running {
                return Ok(state.exit_code.unwrap_or(0));
            }
            loop {
                match events.next().await {
                    Some(Ok(event)) if event.actor.attributes.exec_id == self.id => break,
                    Some(Ok(_)) => {}
                    Some(Err(fault)) => return Err(self.fault(&fault, "GET /events")),
                    None => {
                        let lost = Fault::Lost("it ended".to_owned());
                        return Err(self.fault(&lost, "GET /events"));
                    }
                }
            }
        }
    }

    /// Looks for the command's process, once the engine has started it.
    async fn find(&self) -> Result<Found, Status> {
        let started = async {
            loop {
                let state = self.state().await?;
                // Until it is started it does not run, and has no code either.
                if state.exit_code.is_some() || (state.running && state.pid > 0) {
                    return Ok::<_, Status>(state);
                }
                // The engine answers this one only when the command is being started; what it answers where
                // there is no terminal is of no interest. No event tells when it has the number.
                self.resize(TerminalSize { rows: 24, columns: 80 }).await;
                sleep(AGAIN).await;
            }
        };
        let Ok(state) = timeout(START_LIMIT, started).await else { return Ok(Found::Elsewhere) };
        let state = state?;
        if !state.running {
            return Ok(Found::Ended);
        }
        Ok(match (Process::find(state.pid, &state.container_id), &self.mark) {
            (Some(process), _) => Found::Here(process),
            // This host has the container's processes, so that one which is not there has ended.
            (None, None) => Found::Ended,
            (None, Some(_)) => Found::Elsewhere,
        })
    }

    /// Ends the command; see the module's head. Tells whether it could.
    async fn end(&self) -> bool {
        let end = async {
            let found = self.find().await?;
            self.send(&found, Signal::HUP).await?;
            let ended = async {
                match &found {
                    Found::Ended => {}
                    Found::Here(process) => process.ended().await,
                    Found::Elsewhere => {
                        if self.exit_code().await.is_err() {
                            pending().await
                        }
                    }
                }
            };
            match timeout(GRACE, ended).await {
                Ok(()) => Ok(()),
                Err(_) => self.send(&found, Signal::KILL).await,
            }
        };
        let ended: Result<(), Status> = end.await;
        if let Err(status) = &ended {
            tracing::warn!(container = %self.container, %status, "a command may run on whose caller has gone");
        }
        ended.is_ok()
    }

    /// Sends the command's process group a signal. One that has ended is no error.
    async fn send(&self, found: &Found, signal: Signal) -> Result<(), Status> {
        let number = signal.as_raw();
        let script = match (found, &self.mark) {
            (Found::Ended, _) => return Ok(()),
            (Found::Here(process), _) => match (process.signal(signal), process.inside) {
                (Ok(()), _) => return Ok(()),
                (Err(_), Some(inside)) => format!("p={inside}; {}", kill(number)),
                (Err(_), None) => return Err(out_of_reach()),
            },
            // Its children have the variable as well; it is the one whose parent is not in the container.
            (Found::Elsewhere, Some(mark)) => format!(
                "for e in $(grep -ls {MARK}={mark} /proc/[0-9]*/environ); do \
                 d=${{e%/environ}}; p=${{d#/proc/}}; \
                 if grep -q '^PPid:.0$' $d/status; then {}; exit; fi; done; exit 1",
                kill(number)
            ),
            (Found::Elsewhere, None) => return Err(out_of_reach()),
        };
        let sent = self.script(script).await;
        // It may have ended by itself meanwhile.
        match matches!(sent, Ok(0)) || matches!(self.find().await, Ok(Found::Ended)) {
            true => Ok(()),
            false => Err(out_of_reach()),
        }
    }

    /// Has a shell within the container run a script, as root; its exit code.
    async fn script(&self, script: String) -> Result<i32, Status> {
        let config = ExecConfig {
            cmd: Some(vec!["sh".to_owned(), "-c".to_owned(), script]),
            user: Some("0".to_owned()),
            ..ExecConfig::default()
        };
        let exec = self.engine.new_exec(self.container.clone(), config).await?;
        let options = StartExecOptions { detach: true, ..StartExecOptions::default() };
        let start = || self.engine.docker.start_exec(&exec.id, Some(options));
        self.engine.act(Call::on(START, &self.container), self.engine.limit, start).await?;
        exec.exit_code().await
    }
}

/// The shell's words that send process group `$p`, or where it leads none that process, a signal.
fn kill(number: i32) -> String {
    format!("kill -{number} -$p || kill -{number} $p")
}

fn out_of_reach() -> Status {
    let why = "no signal reaches this command: the agent does not see its process (in a container it needs \
               `pid: host`) or may not send it one, and the container has no shell that would";
    status(Code::FailedPrecondition, reason::DOCKER_ERROR, why, &[("call", START)])
}

impl Program for Exec {
    async fn resize(&self, size: TerminalSize) {
        // Checked by `is_size`.
        let (height, width) =
            (u16::try_from(size.rows).unwrap_or(0), u16::try_from(size.columns).unwrap_or(0));
        let resize = self.engine.docker.resize_exec(&self.id, ResizeExecOptions { height, width });
        if let Err(error) = resize.await {
            tracing::debug!(container = %self.container, %error, "a terminal's size was not set");
        }
    }

    async fn signal(&self, signal: &str) -> Result<(), Status> {
        let number = process::signal(signal)
            .ok_or_else(|| bad_field("signal", format!("invalid signal: {signal}")))?;
        self.send(&self.find().await?, number).await
    }
}
