//! A gRPC call made of what came otherwise, and the messages of its answer: what JSON and WebSockets share.

use bytes::Bytes;
use dockctl_api::link::v1::End;
use dockctl_link::framing::{self, Deframer};
use futures_util::{Stream, stream};
use http::{HeaderValue, Method, Request, Response, Uri, header, request::Parts};
use http_body_util::BodyExt as _;
use tonic::{Status, body::Body};

/// A call of the rpc at a path, from where a request came, with these of its headers.
pub(super) fn call(head: &Parts, path: Uri, passed: &[&'static str], body: Body) -> Request<Body> {
    let mut call = Request::new(body);
    *call.method_mut() = Method::POST;
    *call.uri_mut() = path;
    *call.extensions_mut() = head.extensions.clone();
    let headers = call.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    for name in passed {
        for value in head.headers.get_all(*name) {
            headers.append(*name, value.clone());
        }
    }
    call
}

/// The messages of a call's answer.
pub(super) struct Messages {
    body: Body,
    deframer: Deframer,
    /// Largest message that is taken, bytes.
    limit: usize,
    /// How the answer has ended; None while it goes on.
    end: Option<Result<(), Status>>,
}

impl Messages {
    /// Of an answer.
    pub(super) fn of(answer: Response<Body>, limit: usize) -> Self {
        let (head, body) = answer.into_parts();
        let end = framing::end_in(&head.headers).map(|end| ended(&end));
        Self { body, deframer: Deframer::default(), limit, end }
    }

    /// All of them; ends with the status of a bad end.
    pub(super) fn stream(self) -> impl Stream<Item = Result<Bytes, Status>> {
        stream::try_unfold(self, async |mut messages| {
            let next = messages.next().await?;
            Ok(next.map(|message| (message, messages)))
        })
    }

    /// The next one; None at a good end. Nothing is lost where it is dropped. Errors: the status of a bad end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.deframer.next(self.limit)? {
                return Ok(Some(message));
            }
            if let Some(end) = &self.end {
                return end.clone().map(|()| None);
            }
            let lost = || Status::unavailable("the answer broke off");
            match self.body.frame().await.ok_or_else(lost)??.into_data() {
                Ok(data) => self.deframer.push(&data),
                Err(frame) => {
                    let end = frame.trailers_ref().and_then(framing::end_in).ok_or_else(lost)?;
                    self.end = Some(ended(&end));
                }
            }
        }
    }
}

fn ended(end: &End) -> Result<(), Status> {
    match end.code {
        0 => Ok(()),
        _ => Err(framing::status_of(end)),
    }
}
