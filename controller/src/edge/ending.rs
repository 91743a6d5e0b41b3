//! A stream that can be ended from outside, also while its reader does not read: what feeds it is dropped then,
//! which cancels the call behind it, and the reader finds the reason at the end of what he has.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use dockctl_link::framing;
use http_body::{Body as HttpBody, Frame};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, body::Body};

/// An answer's body that ends early with the status that `reason` resolves to. `held` goes with it.
pub(super) fn until(
    body: Body,
    reason: impl Future<Output = Status> + Send + 'static,
    held: impl Send + Sync + Unpin + 'static,
) -> Body {
    let state = Arc::new(Mutex::new(State::Open { body, reader: None }));
    let shared = state.clone();
    let ending = AbortOnDropHandle::new(tokio::spawn(async move {
        let status = reason.await;
        let before = {
            let mut state = lock(&shared);
            let has_ended = matches!(*state, State::Ended);
            let next = if has_ended { State::Ended } else { State::Cut(status) };
            std::mem::replace(&mut *state, next)
        };
        if let State::Open { reader: Some(reader), .. } = before {
            reader.wake();
        }
    }));
    Body::new(Ending { state, held, _ending: ending })
}

enum State {
    /// It goes on; who waits for more.
    Open { body: Body, reader: Option<Waker> },
    /// It was ended, which the reader is still to be told.
    Cut(Status),
    /// The reader knows.
    Ended,
}

struct Ending<H> {
    state: Arc<Mutex<State>>,
    #[allow(dead_code)] // dropped with the body
    held: H,
    _ending: AbortOnDropHandle<()>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<H: Unpin> HttpBody for Ending<H> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut state = lock(&self.state);
        match &mut *state {
            State::Open { body, reader } => match Pin::new(body).poll_frame(cx) {
                Poll::Pending => {
                    *reader = Some(cx.waker().clone());
                    Poll::Pending
                }
                Poll::Ready(None) => {
                    *state = State::Ended;
                    Poll::Ready(None)
                }
                ready => ready,
            },
            State::Cut(status) => {
                let trailers = framing::trailers(&framing::end_of(status));
                *state = State::Ended;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            State::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&*lock(&self.state), State::Ended)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::sync::oneshot;

    use super::*;

    /// A body that gives one piece and then nothing; and what tells that it was dropped.
    fn endless() -> (Body, oneshot::Receiver<()>) {
        let (alive, dropped) = oneshot::channel::<()>();
        let pieces = stream::iter([Ok::<_, Status>(Frame::data(Bytes::from_static(b"piece")))]);
        let pieces = pieces.chain(stream::pending()).map(move |piece| {
            let _ = &alive;
            piece
        });
        (Body::new(StreamBody::new(pieces)), dropped)
    }

    #[tokio::test]
    async fn who_reads_is_told_why_it_ends() {
        let (body, _) = endless();
        let (end, ended) = oneshot::channel::<Status>();
        let mut body = until(body, async { ended.await.unwrap() }, ());
        assert!(body.frame().await.unwrap().unwrap().is_data());
        let reading = tokio::spawn(async move {
            let last = body.frame().await.unwrap().unwrap();
            (
                framing::end_in(last.trailers_ref().unwrap()).unwrap().code,
                body.frame().await.is_none(),
            )
        });
        tokio::task::yield_now().await;
        end.send(Status::permission_denied("no more")).unwrap();
        assert_eq!(reading.await.unwrap(), (7, true));
    }

    #[tokio::test]
    async fn what_nobody_reads_is_dropped_all_the_same() {
        let (body, dropped) = endless();
        let unread = until(body, async { Status::permission_denied("no more") }, ());
        dropped.await.unwrap_err();
        drop(unread);
    }

    #[tokio::test]
    async fn what_is_held_goes_with_the_body() {
        let (body, _) = endless();
        let (held, gone) = oneshot::channel::<()>();
        drop(until(body, std::future::pending(), held));
        gone.await.unwrap_err();
    }
}
