//! DockerService: a connection of a Docker client, as a pipe to the engine's tunnel.

use bytes::BytesMut;
use dockctl_api::{
    PIECE,
    v1::{ConnectDockerRequest, ConnectDockerResponse, docker_service_server::DockerService},
};
use dockctl_link::agent::CallContext;
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Request, Response, Status, Streaming};

use super::{Agent, ResponseStream};
use crate::engine::Caller;

/// What is buffered of a connection each way, bytes.
const BUFFER: usize = 256 << 10;

#[tonic::async_trait]
impl DockerService for Agent {
    async fn connect_docker(
        &self,
        request: Request<Streaming<ConnectDockerRequest>>,
    ) -> Result<Response<ResponseStream<ConnectDockerResponse>>, Status> {
        self.engine.check_docker_api()?;
        let caller = request.extensions().get::<CallContext>().map_or_else(Caller::default, |c| {
            Caller { principal: c.principal.clone(), request_id: c.request_id.clone() }
        });
        let (ours, client) = tokio::io::duplex(BUFFER);
        let (from, to) = tokio::io::split(ours);
        let (engine, gone) = (self.engine.clone(), CancellationToken::new());
        let pieces = request.into_inner();
        let work = AbortOnDropHandle::new(tokio::spawn(async move {
            let served = engine.serve_docker_client(client, caller, gone.clone());
            tokio::join!(take(pieces, to, gone), served)
        }));
        // The work ends with the stream.
        let pieces =
            stream::unfold((from, BytesMut::new(), work), async |(mut from, mut buffer, work)| {
                if buffer.capacity() < PIECE / 16 {
                    buffer.reserve(PIECE);
                }
                let read = from.read_buf(&mut buffer).await.unwrap_or(0);
                let piece = ConnectDockerResponse { data: buffer.split().freeze() };
                (read > 0).then_some((Ok(piece), (from, buffer, work)))
            });
        let answers = stream::iter([Ok(ConnectDockerResponse::default())]).chain(pieces);
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Writes what the client sends into the pipe, and closes that where the client has closed its side.
async fn take(
    mut pieces: Streaming<ConnectDockerRequest>,
    mut to: impl AsyncWrite + Unpin,
    gone: CancellationToken,
) {
    while let Ok(Some(piece)) = pieces.message().await {
        if to.write_all(&piece.data).await.is_err() {
            return; // The connection has ended, and the call ends with it.
        }
    }
    let _ = to.shutdown().await;
    gone.cancel();
}
