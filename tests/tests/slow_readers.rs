//! People who open a log and never read it must not be felt by anyone else.

use std::time::SystemTime;

use anyhow::{Context, ensure};
use dockctl_api::v1::{
    AgentState, InspectContainerRequest, ListContainersRequest, StreamLogsRequest,
};
use dockctl_tests::{LONG, await_until, scenario};

/// Far more than all the windows between the engine and a reader.
const BIG_LOG: &str = "yes 'a line of a log that nobody reads, one of very many' | head -c 20000000; exec sleep 100000";
const READERS: usize = 200;

#[test]
fn with_200_readers_that_never_read_other_calls_and_heartbeats_go_on() {
    scenario(async |world| {
        let controller = world.controller().await?;
        let agent = world.agent(&controller, "web-1").await?;
        let docker = world.docker();
        let big = docker.run("big", BIG_LOG).await?;
        let small = docker.run("small", "echo hello; exec sleep 100000").await?;

        // A few connections, as several people would have; each stream has sent its first message.
        let mut connections = Vec::new();
        let mut streams = Vec::new();
        for n in 0..READERS {
            if n % 50 == 0 {
                connections.push(controller.admin().await?);
            }
            let mut api = connections.last().context("a connection")?.containers();
            let request = StreamLogsRequest {
                agent: "web-1".into(),
                container: big.name.clone(),
                follow: true,
                ..Default::default()
            };
            let mut stream = api.stream_logs(request).await?.into_inner();
            stream.message().await?.context("an empty log")?;
            streams.push(stream);
        }

        // On a connection of one's own, and on one that has fifty stuck streams.
        for api in [controller.admin().await?, connections.swap_remove(0)] {
            let mut api = api.containers();
            for _ in 0..20 {
                let (agent, container) = ("web-1".to_owned(), small.name.clone());
                api.inspect_container(InspectContainerRequest { agent, container, size: false })
                    .await?;
                let agent = "web-1".to_owned();
                api.list_containers(ListContainersRequest { agent, ..Default::default() }).await?;
            }
            let request = StreamLogsRequest {
                agent: "web-1".into(),
                container: small.name.clone(),
                ..Default::default()
            };
            let mut log = api.stream_logs(request).await?.into_inner();
            let first = log.message().await?.context("an empty log")?;
            ensure!(first.records.iter().any(|r| r.data == "hello\n"), "{first:?}");
        }

        let seen = async || {
            let record = controller.agent_record("web-1").await?;
            ensure!(record.state() == AgentState::Connected, "{record:?}");
            ensure!(record.epoch == 1 && record.id == agent.id, "its link did not last");
            Ok(record.last_seen_at.and_then(|t| SystemTime::try_from(t).ok()))
        };
        for _ in 0..2 {
            let before = seen().await?;
            await_until("a heartbeat", LONG, async || Ok((seen().await? > before).then_some(())))
                .await?;
        }

        // They could still read.
        let stream = streams.last_mut().context("a stream")?;
        stream.message().await?.context("a stuck stream has ended")?;
        Ok(())
    });
}
