//! Sessions whose caller goes at any moment leave nothing behind: no exec, no socket.

use std::time::Duration;

use anyhow::ensure;
use dockctl_api::v1::{
    AttachRequest, AttachStart, ExecRequest, ExecStart, TerminalSize, attach_request, exec_request,
};
use dockctl_tests::{Api, LONG, await_until, rounds, scenario};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::oneshot;

/// At the latest this long after its beginning a session is given up: some before the command is
/// created, some while it is started, most while it runs.
const LATEST: u64 = 400;

/// One session that is given up at a random moment.
async fn aborted(api: &Api, container: &str, n: usize) {
    let moment = u64::from_le_bytes(dockctl_api::random()) % (LATEST * 1000);
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
    let _ = tokio::time::timeout(Duration::from_micros(moment), session).await;
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
        let before = [agent.process.open_files()?, controller.process.open_files()?];

        let many = rounds(100, 1000);
        let sessions = (0..many).map(|n| aborted(&api, &app, n));
        stream::iter(sessions).buffer_unordered(8).collect::<Vec<()>>().await;
        quiet().await?;
        await_until("the sockets to be closed", LONG, async || {
            let now = [agent.process.open_files()?, controller.process.open_files()?];
            ensure!(now[0] <= before[0] && now[1] <= before[1], "{now:?}, and {before:?} before");
            Ok(Some(()))
        })
        .await
    });
}
