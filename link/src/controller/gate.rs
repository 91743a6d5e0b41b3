//! The connections of a port by address: each has its share, of those whose handshake is not done and of all, so that
//! one that opens thousands and says nothing is in nobody's way but its own. Called by the accept loop only.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::wire;

/// How many connections may be unfinished; see `wire` for the reasons.
#[derive(Debug, Clone, Copy)]
struct Limits {
    unfinished: usize,
    unfinished_of_one: usize,
    handshakes: usize,
    handshakes_of_one: usize,
    connections_of_one: usize,
}

/// Counts the connections of one port.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    places: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    addresses: Mutex<HashMap<IpAddr, Address>>,
}

#[derive(Debug)]
struct Address {
    connections: usize,
    unfinished: usize,
    handshakes: Arc<Semaphore>,
}

/// A connection; dropped when it is closed.
#[derive(Debug)]
pub(super) struct Counted {
    gate: Arc<Gate>,
    address: IpAddr,
}

/// An unfinished connection; dropped when the handshake is done or given up.
#[derive(Debug)]
pub(super) struct Place {
    counted: Arc<Counted>,
    handshakes: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

/// The right to shake hands now.
pub(super) type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Gate {
    /// For a port that has so many connections at most, half of them of one address.
    pub(super) fn new(connections: usize) -> Arc<Self> {
        Self::with(Limits {
            connections_of_one: connections.div_ceil(2),
            unfinished: wire::MAX_UNFINISHED,
            unfinished_of_one: wire::MAX_UNFINISHED_OF_ONE,
            handshakes: wire::MAX_HANDSHAKES,
            handshakes_of_one: wire::MAX_HANDSHAKES_OF_ONE,
        })
    }

    fn with(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(limits.unfinished)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            addresses: Mutex::default(),
            limits,
        })
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, Address>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until another connection may be accepted.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().acquire_owned().await.ok() // It is never closed.
    }

    /// Takes an accepted connection in. None where its address has its share already.
    pub(super) fn enter(
        self: &Arc<Self>,
        from: IpAddr,
        place: OwnedSemaphorePermit,
    ) -> Option<Place> {
        let address = network(from);
        let mut addresses = self.addresses();
        let known = addresses.entry(address).or_insert_with(|| Address {
            connections: 0,
            unfinished: 0,
            handshakes: Arc::new(Semaphore::new(self.limits.handshakes_of_one)),
        });
        if known.unfinished >= self.limits.unfinished_of_one
            || known.connections >= self.limits.connections_of_one
        {
            return None;
        }
        known.unfinished += 1;
        known.connections += 1;
        let handshakes = known.handshakes.clone();
        let counted = Arc::new(Counted { gate: self.clone(), address });
        Some(Place { counted, handshakes, _place: place })
    }
}

impl Place {
    /// What counts the connection on when its handshake is done.
    pub(super) fn counted(&self) -> Arc<Counted> {
        self.counted.clone()
    }

    /// Waits for this connection's turn: first among those of its address, then among all.
    pub(super) async fn turn(&self) -> Option<Turn> {
        let own = self.handshakes.clone().acquire_owned().await.ok()?;
        let all = self.counted.gate.handshakes.clone().acquire_owned().await.ok()?;
        Some((own, all))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It is there as long as the connection is.
        if let Some(address) = self.counted.gate.addresses().get_mut(&self.counted.address) {
            address.unfinished -= 1;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut addresses = self.gate.addresses();
        if let Some(address) = addresses.get_mut(&self.address) {
            address.connections -= 1;
            if address.connections == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: an IPv4 address, or the /64 that one IPv6 host can choose from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn gate() -> Arc<Gate> {
        Gate::with(Limits {
            unfinished: 8,
            unfinished_of_one: 4,
            handshakes: 4,
            handshakes_of_one: 2,
            connections_of_one: 6,
        })
    }

    fn enter(gate: &Arc<Gate>, from: &str) -> Option<Place> {
        gate.enter(from.parse().unwrap(), gate.place().now_or_never()??)
    }

    #[test]
    fn one_address_has_its_share_and_leaves_the_rest() {
        let gate = gate();
        let places: Vec<_> = (0..4).map(|_| enter(&gate, "192.0.2.1").unwrap()).collect();
        assert!(enter(&gate, "192.0.2.1").is_none());
        assert!(enter(&gate, "::ffff:192.0.2.1").is_none(), "the same address, mapped");
        let turns: Vec<_> = places.iter().filter_map(|p| p.turn().now_or_never()).collect();
        assert_eq!(turns.len(), 2);

        let other = enter(&gate, "192.0.2.2").unwrap();
        assert!(other.turn().now_or_never().is_some());
    }

    #[test]
    fn one_address_has_its_share_of_those_that_go_on_too() {
        let gate = gate();
        let mut open: Vec<_> =
            (0..6).map(|_| enter(&gate, "192.0.2.1").unwrap().counted()).collect();
        assert!(enter(&gate, "192.0.2.1").is_none());
        assert!(enter(&gate, "192.0.2.2").is_some());
        open.pop();
        assert!(enter(&gate, "192.0.2.1").is_some());
        drop(open);
        assert!(gate.addresses().is_empty());
    }

    #[test]
    fn a_host_cannot_choose_more_ipv6_addresses_than_it_has_networks() {
        let gate = gate();
        let places: Vec<_> =
            (0..9).filter_map(|n| enter(&gate, &format!("2001:db8::{n}"))).collect();
        assert_eq!(places.len(), 4);
        assert!(enter(&gate, "2001:db8:0:1::1").is_some());
    }

    #[test]
    fn who_leaves_makes_room_and_is_forgotten() {
        let gate = gate();
        for _ in 0..100 {
            let place = enter(&gate, "192.0.2.1").unwrap();
            place.turn().now_or_never().unwrap();
        }
        assert!(gate.addresses().is_empty());
        let all: Vec<_> = (0..8).map(|n| enter(&gate, &format!("192.0.2.{n}")).unwrap()).collect();
        assert!(gate.place().now_or_never().is_none(), "the port as a whole is full");
        drop(all);
        assert!(gate.place().now_or_never().is_some());
    }
}
