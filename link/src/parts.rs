//! The messages of Serve, whose one large field is a piece of a body. Such a piece goes out as it is, behind a
//! few bytes of framing, and comes in as it came in HTTP/2's frames, which may cut it anywhere: it is neither
//! copied nor waited for. Whatever else a message holds is decoded as any other.

use std::{
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use dockctl_api::link::v1::{ServeRequest, ServeResponse};
use futures_util::{Stream, StreamExt as _, stream};
use http_body::{Body as _, Frame};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tonic::{Code, Status, body::Body};

use crate::{
    framing::{self, PREFIX},
    wire,
};

/// A message with a piece of a body.
pub(crate) trait Part: prost::Message + Default {
    /// The piece's field, below 16.
    const FIELD: u32;
    /// A message that is nothing but a piece.
    fn of(piece: Bytes) -> Self;
    /// Takes the piece out.
    fn take(&mut self) -> Bytes;
}

impl Part for ServeRequest {
    const FIELD: u32 = 2;

    fn of(body: Bytes) -> Self {
        Self { body, ..Default::default() }
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.body)
    }
}

impl Part for ServeResponse {
    const FIELD: u32 = 1;

    fn of(body: Bytes) -> Self {
        Self { body, ..Default::default() }
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.body)
    }
}

/// Messages as the frames of a body.
pub(crate) fn frames<P: Part>(
    messages: impl Stream<Item = Result<P, Status>>,
) -> impl Stream<Item = Result<Frame<Bytes>, Status>> {
    messages.flat_map(|message| {
        let frames = match message {
            Ok(message) => framed(message).map(|bytes| Ok(Frame::data(bytes))).map(Some),
            Err(status) => [Some(Err(status)), None],
        };
        stream::iter(frames.into_iter().flatten().filter(|frame| match frame {
            Ok(frame) => frame.data_ref().is_none_or(|data| !data.is_empty()),
            Err(_) => true,
        }))
    })
}

/// A message's framing and all that it holds beside the piece; the piece. HTTP/2 writes both together.
fn framed<P: Part>(mut message: P) -> [Bytes; 2] {
    let piece = message.take();
    let field = match piece.len() {
        0 => 0,
        length => 1 + encoded_len_varint(length as u64) + length,
    };
    let length = message.encoded_len() + field;
    let mut head = BytesMut::with_capacity(PREFIX + length - piece.len());
    head.put_u8(0);
    head.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The buffer grows as needed, so encoding cannot fail.
    let _ = message.encode(&mut head);
    if field > 0 {
        encode_key(P::FIELD, WireType::LengthDelimited, &mut head);
        encode_varint(piece.len() as u64, &mut head);
    }
    [head.freeze(), piece]
}

/// Reads messages from a body; a large piece comes as several.
pub(crate) struct Parts<P> {
    body: Body,
    /// Of the last frame, what has not been looked at.
    ready: Bytes,
    /// The beginning of what is read in whole.
    held: BytesMut,
    state: State,
    message: PhantomData<fn() -> P>,
}

/// What comes next. All numbers are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Prefix,
    /// A message of this length.
    Message(usize),
    /// What is left of a piece, and of the message after it.
    Piece(usize, usize),
    /// A message, or the rest of one, that is decoded in whole.
    Whole(usize),
    /// Nothing: there was an error.
    Over,
}

impl<P: Part> Parts<P> {
    /// Of a request or of an answer.
    pub(crate) fn new(body: Body) -> Self {
        let (ready, held) = Default::default();
        Self { body, ready, held, state: State::Prefix, message: PhantomData }
    }

    /// The next message of what has come.
    #[allow(clippy::result_large_err)] // tonic's own error type
    fn parse(&mut self) -> Result<Option<P>, Status> {
        loop {
            match self.state {
                State::Prefix => {
                    if !self.hold(PREFIX) {
                        return Ok(None);
                    }
                    let length = framing::length(&self.held, wire::MAX_FRAME)?;
                    self.held.clear();
                    self.state = State::Message(length);
                }
                State::Message(length) => match self.field(length) {
                    None => return Ok(None),
                    Some(state) => self.state = state,
                },
                State::Over => return Ok(None),
                State::Piece(0, 0) => self.state = State::Prefix,
                State::Piece(0, after) => self.state = State::Whole(after),
                State::Piece(..) if self.ready.is_empty() => return Ok(None),
                State::Piece(left, after) => {
                    let piece = self.ready.split_to(left.min(self.ready.len()));
                    self.state = State::Piece(left - piece.len(), after);
                    return Ok(Some(P::of(piece)));
                }
                State::Whole(length) => {
                    if !self.hold(length) {
                        return Ok(None);
                    }
                    self.state = State::Prefix;
                    let malformed = |error| Status::internal(format!("a malformed frame: {error}"));
                    return P::decode(self.held.split()).map(Some).map_err(malformed);
                }
            }
        }
    }

    /// Whether a message begins with a piece; None until that can be told.
    fn field(&mut self, length: usize) -> Option<State> {
        let key = (P::FIELD << 3 | WireType::LengthDelimited as u32) as u8;
        let mut piece = 0;
        for at in 0..length.min(MAX_FIELD) {
            if !self.hold(at + 1) {
                return None;
            }
            let byte = self.held[at];
            match at {
                0 if byte != key => break,
                0 => continue,
                _ => piece |= usize::from(byte & 0x7f) << (7 * (at - 1)),
            }
            if byte < 0x80 {
                // One that would be longer than its message is for the decoder to refuse.
                let Some(after) = (length - at - 1).checked_sub(piece) else { break };
                self.held.clear();
                return Some(State::Piece(piece, after));
            }
        }
        Some(State::Whole(length))
    }

