//! The agent's services on a real Docker engine, called as the link calls them. The engine is that of
//! `DOCKCTL_TEST_DOCKER`, else of `DOCKER_HOST`, else the one at /var/run/docker.sock.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod docker;

use std::{collections::BTreeMap, pin::Pin};

use dockctl_agent::{
    engine::{Engine, EngineOptions},
    inventory::{Handle, Inventory},
    serve,
};
use dockctl_api::{
    error::{reason, reason_of},
    link::v1::connect_request::Frame,
    v1::{
        container_service_client::ContainerServiceClient, image_service_client::ImageServiceClient,
        system_service_client::SystemServiceClient, *,
    },
};
use docker::{Container as Docker, Proxy, docker, host};
use futures_util::{Stream, StreamExt as _};
use prost_types::Timestamp;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming, service::Routes};

/// An agent without a link, at one engine.
struct Agent {
    engine: Engine,
    inventory: Handle,
    routes: Routes,
    shutdown: CancellationToken,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Agent {
    fn new() -> Self {
        Self::at(host())
    }

    fn at(host: String) -> Self {
        let engine = Engine::new(EngineOptions { host }).unwrap();
        let (inventory, watcher) = Inventory::new(engine.clone(), "host-1".into());
        let shutdown = CancellationToken::new();
        tokio::spawn(watcher.run(shutdown.clone()));
        let routes = serve::routes(engine.clone(), inventory.clone(), "host-1".into());
        Self { engine, inventory, routes, shutdown }
    }

    fn containers(&self) -> ContainerServiceClient<Routes> {
        ContainerServiceClient::new(self.routes.clone()).max_decoding_message_size(usize::MAX)
    }

    fn system(&self) -> SystemServiceClient<Routes> {
        SystemServiceClient::new(self.routes.clone())
    }

    async fn list(&self, container: &str, all: bool) -> Vec<Container> {
        let request =
            ListContainersRequest { all, container: container.into(), ..Default::default() };
        self.containers().list_containers(request).await.unwrap().into_inner().containers
    }

    async fn state(&self, container: &str) -> String {
        self.list(container, true).await.pop().map(|c| c.state).unwrap_or_default()
    }

    async fn logs(&self, request: StreamLogsRequest) -> Streaming<StreamLogsResponse> {
        self.containers().stream_logs(request).await.unwrap().into_inner()
    }

    /// A whole log, each stream apart.
    async fn log(&self, request: StreamLogsRequest) -> BTreeMap<i32, Vec<u8>> {
        let mut log = self.logs(request).await;
        let mut streams: BTreeMap<i32, Vec<u8>> = BTreeMap::new();
        while let Some(message) = log.next().await {
            let message = message.unwrap();
            assert_eq!(message.agent, "host-1");
            for record in message.records {
                assert!(record.data.len() <= 1 << 20);
                streams.entry(record.stream).or_default().extend_from_slice(&record.data);
            }
        }
        streams
    }

    /// The updates, after the inventory is known.
    async fn updates(&self) -> Pin<Box<dyn Stream<Item = Frame> + Send>> {
        let mut updates: Pin<Box<dyn Stream<Item = Frame> + Send>> =
            Box::pin(self.inventory.updates());
        while !matches!(updates.next().await.unwrap(), Frame::Engine(e) if e.available) {}
        updates
    }

    /// Waits until no stream but the watcher's is open at the engine.
    async fn only_the_watcher(&self) {
        while self.engine.open_streams() > 1 {
            tokio::task::yield_now().await;
        }
    }
}

fn log_of(container: &Docker) -> StreamLogsRequest {
    StreamLogsRequest { container: container.name.clone(), ..Default::default() }
}

fn stdout(streams: &BTreeMap<i32, Vec<u8>>) -> &[u8] {
    streams.get(&LogStream::Stdout.into()).map_or(b"", Vec::as_slice)
}

fn stderr(streams: &BTreeMap<i32, Vec<u8>>) -> &[u8] {
    streams.get(&LogStream::Stderr.into()).map_or(b"", Vec::as_slice)
}

fn is(result: Result<impl Sized, Status>, code: Code, reason: &str) {
    let status = result.err().expect("an error");
    assert_eq!((status.code(), reason_of(&status).as_deref()), (code, Some(reason)), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_lives_through_the_api() {
    let agent = Agent::new();
    let mut api = agent.containers();
    let box_ = Docker::create(&["--label", "dockctl-test=life"], "sleep 1000");
    let container = box_.name.clone();
    let at = || (String::new(), container.clone());

    assert_eq!(agent.state(&container).await, "created");
    let (a, c) = at();
    api.start_container(StartContainerRequest { agent: a, container: c }).await.unwrap();
    let list = agent.list(&container, false).await;
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].agent.as_str(), list[0].id.as_str()), ("host-1", box_.id.as_str()));
    assert_eq!(list[0].labels["dockctl-test"], "life");
    assert_eq!(list[0].networks, ["none"]);
    assert!(list[0].status.starts_with("Up"));
    let by_id = agent.list(&box_.id[..20], false).await;
    assert!(list[0].started_at.is_some() && list[0].finished_at.is_none());
    // Ages and what is told of them may be another second's.
    assert_eq!((by_id.len(), &by_id[0].id), (1, &list[0].id));
    assert!(agent.list(&container[..container.len() - 1], true).await.is_empty(), "no substrings");

