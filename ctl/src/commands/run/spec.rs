//! From docker's flags to the JSON that the engine makes a container of, as docker's own client maps them
//! (cli/command/container/opts.go). What was not said is left out, so that the engine's defaults hold. Pure
//! but for the files that flags name.

use std::fs;

use serde_json::{Map, Value, json};

use super::{
    env,
    mounts::{self, Volume},
    network::networks,
    ports::Ports,
    values::{self, Parsed},
};
use crate::args::run::Flags;

/// The JSON for `POST /containers/create`. `words` are the image and the command; `attached` says whether
/// somebody is there for its input and output; `local` knows the variables here.
pub(crate) fn spec(
    flags: &Flags,
    words: &[String],
    attached: bool,
    local: impl Fn(&str) -> Option<String>,
) -> Parsed<Value> {
    let (image, command) = words.split_first().ok_or("requires at least 1 argument")?;
    let networks = networks(flags)?;
    let (mut config, mut host) = (Json::default(), Json::default());

    config.set("Image", image.as_str());
    config.some("Cmd", command);
    if let Some(program) = &flags.entrypoint {
        config.set("Entrypoint", [program.as_str()]);
    }
    config.some("Hostname", &flags.hostname);
    config.some("Domainname", &flags.domainname);
    config.some("User", &flags.user);
    config.some("WorkingDir", &flags.workdir);
    config.some("MacAddress", &flags.mac_address);
    config.some("Env", env::variables(&flags.env_file, &flags.env, local)?);
    let labels = env::labels(&flags.label_file, &flags.label)?;
    config.some("Labels", values::pairs(labels.iter()));
    config.some("StopSignal", &flags.stop_signal);
    config.some("StopTimeout", flag("--stop-timeout", &flags.stop_timeout, values::integer)?);
    let streams = Streams::of(flags)?;
    config.set("AttachStdin", attached && streams.input);
    config.set("AttachStdout", attached && streams.output);
    config.set("AttachStderr", attached && streams.errors);
    config.set("StdinOnce", attached && streams.input && flags.interactive);
    config.set("OpenStdin", flags.interactive);
    config.set("Tty", flags.tty);
    config.some("Healthcheck", health(flags)?);

    files(flags, &mut config, &mut host)?;
    let mut ports = Ports::default();
    flags.publish.iter().try_for_each(|p| ports.publish(p))?;
    flags.expose.iter().try_for_each(|p| ports.expose(p))?;
    config.some("ExposedPorts", ports.exposed());
    host.some("PortBindings", ports.bindings());
    host.yes("PublishAllPorts", flags.publish_all);
    host.set("NetworkMode", networks.mode);
    addresses(flags, &mut host)?;
    resources(flags, &mut host)?;
    devices(flags, &mut host)?;
    rights(flags, &mut host)?;
    host.some("LogConfig", log(flags)?);

    let restart = match flags.restart.as_deref() {
        None | Some("") => values::restart("no")?,
        Some(policy) => values::restart(policy)?,
    };
    if flags.rm && restart["Name"] != "no" {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    host.set("RestartPolicy", restart);
    host.yes("AutoRemove", flags.rm);
    host.yes("Init", flags.init);
    host.some("Runtime", &flags.runtime);
    host.some("Isolation", &flags.isolation);
    host.some("Annotations", values::pairs(flags.annotation.iter()));

    config.set("HostConfig", host.0);
    config.set("NetworkingConfig", json!({"EndpointsConfig": networks.endpoints}));
    Ok(config.0.into())
}

/// Which streams of a container somebody is there for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    pub(crate) input: bool,
    pub(crate) output: bool,
    pub(crate) errors: bool,
}

impl Streams {
    /// Input where it is kept open, and those of `--attach` or, without it, output and errors.
    pub(crate) fn of(flags: &Flags) -> Parsed<Self> {
        let all = flags.attach.is_empty();
        let mut streams = Self { input: flags.interactive, output: all, errors: all };
        for text in &flags.attach {
            match text.to_lowercase().as_str() {
                "stdin" => streams.input = true,
                "stdout" => streams.output = true,
                "stderr" => streams.errors = true,
                _ => {
                    let why = "valid streams are STDIN, STDOUT and STDERR";
                    return Err(invalid("-a, --attach", text, why));
                }
            }
        }
        Ok(streams)
    }
}

