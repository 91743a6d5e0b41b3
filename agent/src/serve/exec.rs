//! ExecService: commands in containers, and attachments to them. A session is the engine's; here its
//! pieces become messages.

use dockctl_api::{
    error::bad_field,
    v1::{
        AttachRequest, AttachResponse, ExecRequest, ExecResponse, ExecStarted, attach_request,
        attach_response, exec_request, exec_response, exec_service_server::ExecService,
    },
};
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Agent, ResponseStream};
use crate::engine::{Input, Output};

#[tonic::async_trait]
impl ExecService for Agent {
    async fn exec(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<ResponseStream<ExecResponse>>, Status> {
        use exec_request::Input as Sent;
        let mut requests = request.into_inner();
        let Some(ExecRequest { container, input: Some(Sent::Start(start)), .. }) =
            requests.message().await?
        else {
            return Err(start_missing());
        };
        let input = requests.map(|request| match request?.input {
            Some(Sent::Stdin(data)) => Ok(Input::Stdin(data)),
            Some(Sent::Resize(size)) => Ok(Input::Resize(size)),
            Some(Sent::Signal(signal)) => Ok(Input::Signal(signal)),
            Some(Sent::Start(_)) | None => Err(start_again()),
        });
        respond(self.engine.exec(container, start, input), |output| {
            use exec_response::Output as Message;
            let output = Some(match output {
                Output::Started { exec_id, tty } => Message::Started(ExecStarted { exec_id, tty }),
                Output::Stdout(data) => Message::Stdout(data),
                Output::Stderr(data) => Message::Stderr(data),
                Output::Exit(code) => Message::ExitCode(code),
            });
            ExecResponse { output }
        })
        .await
    }

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<ResponseStream<AttachResponse>>, Status> {
        use attach_request::Input as Sent;
        let mut requests = request.into_inner();
        let Some(AttachRequest { container, input: Some(Sent::Start(start)), .. }) =
            requests.message().await?
        else {
            return Err(start_missing());
        };
        let input = requests.map(|request| match request?.input {
            Some(Sent::Stdin(data)) => Ok(Input::Stdin(data)),
            Some(Sent::Resize(size)) => Ok(Input::Resize(size)),
            Some(Sent::Signal(signal)) => Ok(Input::Signal(signal)),
            Some(Sent::Start(_)) | None => Err(start_again()),
        });
        respond(self.engine.attach(container, start, input), |output| {
            use attach_response::Output as Message;
            let output = Some(match output {
                Output::Started { exec_id, tty } => Message::Started(ExecStarted { exec_id, tty }),
                Output::Stdout(data) => Message::Stdout(data),
                Output::Stderr(data) => Message::Stderr(data),
                Output::Exit(code) => Message::ExitCode(code),
            });
            AttachResponse { output }
        })
        .await
    }
}

/// A session as a response; one that could not begin is an error.
async fn respond<T: Send + 'static>(
    mut outputs: mpsc::Receiver<Result<Output, Status>>,
    message: impl Fn(Output) -> T + Send + 'static,
) -> Result<Response<ResponseStream<T>>, Status> {
    let first = outputs.recv().await.unwrap_or_else(|| Err(Status::internal("it ended unseen")))?;
    let outputs = stream::iter([Ok(first)]).chain(ReceiverStream::new(outputs));
    Ok(Response::new(Box::pin(outputs.map(move |output| output.map(&message)))))
}

fn start_missing() -> Status {
    bad_field("start", "the first message has container and start")
}

fn start_again() -> Status {
    bad_field("input", "each message after the first has one of stdin, resize and signal")
}