    let (a, c) = at();
    api.start_container(StartContainerRequest { agent: a, container: c }).await.unwrap();
    let (agent_, container_) = at();
    let request = InspectContainerRequest { agent: agent_, container: container_, size: false };
    let json = api.inspect_container(request).await.unwrap().into_inner().json;
    let ours: serde_json::Value = serde_json::from_str(&json).unwrap();
    let theirs: serde_json::Value =
        serde_json::from_slice(&docker(&["inspect", &container]).stdout).unwrap();
    assert_eq!(ours, theirs[0]);

    let pid = ours["State"]["Pid"].clone();
    let now = Some(prost_types::Duration::default());
    let (a, c) = at();
    let restart =
        RestartContainerRequest { agent: a, container: c, timeout: now, ..Default::default() };
    api.restart_container(restart).await.unwrap();
    let (agent_, container_) = at();
    let request = InspectContainerRequest { agent: agent_, container: container_, size: false };
    let json = api.inspect_container(request).await.unwrap().into_inner().json;
    let after: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_ne!(after["State"]["Pid"], pid);

    let (a, c) = at();
    api.kill_container(KillContainerRequest { agent: a, container: c, ..Default::default() })
        .await
        .unwrap();
    box_.wait();
    assert_eq!(agent.state(&container).await, "exited");
    let (a, c) = at();
    let again = KillContainerRequest { agent: a, container: c, ..Default::default() };
    is(api.kill_container(again).await, Code::FailedPrecondition, reason::DOCKER_ERROR);
    let (a, c) = at();
    let stop = StopContainerRequest { agent: a, container: c, timeout: now, ..Default::default() };
    api.stop_container(stop).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_have_their_reasons() {
    let agent = Agent::new();
    let mut api = agent.containers();
    let start = |container: &str| StartContainerRequest {
        agent: String::new(),
        container: container.to_owned(),
    };
    is(
        api.start_container(start("dockctl-nobody")).await,
        Code::NotFound,
        reason::CONTAINER_NOT_FOUND,
    );
    is(api.start_container(start("a/b")).await, Code::InvalidArgument, reason::BAD_FIELD);
    // With 17 containers two ids begin with the same digit.
    let boxes: Vec<Docker> = (0..17).map(|_| Docker::create(&[], "true")).collect();
    let shared = boxes
        .iter()
        .map(|b| b.id[..1].to_owned())
        .find(|digit| boxes.iter().filter(|b| b.id.starts_with(digit)).count() > 1)
        .unwrap();
    is(api.start_container(start(&shared)).await, Code::FailedPrecondition, reason::AMBIGUOUS);
    let logs = StreamLogsRequest { container: "dockctl-nobody".into(), ..Default::default() };
    is(api.stream_logs(logs).await, Code::NotFound, reason::CONTAINER_NOT_FOUND);
    let none = Docker::run(&["--log-driver", "none"], "true");
    none.wait();
    is(api.stream_logs(log_of(&none)).await, Code::FailedPrecondition, reason::DOCKER_ERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_what_docker_logs_prints() {
    let agent = Agent::new();
    // Two streams, invalid UTF-8, a line of 1 MB, an empty line, and no line feed at the end.
    let box_ = Docker::run(
        &[],
        r"for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done; printf '\377\376\001\000x\n\n';
          head -c 1000000 /dev/zero | tr '\0' y; echo; echo last err >&2; printf end",
    );
    box_.wait();
    let theirs = docker(&["logs", &box_.name]);
    let ours = agent.log(log_of(&box_)).await;
    assert!(stdout(&ours) == theirs.stdout && stderr(&ours) == theirs.stderr);
    assert!(theirs.stdout.len() > 1_000_000);
    let only = agent.log(StreamLogsRequest { no_stdout: true, ..log_of(&box_) }).await;
    assert_eq!((stdout(&only), stderr(&only)), (&b""[..], theirs.stderr.as_slice()));

    let tail = |tail: u32| StreamLogsRequest { tail: Some(tail), ..log_of(&box_) };
    assert_eq!(
        stdout(&agent.log(tail(1)).await),
        docker(&["logs", "--tail", "1", &box_.name]).stdout
    );
    assert!(agent.log(tail(0)).await.is_empty());

    // With timestamps: one for each line, however often the engine has split it.
    let ours = agent.log(StreamLogsRequest { timestamps: true, ..log_of(&box_) }).await;
    let lines: Vec<&[u8]> = stdout(&ours).split_inclusive(|b| *b == b'\n').collect();
    let plain: Vec<u8> = lines.iter().flat_map(|line| line[31..].to_vec()).collect();
    assert!(plain == theirs.stdout);
    assert!(lines.iter().all(|line| line[10] == b'T' && line[29..31] == *b"Z "));
    let theirs = docker(&["logs", "-t", &box_.name]);
    assert_eq!(stderr(&ours), theirs.stderr);

    // `since` includes its moment, `until` does not.
    let at = |line: &[u8]| timestamp(std::str::from_utf8(&line[..30]).unwrap());
    let (third, fifth) = (at(lines[2]), at(lines[4]));
    let between = StreamLogsRequest { since: Some(third), until: Some(fifth), ..log_of(&box_) };
    assert_eq!(stdout(&agent.log(between).await), b"out 3\nout 4\n");
}

fn timestamp(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminals_log_is_exact_whatever_it_begins_with() {
    let agent = Agent::new();
    let box_ = Docker::run(
        &["--tty"],
        r"printf '\001\000\000\000\000\000\000\005hello\n'; head -c 40000 /dev/zero | tr '\0' z; echo; echo end",
    );
    box_.wait();
    let theirs = docker(&["logs", &box_.name]).stdout;
    let ours = agent.log(log_of(&box_)).await;
    assert!(theirs.starts_with(b"\x01\0\0\0\0\0\0\x05hello\r\n"));
    assert!(ours[&LogStream::Tty.into()] == theirs);
    assert_eq!(ours.len(), 1);

    let ours = agent.log(StreamLogsRequest { timestamps: true, ..log_of(&box_) }).await;
    let lines: Vec<&[u8]> = ours[&LogStream::Tty.into()].split_inclusive(|b| *b == b'\n').collect();
    assert_eq!(lines.len(), 3);
    let plain: Vec<u8> = lines.iter().flat_map(|line| line[31..].to_vec()).collect();
    assert!(plain == theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_gets_each_line_at_once_and_ends_with_the_container() {
    let agent = Agent::new();
    let box_ = Docker::run(&[], "read line; echo got $line; read line; echo got $line");
    let mut log = agent.logs(StreamLogsRequest { follow: true, ..log_of(&box_) }).await;
    for word in ["one", "two"] {
        box_.say(word);
        let message = log.next().await.unwrap().unwrap();
        assert_eq!(message.records[0].data, format!("got {word}\n"));
    }
    assert!(log.next().await.is_none());
    agent.only_the_watcher().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_flood_arrives_in_order() {
    let agent = Agent::new();
    let box_ = Docker::run(&[], "read go; seq 1 200000");
    let mut log = agent.logs(StreamLogsRequest { follow: true, ..log_of(&box_) }).await;
    box_.say("go");
    let mut all = Vec::new();
    while let Some(message) = log.next().await {
        message.unwrap().records.iter().for_each(|r| all.extend_from_slice(&r.data));
    }
    let expected: String = (1..=200_000).map(|i| format!("{i}\n")).collect();
    assert!(all == expected.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_frees_the_engine() {
    let agent = Agent::new();
    let _updates = agent.updates().await;
    let box_ = Docker::run(&[], "while true; do echo line; done");
    let log = agent.logs(StreamLogsRequest { follow: true, ..log_of(&box_) }).await;
    let request = StreamStatsRequest { containers: vec![box_.name.clone()], ..Default::default() };
    let mut stats = agent.containers().stream_stats(request).await.unwrap().into_inner();
    stats.next().await.unwrap().unwrap();
    assert_eq!(agent.engine.open_streams(), 3);
    drop((log, stats));
    agent.only_the_watcher().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_are_those_of_docker_stats() {
    let agent = Agent::new();
    let _updates = agent.updates().await;
    let box_ = Docker::run(&["--memory", "64m"], "sleep 1000 & while true; do :; done");
    let request = StreamStatsRequest {
        containers: vec![box_.name.clone()],
        no_stream: true,
        ..Default::default()
    };
    let mut stats = agent.containers().stream_stats(request).await.unwrap().into_inner();
    let sample = stats.next().await.unwrap().unwrap();
    assert!(stats.next().await.is_none());
    assert_eq!((sample.agent.as_str(), sample.container_id.as_str()), ("host-1", box_.id.as_str()));
    assert_eq!(sample.container_name, box_.name);
    assert_eq!((sample.memory_limit, sample.pids), (64 << 20, 2));
    assert!(sample.cpu_percent > 0.0 && sample.cpu_percent < 100.0 * 512.0);
    assert!(sample.memory_usage > 0 && sample.memory_usage < 64 << 20);
    let format = "{{.PIDs}} {{.MemUsage}}";
    let theirs = docker(&["stats", "--no-stream", "--format", format, &box_.name]).stdout;
    let theirs = String::from_utf8(theirs).unwrap();
    assert!(theirs.starts_with("2 ") && theirs.contains("/ 64MiB"), "{theirs}");
    let used: f64 =
        theirs[2..].split("iB").next().unwrap().trim_end_matches(['K', 'M']).parse().unwrap();
    let used = used * if theirs.contains("KiB /") { 1024.0 } else { 1048576.0 };
    let ratio = sample.memory_usage as f64 / used;
    assert!((0.5..2.0).contains(&ratio), "{theirs} against {}", sample.memory_usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_of_all_grow_with_what_starts_and_what_does_not_run_has_zeros() {
    let agent = Agent::new();
    let _updates = agent.updates().await;
    let request = StreamStatsRequest::default();
    let mut stats = agent.containers().stream_stats(request).await.unwrap().into_inner();
    let box_ = Docker::run(&[], "sleep 1000");
    loop {
        let sample = stats.next().await.unwrap().unwrap();
        if sample.container_id == box_.id {
            break;
        }
    }
    let stopped = Docker::create(&[], "true");
    let request =
        StreamStatsRequest { containers: vec![stopped.name.clone()], ..Default::default() };
    let once = StreamStatsRequest { no_stream: true, ..request.clone() };
    let once = agent.containers().stream_stats(once).await.unwrap().into_inner();
    let once: Vec<_> = once.collect().await;
    let zeros = once[0].as_ref().unwrap();
    assert_eq!((once.len(), zeros.pids, zeros.memory_limit), (1, 0, 0));
    assert_eq!(zeros.container_name, stopped.name);
    let mut stats = agent.containers().stream_stats(request).await.unwrap().into_inner();
    for _ in 0..2 {
        assert_eq!(stats.next().await.unwrap().unwrap().pids, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_live_and_from_the_past() {
    let agent = Agent::new();
    let mut updates = agent.updates().await;
    let request = StreamEventsRequest { types: vec!["container".into()], ..Default::default() };
    let mut live = agent.system().stream_events(request).await.unwrap().into_inner();
    let box_ = Docker::run(&[], "sleep 1000");
    let mut actions = Vec::new();
    let mut created = None;
    while actions.last().is_none_or(|last| last != "start") {
        let message = live.next().await.unwrap().unwrap();
        let event = message.event.unwrap();
        if event.actor_id == box_.id {
            assert!(!event.inferred && event.attributes["name"] == box_.name);
            created = created.or(event.time);
            actions.push(event.action);
        }
    }
    assert_eq!(actions, ["create", "start"]);
    loop {
        if let Frame::Inventory(change) = updates.next().await.unwrap()
            && let Some(c) = change.containers.iter().find(|c| c.id == box_.id)
            && c.state == "running"
        {
            assert_eq!(c.agent, "host-1");
            break;
        }
    }
    let past = StreamEventsRequest {
        since: created,
        until: Some(std::time::SystemTime::now().into()),
        types: vec!["container".into()],
        ..Default::default()
    };
    let past = agent.system().stream_events(past).await.unwrap().into_inner();
    let past: Vec<Event> = past.map(|message| message.unwrap().event.unwrap()).collect().await;
    let of_box: Vec<&str> =
        past.iter().filter(|e| e.actor_id == box_.id).map(|e| e.action.as_str()).collect();
    assert_eq!(of_box, ["create", "start"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_no_one_listens_is_made_good() {
    let proxy = Proxy::start(&host());
    let agent = Agent::at(proxy.host());
    let direct = Engine::new(EngineOptions { host: host() }).unwrap();
    let mut updates = agent.updates().await;
    let (dies, noisy) = (Docker::run(&[], "sleep 1000"), Docker::run(&[], "sleep 1000"));
    loop {
        if matches!(updates.next().await.unwrap(), Frame::Inventory(f) if f.containers.iter().any(|c| c.id == noisy.id && c.state == "running"))
        {
            break;
        }
    }
    proxy.cut();
    while !matches!(updates.next().await.unwrap(), Frame::Engine(e) if !e.available) {}
    direct.kill(&dies.name, "").await.unwrap();
    dies.wait();
    // More events than the engine remembers.
    for _ in 0..300 {
        direct.kill(&noisy.name, "SIGWINCH").await.unwrap();
    }
    proxy.resume();
    loop {
        if let Frame::Event(event) = updates.next().await.unwrap()
            && event.actor_id == dies.id
        {
            assert_eq!((event.action.as_str(), event.inferred), ("die", true));
            assert_eq!(event.attributes["exitCode"], "137");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_versions_and_pings() {
    let agent = Agent::new();
    let box_ = Docker::create(&[], "true");
    let images = ImageServiceClient::new(agent.routes.clone())
        .list_images(ListImagesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .images;
    let image = images.iter().find(|i| i.tags.iter().any(|t| t == docker::IMAGE)).unwrap();
    assert_eq!(image.agent, "host-1");
    assert!(image.id.starts_with("sha256:") && image.size > 100_000);
    assert_eq!(agent.list(&box_.name, true).await[0].image_id, image.id);

    let version =
        agent.system().get_version(GetVersionRequest::default()).await.unwrap().into_inner();
    let theirs =
        docker(&["version", "--format", "{{.Server.Version}} {{.Server.Os}}/{{.Server.Arch}}"]);
    let ours = format!("{} {}\n", version.engine_version, version.platform);
    assert_eq!(ours.as_bytes(), theirs.stdout);
    assert_eq!(version.version, dockctl_api::VERSION);
    let info = agent.system().get_info(GetInfoRequest::default()).await.unwrap().into_inner().json;
    assert!(serde_json::from_str::<serde_json::Value>(&info).unwrap()["ServerVersion"].is_string());
    let pong = agent.system().ping(PingRequest::default()).await.unwrap().into_inner();
    assert!(pong.engine_latency.is_some());
}
