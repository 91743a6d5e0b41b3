//! `run` and `create`: docker's flags as they are written. What their values mean, and docker's words for
//! those that mean nothing, is `commands/run/spec.rs`.

use std::path::PathBuf;

/// `run`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "dockctl run [--on AGENT] [OPTIONS] IMAGE [COMMAND] [ARG...]")]
#[command(disable_help_flag = true)]
pub(crate) struct Run {
    /// Leave it running, and print its id.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keys that detach from it, for example ctrl-p,ctrl-q.
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    pub(crate) detach_keys: String,
    /// Pass signals on to the container.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) sig_proxy: bool,
    #[command(flatten)]
    pub(crate) create: Create,
}

/// `create`, and what `run` shares with it.
#[derive(Debug, Default, clap::Args)]
#[command(override_usage = "dockctl create [--on AGENT] [OPTIONS] IMAGE [COMMAND] [ARG...]")]
#[command(disable_help_flag = true)]
pub(crate) struct Create {
    /// The host; may be left out where the fleet has just one that is connected.
    #[arg(long, value_name = "AGENT")]
    pub(crate) on: Option<String>,
    /// Write the container's id to this file, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// No progress of the pull.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// When to pull the image: always, missing or never.
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: String,
    /// The platform, for example linux/arm64.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) platform: String,
    /// The container's name.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) flags: Flags,
    /// Does nothing: no image is verified here.
    #[arg(long, hide = true)]
    pub(crate) disable_content_trust: bool,
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    pub(crate) help: Option<bool>,
    /// The image, and the command with its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]")]
    pub(crate) words: Vec<String>,
}

