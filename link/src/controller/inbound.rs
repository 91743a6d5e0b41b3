//! The frames that an agent sends on Connect. tonic's own reader keeps a buffer of the largest message
//! for as long as the stream lives; with ten thousand agents, each of which has told its inventory once,
//! that is a third of the controller's memory.

use dockctl_api::link::v1::ConnectRequest;
use http_body_util::BodyExt as _;
use prost::Message as _;
use tonic::{Status, body::Body};

use crate::{framing::Deframer, wire};

/// Reads frames.
pub(super) struct Inbound {
    body: Body,
    deframer: Deframer,
}

impl Inbound {
    /// Of a request's body.
    pub(super) fn new(body: Body) -> Self {
        Self { body, deframer: Deframer::default() }
    }

    /// The next frame; None where the agent has ended the stream in order. May be dropped at any time:
    /// the next call goes on where it was. Errors: a message that is too large or malformed, a stream that
    /// broke.
    pub(super) async fn message(&mut self) -> Result<Option<ConnectRequest>, Status> {
        loop {
            if let Some(message) = self.deframer.next(wire::MAX_FRAME)? {
                let malformed = |error| Status::internal(format!("a malformed frame: {error}"));
                return ConnectRequest::decode(message).map(Some).map_err(malformed);
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(piece) = frame?.into_data() {
                        self.deframer.push(&piece);
                    }
                }
                None if self.deframer.is_partial() => {
                    return Err(Status::internal("the stream ended in the middle of a frame"));
                }
                None => return Ok(None),
            }
        }
    }
}
