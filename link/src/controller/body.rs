//! The answer of a forwarded call as an HTTP response body. Nothing is buffered: when the caller does
//! not read, the Serve stream is not read, and HTTP/2's windows hold the agent back.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use dockctl_api::{
    error,
    link::v1::{CallResult, End, ServeRequest},
};
use futures_util::Stream as _;
use http::Response;
use http_body::Frame;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::DropGuard;
use tonic::{Status, body::Body};

use super::session::{Pending, Served};
use crate::{framing, parts::Parts};

/// An answer.
pub(super) struct Answer {
    /// Body that is here already.
    ready: Bytes,
    /// How the call ended, once known.
    end: Option<End>,
    /// The rest of the answer; None when it is all here.
    stream: Option<Box<Stream>>,
    finished: bool,
}

struct Stream {
    inbound: Parts<ServeRequest>,
    pending: Pending,
    deadline: Option<Pin<Box<Sleep>>>,
    _done: DropGuard,
}

impl Answer {
    /// A whole answer that came inline.
    pub(super) fn inline(result: CallResult) -> Self {
        let end = Some(result.end.unwrap_or_default());
        Self { ready: result.body, end, stream: None, finished: false }
    }

    /// An answer that comes on a Serve stream.
    pub(super) fn stream(served: Served, pending: Pending, deadline: Option<Instant>) -> Self {
        let Served { first, inbound, done } = served;
        let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
        let stream = Stream { inbound, pending, deadline, _done: done };
        Self { ready: first.body, end: first.end, stream: Some(Box::new(stream)), finished: false }
    }

    /// The HTTP response that carries it.
    pub(super) fn into_response(self) -> Response<Body> {
        framing::response(Body::new(self))
    }

    fn finish(&mut self, end: &End) -> Frame<Bytes> {
        self.finished = true;
        if let Some(mut stream) = self.stream.take() {
            stream.pending.ended();
        }
        Frame::trailers(framing::trailers(end))
    }

    /// Ends an answer that the agent has not ended; dropping the stream cancels the call.
    fn give_up(&mut self, status: &Status) -> Frame<Bytes> {
        self.finished = true;
        self.stream = None;
        Frame::trailers(framing::trailers(&framing::end_of(status)))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if self.finished {
                return Poll::Ready(None);
            }
            if !self.ready.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.ready)))));
            }
            if let Some(end) = self.end.take() {
                return Poll::Ready(Some(Ok(self.finish(&end))));
            }
            let Some(stream) = self.stream.as_mut() else { return Poll::Ready(None) };
            if stream.deadline.as_mut().is_some_and(|at| at.as_mut().poll(cx).is_ready()) {
                let status = stream.pending.session.too_late(error::MAYBE_RAN);
                return Poll::Ready(Some(Ok(self.give_up(&status))));
            }
            match ready!(Pin::new(&mut stream.inbound).poll_next(cx)) {
                Some(Ok(message)) => {
                    self.ready = message.body;
                    self.end = message.end;
                }
                // A link that breaks must end the user's call, not its connection.
                None | Some(Err(_)) => {
                    let status = stream.pending.session.offline(error::MAYBE_RAN);
                    return Poll::Ready(Some(Ok(self.give_up(&status))));
                }
            }
        }
    }
}
