//! Long requests against a pretended engine: what ends them, and that nothing is left.

use bytes::Bytes;
use dockctl_api::{
    error::{reason, reason_of},
    v1::PullImageRequest,
};
use futures_util::{StreamExt as _, stream};
use tonic::Code;

use super::{
    fake::{Fake, Reply, error, usual},
    *,
};

fn answers(bytes: &'static [u8]) -> Fake {
    Fake::new(move |request| match request {
        request if request.contains("/images/") => Reply::Raw(bytes.to_vec()),
        other => usual(other),
    })
}

#[tokio::test]
async fn a_saved_image_that_breaks_off_is_an_error_and_no_end() {
    let images = ["a:1".to_owned()];
    let whole =
        answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    let pieces = whole.engine().save_images(&images).await.unwrap();
    let pieces: Vec<_> = pieces.map(|p| p.unwrap()).collect().await;
    assert_eq!(pieces.concat(), b"abc");

    let broken =
        answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n9\r\nde");
    let pieces = broken.engine().save_images(&images).await.unwrap();
    let last = pieces.collect::<Vec<_>>().await.pop().unwrap().unwrap_err();
    assert_eq!(reason_of(&last).as_deref(), Some(reason::DOCKER_DOWN));
}

#[tokio::test]
async fn the_engines_messages_come_as_progress_and_its_failure_as_the_streams() {
    let fake = answers(
        b"HTTP/1.0 200 OK\r\n\r\n{\"status\":\"Waiting\",\"id\":\"a\"}\r\n\r\n\
          {\"errorDetail\":{\"message\":\"no space left\"},\"error\":\"no space left\"}\r\n{\"status\":\"x\"}\n",
    );
    let request = PullImageRequest { image: "r:5000/a:1".to_owned(), ..Default::default() };
    let told: Vec<_> = fake.engine().pull_image(&request).await.unwrap().collect().await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0].as_ref().unwrap().id, "a");
    let failure = told[1].as_ref().unwrap_err();
    assert_eq!(failure.message(), "no space left");
    assert_eq!(reason_of(failure).as_deref(), Some(reason::DOCKER_ERROR));
    let asked = fake.requests().pop().unwrap();
    assert_eq!(asked, "POST /v1.41/images/create?fromImage=r%3A5000%2Fa&tag=1");

    let fake = Fake::new(|request| match request {
        request if request.contains("/images/") => error(404, "manifest unknown"),
        other => usual(other),
    });
    let status = fake.engine().pull_image(&request).await.err().unwrap();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "manifest unknown"));
    let bad = PullImageRequest { image: "../x".to_owned(), ..Default::default() };
    assert!(fake.engine().pull_image(&bad).await.is_err());
}

#[tokio::test]
async fn an_upload_ends_with_its_caller_and_only_whole_ones_are_ended_in_order() {
    let fake = Fake::new(|request| match request {
        request if request.contains("/images/") => Reply::Hang,
        other => usual(other),
    });
    let engine = fake.engine();
    engine.ping().await.unwrap();
    let piece = || stream::iter([Ok(Bytes::from_static(b"some"))]);

    // The caller drops the call.
    let call = engine.load_images(piece().chain(stream::pending()));
    tokio::select! {
        _ = call => panic!("nothing answers"),
        () = fake.connections(2) => {}
    }
    fake.connections(1).await;

    // The caller's stream fails: the engine is hung up on.
    let hung_up = stream::iter([Err(Status::cancelled("the caller hung up"))]);
    assert!(engine.load_images(piece().chain(hung_up)).await.is_err());
    fake.connections(1).await;
    assert_eq!(engine.open_streams(), 0);
}
