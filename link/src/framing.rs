//! gRPC's message framing (1 byte compression flag, 4 bytes length big endian, message) and its
//! trailers. Pure.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dockctl_api::link::v1::End;
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use tonic::{Code, Status, body::Body};

/// Length of the prefix.
pub const PREFIX: usize = 5;

/// Frames one message.
pub fn frame(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(PREFIX + message.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}

/// Encodes and frames one message.
pub fn frame_message(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The buffer grows as needed, so encoding cannot fail.
    let _ = message.encode(&mut out);
    out.freeze()
}

/// The length of the message that these bytes begin. Errors: UNIMPLEMENTED for a compressed one,
/// RESOURCE_EXHAUSTED for one above `limit` bytes.
#[allow(clippy::result_large_err)] // tonic's own error type
pub(crate) fn length(prefix: &[u8], limit: usize) -> Result<usize, Status> {
    let Some([compressed, length @ ..]) = prefix.first_chunk::<PREFIX>() else {
        return Err(Status::internal("no message begins here"));
    };
    if *compressed != 0 {
        return Err(Status::unimplemented("compressed messages are not accepted"));
    }
    let length = u32::from_be_bytes(*length) as usize;
    if length > limit {
        return Err(Status::resource_exhausted(format!(
            "the message has {length} bytes; at most {limit} are accepted"
        )));
    }
    Ok(length)
}

/// Cuts messages out of body pieces that may be cut anywhere.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: BytesMut,
}

impl Deframer {
    /// Adds a piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole message. Errors: those of `length`.
    #[allow(clippy::result_large_err)] // tonic's own error type
    pub fn next(&mut self, limit: usize) -> Result<Option<Bytes>, Status> {
        if self.buffer.len() < PREFIX {
            return Ok(None);
        }
        let length = length(&self.buffer, limit)?;
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        let message = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // Else what the largest message needed would be kept for as long as this lives.
            self.buffer = BytesMut::new();
        }
        Ok(Some(message))
    }

    /// What has not been cut out yet.
    pub fn into_rest(self) -> Bytes {
        self.buffer.freeze()
    }

    /// Whether bytes of an unfinished message are left.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// The answer that a body of framed messages and trailers is.
pub fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The trailers of a call's end.
pub fn trailers(end: &End) -> HeaderMap {
    let status = status_of(end);
    let mut headers = HeaderMap::with_capacity(3);
    if status.add_header(&mut headers).is_err() {
        headers.insert("grpc-status", HeaderValue::from_static("13"));
    }
    headers
}

/// A call's end as a status; Ok stays Ok.
pub fn status_of(end: &End) -> Status {
    Status::with_details(Code::from_i32(end.code), end.message.clone(), end.details.clone())
}

/// A status as a call's end.
pub fn end_of(status: &Status) -> End {
    End {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Bytes::copy_from_slice(status.details()),
    }
}

/// The end of a call in response headers or trailers; None where there is no grpc-status.
pub fn end_in(headers: &HeaderMap) -> Option<End> {
    Status::from_header_map(headers).map(|status| end_of(&status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_survive_the_headers() {
        let end =
            End {
                code: 5, message: "no such ä".into(), details: Bytes::from_static(&[1, 255, 0])
            };
        assert_eq!(end_in(&trailers(&end)), Some(end));
        assert_eq!(end_in(&HeaderMap::new()), None);
        assert_eq!(end_in(&trailers(&End::default())).map(|e| e.code), Some(0));
    }

    #[test]
    fn bombs_are_refused() {
        let mut deframer = Deframer::default();
        deframer.push(&[0, 255, 255, 255, 255]);
        assert_eq!(deframer.next(1024).unwrap_err().code(), Code::ResourceExhausted);
        let mut deframer = Deframer::default();
        deframer.push(&[1, 0, 0, 0, 0]);
        assert_eq!(deframer.next(1024).unwrap_err().code(), Code::Unimplemented);
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
            cuts in prop::collection::vec(1usize..17, 1..50),
        ) {
            let body: Vec<u8> = messages.iter().flat_map(|m| frame(m).to_vec()).collect();
            let (mut deframer, mut out, mut rest) = (Deframer::default(), Vec::new(), body.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                rest = tail;
                deframer.push(piece);
                while let Some(message) = deframer.next(64).unwrap() { out.push(message.to_vec()) }
            }
            prop_assert_eq!(out, messages);
            prop_assert!(!deframer.is_partial());
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut deframer = Deframer::default();
            deframer.push(&bytes);
            while let Ok(Some(_)) = deframer.next(100) {}
        }
    }
}
