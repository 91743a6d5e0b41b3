//! ExecService: commands in containers, and attachments to them. A session is the engine's; here its
//! pieces become messages.

use dockctl_api::{
    error::bad_field,
    v1::{
        AttachRequest, AttachResponse, ExecRequest, ExecResponse, ExecStarted, attach_request,
        attach_response, exec_request, exec_response, exec_service_server::ExecService,
    },
};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Agent, ResponseStream};
use crate::engine::{Input, Output};

/// What a caller sends after his first message, and what he gets.
macro_rules! messages {
    ($request:ident, $response:ident, $input:ident, $output:ident) => {
        impl TryFrom<$request> for Input {
            type Error = Status;

            fn try_from(request: $request) -> Result<Self, Status> {
                Ok(match request.input {
                    Some($input::Input::Stdin(data)) => Self::Stdin(data),
                    Some($input::Input::Resize(size)) => Self::Resize(size),
                    Some($input::Input::Signal(signal)) => Self::Signal(signal),
                    Some($input::Input::Start(_)) | None => {
                        let why =
                            "each message after the first has one of stdin, resize and signal";
                        return Err(bad_field("input", why));
                    }
                })
            }
        }

        impl From<Output> for $response {
            fn from(output: Output) -> Self {
                let output = Some(match output {
                    Output::Started { exec_id, tty } => {
                        $output::Output::Started(ExecStarted { exec_id, tty })
                    }
                    Output::Stdout(data) => $output::Output::Stdout(data),
                    Output::Stderr(data) => $output::Output::Stderr(data),
                    Output::Exit(code) => $output::Output::ExitCode(code),
                });
                Self { output }
            }
        }
    };
}
messages!(ExecRequest, ExecResponse, exec_request, exec_response);
messages!(AttachRequest, AttachResponse, attach_request, attach_response);

#[tonic::async_trait]
impl ExecService for Agent {
    async fn exec(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<ResponseStream<ExecResponse>>, Status> {
        let (engine, mut requests) = (self.engine(&request), request.into_inner());
        match requests.message().await? {
            Some(ExecRequest {
                container, input: Some(exec_request::Input::Start(start)), ..
            }) => respond(engine.exec(container, start, inputs(requests))).await,
            _ => Err(start_missing()),
        }
    }

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<ResponseStream<AttachResponse>>, Status> {
        let (engine, mut requests) = (self.engine(&request), request.into_inner());
        match requests.message().await? {
            Some(AttachRequest {
                container,
                input: Some(attach_request::Input::Start(start)),
                ..
            }) => respond(engine.attach(container, start, inputs(requests))).await,
            _ => Err(start_missing()),
        }
    }
}

fn inputs<T>(requests: Streaming<T>) -> impl Stream<Item = Result<Input, Status>> + Send + 'static
where
    T: Send + 'static,
    Input: TryFrom<T, Error = Status>,
{
    requests.map(|request| request?.try_into())
}

/// A session as a response; one that could not begin is an error.
async fn respond<T: From<Output> + Send + 'static>(
    mut outputs: mpsc::Receiver<Result<Output, Status>>,
) -> Result<Response<ResponseStream<T>>, Status> {
    let first = outputs.recv().await.unwrap_or_else(|| Err(Status::internal("it ended unseen")))?;
    let outputs = stream::iter([Ok(first)]).chain(ReceiverStream::new(outputs));
    Ok(Response::new(Box::pin(outputs.map(|output| output.map(T::from)))))
}

fn start_missing() -> Status {
    bad_field("start", "the first message has container and start")
}
