//! Attachments to a container's main process. Called by `serve::exec`. The wait for its exit code is
//! registered before the attachment is made, so that the code is known however soon it ends.

use dockctl_api::{
    error::{reason, status},
    v1::{AttachStart, TerminalSize},
};
use futures_util::{Stream, StreamExt as _};
use serde::Deserialize;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::{
    Engine,
    detach::Keys,
    fault::{Call, Fault},
    hijack, looking, names,
    query::Query,
    raw::Raw,
    session::{AtEnd, End, Input, Output, Outputs, Program, QUEUE, Session, Talk, is_size},
};

const CALL: &str = "POST /containers/{id}/attach";
const WAIT: &str = "POST /containers/{id}/wait";

/// What must be known of a container.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Facts {
    id: String,
    config: Config,
    state: State,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    tty: bool,
    #[serde(default)]
    open_stdin: bool,
    /// Its standard input ends with the first session that had it.
    #[serde(default)]
    stdin_once: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Waited {
    status_code: i32,
}

struct Container {
    engine: Engine,
    id: String,
}

impl Engine {
    /// Attaches and gives the output; the first piece is `Started` or an error. A container that was
    /// created and not started is attached to before it runs, as is one that is to be started again. Dropping the receiver detaches.
    pub(crate) fn attach(
        &self,
        container: String,
        start: AttachStart,
        input: impl Stream<Item = Result<Input, Status>> + Send + 'static,
    ) -> mpsc::Receiver<Result<Output, Status>> {
        let (outputs, received) = mpsc::channel(QUEUE);
        let engine = self.clone();
        tokio::spawn(async move {
            let attached = async {
                tokio::select! {
                    // Between its steps there is nothing to be ended.
                    () = outputs.closed() => Ok(()),
                    done = engine.run_attach(&container, start, input, &outputs) => done,
                }
            };
            if let Err(status) = attached.await {
                let _ = outputs.send(Err(status)).await;
            }
        });
        received
    }

    async fn run_attach(
        &self,
        container: &str,
        start: AttachStart,
        input: impl Stream<Item = Result<Input, Status>> + Send,
        outputs: &Outputs,
    ) -> Result<(), Status> {
        names::container("container", container)?;
        let keys = Keys::parse(&start.detach_keys)?;
        let path = format!("/containers/{container}/json");
        let Facts { id, config, state } = self.look_at(looking(container), &path).await?;
        let condition = condition(&state.status, start.starting)?;
        let told = |fault: &Fault, call| self.wire.status(fault, Call::on(call, container));

        let wait = format!("/containers/{id}/wait?condition={condition}");
        let wait = Raw::request(&self.wire, "POST", &wait, self.limit)
            .await
            .map_err(|fault| told(&fault, WAIT))?;
        let interactive = start.interactive && config.open_stdin;
        let mut query = Query::default();
        for (name, set) in [
            ("stream", true),
            ("stdin", interactive),
            ("stdout", true),
            ("stderr", true),
            ("logs", start.logs),
        ] {
            query.flag(name, set);
        }
        query.add("detachKeys", &start.detach_keys);
        let path = query.on(&format!("/containers/{id}/attach"));
        let hijacked = hijack::open(&self.wire, &path, bytes::Bytes::new(), self.limit).await;
        let (mut reader, mut writer) = hijacked.map_err(|fault| told(&fault, CALL))?;
        let started = Output::Started { exec_id: String::new(), tty: config.tty };
        let _ = outputs.send(Ok(started)).await;

        let program = Container { engine: self.clone(), id };
        if let Some(size) = start.size.filter(|size| config.tty && is_size(size)) {
            program.resize(other(size)).await;
        }
        let session = Session {
            program: &program,
            tty: config.tty,
            size: start.size,
            keys: (config.tty && interactive).then_some(keys),
            // The engine takes the end of a session's input for the session's end, unless the container's
            // ends with it. And a caller who goes away must not close the container's input.
            at_end: match interactive && config.stdin_once && !config.tty {
                true => AtEnd::HalfClose,
                false => AtEnd::Nothing,
            },
            outputs,
        };
        match session.run(&mut reader, &mut writer, input).await {
            Ok(End::Closed) => {}
            Ok(End::Detached | End::HungUp) => return Ok(()),
            Err(Talk::Caller(status)) => return Err(status),
            Err(Talk::Engine(fault)) => return Err(told(&fault, CALL)),
        }
        let waited = std::pin::pin!(wait.json::<Waited>()).next().await;
        let lost = || Fault::Lost("it ended before the container did".to_owned());
        let waited = waited.unwrap_or_else(|| Err(lost())).map_err(|fault| told(&fault, WAIT))?;
        let _ = outputs.send(Ok(Output::Exit(waited.status_code))).await;
        Ok(())
    }
}

/// Another size: a shell that is attached to shows its prompt when its terminal changes, and the size that
/// it has may be ours already. docker's client does so too.
fn other(TerminalSize { rows, columns }: TerminalSize) -> TerminalSize {
    let other = |side: u32| if side < u32::from(u16::MAX) { side + 1 } else { side - 1 };
    TerminalSize { rows: other(rows), columns: other(columns) }
}

/// What to wait for in a container of this status, or why there is nothing to attach to; the sentences
/// are docker's.
fn condition(now: &str, starting: bool) -> Result<&'static str, Status> {
    let why = match now {
        "created" => return Ok("next-exit"),
        "exited" if starting => return Ok("next-exit"),
        "running" => return Ok("not-running"),
        "paused" => "You cannot attach to a paused container, unpause it first",
        "restarting" => "You cannot attach to a restarting container, wait until it is running",
        _ => "You cannot attach to a stopped container, start it first",
    };
    Err(status(Code::FailedPrecondition, reason::DOCKER_ERROR, why, &[("call", CALL)]))
}

impl Program for Container {
    async fn resize(&self, size: TerminalSize) {
        // Checked by `is_size`.
        let side = |n: u32| i32::try_from(n).unwrap_or(0);
        let options = bollard::query_parameters::ResizeContainerTTYOptions {
            h: side(size.rows),
            w: side(size.columns),
        };
        if let Err(error) = self.engine.docker.resize_container_tty(&self.id, options).await {
            tracing::debug!(container = %self.id, %error, "a terminal's size was not set");
        }
    }

    async fn signal(&self, signal: &str) -> Result<(), Status> {
        match self.engine.kill(&self.id, signal).await {
            Err(status) if status.code() != Code::InvalidArgument => {
                tracing::debug!(container = %self.id, %status, "a signal was not sent");
                Ok(())
            }
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminals_other_size_is_one_that_a_terminal_can_have() {
        let size = |rows, columns| TerminalSize { rows, columns };
        assert_eq!(other(size(24, 80)), size(25, 81));
        assert_eq!(other(size(65_535, 1)), size(65_534, 2));
        assert!(!is_size(&size(u32::MAX, 80)) && !is_size(&size(0, 80)));
    }

    #[test]
    fn what_does_not_run_is_told_as_docker_tells_it() {
        assert_eq!(condition("created", false).unwrap(), "next-exit");
        assert_eq!(condition("exited", true).unwrap(), "next-exit");
        assert_eq!(condition("running", true).unwrap(), "not-running");
        for (now, says) in
            [("paused", "unpause it first"), ("restarting", "wait"), ("exited", "start it first")]
        {
            let status = condition(now, false).unwrap_err();
            assert_eq!(status.code(), Code::FailedPrecondition);
            assert!(status.message().contains(says), "{status:?}");
        }
    }
}
