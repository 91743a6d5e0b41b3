//! Calls whose caller goes at any moment leave nothing behind: no exec, no socket, no task.

use std::time::Duration;

use anyhow::ensure;
use dockctl_api::v1::{
    AttachRequest, AttachStart, BuildImageRequest, ExecRequest, ExecStart, ImportImageRequest,
    LoadImagesRequest, SaveImagesRequest, StreamEventsRequest, StreamLogsRequest,
    StreamStatsRequest, TerminalSize, attach_request, exec_request,
};
use dockctl_tests::{Api, Held, IMAGE, LONG, await_until, counting_script, rounds, scenario};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::oneshot;
use tonic::{Response, Status, Streaming};

/// At the latest this long after its beginning a session is given up: some before the command is
/// created, some while it is started, most while it runs.
const LATEST: u64 = 400;

/// How long after its beginning a call is given up.
fn moment() -> Duration {
    Duration::from_micros(u64::from_le_bytes(dockctl_api::random()) % (LATEST * 1000))
}

/// One session that is given up at a random moment.
async fn aborted(api: &Api, container: &str, n: usize) {
    // A caller who goes takes his input with him, which else would keep the call open on his own side.
    let (_input, rest) = oneshot::channel::<()>();
    let session = async {
        if n % 5 == 4 {
            let start = AttachStart { interactive: true, ..AttachStart::default() };
            let first = AttachRequest {
                agent: "web-1".into(),
                container: container.to_owned(),
                input: Some(attach_request::Input::Start(start)),
            };
            let input = stream::iter([first]).chain(until(rest));
            let mut output = api.exec().attach(input).await?.into_inner();
            while output.message().await?.is_some() {}
            return Ok(());
        }
        let words = match n % 5 {
            0 => &["sleep", "100000"][..],
            1 => &["cat"],
            2 => &["yes", "so much that nobody can read it all"],
            _ => &["sh", "-c", "trap '' HUP TERM; while :; do sleep 100000; done"],
        };
        let start = ExecStart {
            command: words.iter().map(|w| (*w).to_owned()).collect(),
            tty: n.is_multiple_of(2),
            interactive: !n.is_multiple_of(3),
            size: Some(TerminalSize { rows: 24, columns: 80 }),
            ..ExecStart::default()
        };
        let first = ExecRequest {
            agent: "web-1".into(),
            container: container.to_owned(),
            input: Some(exec_request::Input::Start(start)),
        };
        let input = stream::iter([first]).chain(until(rest));
        let mut output = api.exec().exec(input).await?.into_inner();
        while output.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    };
    let _ = tokio::time::timeout(moment(), session).await;
}

/// A stream of nothing that ends with the sender.
fn until<T: Send + 'static>(end: oneshot::Receiver<()>) -> impl Stream<Item = T> + Send + 'static {
    stream::pending().take_until(end)
}

#[test]
fn a_thousand_sessions_given_up_at_any_moment_leave_nothing_behind() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let app = docker.run_with(&["-i"], "app", "exec sleep 100000").await?.name;
        let api = controller.admin().await?;
        // What the first sessions open and keep, such as a connection, is no leak.
        for n in 0..5 {
            aborted(&api, &app, n).await;
        }
        let processes = async || Ok::<_, anyhow::Error>(docker.cli(&["top", &app]).await?);
        let quiet = async || {
            await_until("the container to be alone", LONG, async || {
                let top = processes().await?;
                ensure!(top.lines().count() == 3, "{top}");
                let execs = docker.inspect(&app, "{{len .ExecIDs}}").await?;
                ensure!(execs == "0", "{execs} execs are left");
                Ok(Some(()))
            })
            .await
        };
        quiet().await?;
        let before = Held::by(&controller, &agent).await?;

        let many = rounds(100, 1000);
        let sessions = (0..many).map(|n| aborted(&api, &app, n));
        stream::iter(sessions).buffer_unordered(8).collect::<Vec<()>>().await;
        quiet().await?;
        before.again(&controller, &agent).await
    });
}

/// One stream that is given up at a random moment.
async fn given_up(api: &Api, container: &str, n: usize) {
    let (_input, rest) = oneshot::channel::<()>();
    let web = || "web-1".to_owned();
    let stream = async {
        match n % 10 {
            0 | 1 => {
                let agent = if n.is_multiple_of(2) { web() } else { String::new() };
                let (container, follow) = (container.to_owned(), true);
                let request = StreamLogsRequest { agent, container, follow, ..Default::default() };
                drain(api.containers().stream_logs(request).await?).await
            }
            2 | 3 => {
                let agent = if n.is_multiple_of(2) { web() } else { String::new() };
                let request = StreamStatsRequest { agent, ..Default::default() };
                drain(api.containers().stream_stats(request).await?).await
            }
            4 | 5 => {
                let agent = if n.is_multiple_of(2) { web() } else { String::new() };
                let request = StreamEventsRequest { agent, ..Default::default() };
                drain(api.system().stream_events(request).await?).await
            }
            6 => {
                let images = vec![IMAGE.to_owned()];
                drain(api.images().save_images(SaveImagesRequest { agent: web(), images }).await?)
                    .await
            }
            7 => {
                let data = vec![0; 64 << 10].into();
                let first = LoadImagesRequest { agent: web(), data };
                let input = stream::iter([first]).chain(until(rest));
                drain(api.images().load_images(input).await?).await
            }
            8 => {
                let data = vec![0; 64 << 10].into();
                let first = ImportImageRequest { agent: web(), data, ..Default::default() };
                let input = stream::iter([first]).chain(until(rest));
                drain(api.images().import_image(input).await?).await
            }
            _ => {
                let data = vec![0; 64 << 10].into();
                let first = BuildImageRequest { agent: web(), data, ..Default::default() };
                let input = stream::iter([first]).chain(until(rest));
                drain(api.images().build_image(input).await?).await
            }
        }
    };
    let _ = tokio::time::timeout(moment(), stream).await;
}

/// Reads a stream to its end.
async fn drain<T>(answer: Response<Streaming<T>>) -> Result<(), Status> {
    let mut messages = answer.into_inner();
    while messages.message().await?.is_some() {}
    Ok(())
}

#[test]
fn a_thousand_streams_given_up_at_any_moment_leave_nothing_behind() {
    scenario(async |world| {
        let (controller, agent, docker, _dockctl) = world.one_host("web-1").await?;
        let app = docker.run("app", counting_script()).await?.name;
        let api = controller.admin().await?;
        for n in 0..10 {
            given_up(&api, &app, n).await;
        }
        let before = Held::by(&controller, &agent).await?;
        let streams = (0..rounds(100, 1000)).map(|n| given_up(&api, &app, n));
        stream::iter(streams).buffer_unordered(8).collect::<Vec<()>>().await;
        before.again(&controller, &agent).await
    });
}
