//! The engine's handle against a pretended engine: what faults are told as, which version is spoken,
//! and that hanging up ends the work.

use std::sync::atomic::{AtomicBool, Ordering};

use dockctl_api::{
    error::{MAYBE_RAN, NOT_SENT, RAN, metadata_of, reason, reason_of},
    v1::{StreamEventsRequest, StreamLogsRequest},
};
use futures_util::StreamExt as _;
use tonic::Code;

use super::{
    fake::{Fake, Reply, error, usual, version},
    *,
};

fn is(result: Result<impl Sized, Status>, code: Code, reason: &str) -> Status {
    let status = result.err().expect("an error");
    assert_eq!((status.code(), reason_of(&status).as_deref()), (code, Some(reason)), "{status:?}");
    status
}

fn all() -> ListQuery {
    ListQuery { all: true, ..ListQuery::default() }
}

#[tokio::test]
async fn an_engine_that_is_down_says_so_and_is_found_again() {
    let engine =
        Engine::new(EngineOptions { host: "unix:///nonexistent/docker.sock".into() }).unwrap();
    let status = is(engine.ping().await, Code::Unavailable, reason::DOCKER_DOWN);
    assert!(status.message().contains("dockerd running"), "{status:?}");

    let fake = Fake::new(usual);
    let engine = fake.engine();
    engine.ping().await.unwrap();
    fake.stop();
    is(engine.ping().await, Code::Unavailable, reason::DOCKER_DOWN);
    is(engine.start("web").await, Code::Unavailable, reason::DOCKER_DOWN);
    fake.answer(|request| match request {
        "GET /version" => version("1.44", "1.44"),
        other => usual(other),
    });
    fake.start();
    engine.ping().await.unwrap();
    assert_eq!(fake.requests().last().unwrap(), "GET /v1.44/_ping", "negotiated anew");
}

#[tokio::test]
async fn a_call_that_fails_says_whether_it_reached_docker() {
    let ran = async |engine: &Engine| {
        let result = engine.stop("web", &StopOptions::default()).await;
        metadata_of(&is(result, Code::Unavailable, reason::DOCKER_DOWN), RAN).unwrap()
    };
    // Docker goes away at the n-th request of a stop: the version, the look at its grace time, itself.
    for (request, said) in [
        ("GET /version", NOT_SENT),
        ("GET /containers/web/json", NOT_SENT),
        ("POST /containers/web/stop", MAYBE_RAN),
    ] {
        let fake = Fake::new(move |asked| match asked {
            asked if asked.starts_with(request) => Reply::Raw(Vec::new()),
            "GET /containers/web/json" => Reply::Json(
                200,
                r#"{"Id":"3f2a","Config":{"Tty":false},"State":{"Running":true,"StartedAt":""}}"#
                    .into(),
            ),
            other => usual(other),
        });
        assert_eq!(ran(&fake.engine()).await, said, "{request}");
        fake.asked(request.split_once(' ').unwrap().1).await;
    }
    let fake = Fake::new(usual);
    fake.stop();
    assert_eq!(ran(&fake.engine()).await, NOT_SENT);
}

#[tokio::test]
async fn a_proxy_that_refuses_a_call_is_named_with_the_call() {
    let fake = Fake::new(|request| match request {
        "POST /containers/web/start" => Reply::Json(403, "<h1>403 Forbidden</h1>".into()),
        "GET /containers/web/json" => Reply::Json(403, String::new()),
        other => usual(other),
    });
    let status =
        is(fake.engine().start("web").await, Code::PermissionDenied, reason::DOCKER_REFUSED);
    assert_eq!(metadata_of(&status, "call").as_deref(), Some("POST /containers/{id}/start"));
    is(fake.engine().inspect("web", false).await, Code::PermissionDenied, reason::DOCKER_REFUSED);
}

