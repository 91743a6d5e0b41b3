//! How much one caller may ask: requests a minute of each class, for each principal and for each address, and
//! streams at once. What is counted is bounded: see [`MAX_KEYS`].

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, Hash, RandomState},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use dockctl_api::{
    error::{reason, status, too_many},
    v1::RateClass,
};
use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, MonotonicClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};
use http::HeaderMap;
use ipnet::IpNet;
use tonic::{Code, Status};

/// Most callers of whom one limit keeps count, some 10 MB in all. Beyond it they share counts by their hash, until
/// others have been quiet for a while.
const MAX_KEYS: usize = 10_000;
/// How many counts there are then.
const SHARED: u64 = 4_096;
/// How often the quiet ones are forgotten at most where there is no room.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// How much more one address may ask than one principal: there may be many behind it. Logins are not among it.
const ADDRESS_FACTOR: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);

/// How much each caller may ask; 0 is no limit.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Logins a minute, of each address and for each account. There are never more in any minute.
    pub auth: u32,
    /// Changes a minute of each principal, and ten times that of each address.
    pub action: u32,
    /// Reads a minute of each principal, and ten times that of each address.
    pub read: u32,
    /// Streams at once of each principal, and for strangers' health checks of each address. Fewer than the
    /// calls that one agent takes, so that nobody takes them all.
    pub streams: usize,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { auth: 5, action: 120, read: 1_200, streams: 400, trusted_proxies: Vec::new() }
    }
}

/// Counts what callers ask; clones share the counts.
#[derive(Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
}

struct Shared {
    principals: Classes<String>,
    addresses: Classes<IpAddr>,
    accounts: Option<Counts<String>>,
    /// Of those who have logged in from an address before: strangers who guess do not keep them out.
    familiar: Option<Counts<(String, IpAddr)>>,
    logged_in: Mutex<HashSet<(String, IpAddr)>>,
    streams: Mutex<HashMap<String, usize>>,
    limits: Limits,
}

/// One stream that a principal has open.
pub(super) struct Open {
    shared: Arc<Shared>,
    principal: String,
}

impl Limiter {
    /// Limits of their own.
    pub fn new(limits: Limits) -> Self {
        let wide = |limit: u32| limit.saturating_mul(ADDRESS_FACTOR);
        let shared = Shared {
            principals: Classes::new(limits.auth, limits.action, limits.read),
            addresses: Classes::new(limits.auth, wide(limits.action), wide(limits.read)),
            accounts: Counts::strict(limits.auth),
            familiar: Counts::strict(limits.auth),
            logged_in: Mutex::default(),
            streams: Mutex::default(),
            limits,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Where a request comes from: its connection's other end or, where that is a trusted proxy, the last
    /// address in X-Forwarded-For that is none.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let is_proxy = |address: &IpAddr| {
            self.shared.limits.trusted_proxies.iter().any(|net| net.contains(address))
        };
        let peer = peer.to_canonical();
        if !is_proxy(&peer) {
            return peer;
        }
        let values = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
        let hops: Vec<&str> = values.flat_map(|v| v.split(',')).map(str::trim).collect();
        let mut client = peer;
        for hop in hops.iter().rev() {
            // What a proxy of ours has not written well is not believed.
            let Some(address) = address(hop) else { break };
            client = address;
            if !is_proxy(&address) {
                break;
            }
        }
        client
    }

    /// Takes one request of an address. Errors: RESOURCE_EXHAUSTED TOO_MANY.
    pub(super) fn address(&self, class: RateClass, address: IpAddr) -> Result<(), Status> {
        let counts = self.shared.addresses.of(class);
        counts.map_or(Ok(()), |counts| counts.take(&network(address), "this address"))
    }

    /// Takes one request of a principal. Errors: RESOURCE_EXHAUSTED TOO_MANY.
    pub(super) fn principal(&self, class: RateClass, id: &str) -> Result<(), Status> {
        let counts = self.shared.principals.of(class);
        counts.map_or(Ok(()), |counts| counts.take(&id.to_owned(), "you"))
    }

    /// Takes one login of an account: strangers share one count, and each address from which it has logged in
    /// before has its own. Errors: RESOURCE_EXHAUSTED TOO_MANY.
    pub(super) fn account(&self, name: &str, from: Option<IpAddr>) -> Result<(), Status> {
        let own = from.map(|from| (name.to_owned(), network(from)));
        let own = own.filter(|own| self.familiar().contains(own));
        let (who, shared) = ("this account", &self.shared);
        match (own, &shared.familiar, &shared.accounts) {
            (Some(own), Some(counts), _) => counts.take(&own, who),
            (None, _, Some(counts)) => counts.take(&name.to_owned(), who),
            _ => Ok(()),
        }
    }

    /// An account has logged in from an address.
    pub(super) fn logged_in(&self, name: String, from: Option<IpAddr>) {
        let Some(from) = from else { return };
        let mut familiar = self.familiar();
        if familiar.len() < MAX_KEYS {
            familiar.insert((name, network(from)));
        }
    }

