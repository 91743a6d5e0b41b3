//! ForwardService: carries one TCP connection. The two directions do not wait for each other: what the
//! caller sends goes to the container in a task that ends with the answer, and the answer is what is read.

use std::io;

use bytes::{Bytes, BytesMut};
use dockctl_api::{
    PIECE,
    error::{bad_field, reason, status},
    v1::{ForwardPortRequest, ForwardPortResponse, forward_service_server::ForwardService},
};
use futures_util::{StreamExt as _, stream};
use tokio::{
    io::AsyncWriteExt as _,
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Agent, ResponseStream};

#[tonic::async_trait]
impl ForwardService for Agent {
    async fn forward_port(
        &self,
        request: Request<Streaming<ForwardPortRequest>>,
    ) -> Result<Response<ResponseStream<ForwardPortResponse>>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?;
        let first = first.ok_or_else(|| bad_field("container", "the first message is missing"))?;
        let connection = self.engine.connect(&first.container, first.port).await?;
        let (read, write) = connection.into_split();
        let sending = AbortOnDropHandle::new(tokio::spawn(send(first.data, requests, write)));
        let answer = stream::unfold(Way::Open(read, sending), next);
        let open = stream::iter([Ok(ForwardPortResponse::default())]);
        Ok(Response::new(Box::pin(open.chain(answer))))
    }
}

/// Carries what the caller sends until he ends it or the container takes no more.
async fn send(
    first: Bytes,
    mut requests: Streaming<ForwardPortRequest>,
    mut write: OwnedWriteHalf,
) {
    let mut data = first;
    loop {
        if write.write_all(&data).await.is_err() {
            return;
        }
        match requests.message().await {
            Ok(Some(message)) => data = message.data,
            Ok(None) => break,
            // Whoever broke off has not ended what he sends.
            Err(_) => return,
        }
    }
    // A container that has gone needs no end.
    let _ = write.shutdown().await;
}

enum Way {
    Open(OwnedReadHalf, AbortOnDropHandle<()>),
    /// The container has ended; the caller has not.
    Half(AbortOnDropHandle<()>),
    Over,
}

async fn next(way: Way) -> Option<(Result<ForwardPortResponse, Status>, Way)> {
    match way {
        Way::Open(mut from, sending) => match read(&mut from).await {
            Ok(data) if data.is_empty() => {
                Some((Ok(ForwardPortResponse { data }), Way::Half(sending)))
            }
            Ok(data) => Some((Ok(ForwardPortResponse { data }), Way::Open(from, sending))),
            Err(error) => {
                let message = format!("the container's connection broke: {error}");
                let broke = status(Code::Aborted, reason::PORT_CLOSED, message, &[]);
                Some((Err(broke), Way::Over))
            }
        },
        Way::Half(sending) => {
            // Only an abort fails, and nobody else aborts it.
            let _ = sending.await;
            None
        }
        Way::Over => None,
    }
}

/// What is there, as soon as anything is; empty at the end. A connection that says nothing holds no buffer.
async fn read(from: &mut OwnedReadHalf) -> io::Result<Bytes> {
    loop {
        from.readable().await?;
        let mut buffer = BytesMut::with_capacity(PIECE);
        match from.try_read_buf(&mut buffer) {
            Ok(_) if buffer.len() < PIECE / 4 => return Ok(Bytes::copy_from_slice(&buffer)),
            Ok(_) => return Ok(buffer.freeze()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