#[tokio::test]
async fn the_engines_own_errors_keep_their_sentence() {
    let fake = Fake::new(|request| match request {
        "POST /containers/gone/start" => error(404, "No such container: gone"),
        "POST /containers/ab/start" => error(500, "Multiple IDs found with provided prefix: ab"),
        "POST /containers/busy/kill?signal=SIGKILL" => error(409, "Container busy is not running"),
        "POST /containers/port/start" => error(500, "port is already allocated"),
        other => usual(other),
    });
    let engine = fake.engine();
    is(engine.start("gone").await, Code::NotFound, reason::CONTAINER_NOT_FOUND);
    is(engine.start("ab").await, Code::FailedPrecondition, reason::AMBIGUOUS);
    let status = is(engine.kill("busy", "").await, Code::FailedPrecondition, reason::DOCKER_ERROR);
    assert_eq!(status.message(), "Container busy is not running");
    let status = is(engine.start("port").await, Code::FailedPrecondition, reason::DOCKER_ERROR);
    assert_eq!(status.message(), "port is already allocated");
    is(engine.start("../info").await, Code::InvalidArgument, reason::BAD_FIELD);
    assert!(!fake.requests().iter().any(|r| r.contains("info")), "nothing of it was sent");
}

#[tokio::test(start_paused = true)]
async fn what_takes_long_in_docker_has_its_callers_time() {
    let fake = Fake::new(|request| match request {
        "GET /version" => version("1.41", "1.12"),
        _ => Reply::Late(Duration::from_secs(40), "[]".into()),
    });
    let engine = fake.engine();
    let patient = engine.until(Some(Instant::now() + Duration::from_secs(60)));
    assert!(patient.diff("web").await.unwrap().is_empty());
    patient.start("web").await.unwrap();
    assert_eq!(patient.inspect("web", false).await.unwrap().as_ref(), "[]");
    // One who waits no longer than usual shares the same answer, and goes when his time is over.
    let hurried = engine.until(Some(Instant::now() + Duration::from_secs(5)));
    for (engine, seconds) in [(&engine, 30), (&hurried, 30)] {
        let (long, short) =
            tokio::join!(patient.inspect("web", false), engine.inspect("web", false));
        assert!(long.is_ok());
        for late in [short.map(drop), engine.diff("web").await.map(drop), engine.start("web").await]
        {
            let status = is(late, Code::Unavailable, reason::DOCKER_DOWN);
            let sentence = format!("within {seconds} s");
            assert!(status.message().ends_with(&sentence), "{status:?}");
        }
    }
    // What has no end ends after ten minutes, whatever its caller says.
    fake.answer(|_| Reply::Hang);
    let endless = engine.until(Some(Instant::now() + Duration::from_secs(86_400)));
    let status = is(endless.diff("web").await, Code::Unavailable, reason::DOCKER_DOWN);
    assert!(status.message().ends_with("within 600 s"), "{status:?}");
}

#[tokio::test]
async fn an_answer_that_is_too_long_says_so() {
    let fake = Fake::new(|request| match request {
        "GET /version" => version("1.41", "1.12"),
        _ => Reply::Json(200, format!("\"{}\"", "x".repeat(64 << 20))),
    });
    let engine = fake.engine();
    for (result, ran) in [
        (engine.diff("web").await.map(drop), None),
        (engine.inspect("web", false).await.map(drop), None),
        (engine.disk_usage().await.map(drop), None),
        (engine.prune_containers(&[]).await.map(drop), Some(MAYBE_RAN)),
    ] {
        let status = is(result, Code::ResourceExhausted, reason::DOCKER_ERROR);
        assert!(status.message().ends_with("is longer than 64 MiB"), "{status:?}");
        assert_eq!(metadata_of(&status, RAN).as_deref(), ran, "{status:?}");
    }
}

