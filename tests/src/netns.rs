//! A network of the scenario's own: a namespace tied to the host by a pair of virtual interfaces, in
//! which nft can swallow packets and tc can slow them down. Needs root.

use std::{env, fs::File, process::Command};

use anyhow::{Result, bail, ensure};

/// Blocks of four addresses in 198.51.100.0/24.
const BLOCKS: u32 = 64;

/// One namespace with one interface. Removed when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
    host: String,
    inside: String,
    /// Keeps its addresses from the scenarios that run beside it.
    _claim: File,
}

/// Which packets of the namespace are swallowed.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// Those that come in.
    In,
    /// Those that go out.
    Out,
    /// All.
    Both,
}

/// The way of every packet between the namespace and the host; none of it is told to the sender.
fn table(way: Way, packets: &str) -> String {
    let chain = |hook: &str, device: &str| {
        format!(
            "chain {hook} {{
                type filter hook {hook} priority -300
                {device} lo accept
                {packets} drop
            }}"
        )
    };
    let input = if matches!(way, Way::Out) { String::new() } else { chain("input", "iif") };
    let output = if matches!(way, Way::In) { String::new() } else { chain("output", "oif") };
    format!("table inet fault {{\n{input}\n{output}\n}}")
}

impl Netns {
    /// Makes a namespace with addresses from 198.51.100.0/24, which belongs to documentation, so that no
    /// real network is hidden. `name` has at most 9 characters: interfaces' names are short.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn new() -> Result<Self> {
        let pid = std::process::id();
        let name = format!("dt{pid}");
        let (host_end, ns_end) = (format!("dt{pid}h"), format!("dt{pid}n"));
        let (block, claim) = free_block()?;
        let block = block * 4;
        let host = format!("198.51.100.{}", block + 1);
        let inside = format!("198.51.100.{}", block + 2);

        ip(&["netns", "add", &name])?;
        let netns = Self { name, host, inside, _claim: claim };
        ip(&[
            "link",
            "add",
            &host_end,
            "type",
            "veth",
            "peer",
            "name",
            &ns_end,
            "netns",
            &netns.name,
        ])?;
        ip(&["addr", "add", &format!("{}/30", netns.host), "dev", &host_end])?;
        ip(&["link", "set", &host_end, "up"])?;
        ip(&["-n", &netns.name, "addr", "add", &format!("{}/30", netns.inside), "dev", &ns_end])?;
        ip(&["-n", &netns.name, "link", "set", &ns_end, "up"])?;
        ip(&["-n", &netns.name, "link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// The namespace's name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's address as seen from inside.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address inside as seen from the host.
    pub fn inside(&self) -> &str {
        &self.inside
    }

    /// Swallows every packet that goes that way: no reset, no error, silence.
    ///
    /// # Errors
    /// When nft fails.
    pub fn blackhole(&self, way: Way) -> Result<()> {
        self.nft(&table(way, ""))
    }

    /// Swallows that many of a hundred packets, at random, both ways.
    ///
    /// # Errors
    /// When nft fails.
    pub fn lose(&self, percent: u32) -> Result<()> {
        self.nft(&table(Way::Both, &format!("numgen random mod 100 < {percent}")))
    }

    /// Lets so much through and no more, each way, for as long as the namespace lives.
    ///
    /// # Errors
    /// When tc fails.
    pub fn throttle(&self, kbit: u32) -> Result<()> {
        let rate = format!("{kbit}kbit");
        let shape = ["root", "tbf", "rate", &rate, "burst", "16kb", "latency", "400ms"];
        let (host_end, ns_end) = (format!("{}h", self.name), format!("{}n", self.name));
        run(Command::new("tc").args(["qdisc", "add", "dev", &host_end]).args(shape))?;
        run(Command::new("tc").args(["-n", &self.name, "qdisc", "add", "dev", &ns_end]).args(shape))
    }

    /// Lets packets through again.
    ///
    /// # Errors
    /// When nft fails.
    pub fn heal(&self) -> Result<()> {
        self.nft("delete table inet fault")
    }

    fn nft(&self, rules: &str) -> Result<()> {
        run(Command::new("ip").args(["netns", "exec", &self.name, "nft", rules]))
    }
}

/// A block of four addresses that no other scenario's process has: it is locked as long as the file is
/// open.
fn free_block() -> Result<(u32, File)> {
    for block in 0..BLOCKS {
        let path = env::temp_dir().join(format!("dockctl-e2e-block-{block}"));
        let file = File::create(&path)?;
        if file.try_lock().is_ok() {
            return Ok((block, file));
        }
    }
    bail!("all {BLOCKS} blocks of addresses are taken")
}

impl Drop for Netns {
    fn drop(&mut self) {
        // The pair of interfaces goes with the namespace.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {stderr}");
    Ok(())
}