/// The JSON for `POST /containers/{id}/update`.
pub(crate) fn update(flags: &crate::args::containers::Update) -> Parsed<Value> {
    let limits = Flags {
        cpus: flags.cpus.clone(),
        cpu_shares: flags.cpu_shares.clone(),
        cpu_period: flags.cpu_period.clone(),
        cpu_quota: flags.cpu_quota.clone(),
        cpu_rt_period: flags.cpu_rt_period.clone(),
        cpu_rt_runtime: flags.cpu_rt_runtime.clone(),
        cpuset_cpus: flags.cpuset_cpus.clone(),
        cpuset_mems: flags.cpuset_mems.clone(),
        memory: flags.memory.clone(),
        memory_swap: flags.memory_swap.clone(),
        memory_reservation: flags.memory_reservation.clone(),
        pids_limit: flags.pids_limit.clone(),
        blkio_weight: flags.blkio_weight.clone(),
        ..Flags::default()
    };
    let mut json = Json::default();
    resources(&limits, &mut json)?;
    json.some("RestartPolicy", flags.restart.as_deref().map(values::restart).transpose()?);
    match json.0.is_empty() {
        true => Err("you must provide one or more flags when using this command".to_owned()),
        false => Ok(json.0.into()),
    }
}

fn files(flags: &Flags, config: &mut Json, host: &mut Json) -> Parsed<()> {
    let (mut binds, mut anonymous) = (Vec::new(), Map::new());
    for volume in &flags.volume {
        match mounts::volume(volume)? {
            Volume::Bind(bind) => binds.push(bind),
            Volume::Anonymous(path) => {
                anonymous.insert(path, json!({}));
            }
        }
    }
    config.some("Volumes", anonymous);
    host.some("Binds", binds);
    host.some("Mounts", each("--mount", &flags.mount, mounts::mount)?);
    host.some("VolumesFrom", &flags.volumes_from);
    host.some("VolumeDriver", &flags.volume_driver);
    let tmpfs: Map<String, Value> = flags.tmpfs.iter().map(|t| mounts::tmpfs(t)).collect();
    host.some("Tmpfs", tmpfs);
    host.yes("ReadonlyRootfs", flags.read_only);
    host.some("ShmSize", flag("--shm-size", &flags.shm_size, values::size)?);
    if flags.storage_opt.iter().any(|option| !option.contains('=')) {
        return Err("invalid storage option".to_owned());
    }
    host.some("StorageOpt", values::pairs(flags.storage_opt.iter()));
    Ok(())
}

fn addresses(flags: &Flags, host: &mut Json) -> Parsed<()> {
    host.some("Dns", each("--dns", &flags.dns, values::ip)?);
    host.some("DnsSearch", &flags.dns_search);
    host.some("DnsOptions", &flags.dns_option);
    host.some("ExtraHosts", each("--add-host", &flags.add_host, values::extra_host)?);
    host.some("Links", &flags.link);
    Ok(())
}