#[tokio::test]
async fn what_is_not_docker_is_no_reason_to_panic() {
    for bytes in
        [&b"SSH-2.0-OpenSSH_9\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{{{"]
    {
        let fake = Fake::new(move |_| Reply::Raw(bytes.to_vec()));
        is(fake.engine().version().await, Code::Internal, reason::DOCKER_ERROR);
    }
    let fake = Fake::new(|_| Reply::Raw(Vec::new()));
    is(fake.engine().version().await, Code::Unavailable, reason::DOCKER_DOWN);
    let fake = Fake::new(|request| match request {
        "GET /version" => version("1.41", "1.12"),
        _ => Reply::Raw(b"SSH-2.0-OpenSSH_9\r\n\r\n".to_vec()),
    });
    let events = fake.engine().events(&StreamEventsRequest::default()).await;
    is(events, Code::Internal, reason::DOCKER_ERROR);
}

#[tokio::test]
async fn versions_are_negotiated() {
    let spoken = |newest: &'static str, oldest: &'static str| async move {
        let fake = Fake::new(move |request| match request {
            "GET /version" => version(newest, oldest),
            other => usual(other),
        });
        let result = fake.engine().ping().await;
        (result.map(|_| ()), fake.requests().pop().unwrap())
    };
    assert_eq!(spoken("1.41", "1.12").await.1, "GET /v1.41/_ping");
    assert_eq!(spoken("1.99", "1.44").await.1, "GET /v1.53/_ping");
    let old = spoken("1.40", "1.12").await.0;
    assert!(is(old, Code::FailedPrecondition, reason::DOCKER_ERROR).message().contains("20.10"));
    let new = spoken("1.99", "1.98").await.0;
    let status = is(new, Code::FailedPrecondition, reason::DOCKER_ERROR);
    assert!(status.message().contains("update the agent"));
}

#[tokio::test]
async fn an_engine_exchanged_under_our_feet_is_negotiated_with_anew() {
    let fake = Fake::new(usual);
    let engine = fake.engine();
    engine.ping().await.unwrap();
    // The answer of Docker 29 to what it no longer speaks.
    let too_old = "client version 1.41 is too old. Minimum supported API version is 1.44";
    let refused = AtomicBool::new(false);
    fake.answer(move |request| match request {
        "GET /version" => version("1.50", "1.44"),
        "POST /containers/web/start" if !refused.swap(true, Ordering::SeqCst) => {
            error(400, too_old)
        }
        "POST /containers/web/start" => Reply::Json(204, String::new()),
        other => usual(other),
    });
    engine.start("web").await.unwrap();
    assert_eq!(fake.requests().last().unwrap(), "POST /v1.50/containers/web/start");
}

#[tokio::test]
async fn a_proxy_may_hide_the_version() {
    let fake = Fake::new(|request| match request {
        "GET /version" => Reply::Json(403, String::new()),
        "GET /_ping" => Reply::Raw(
            b"HTTP/1.1 200 OK\r\nApi-Version: 1.47\r\nContent-Length: 2\r\n\r\nOK".to_vec(),
        ),
        "GET /info" => Reply::Json(200, "{}\n".into()),
        other => usual(other),
    });
    assert_eq!(fake.engine().info().await.unwrap(), "{}");
    assert!(fake.requests().contains(&"GET /v1.47/info".to_owned()));
}

#[tokio::test]
async fn an_old_engine_does_not_silently_ignore_the_stop_signal() {
    let fake = Fake::new(usual);
    let options = StopOptions { signal: "SIGINT".into(), ..StopOptions::default() };
    let status = is(
        fake.engine().stop("web", &options).await,
        Code::FailedPrecondition,
        reason::DOCKER_ERROR,
    );
    assert!(status.message().contains("1.41"));
}

#[tokio::test]
async fn a_kept_connection_that_closed_costs_nothing() {
    let fake = Fake::new(usual);
    let engine = fake.engine();
    engine.ping().await.unwrap();
    fake.cut();
    fake.connections(0).await;
    engine.ping().await.unwrap();
}

