//! The container verbs against a pretended engine: what is asked of it, and what its answers become.

use std::pin::pin;

use dockctl_api::error::{MAYBE_RAN, NOT_SENT, RAN, metadata_of, reason, reason_of};
use tonic::Code;

use super::*;
use crate::engine::fake::{Fake, Reply, error, usual};

fn create(name: &str, json: &str) -> CreateContainerRequest {
    CreateContainerRequest { name: name.into(), json: json.into(), ..Default::default() }
}

#[tokio::test]
async fn a_container_is_made_as_the_engine_is_asked_to() {
    let fake = Fake::new(|request| match request {
        "POST /containers/create?name=a%26b&platform=linux%2Farm64" => {
            Reply::Json(201, r#"{"Id":"aa","Warnings":["no swap"]}"#.into())
        }
        "POST /containers/create" => error(404, "No such image: x:latest"),
        other => usual(other),
    });
    let engine = fake.engine();
    let request = CreateContainerRequest {
        platform: "linux/arm64".into(),
        ..create("a&b", r#"{"Image":"x"}"#)
    };
    let made = engine.create(&request).await.unwrap();
    assert_eq!((made.id.as_str(), made.warnings), ("aa", vec!["no swap".to_owned()]));
    let status = engine.create(&create("", "{}")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "No such image: x:latest");
}

#[tokio::test]
async fn what_is_no_json_object_never_reaches_the_engine() {
    let fake = Fake::new(usual);
    let engine = fake.engine();
    for json in ["", "[]", "null", "{", r#"{"a":1}{"#, "\"x\""] {
        let made = engine.create(&create("", json)).await.map(drop);
        let changed = engine.update("web", json).await.map(drop);
        for result in [made, changed] {
            let status = result.unwrap_err();
            assert_eq!(reason_of(&status).as_deref(), Some(reason::BAD_FIELD), "{json}");
            assert_eq!(metadata_of(&status, "field").as_deref(), Some("json"), "{json}");
        }
    }
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn a_change_that_fails_says_whether_it_reached_docker() {
    for (request, said) in
        [("GET /version", NOT_SENT), ("DELETE /containers/web?force=1", MAYBE_RAN)]
    {
        let fake = Fake::new(move |asked| match asked {
            asked if asked == request => Reply::Raw(Vec::new()),
            other => usual(other),
        });
        let remove =
            RemoveContainerRequest { container: "web".into(), force: true, ..Default::default() };
        let status = fake.engine().remove(&remove).await.unwrap_err();
        assert_eq!(metadata_of(&status, RAN).as_deref(), Some(said), "{request}");
    }
}

#[tokio::test]
async fn only_a_link_has_a_slash_in_its_name() {
    let fake = Fake::new(|request| match request {
        "DELETE /containers/web/db?link=1" => Reply::Json(204, String::new()),
        other => usual(other),
    });
    let engine = fake.engine();
    let remove = |container: &str, link| RemoveContainerRequest {
        container: container.into(),
        link,
        ..Default::default()
    };
    engine.remove(&remove("web/db", true)).await.unwrap();
    for (container, link) in
        [("web/db", false), ("web/../info", true), ("web/", true), ("/a", true)]
    {
        let status = engine.remove(&remove(container, link)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{container}");
    }
}

#[tokio::test]
async fn a_wait_is_registered_before_it_is_waited_for() {
    let fake = Fake::new(|request| match request {
        "POST /containers/web/wait?condition=next-exit" => Reply::Stream(Vec::new()),
        other => usual(other),
    });
    let engine = fake.engine();
    let exit = engine.wait("web", WaitCondition::NextExit).await.unwrap();
    assert_eq!(engine.open_streams(), 1);
    fake.push(r#"{"StatusCode":137,"Error":{"Message":"it broke"}}"#);
    let exit = exit.await.unwrap();
    assert_eq!((exit.code, exit.error.as_str()), (137, "it broke"));
    assert_eq!(engine.open_streams(), 0);

    let exit = engine.wait("web", WaitCondition::NextExit).await.unwrap();
    fake.cut();
    let status = exit.await.unwrap_err();
    assert_eq!(reason_of(&status).as_deref(), Some(reason::DOCKER_DOWN));
}

#[tokio::test]
async fn an_export_that_breaks_off_is_never_taken_for_a_whole_one() {
    let chunks = |end: &str| {
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntar\r\n{end}")
            .into_bytes()
    };
    for (end, whole) in [("0\r\n\r\n", true), ("", false), ("5\r\nab", false)] {
        let answer = chunks(end);
        let fake = Fake::new(move |request| match request {
            "GET /containers/web/export" => Reply::Raw(answer.clone()),
            other => usual(other),
        });
        let engine = fake.engine();
        {
            let mut pieces = pin!(engine.export("web").await.unwrap());
            let mut read = Ok(Vec::new());
            while let (Some(piece), Ok(data)) = (pieces.next().await, &mut read) {
                match piece {
                    Ok(piece) => data.extend_from_slice(&piece),
                    Err(status) => read = Err(status.code()),
                }
            }
            let wanted = if whole { Ok(b"tar".to_vec()) } else { Err(Code::Unavailable) };
            assert_eq!(read, wanted, "{end:?}");
            assert_eq!(engine.open_streams(), 1);
        }
        assert_eq!(engine.open_streams(), 0);
    }
}

#[tokio::test]
async fn hanging_up_on_a_wait_or_an_export_closes_its_connection() {
    let fake = Fake::new(|request| match request {
        "POST /containers/web/wait?condition=not-running" => Reply::Stream(Vec::new()),
        "GET /containers/web/export" => Reply::Stream(b"begin".to_vec()),
        other => usual(other),
    });
    let engine = fake.engine();
    engine.ping().await.unwrap();
    // Kept for the next calls; there are fewer of them than streams here.
    let kept = fake.open_connections();
    let mut streams = Vec::new();
    for _ in 0..5 {
        let wait = engine.wait("web", WaitCondition::Unspecified).await.unwrap();
        let mut export = Box::pin(engine.export("web").await.unwrap());
        assert_eq!(export.next().await.unwrap().unwrap(), "begin");
        streams.push((wait, export));
    }
    drop(streams);
    fake.connections_at_most(kept).await;
    assert_eq!(engine.open_streams(), 0);
}

#[tokio::test]
async fn processes_and_changes_are_read() {
    let fake = Fake::new(|request| match request {
        "GET /containers/web/top?ps_args=-o%20pid%2Ccmd" => Reply::Json(
            200,
            r#"{"Titles":["PID","CMD"],"Processes":[["1","sleep 5"],["7","sh"]]}"#.into(),
        ),
        "GET /containers/web/changes" => Reply::Json(
            200,
            r#"[{"Path":"/b","Kind":1},{"Path":"/a","Kind":0},{"Path":"/c","Kind":2}]"#.into(),
        ),
        "GET /containers/new/changes" => Reply::Json(200, "null".into()),
        other => usual(other),
    });
    let engine = fake.engine();
    let top = engine.processes("web", "-o pid,cmd").await.unwrap();
    assert_eq!(top.titles, ["PID", "CMD"]);
    assert_eq!(top.rows[1].cells, ["7", "sh"]);
    let changes = engine.diff("web").await.unwrap();
    let changes: Vec<_> = changes.iter().map(|c| (c.path.as_str(), c.kind())).collect();
    use FileChangeKind::{Added, Deleted, Modified};
    assert_eq!(changes, [("/a", Modified), ("/b", Added), ("/c", Deleted)]);
    assert!(engine.diff("new").await.unwrap().is_empty());
}

#[tokio::test]
async fn commits_prunes_and_renames_say_what_is_meant() {
    let fake = Fake::new(|request| match request {
        "POST /commit?container=web&repo=r%3A5000%2Fapp&tag=2&comment=a%20b&changes=CMD%20x&changes=ENV%20a%3Db&pause=0" => {
            Reply::Json(201, r#"{"Id":"sha256:1"}"#.into())
        }
        "POST /containers/prune?filters=%7B%22until%22%3A%5B%2224h%22%5D%7D" => {
            Reply::Json(200, r#"{"ContainersDeleted":["aa"],"SpaceReclaimed":7}"#.into())
        }
        "POST /containers/prune?filters=%7B%7D" => {
            Reply::Json(200, r#"{"ContainersDeleted":null,"SpaceReclaimed":0}"#.into())
        }
        "POST /containers/web/rename?name=x%2F..%2Fy" => error(400, "Invalid container name"),
        other => usual(other),
    });
    let engine = fake.engine();
    let commit = CommitContainerRequest {
        container: "web".into(),
        image: "r:5000/app:2".into(),
        comment: "a b".into(),
        changes: vec!["CMD x".into(), "ENV a=b".into()],
        no_pause: true,
        ..Default::default()
    };
    assert_eq!(engine.commit(&commit).await.unwrap(), "sha256:1");
    let digest = CommitContainerRequest { image: "a@sha256:1".into(), ..commit };
    assert!(engine.commit(&digest).await.unwrap_err().message().contains("digest"));
    let pruned = engine.prune_containers(&["until=24h".into()]).await.unwrap();
    assert_eq!((pruned.deleted, pruned.space_reclaimed), (vec!["aa".to_owned()], 7));
    assert!(engine.prune_containers(&[]).await.unwrap().deleted.is_empty());
    let status = engine.rename("web", "x/../y").await.unwrap_err();
    assert_eq!(status.message(), "Invalid container name");
    assert!(engine.rename("web", &"x".repeat(256)).await.is_err());
}
