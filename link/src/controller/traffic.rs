//! What a port has carried, counted as it passes and read whenever somebody asks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The counters of one port; they only grow, but for `connections`.
#[derive(Debug, Default)]
pub struct Traffic {
    connections: AtomicU64,
    refused: AtomicU64,
    handshakes_failed: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// A reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Connections that are open now.
    pub connections: u64,
    /// Connections that were closed at once, since there were too many.
    pub refused: u64,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: u64,
    /// Bytes from the other ends, as they come over TCP.
    pub received: u64,
    /// Bytes to them.
    pub sent: u64,
}

impl Traffic {
    /// The counters now.
    pub fn read(&self) -> Carried {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Carried {
            connections: read(&self.connections),
            refused: read(&self.refused),
            handshakes_failed: read(&self.handshakes_failed),
            received: read(&self.received),
            sent: read(&self.sent),
        }
    }

    /// A connection is open for as long as this lives.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(self.clone())
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// An open connection.
pub(crate) struct Connected(Arc<Traffic>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