#[tokio::test]
async fn eight_callers_share_calls() {
    let fake = Fake::new(|request| match request {
        _ if request.starts_with("GET /containers/json") => Reply::Json(200, "[]".into()),
        other => usual(other),
    });
    let engine = fake.engine();
    let callers = (0..8).map(|_| engine.list_containers(all()));
    for list in futures_util::future::join_all(callers).await {
        assert!(list.unwrap().is_empty());
    }
    let lists = fake.requests().iter().filter(|r| r.contains("/containers/json")).count();
    assert_eq!(lists, 2, "the first caller's, and one for the seven that came during it");
}

#[tokio::test]
async fn hanging_up_ends_a_call_at_the_engine() {
    let fake = Fake::new(|request| match request {
        "GET /version" => version("1.41", "1.12"),
        _ => Reply::Hang,
    });
    let engine = fake.engine();
    let caller = engine.clone();
    let listing = tokio::spawn(async move { caller.list_containers(all()).await.map(|_| ()) });
    fake.asked("/containers/json").await;
    listing.abort();
    let caller = engine.clone();
    let starting = tokio::spawn(async move { caller.start("web").await });
    fake.asked("/start").await;
    starting.abort();
    // Only the kept connection of GET /version may stay, and the list took it over.
    fake.connections(0).await;
}

fn container(tty: bool, running: bool) -> Reply {
    let json = serde_json::json!({
        "Id": "aa", "Config": { "Tty": tty }, "State": { "Running": running, "StartedAt": "t" }
    });
    Reply::Json(200, json.to_string())
}

fn frame(stream: u8, data: &str) -> Vec<u8> {
    let mut frame = vec![stream, 0, 0, 0, 0, 0, 0, u8::try_from(data.len()).unwrap()];
    frame.extend_from_slice(data.as_bytes());
    frame
}

fn log(follow: bool) -> StreamLogsRequest {
    StreamLogsRequest { container: "web".into(), follow, ..StreamLogsRequest::default() }
}

/// Reads a log to its end.
async fn read(fake: &Fake, follow: bool) -> (String, Option<Status>) {
    let engine = fake.engine();
    let mut log = Box::pin(engine.logs(&log(follow)).await.unwrap());
    let (mut text, mut end) = (String::new(), None);
    while let Some(records) = log.next().await {
        match records {
            Ok(records) => text.extend(records.iter().map(|r| String::from_utf8_lossy(&r.data))),
            Err(status) => end = Some(status),
        }
    }
    drop(log);
    assert_eq!(engine.open_streams(), 0);
    (text, end)
}

fn logs(running: bool, body: Vec<u8>) -> Fake {
    Fake::new(move |request| match request {
        "GET /containers/web/json" | "GET /containers/aa/json" => container(false, running),
        _ if request.starts_with("GET /containers/aa/logs") => {
            Reply::Raw([b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), body.clone()].concat())
        }
        other => usual(other),
    })
}

#[tokio::test]
async fn a_log_that_ends_is_told_from_one_that_breaks_off() {
    let line = frame(1, "line\n");
    let (text, end) = read(&logs(false, line.clone()), true).await;
    assert_eq!((text.as_str(), end.is_none()), ("line\n", true), "the container has ended");
    let (text, end) = read(&logs(true, line.clone()), false).await;
    assert_eq!((text.as_str(), end.is_none()), ("line\n", true), "all there is of it now");

    let (text, end) = read(&logs(true, line.clone()), true).await;
    assert_eq!(text, "line\n");
    is(Err::<(), _>(end.unwrap()), Code::Unavailable, reason::DOCKER_DOWN);
    let (text, end) = read(&logs(false, [line.clone(), line[..9].to_vec()].concat()), false).await;
    assert_eq!(text, "line\n");
    is(Err::<(), _>(end.unwrap()), Code::Unavailable, reason::DOCKER_DOWN);
    let (text, end) =
        read(&logs(false, [line, frame(3, "Error grabbing logs")].concat()), false).await;
    assert_eq!(text, "line\n");
    let status = is(Err::<(), _>(end.unwrap()), Code::Internal, reason::DOCKER_ERROR);
    assert_eq!(status.message(), "Error grabbing logs");
}