/// What describes a container.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Flags {
    /// Only this stream of it: stdin, stdout or stderr; can be repeated.
    #[arg(short, long, value_name = "STREAM", help_heading = "Container")]
    pub(crate) attach: Vec<String>,
    /// Keep its standard input open.
    #[arg(short, long, help_heading = "Container")]
    pub(crate) interactive: bool,
    /// Give it a terminal.
    #[arg(short, long, help_heading = "Container")]
    pub(crate) tty: bool,
    /// Remove it when it ends.
    #[arg(long, help_heading = "Container")]
    pub(crate) rm: bool,
    /// Set a variable: k=v, or k with the value it has here.
    #[arg(short, long, value_name = "K=V", help_heading = "Container")]
    pub(crate) env: Vec<String>,
    /// Read variables from a file.
    #[arg(long, value_name = "FILE", help_heading = "Container")]
    pub(crate) env_file: Vec<String>,
    /// Set a label: k=v or k.
    #[arg(short, long, value_name = "K=V", help_heading = "Container")]
    pub(crate) label: Vec<String>,
    /// Read labels from a file.
    #[arg(long, value_name = "FILE", help_heading = "Container")]
    pub(crate) label_file: Vec<String>,
    /// An annotation for the runtime.
    #[arg(long, value_name = "K=V", help_heading = "Container")]
    pub(crate) annotation: Vec<String>,
    /// Run as this user: name or uid, with :group.
    #[arg(short, long, value_name = "USER", help_heading = "Container")]
    pub(crate) user: Option<String>,
    /// Further groups.
    #[arg(long, value_name = "GROUP", help_heading = "Container")]
    pub(crate) group_add: Vec<String>,
    /// The working directory.
    #[arg(short, long, value_name = "DIR", help_heading = "Container")]
    pub(crate) workdir: Option<String>,
    /// The program, instead of the image's; empty for none.
    #[arg(long, value_name = "PROGRAM", help_heading = "Container")]
    pub(crate) entrypoint: Option<String>,
    /// An init process that reaps and forwards signals.
    #[arg(long, help_heading = "Container")]
    pub(crate) init: bool,
    /// When to restart it: no, on-failure[:N], always or unless-stopped.
    #[arg(long, value_name = "POLICY", help_heading = "Container")]
    pub(crate) restart: Option<String>,
    /// The signal that stops it.
    #[arg(long, value_name = "SIGNAL", help_heading = "Container")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds before it is killed.
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, help_heading = "Container")]
    pub(crate) stop_timeout: Option<String>,
    /// The log driver.
    #[arg(long, value_name = "DRIVER", help_heading = "Container")]
    pub(crate) log_driver: Option<String>,
    /// An option of the log driver.
    #[arg(long, value_name = "K=V", help_heading = "Container")]
    pub(crate) log_opt: Vec<String>,
    /// The runtime.
    #[arg(long, help_heading = "Container")]
    pub(crate) runtime: Option<String>,

    /// Mount a volume or a directory of the host: [SOURCE:]PATH[:OPTIONS].
    #[arg(short, long, value_name = "VOLUME", help_heading = "Files")]
    pub(crate) volume: Vec<String>,
    /// Mount by keys: type=bind|volume|tmpfs,source=…,target=…
    #[arg(long, value_name = "MOUNT", help_heading = "Files")]
    pub(crate) mount: Vec<String>,
    /// Mount all that another container mounts.
    #[arg(long, value_name = "CONTAINER", help_heading = "Files")]
    pub(crate) volumes_from: Vec<String>,
    /// The driver of its volumes.
    #[arg(long, value_name = "DRIVER", help_heading = "Files")]
    pub(crate) volume_driver: Option<String>,
    /// Mount a file system in memory: PATH[:OPTIONS].
    #[arg(long, value_name = "TMPFS", help_heading = "Files")]
    pub(crate) tmpfs: Vec<String>,
    /// Its own file system cannot be written.
    #[arg(long, help_heading = "Files")]
    pub(crate) read_only: bool,
    /// The size of /dev/shm.
    #[arg(long, value_name = "BYTES", help_heading = "Files")]
    pub(crate) shm_size: Option<String>,
    /// An option of the storage driver.
    #[arg(long, value_name = "K=V", help_heading = "Files")]
    pub(crate) storage_opt: Vec<String>,

    /// Publish a port: [[IP:]HOST:]CONTAINER[/PROTOCOL].
    #[arg(short, long, value_name = "PORT", help_heading = "Network")]
    pub(crate) publish: Vec<String>,
    /// Publish all exposed ports.
    #[arg(short = 'P', long, help_heading = "Network")]
    pub(crate) publish_all: bool,
    /// Expose a port or a range of them.
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub(crate) expose: Vec<String>,
    /// The network.
    #[arg(long, alias = "net", value_name = "NETWORK", help_heading = "Network")]
    pub(crate) network: Vec<String>,
    /// Its name in the network.
    #[arg(long, alias = "net-alias", value_name = "NAME", help_heading = "Network")]
    pub(crate) network_alias: Vec<String>,
    /// Its IPv4 address in the network.
    #[arg(long, help_heading = "Network")]
    pub(crate) ip: Option<String>,
    /// Its IPv6 address in the network.
    #[arg(long, help_heading = "Network")]
    pub(crate) ip6: Option<String>,
    /// A link-local address in the network.
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub(crate) link_local_ip: Vec<String>,
    /// Its MAC address.
    #[arg(long, value_name = "MAC", help_heading = "Network")]
    pub(crate) mac_address: Option<String>,
    /// Link it to another container.
    #[arg(long, value_name = "CONTAINER[:ALIAS]", help_heading = "Network")]
    pub(crate) link: Vec<String>,
    /// Its host name.
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Network")]
    pub(crate) hostname: Option<String>,
    /// Its domain.
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub(crate) domainname: Option<String>,
    /// A line for its /etc/hosts: NAME:IP.
    #[arg(long, value_name = "NAME:IP", help_heading = "Network")]
    pub(crate) add_host: Vec<String>,
    /// A DNS server.
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub(crate) dns: Vec<String>,
    /// A domain to search.
    #[arg(long, value_name = "DOMAIN", help_heading = "Network")]
    pub(crate) dns_search: Vec<String>,
    /// A DNS option.
    #[arg(long, alias = "dns-opt", value_name = "OPTION", help_heading = "Network")]
    pub(crate) dns_option: Vec<String>,

    /// How many CPUs it may use, for example 1.5.
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) cpus: Option<String>,
    /// Its weight among those that want CPU time.
    #[arg(short, long, value_name = "N", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) cpu_shares: Option<String>,
    /// The period of the CPU quota, microseconds.
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) cpu_period: Option<String>,
    /// The CPU quota, microseconds in each period.
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) cpu_quota: Option<String>,
    /// The period of its real-time CPU time, microseconds.
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) cpu_rt_period: Option<String>,
    /// Its real-time CPU time, microseconds in each period.
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) cpu_rt_runtime: Option<String>,
    /// The CPUs it may use, for example 0-2,4.
    #[arg(long, value_name = "CPUS", help_heading = "Limits")]
    pub(crate) cpuset_cpus: Option<String>,
    /// The memory nodes it may use.
    #[arg(long, value_name = "NODES", help_heading = "Limits")]
    pub(crate) cpuset_mems: Option<String>,
    /// How much memory it may use, for example 512m.
    #[arg(short, long, value_name = "BYTES", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) memory: Option<String>,
    /// How much memory and swap together; -1 for no limit.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) memory_swap: Option<String>,
    /// How much memory it keeps when memory is short.
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    pub(crate) memory_reservation: Option<String>,
    /// How much memory the kernel may use for it, which current engines do not limit.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, hide = true)]
    pub(crate) kernel_memory: Option<String>,
    /// How readily it is swapped, 0 to 100.
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) memory_swappiness: Option<String>,
    /// How many processes it may have; -1 for no limit.
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) pids_limit: Option<String>,
    /// A limit as ulimit(1) has it: NAME=SOFT[:HARD].
    #[arg(long, value_name = "ULIMIT", help_heading = "Limits")]
    pub(crate) ulimit: Vec<String>,
    /// Its weight in disk access, 10 to 1000.
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) blkio_weight: Option<String>,
    /// Its weight in access to a device: PATH:N.
    #[arg(long, value_name = "DEVICE", help_heading = "Limits")]
    pub(crate) blkio_weight_device: Vec<String>,
    /// How many bytes it may read from a device in a second: PATH:RATE.
    #[arg(long, value_name = "DEVICE", help_heading = "Limits")]
    pub(crate) device_read_bps: Vec<String>,
    /// How many bytes it may write to a device in a second: PATH:RATE.
    #[arg(long, value_name = "DEVICE", help_heading = "Limits")]
    pub(crate) device_write_bps: Vec<String>,
    /// How often it may read from a device in a second: PATH:RATE.
    #[arg(long, value_name = "DEVICE", help_heading = "Limits")]
    pub(crate) device_read_iops: Vec<String>,
    /// How often it may write to a device in a second: PATH:RATE.
    #[arg(long, value_name = "DEVICE", help_heading = "Limits")]
    pub(crate) device_write_iops: Vec<String>,
    /// How readily it is killed when memory is short.
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) oom_score_adj: Option<String>,
    /// Never kill it when memory is short.
    #[arg(long, help_heading = "Limits")]
    pub(crate) oom_kill_disable: bool,
    /// The control group above its own.
    #[arg(long, value_name = "PATH", help_heading = "Limits")]
    pub(crate) cgroup_parent: Option<String>,

    /// A command that tells whether it is healthy.
    #[arg(long, value_name = "COMMAND", help_heading = "Health")]
    pub(crate) health_cmd: Option<String>,
    /// How often it is asked, for example 30s.
    #[arg(long, value_name = "SPAN", allow_hyphen_values = true, help_heading = "Health")]
    pub(crate) health_interval: Option<String>,
    /// How long an answer may take.
    #[arg(long, value_name = "SPAN", allow_hyphen_values = true, help_heading = "Health")]
    pub(crate) health_timeout: Option<String>,
    /// How many bad answers make it unhealthy.
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = "Health")]
    pub(crate) health_retries: Option<String>,
    /// How long bad answers do not count at first.
    #[arg(long, value_name = "SPAN", allow_hyphen_values = true, help_heading = "Health")]
    pub(crate) health_start_period: Option<String>,
    /// How often it is asked during that time.
    #[arg(long, value_name = "SPAN", allow_hyphen_values = true, help_heading = "Health")]
    pub(crate) health_start_interval: Option<String>,
    /// Leave out the image's health check.
    #[arg(long, help_heading = "Health")]
    pub(crate) no_healthcheck: bool,

    /// GPUs: all, a number, or device=ID.
    #[arg(long, value_name = "GPUS", help_heading = "Rights and devices")]
    pub(crate) gpus: Vec<String>,
    /// A device of the host: PATH[:PATH[:rwm]].
    #[arg(long, value_name = "DEVICE", help_heading = "Rights and devices")]
    pub(crate) device: Vec<String>,
    /// A rule of the device control group.
    #[arg(long, value_name = "RULE", help_heading = "Rights and devices")]
    pub(crate) device_cgroup_rule: Vec<String>,
    /// Give it a capability.
    #[arg(long, value_name = "CAP", help_heading = "Rights and devices")]
    pub(crate) cap_add: Vec<String>,
    /// Take a capability from it.
    #[arg(long, value_name = "CAP", help_heading = "Rights and devices")]
    pub(crate) cap_drop: Vec<String>,
    /// Give it all rights of the host.
    #[arg(long, help_heading = "Rights and devices")]
    pub(crate) privileged: bool,
    /// The isolation technology, on Windows.
    #[arg(long, value_name = "NAME", help_heading = "Rights and devices")]
    pub(crate) isolation: Option<String>,
    /// A security option.
    #[arg(long, value_name = "OPTION", help_heading = "Rights and devices")]
    pub(crate) security_opt: Vec<String>,
    /// A kernel parameter: K=V.
    #[arg(long, value_name = "K=V", help_heading = "Rights and devices")]
    pub(crate) sysctl: Vec<String>,
    /// The IPC namespace.
    #[arg(long, value_name = "MODE", help_heading = "Rights and devices")]
    pub(crate) ipc: Option<String>,
    /// The PID namespace.
    #[arg(long, value_name = "MODE", help_heading = "Rights and devices")]
    pub(crate) pid: Option<String>,
    /// The UTS namespace.
    #[arg(long, value_name = "MODE", help_heading = "Rights and devices")]
    pub(crate) uts: Option<String>,
    /// The user namespace.
    #[arg(long, value_name = "MODE", help_heading = "Rights and devices")]
    pub(crate) userns: Option<String>,
    /// The control group namespace.
    #[arg(long, value_name = "MODE", help_heading = "Rights and devices")]
    pub(crate) cgroupns: Option<String>,
}