fn resources(flags: &Flags, host: &mut Json) -> Parsed<()> {
    use values::{integer, size, size_or_unlimited};
    host.some("NanoCpus", flag("--cpus", &flags.cpus, values::cpus)?);
    host.some("CpuShares", flag("-c, --cpu-shares", &flags.cpu_shares, integer)?);
    host.some("CpuPeriod", flag("--cpu-period", &flags.cpu_period, integer)?);
    host.some("CpuQuota", flag("--cpu-quota", &flags.cpu_quota, integer)?);
    host.some("CpuRealtimePeriod", flag("--cpu-rt-period", &flags.cpu_rt_period, integer)?);
    host.some("CpuRealtimeRuntime", flag("--cpu-rt-runtime", &flags.cpu_rt_runtime, integer)?);
    host.some("CpusetCpus", &flags.cpuset_cpus);
    host.some("CpusetMems", &flags.cpuset_mems);
    host.some("Memory", flag("-m, --memory", &flags.memory, size)?);
    host.some("MemorySwap", flag("--memory-swap", &flags.memory_swap, size_or_unlimited)?);
    host.some("KernelMemory", flag("--kernel-memory", &flags.kernel_memory, size)?);
    let reservation = flag("--memory-reservation", &flags.memory_reservation, size)?;
    host.some("MemoryReservation", reservation);
    let swappiness = flag("--memory-swappiness", &flags.memory_swappiness, integer)?;
    if let Some(value) = swappiness.filter(|s| !(-1..=100).contains(s)) {
        return Err(format!("invalid value: {value}. Valid memory swappiness range is 0-100"));
    }
    host.some("MemorySwappiness", swappiness);
    host.some("PidsLimit", flag("--pids-limit", &flags.pids_limit, integer)?);
    host.some("BlkioWeight", flag("--blkio-weight", &flags.blkio_weight, values::unsigned)?);
    let weights = &flags.blkio_weight_device;
    host.some("BlkioWeightDevice", each("--blkio-weight-device", weights, values::weight)?);
    for (name, key, rates, read) in [
        (
            "--device-read-bps",
            "BlkioDeviceReadBps",
            &flags.device_read_bps,
            values::bytes_a_second as fn(&str) -> _,
        ),
        (
            "--device-write-bps",
            "BlkioDeviceWriteBps",
            &flags.device_write_bps,
            values::bytes_a_second,
        ),
        (
            "--device-read-iops",
            "BlkioDeviceReadIOps",
            &flags.device_read_iops,
            values::times_a_second,
        ),
        (
            "--device-write-iops",
            "BlkioDeviceWriteIOps",
            &flags.device_write_iops,
            values::times_a_second,
        ),
    ] {
        host.some(key, each(name, rates, read)?);
    }
    let mut ulimits = each("--ulimit", &flags.ulimit, values::ulimit)?;
    ulimits.sort_by(|a, b| a["Name"].as_str().cmp(&b["Name"].as_str()));
    host.some("Ulimits", ulimits);
    host.some("OomScoreAdj", flag("--oom-score-adj", &flags.oom_score_adj, integer)?);
    host.yes("OomKillDisable", flags.oom_kill_disable);
    host.some("CgroupParent", &flags.cgroup_parent);
    Ok(())
}

fn devices(flags: &Flags, host: &mut Json) -> Parsed<()> {
    let mut requests = each("--gpus", &flags.gpus, values::gpus)?;
    let (cdi, devices): (Vec<_>, Vec<_>) = flags.device.iter().partition(|d| values::is_cdi(d));
    if !cdi.is_empty() {
        requests.push(json!({
            "Driver": "cdi", "Count": 0, "DeviceIDs": cdi, "Capabilities": null, "Options": null,
        }));
    }
    host.some("DeviceRequests", requests);
    let devices = devices.into_iter().map(|d| values::device(d)).collect::<Parsed<Vec<_>>>()?;
    host.some("Devices", devices);
    host.some("DeviceCgroupRules", &flags.device_cgroup_rule);
    Ok(())
}

fn rights(flags: &Flags, host: &mut Json) -> Parsed<()> {
    let capabilities =
        |all: &[String]| all.iter().map(|c| values::capability(c)).collect::<Vec<_>>();
    host.some("CapAdd", capabilities(&flags.cap_add));
    host.some("CapDrop", capabilities(&flags.cap_drop));
    host.yes("Privileged", flags.privileged);
    host.some("GroupAdd", &flags.group_add);
    let sysctls = each("--sysctl", &flags.sysctl, values::sysctl)?;
    host.some("Sysctls", values::pairs(sysctls.iter()));
    let security = security(&flags.security_opt, host)?;
    host.some("SecurityOpt", security);
    let container = |mode: &str| mode.strip_prefix("container:").is_some_and(|c| !c.is_empty());
    for (flag, key, value, good) in [
        ("", "IpcMode", &flags.ipc, None),
        ("--pid: invalid PID mode", "PidMode", &flags.pid, Some("host")),
        ("--uts: invalid UTS mode", "UTSMode", &flags.uts, Some("host")),
        ("--userns: invalid USER mode", "UsernsMode", &flags.userns, Some("host")),
        ("--cgroupns: invalid CGROUP mode", "CgroupnsMode", &flags.cgroupns, Some("host")),
    ] {
        let Some(mode) = value.as_deref().filter(|mode| !mode.is_empty()) else { continue };
        let also =
            key == "PidMode" && container(mode) || key == "CgroupnsMode" && mode == "private";
        if good.is_some_and(|good| good != mode) && !also {
            return Err(flag.to_owned());
        }
        host.set(key, mode);
    }
    Ok(())
}