#[tokio::test]
async fn a_log_that_cannot_be_read_says_why() {
    let fake = Fake::new(|request| match request {
        "GET /containers/web/json" => container(false, false),
        _ if request.contains("/logs") => {
            error(501, "configured logging driver does not support reading")
        }
        other => usual(other),
    });
    let status =
        is(fake.engine().logs(&log(false)).await, Code::FailedPrecondition, reason::DOCKER_ERROR);
    assert!(status.message().contains("logging driver"));
}

#[tokio::test]
async fn a_line_of_a_follow_goes_out_at_once_and_hanging_up_closes_it() {
    let fake = Fake::new(|request| match request {
        _ if request.starts_with("GET /containers/aa/logs") => Reply::Stream(Vec::new()),
        _ if request.starts_with("GET /containers/") => container(true, true),
        other => usual(other),
    });
    let engine = fake.engine();
    let mut log = Box::pin(engine.logs(&log(true)).await.unwrap());
    assert_eq!(engine.open_streams(), 1);
    fake.push("\u{1}one");
    let records = log.next().await.unwrap().unwrap();
    assert_eq!(records[0].data.as_ref(), b"\x01one\n");
    drop(log);
    assert_eq!(engine.open_streams(), 0);
    // What is left is the kept connection of the inspect.
    fake.connections(1).await;
}

#[tokio::test]
async fn stats_of_one_container_are_read_once_for_all_and_end_with_the_last() {
    let fake = Fake::new(|request| match request {
        _ if request.contains("/stats") => Reply::Stream(Vec::new()),
        "GET /containers/aa/json" => container(false, false),
        other => usual(other),
    });
    let engine = fake.engine();
    let sample = r#"{"id":"aa","name":"/web","read":"2026-11-22T15:00:00Z","precpu_stats":{"system_cpu_usage":1},"pids_stats":{"current":7}}"#;
    let mut one = Box::pin(engine.stats("aa"));
    let mut two = Box::pin(engine.stats("aa"));
    fake.asked("/stats").await;
    fake.push(sample);
    assert_eq!(one.next().await.unwrap().unwrap().pids, 7);
    assert_eq!(two.next().await.unwrap().unwrap().pids, 7);
    assert_eq!(engine.open_streams(), 1);
    drop(one);
    fake.push(sample);
    assert!(two.next().await.unwrap().is_ok());
    drop(two);
    // What is left is the kept connection of GET /version.
    fake.connections(1).await;
    let mut again = Box::pin(engine.stats("aa"));
    fake.connections(2).await;
    fake.push(r#"{"id":"aa","read":"0001-01-01T00:00:00Z"}"#);
    assert!(again.next().await.is_none(), "the container has stopped");
}

#[tokio::test]
async fn a_broken_stats_stream_is_an_error_to_all() {
    let fake = Fake::new(|request| match request {
        _ if request.contains("/stats") => error(404, "No such container: aa"),
        other => usual(other),
    });
    let engine = fake.engine();
    let (one, two) = (engine.stats("aa"), engine.stats("aa"));
    for mut samples in [Box::pin(one), Box::pin(two)] {
        is(samples.next().await.unwrap(), Code::NotFound, reason::CONTAINER_NOT_FOUND);
        assert!(samples.next().await.is_none());
    }
}

#[tokio::test]
async fn a_host_that_cannot_measure_says_so() {
    let empty = r#"{"id":"aa","read":"0001-01-01T00:00:00Z"}"#.to_owned() + "\n";
    let fake = Fake::new(move |request| match request {
        _ if request.contains("/stats") => Reply::Stream(empty.repeat(9).into_bytes()),
        "GET /containers/aa/json" => container(false, true),
        other => usual(other),
    });
    let mut samples = Box::pin(fake.engine().stats("aa"));
    is(samples.next().await.unwrap(), Code::FailedPrecondition, reason::DOCKER_ERROR);
}