    /// Holds this many bytes, if they have come.
    fn hold(&mut self, bytes: usize) -> bool {
        let missing = bytes.saturating_sub(self.held.len()).min(self.ready.len());
        self.held.extend_from_slice(&self.ready.split_to(missing));
        self.held.len() >= bytes
    }
}

/// The longest that a piece's key and length can be, bytes.
const MAX_FIELD: usize = 6;

impl<P: Part> Stream for Parts<P> {
    type Item = Result<P, Status>;

    /// Ends after its first error.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while self.state != State::Over {
            match self.parse() {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Err(status) => {
                    self.state = State::Over;
                    return Poll::Ready(Some(Err(status)));
                }
            }
            let ended = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.ready = data;
                        continue;
                    }
                    Err(frame) => frame.trailers_ref().and_then(Status::from_header_map),
                },
                Some(Err(status)) => Some(status),
                None if self.state != State::Prefix || !self.held.is_empty() => {
                    Some(Status::internal("the stream ended in the middle of a frame"))
                }
                None => None,
            };
            self.state = State::Over;
            let error = ended.filter(|status| status.code() != Code::Ok);
            return Poll::Ready(error.map(Err));
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use dockctl_api::link::v1::End;
    use futures_util::FutureExt as _;
    use http_body_util::{BodyExt as _, StreamBody};
    use proptest::prelude::*;

    use super::*;

    fn body(pieces: Vec<Bytes>) -> Body {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Status>(Frame::data(piece)));
        Body::new(StreamBody::new(stream::iter(frames)))
    }

    fn read<P: Part>(pieces: Vec<Bytes>) -> Vec<Result<P, Code>> {
        let parts = Parts::<P>::new(body(pieces)).map(|part| part.map_err(|s| s.code()));
        parts.collect().now_or_never().unwrap()
    }

    /// All pieces, and what else was said.
    fn told(parts: Vec<Result<ServeRequest, Code>>) -> (Vec<u8>, Vec<ServeRequest>) {
        let mut bytes = Vec::new();
        let rests = parts.into_iter().map(|part| {
            let mut part = part.unwrap();
            bytes.extend_from_slice(&part.take());
            part
        });
        let rests = rests.filter(|rest| *rest != ServeRequest::default()).collect();
        (bytes, rests)
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let refused = |bytes: &[u8]| {
            read::<ServeRequest>(vec![Bytes::copy_from_slice(bytes)]).pop().unwrap().unwrap_err()
        };
        assert_eq!(refused(&[1, 0, 0, 0, 0]), Code::Unimplemented);
        assert_eq!(refused(&[0, 255, 255, 255, 255]), Code::ResourceExhausted);
        assert_eq!(refused(&[0, 0, 0, 0, 3, 0x12, 9, 9]), Code::Internal, "a piece too long");
        assert_eq!(refused(&[0, 0, 0, 0, 1, 0x12]), Code::Internal, "no length");
        assert_eq!(refused(&[0, 0, 0, 0, 9, 0x12, 7, 1]), Code::Internal, "cut off in a piece");
        assert_eq!(refused(&[0, 0]), Code::Internal, "cut off in the prefix");
    }

    #[test]
    fn a_piece_is_passed_on_before_the_message_is_whole() {
        let [head, piece] = framed(ServeRequest::of(Bytes::from(vec![7; 1000])));
        let cut = [head, piece.slice(..600)].concat();
        let mut came = read::<ServeRequest>(vec![cut.into()]);
        assert_eq!(came.pop().unwrap(), Err(Code::Internal));
        assert_eq!(came.pop().unwrap().unwrap().body.len(), 600);
        assert!(came.is_empty());
    }

    proptest! {
        #[test]
        fn any_cut_and_any_encoding_gives_the_same(
            messages in prop::collection::vec(
                (any::<u64>(), prop::collection::vec(any::<u8>(), 0..300), any::<Option<i32>>()), 0..9),
            cuts in prop::collection::vec(1usize..40, 1..50),
            ours in any::<bool>(),
        ) {
            let messages: Vec<_> = messages.into_iter().map(|(call_id, body, end)| ServeRequest {
                call_id,
                body: body.into(),
                end: end.map(|code| End { code, ..Default::default() }),
            }).collect();
            let sent: Vec<u8> = match ours {
                true => {
                    let messages = stream::iter(messages.clone()).map(Ok);
                    let body = Body::new(StreamBody::new(frames(messages)));
                    body.collect().now_or_never().unwrap().unwrap().to_bytes().into()
                }
                false => messages.iter().flat_map(framing::frame_message).collect(),
            };
            let (mut pieces, mut rest) = (Vec::new(), sent.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                pieces.push(Bytes::copy_from_slice(piece));
                rest = tail;
            }
            prop_assert_eq!(told(read(pieces)), told(messages.into_iter().map(Ok).collect()));
        }

        #[test]
        fn garbage_is_an_error_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read::<ServeRequest>(vec![bytes.clone().into()]);
            read::<ServeResponse>(vec![[&[0, 0, 0, 0, 99], &bytes[..]].concat().into()]);
        }
    }
}
