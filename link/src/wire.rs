//! The numbers of the wire, in one place, with their reasons.

use std::time::Duration;

/// Flow-control window of one stream, bytes.
pub const STREAM_WINDOW: u32 = 256 * 1024;

/// Largest HTTP/2 frame that is read, bytes. Each costs its sender a write; with HTTP/2's own 16 KiB a
/// batch of log lines would take four or more.
pub const MAX_HTTP2_FRAME: u32 = 64 * 1024;

/// What TLS takes at once, bytes: a frame with its header, and what waited before it. With rustls's own
/// 64 KiB each full frame took two writes, the second of a few bytes.
pub const TLS_BUFFER: usize = 2 * MAX_HTTP2_FRAME as usize;

/// Live streams on one connection.
pub const MAX_STREAMS: u32 = 512;

/// Calls under way on one agent; the rest of the streams is for the session itself and for Renew.
pub const MAX_CALLS: usize = MAX_STREAMS as usize - 16;

/// Flow-control window of the connection, bytes. At least twice what all stalled streams can hold,
/// or one undrained stream wedges every other one while keepalive still passes (measured, FACTS).
pub const CONNECTION_WINDOW: u32 = 2 * MAX_STREAMS * STREAM_WINDOW;

/// Largest header list, bytes.
pub const MAX_HEADERS: u32 = 16 * 1024;

/// Streams that a peer may open and reset before the connection is closed (rapid reset).
pub const MAX_PENDING_RESETS: usize = 20;

/// HTTP/2 keepalive, on both ends and also while idle: the application heartbeat notices first, this
/// also covers connections without a session.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long a keepalive PING may go unanswered.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The rpcs that both ends speak without generated code, since what they carry is framed already.
pub const CONNECT: &str = "/dockctl.link.v1.AgentLink/Connect";
/// The other one.
pub const SERVE: &str = "/dockctl.link.v1.AgentLink/Serve";

/// Largest frame on Connect and Serve, bytes.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

/// Largest unary answer that comes inline on Connect, bytes.
pub const MAX_INLINE: usize = 64 * 1024;

/// Largest request message that is forwarded, bytes.
pub const MAX_REQUEST: usize = 256 * 1024;

/// Handshakes under way on one port. Each may cost 0.25 ms of CPU (FACTS) and holds some 40 KB; this
/// many keep both cores busy, more would only wait for each other.
pub const MAX_HANDSHAKES: usize = 256;
/// Of these, handshakes of one address: a quarter, so that it takes more than one to fill them.
pub const MAX_HANDSHAKES_OF_ONE: usize = MAX_HANDSHAKES / 4;
/// Connections that shake hands or wait for their turn. Each holds a file descriptor and little else;
/// beyond it new ones wait in the system's queue.
pub const MAX_UNFINISHED: usize = 2_048;
/// Of these, connections of one address; beyond it new ones are closed. Thousands of agents behind one
/// address are normal, so what is limited is how many begin at once, not how many there are: at 0.5 ms
/// each this many are let in within the second that an agent waits before it dials again.
pub const MAX_UNFINISHED_OF_ONE: usize = MAX_UNFINISHED / 4;

/// How long after its handshake a connection to the agents' port may be without a session. An agent
/// opens it at once; Enroll and Renew on a connection of their own take one round trip.
pub const SESSION_WITHIN: Duration = Duration::from_secs(30);

/// How long after its handshake a user's connection may be without a request.
pub const ASKS_WITHIN: Duration = Duration::from_secs(30);
/// How long the headers of an HTTP/1.1 request may take.
pub const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Largest headers of an HTTP/1.1 request, and what is read ahead of its body, bytes.
pub const MAX_HTTP1_HEADERS: usize = 64 * 1024;

/// Enrolments, renewals and answers to unknown calls that one connection may send: a second, and at
/// once. All calls of an agent may be cancelled at once, whose answers are then unknown.
pub const PACE: (u32, u32) = (100, MAX_CALLS as u32);

/// TCP connect, TLS handshake, and the wait for Welcome or the first Serve message, each.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Heartbeat interval unless configured; both ends notice a dead link within 2.8 of it (14 s).
pub const HEARTBEAT: Duration = Duration::from_secs(5);
