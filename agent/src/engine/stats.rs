//! Resource use of containers. The engine measures once a second, so one stream per container is
//! kept open while anyone wants it, and its samples are fanned out. Called by `serve::stats`.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex},
};

use dockctl_api::{
    error::{reason, status},
    v1::StreamStatsResponse,
};
use futures_util::{Stream, StreamExt as _, stream};
use prost_types::Timestamp;
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::broadcast::{self, error::RecvError};
use tonic::{Code, Status};

use super::{
    Engine,
    fault::{Call, Fault},
    lock,
    raw::Raw,
};

const CALL: &str = "GET /containers/{id}/stats";

/// Samples kept for a slow subscriber; it loses the older ones.
const KEPT: usize = 2;

/// Empty readings of a running container, one a second, before it is said to have no stats.
const MOST_EMPTY: u32 = 5;

type Sample = Result<Arc<StreamStatsResponse>, Status>;

/// The streams that are open now, by the container's id.
#[derive(Default)]
pub(super) struct Hub {
    open: Mutex<HashMap<String, broadcast::Sender<Sample>>>,
}

impl Engine {
    /// Streams samples of a container, given by its full id, about one a second, without its agent's
    /// name. The first comes after one to two seconds, when there are two readings to compare. Ends
    /// when the container stops; an error is its last item.
    pub fn stats(&self, id: &str) -> impl Stream<Item = Sample> + Send + 'static + use<> {
        stream::unfold(Some(self.subscribe(id)), |samples| async {
            let mut samples = samples?;
            loop {
                match samples.recv().await {
                    Ok(Ok(sample)) => return Some((Ok(sample), Some(samples))),
                    Ok(Err(status)) => return Some((Err(status), None)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
    }

    fn subscribe(&self, id: &str) -> broadcast::Receiver<Sample> {
        let mut open = lock(&self.stats.open);
        if let Some(sender) = open.get(id) {
            return sender.subscribe();
        }
        let (sender, receiver) = broadcast::channel(KEPT);
        open.insert(id.to_owned(), sender.clone());
        tokio::spawn(pump(self.clone(), id.to_owned(), sender));
        receiver
    }
}

/// Reads one container's stream until it ends or nobody listens.
async fn pump(engine: Engine, id: String, sender: broadcast::Sender<Sample>) {
    let mut reading = pin!(read(&engine, &id, &sender));
    let result = loop {
        tokio::select! {
            result = &mut reading => break result,
            () = sender.closed() => {
                let mut open = lock(&engine.stats.open);
                // Someone may have come between the two.
                if sender.receiver_count() == 0 {
                    open.remove(&id);
                    return;
                }
            }
        }
    };
    lock(&engine.stats.open).remove(&id);
    if let Err(status) = result {
        // Nobody may be left to tell.
        let _ = sender.send(Err(status));
    }
}

async fn read(engine: &Engine, id: &str, sender: &broadcast::Sender<Sample>) -> Result<(), Status> {
    let told = |fault| engine.wire.status(&fault, Call::on(CALL, id));
    let raw = Raw::open(&engine.wire, &format!("/containers/{id}/stats?stream=true")).await;
    let mut readings = pin!(raw.map_err(told)?.json::<Reading>());
    let mut empty = 0;
    while let Some(reading) = readings.next().await {
        let reading = reading.map_err(told)?;
        let Some(read_at) = reading.read_at() else {
            // The container has stopped, or has only just started, or cannot be measured.
            let state = engine.facts(id).await?.state;
            empty += 1;
            match state.running && !state.restarting {
                true if empty > MOST_EMPTY => return Err(unmeasured(id)),
                true => continue,
                false => return Ok(()),
            }
        };
        empty = 0;
        if reading.has_two() {
            // Nobody may listen just now; `pump` sees to that.
            let _ = sender.send(Ok(Arc::new(reading.sample(read_at))));
        }
    }
    // The engine ends it when the container is removed, or when it is itself going away.
    match engine.facts(id).await?.state.running {
        true => Err(told(Fault::Lost("it ended while the container still runs".to_owned()))),
        false => Ok(()),
    }
}

fn unmeasured(id: &str) -> Status {
    status(
        Code::FailedPrecondition,
        reason::DOCKER_ERROR,
        "Docker cannot measure this container: are all control groups mounted on the host?",
        &[("call", CALL), ("container", id)],
    )
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Reading {
    id: String,
    name: String,
    read: String,
    cpu_stats: Cpu,
    precpu_stats: Cpu,
    memory_stats: Memory,
    networks: Option<HashMap<String, Network>>,
    blkio_stats: Blkio,
    pids_stats: Pids,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cpu {
    cpu_usage: CpuUsage,
    system_cpu_usage: u64,
    online_cpus: u32,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CpuUsage {
    total_usage: u64,
    percpu_usage: Option<Vec<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Memory {
    usage: u64,
    limit: u64,
    stats: Option<MemoryStats>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MemoryStats {
    /// cgroup v1.
    total_inactive_file: Option<u64>,
    /// cgroup v2.
    inactive_file: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Network {
    rx_bytes: u64,
    tx_bytes: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Blkio {
    io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
}

#[derive(Deserialize)]
struct BlkioEntry {
    op: String,
    value: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pids {
    current: u64,
}

impl Reading {
    fn read_at(&self) -> Option<Timestamp> {
        let time = OffsetDateTime::parse(&self.read, &Rfc3339).ok()?;
        let nanos = i32::try_from(time.nanosecond()).ok()?;
        (time.year() > 1).then(|| Timestamp { seconds: time.unix_timestamp(), nanos })
    }

    /// The first reading of a stream has none before it to compare with.
    fn has_two(&self) -> bool {
        self.precpu_stats.system_cpu_usage > 0
    }

    // The numbers are those of `docker stats`: cli/command/container/stats_helpers.go.
    fn sample(&self, read_at: Timestamp) -> StreamStatsResponse {
        let networks = || self.networks.iter().flat_map(HashMap::values);
        let (block_read, block_written) = self.blkio_stats.totals();
        StreamStatsResponse {
            agent: String::new(),
            container_id: self.id.clone(),
            container_name: self.name.trim_start_matches('/').to_owned(),
            read_at: Some(read_at),
            cpu_percent: self.cpu_percent(),
            memory_usage: self.memory_stats.without_cache(),
            memory_limit: self.memory_stats.limit,
            network_received: networks().map(|n| n.rx_bytes).fold(0, u64::saturating_add),
            network_sent: networks().map(|n| n.tx_bytes).fold(0, u64::saturating_add),
            block_read,
            block_written,
            pids: self.pids_stats.current,
            notice: None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a percentage needs no 53 bits")]
    fn cpu_percent(&self) -> f64 {
        let (now, before) = (&self.cpu_stats, &self.precpu_stats);
        let used = now.cpu_usage.total_usage.saturating_sub(before.cpu_usage.total_usage);
        let passed = now.system_cpu_usage.saturating_sub(before.system_cpu_usage);
        if used == 0 || passed == 0 {
            return 0.0;
        }
        let cpus = match now.online_cpus {
            0 => now.cpu_usage.percpu_usage.as_ref().map_or(0, Vec::len) as f64,
            cpus => f64::from(cpus),
        };
        used as f64 / passed as f64 * cpus * 100.0
    }
}

impl Memory {
    fn without_cache(&self) -> u64 {
        let stats = self.stats.as_ref();
        let v1 = stats.and_then(|s| s.total_inactive_file).filter(|cache| *cache < self.usage);
        let v2 = stats.and_then(|s| s.inactive_file).filter(|cache| *cache < self.usage);
        self.usage - v1.or(v2).unwrap_or(0)
    }
}

impl Blkio {
    fn totals(&self) -> (u64, u64) {
        let entries = self.io_service_bytes_recursive.as_deref().unwrap_or_default();
        entries.iter().fold((0, 0), |(read, written), entry| match entry.op.as_bytes().first() {
            Some(b'r' | b'R') => (read.saturating_add(entry.value), written),
            Some(b'w' | b'W') => (read, written.saturating_add(entry.value)),
            _ => (read, written),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(extra: &str) -> Reading {
        let json = format!(
            r#"{{"id":"aa","name":"/web","read":"2026-11-22T15:00:00.5Z",
            "precpu_stats":{{"cpu_usage":{{"total_usage":100}},"system_cpu_usage":1000}},
            "cpu_stats":{{"cpu_usage":{{"total_usage":300,"percpu_usage":[1,2]}},"system_cpu_usage":2000,
            "online_cpus":4}},"networks":{{"a":{{"rx_bytes":1,"tx_bytes":2}},"b":{{"rx_bytes":10,"tx_bytes":20}}}},
            "blkio_stats":{{"io_service_bytes_recursive":[{{"major":8,"op":"Read","value":5}},{{"op":"write","value":7}},
            {{"op":"Sync","value":9}}]}},"pids_stats":{{"current":3}}{extra}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn numbers_are_those_of_docker_stats() {
        let reading = reading(
            r#","memory_stats":{"usage":500,"limit":900,"stats":{"total_inactive_file":100,"inactive_file":90}}"#,
        );
        let sample = reading.sample(reading.read_at().unwrap());
        assert!((sample.cpu_percent - 80.0).abs() < 1e-9);
        assert_eq!((sample.memory_usage, sample.memory_limit), (400, 900));
        assert_eq!((sample.network_received, sample.network_sent), (11, 22));
        assert_eq!((sample.block_read, sample.block_written), (5, 7));
        assert_eq!((sample.pids, sample.container_name.as_str()), (3, "web"));
        assert_eq!(sample.read_at.unwrap().nanos, 500_000_000);
    }

    #[test]
    fn memory_on_cgroup_v2_and_odd_values() {
        let usage = |stats: &str| {
            reading(&format!(r#","memory_stats":{{"usage":500,"stats":{stats}}}"#))
                .memory_stats
                .without_cache()
        };
        assert_eq!(usage(r#"{"inactive_file":50}"#), 450);
        assert_eq!(usage(r#"{"total_inactive_file":600,"inactive_file":50}"#), 450);
        assert_eq!(usage("null"), 500);
    }

    /// A whole reading of Docker 20.10 on cgroup v1, of a busy container with 64 MiB; what `docker stats`
    /// makes of it was worked out by its own formulas.
    #[test]
    fn a_recorded_reading_of_cgroup_v1() {
        let json = include_str!("stats_v1.json");
        let reading: Reading = serde_json::from_str(json).unwrap();
        let sample = reading.sample(reading.read_at().unwrap());
        assert!(reading.has_two());
        let cpu = (3_596_227_412.0 - 2_824_611_326.0) / 2_010_000_000.0 * 2.0 * 100.0;
        assert!((sample.cpu_percent - cpu).abs() < 1e-9, "{}", sample.cpu_percent);
        // Without total_inactive_file, which v1 has beside its own inactive_file.
        assert_eq!((sample.memory_usage, sample.memory_limit), (626_688 - 36_864, 64 << 20));
        assert_eq!((sample.network_received, sample.network_sent), (736, 0));
        assert_eq!((sample.block_read, sample.block_written, sample.pids), (0, 0, 1));
    }

    /// A reading as later engines send it on cgroup v2: no use of single CPUs, null for empty lists.
    #[test]
    fn a_reading_of_cgroup_v2() {
        let json = include_str!("stats_v2.json");
        let reading: Reading = serde_json::from_str(json).unwrap();
        let sample = reading.sample(reading.read_at().unwrap());
        assert!((sample.cpu_percent - 50.0).abs() < 1e-9, "{}", sample.cpu_percent);
        assert_eq!(sample.memory_usage, 10_485_760 - 3_145_728);
        assert_eq!(sample.memory_limit, 25_282_846_720);
        assert_eq!((sample.network_received, sample.network_sent), (1500, 700));
        assert_eq!((sample.block_read, sample.block_written, sample.pids), (8192, 4096, 3));
        let mut json: serde_json::Value = serde_json::from_str(json).unwrap();
        // The first reading has nothing before it, so that there is no use of CPUs to tell.
        json["precpu_stats"] = serde_json::json!({"cpu_usage": {"total_usage": 0}});
        assert!(!serde_json::from_value::<Reading>(json.clone()).unwrap().has_two());
        json["cpu_stats"]["online_cpus"] = 0.into();
        let unknown: Reading = serde_json::from_value(json).unwrap();
        assert_eq!(unknown.cpu_percent(), 0.0, "no CPUs to count, as docker says");
    }

    #[test]
    fn cpus_are_counted_where_the_engine_does_not_tell_them() {
        let mut reading = reading("");
        reading.cpu_stats.online_cpus = 0;
        assert!((reading.cpu_percent() - 40.0).abs() < 1e-9, "two of them are listed");
    }

    #[test]
    fn a_stopped_container_has_no_sample() {
        let empty: Reading =
            serde_json::from_str(r#"{"read":"0001-01-01T00:00:00Z","name":"/web","id":"aa"}"#)
                .unwrap();
        assert!(empty.read_at().is_none());
        assert!(!empty.has_two());
        assert_eq!(Reading::default().cpu_percent(), 0.0);
    }
}