    fn familiar(&self) -> std::sync::MutexGuard<'_, HashSet<(String, IpAddr)>> {
        self.shared.logged_in.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of one stream. Errors: RESOURCE_EXHAUSTED TOO_MANY.
    pub(super) fn stream(&self, principal: &str) -> Result<Open, Status> {
        let limit = self.shared.limits.streams;
        let mut streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let open = streams.entry(principal.to_owned()).or_default();
        if limit > 0 && *open >= limit {
            let message = format!("you have {limit} streams open; end some first");
            return Err(status(Code::ResourceExhausted, reason::TOO_MANY, message, &[]));
        }
        *open += 1;
        Ok(Open { shared: self.shared.clone(), principal: principal.to_owned() })
    }

    /// Forgets those who have been quiet for so long that they may ask as much as anybody.
    pub fn tidy(&self) {
        self.shared.principals.tidy();
        self.shared.addresses.tidy();
        self.shared.accounts.iter().for_each(Counts::tidy);
        self.shared.familiar.iter().for_each(Counts::tidy);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams.get_mut(&self.principal) {
            *open -= 1;
            if *open == 0 {
                streams.remove(&self.principal);
            }
        }
    }
}

/// What counts as one address: who has one of IPv6 has 2^64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        v4 => v4,
    }
}

/// An address in X-Forwarded-For, which may have a port.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim_matches('"');
    let address = hop.parse::<IpAddr>().or_else(|_| {
        hop.parse::<std::net::SocketAddr>()
            .map(|address| address.ip())
            .or_else(|_| hop.trim_start_matches('[').trim_end_matches(']').parse())
    });
    address.ok().map(|address| address.to_canonical())
}

/// Counts of each class.
struct Classes<K: Hash + Eq + Clone> {
    auth: Option<Counts<K>>,
    action: Option<Counts<K>>,
    read: Option<Counts<K>>,
}

impl<K: Hash + Eq + Clone> Classes<K> {
    fn new(auth: u32, action: u32, read: u32) -> Self {
        Self {
            auth: Counts::strict(auth),
            action: Counts::smooth(action),
            read: Counts::smooth(read),
        }
    }

    fn of(&self, class: RateClass) -> Option<&Counts<K>> {
        match class {
            RateClass::Auth => self.auth.as_ref(),
            RateClass::Action => self.action.as_ref(),
            RateClass::Read | RateClass::Unspecified => self.read.as_ref(),
        }
    }

    fn tidy(&self) {
        [&self.auth, &self.action, &self.read].into_iter().flatten().for_each(Counts::tidy);
    }
}

type Keyed<K> =
    RateLimiter<K, HashMapStateStore<K>, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

/// One limit.
struct Counts<K: Hash + Eq + Clone> {
    each: Keyed<K>,
    /// By a part of the hash, for all while there are too many.
    rest: Keyed<u64>,
    /// Nobody guesses who shares a count with whom.
    hasher: RandomState,
    tidied: Mutex<Instant>,
}

impl<K: Hash + Eq + Clone> Counts<K> {
    /// So many a minute, all of them at once if need be.
    fn smooth(a_minute: u32) -> Option<Self> {
        Some(Self::new(Quota::per_minute(NonZeroU32::new(a_minute)?)))
    }

    /// Never more than so many within any minute: half of them at once, the others as time goes.
    fn strict(a_minute: u32) -> Option<Self> {
        let at_once = NonZeroU32::new(a_minute.div_ceil(2))?;
        let then = (a_minute - at_once.get()).max(1);
        Some(Self::new(Quota::with_period(MINUTE / then)?.allow_burst(at_once)))
    }

    fn new(quota: Quota) -> Self {
        Self {
            each: RateLimiter::hashmap_with_clock(quota, MonotonicClock),
            rest: RateLimiter::hashmap_with_clock(quota, MonotonicClock),
            hasher: RandomState::new(),
            tidied: Mutex::new(Instant::now()),
        }
    }

    fn take(&self, key: &K, who: &str) -> Result<(), Status> {
        let taken = match self.has_room() {
            true => self.each.check_key(key),
            false => self.rest.check_key(&(self.hasher.hash_one(key) % SHARED)),
        };
        taken.map_err(|until| {
            let wait = until.wait_time_from(MonotonicClock.now());
            let seconds = wait.as_secs_f64().ceil().max(1.0);
            too_many(format!("too many requests of {who}; try again in {seconds} s"), wait)
        })
    }

    /// Whether one more may be kept count of, after those who are quiet were forgotten.
    fn has_room(&self) -> bool {
        if self.each.len() < MAX_KEYS {
            return true;
        }
        let mut tidied = self.tidied.lock().unwrap_or_else(PoisonError::into_inner);
        if tidied.elapsed() > TIDY_EVERY {
            *tidied = Instant::now();
            self.each.retain_recent();
        }
        self.each.len() < MAX_KEYS
    }