/// Security options; a seccomp profile is read here, as docker's client does.
fn security(options: &[String], host: &mut Json) -> Parsed<Vec<String>> {
    let mut all = Vec::new();
    for option in options {
        let named = option.split_once('=').or_else(|| option.split_once(':'));
        match named {
            None if option == "no-new-privileges" => all.push(option.clone()),
            None => return Err(format!("Invalid --security-opt: \"{option}\"")),
            Some(("systempaths", "unconfined")) => {
                host.set("MaskedPaths", json!([]));
                host.set("ReadonlyPaths", json!([]));
            }
            Some(("seccomp", file)) if !matches!(file, "unconfined" | "builtin") => {
                let failed =
                    |why: String| format!("opening seccomp profile ({file}) failed: {why}");
                let text = fs::read_to_string(file)
                    .map_err(|e| failed(format!("open {file}: {}", env::cause(&e))))?;
                let profile: Value = serde_json::from_str(&text).map_err(|e| {
                    format!("compacting json for seccomp profile ({file}) failed: {e}")
                })?;
                all.push(format!("seccomp={profile}"));
            }
            Some(_) => all.push(option.clone()),
        }
    }
    Ok(all)
}

fn log(flags: &Flags) -> Parsed<Option<Value>> {
    let options = values::pairs(flags.log_opt.iter());
    let driver = flags.log_driver.as_deref().unwrap_or_default();
    if driver == "none" && !options.is_empty() {
        return Err("invalid logging opts for driver none".to_owned());
    }
    let said = !driver.is_empty() || !options.is_empty();
    Ok(said.then(|| json!({"Type": driver, "Config": options})))
}

fn health(flags: &Flags) -> Parsed<Map<String, Value>> {
    let mut health = Json::default();
    if let Some(command) = &flags.health_cmd {
        health.set("Test", ["CMD-SHELL", command.as_str()]);
    }
    for (name, key, value, read) in [
        ("--health-interval", "Interval", &flags.health_interval, values::span as fn(&str) -> _),
        ("--health-timeout", "Timeout", &flags.health_timeout, values::span),
        ("--health-retries", "Retries", &flags.health_retries, values::integer),
        ("--health-start-period", "StartPeriod", &flags.health_start_period, values::span),
        ("--health-start-interval", "StartInterval", &flags.health_start_interval, values::span),
    ] {
        let value = flag(name, value, read)?;
        if value.is_some_and(|value| value < 0) {
            return Err(format!("{name} cannot be negative"));
        }
        health.some(key, value);
    }
    match (flags.no_healthcheck, health.0.is_empty()) {
        (true, false) => Err("--no-healthcheck conflicts with --health-* options".to_owned()),
        (true, true) => {
            health.set("Test", ["NONE"]);
            Ok(health.0)
        }
        (false, _) => Ok(health.0),
    }
}

/// A flag's value, or docker's sentence on why it means nothing.
fn flag<T>(
    name: &str,
    value: &Option<String>,
    read: impl Fn(&str) -> Parsed<T>,
) -> Parsed<Option<T>> {
    value.as_deref().map(|value| read(value).map_err(|why| invalid(name, value, &why))).transpose()
}

/// The values of a flag that can be repeated.
fn each<'a, T>(
    name: &str,
    values: &'a [String],
    read: impl Fn(&'a str) -> Parsed<T>,
) -> Parsed<Vec<T>> {
    values.iter().map(|value| read(value).map_err(|why| invalid(name, value, &why))).collect()
}

fn invalid(name: &str, value: &str, why: &str) -> String {
    format!("invalid argument \"{value}\" for \"{name}\" flag: {why}")
}

/// An object under way.
#[derive(Default)]
struct Json(Map<String, Value>);

impl Json {
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// Sets what is true.
    fn yes(&mut self, key: &str, value: bool) {
        if value {
            self.set(key, true);
        }
    }

    /// Sets what was said: nothing that is absent or empty.
    fn some(&mut self, key: &str, value: impl serde::Serialize) {
        let value = json!(value);
        let said = match &value {
            Value::Null => false,
            Value::Array(all) => !all.is_empty(),
            Value::Object(all) => !all.is_empty(),
            Value::String(text) => !text.is_empty(),
            _ => true,
        };
        if said {
            self.set(key, value);
        }
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
