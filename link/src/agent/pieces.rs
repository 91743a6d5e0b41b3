//! A request's body in pieces of a few kilobytes. HTTP/2 needs memory for the largest frame at the other
//! end, and keeps it; where ten thousand agents have told their inventory once, that is a sixth of the
//! controller's memory. For Connect only: answers go fastest in large pieces.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;
use tonic::{Status, body::Body};

/// The largest piece, bytes: half of what HTTP/2 has room for from the start.
const PIECE: usize = 4 * 1024;

/// The body.
pub(super) struct Pieces {
    body: Body,
    /// What of the last frame has not been passed on.
    rest: Bytes,
}

impl Pieces {
    /// Cuts a body up.
    pub(super) fn new(body: Body) -> Self {
        Self { body, rest: Bytes::new() }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn no_piece_is_large_and_none_is_lost() {
        let sent: Vec<u8> = (0..3 * PIECE + 1).map(|n| (n % 251) as u8).collect();
        let mut body = Pieces::new(Body::new(Full::new(Bytes::from(sent.clone()))));
        let mut came = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE);
            came.extend_from_slice(&piece);
        }
        assert_eq!(came, sent);
        assert!(body.is_end_stream());
    }
}