    fn tidy(&self) {
        self.each.retain_recent();
        self.each.shrink_to_fit();
        self.rest.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use dockctl_api::error::{reason_of, retry_after};

    use super::*;

    fn limiter(limits: Limits) -> Limiter {
        Limiter::new(limits)
    }

    fn allowed(mut take: impl FnMut() -> Result<(), Status>, tries: usize) -> usize {
        (0..tries).filter(|_| take().is_ok()).count()
    }

    #[test]
    fn each_class_of_each_principal_has_its_own_budget() {
        let limiter = limiter(Limits { action: 7, read: 11, ..Limits::default() });
        for who in ["ada", "bob"] {
            assert_eq!(allowed(|| limiter.principal(RateClass::Action, who), 100), 7);
            assert_eq!(allowed(|| limiter.principal(RateClass::Read, who), 100), 11);
        }
        let refused = limiter.principal(RateClass::Read, "ada").unwrap_err();
        assert_eq!(reason_of(&refused).as_deref(), Some("TOO_MANY"));
        let wait = retry_after(&refused).unwrap();
        assert!(wait > Duration::ZERO && wait <= MINUTE / 11, "{wait:?}");
    }

    #[test]
    fn of_a_thousand_guesses_a_minute_five_get_through() {
        let limiter = limiter(Limits::default());
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let at_once = allowed(|| limiter.address(RateClass::Auth, address), 1_000);
        // Two more come back within the minute.
        let refused = limiter.address(RateClass::Auth, address).unwrap_err();
        let wait = retry_after(&refused).unwrap();
        assert!(at_once == 3 && wait > MINUTE / 3 && wait <= MINUTE / 2, "{at_once} {wait:?}");
        assert_eq!(allowed(|| limiter.account("admin", Some(address)), 1_000), 3);
        // Whoever has logged in from elsewhere before is not kept out by it.
        let home: IpAddr = "198.51.100.7".parse().unwrap();
        limiter.logged_in("admin".to_owned(), Some(home));
        assert_eq!(allowed(|| limiter.account("admin", Some(home)), 1_000), 3);
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let limiter = limiter(Limits { read: 1, ..Limits::default() });
        let neighbours = (0..100u128).map(|n| IpAddr::V6((0x2001_0db8_u128 << 96 | n).into()));
        let passed = neighbours.filter(|a| limiter.address(RateClass::Read, *a).is_ok()).count();
        assert_eq!(passed, 10);
    }

    #[test]
    fn nothing_is_limited_by_a_limit_of_zero() {
        let none = Limits { auth: 0, action: 0, read: 0, streams: 0, ..Limits::default() };
        let limiter = limiter(none);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for class in [RateClass::Auth, RateClass::Action, RateClass::Read] {
            assert_eq!(allowed(|| limiter.address(class, address), 5_000), 5_000);
            assert_eq!(allowed(|| limiter.principal(class, "ada"), 5_000), 5_000);
        }
        let open: Vec<_> = (0..5_000).map(|_| limiter.stream("ada").unwrap()).collect();
        assert_eq!(open.len(), 5_000);
    }

    #[test]
    fn a_stream_that_ends_makes_room() {
        let limiter = limiter(Limits { streams: 2, ..Limits::default() });
        let first = limiter.stream("ada").unwrap();
        let _second = limiter.stream("ada").unwrap();
        assert!(limiter.stream("ada").is_err() && limiter.stream("bob").is_ok());
        drop(first);
        assert!(limiter.stream("ada").is_ok());
    }

    #[test]
    fn strangers_cannot_make_it_grow_without_end() {
        let limiter = limiter(Limits { read: 1, ..Limits::default() });
        let key = |n: usize| format!("user {n}");
        let passed = allowed(
            {
                let mut n = 0;
                let limiter = &limiter;
                move || {
                    n += 1;
                    limiter.principal(RateClass::Read, &key(n))
                }
            },
            MAX_KEYS + 1_000,
        );
        assert!(passed > MAX_KEYS && passed < MAX_KEYS + 1_000, "{passed}");
        let kept = limiter.shared.principals.read.as_ref().unwrap();
        assert_eq!(kept.each.len(), MAX_KEYS);
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let limiter = limiter(Limits { trusted_proxies: proxies.into(), ..Limits::default() });
        for (peer, header, client) in [
            ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
            ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "1.2.3.4, 198.51.100.7", "198.51.100.7"),
            ("10.0.0.1", "1.2.3.4, 198.51.100.7, 10.9.9.9", "198.51.100.7"),
            ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
            ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
            ("::ffff:10.0.0.1", "\"[2001:db8::7]\"", "2001:db8::7"),
            ("10.0.0.1", "1.2.3.4, nonsense", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("::1", "10.1.1.1", "10.1.1.1"),
        ] {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("x-forwarded-for"),
                http::HeaderValue::from_str(header).unwrap(),
            )]);
            let seen = limiter.client(peer.parse().unwrap(), &headers);
            assert_eq!(seen, client.parse::<IpAddr>().unwrap(), "{peer} {header}");
        }
    }
}
