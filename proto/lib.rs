//! The API of dockctl: generated messages, clients and servers of `dockctl.v1` (users) and
//! `dockctl.link.v1` (agents), the policy of every rpc, the error vocabulary, and the TLS client
//! configuration that pins a controller's CA. Everything a client needs, nothing a server keeps.

pub mod error;
pub mod policy;
pub mod tls;

/// The users' API.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("dockctl.v1");
}

/// Without its secrets: what is logged or told in an error must not hold them.
impl std::fmt::Debug for v1::RegistryLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryLogin")
            .field("username", &self.username)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// The agents' API.
pub mod link {
    /// Version 1; `link.proto` is its specification.
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("dockctl.link.v1");
    }
}

/// Every .proto file with its comments and imports, serialized; what reflection serves.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// How much of a stream of bytes goes into one message, bytes: with all that frames it on its way still one HTTP/2
/// frame of 64 KiB and four TLS records, where a few bytes more would each time make another of both. A multiple of
/// a tar archive's blocks.
pub const PIECE: usize = (64 << 10) - 512;

/// The version of this workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// This program's operating system and architecture in the words that Docker uses, for example
/// "linux/amd64".
pub fn platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{architecture}", std::env::consts::OS)
}

/// Random bytes from the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // aws-lc aborts the process by itself where the system has no randomness to give.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

/// A new random identifier: 20 hexadecimal digits, 80 bits.
pub fn new_id() -> String {
    hex::encode(random::<10>())
}

/// SHA-256 as 64 lower-case hexadecimal digits; certificates' fingerprints are of their DER.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}
