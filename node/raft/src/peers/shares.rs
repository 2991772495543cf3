//! A share of something bounded for each source address, so that no one source takes all of it.
//!
//! A source is an address, and of IPv6 the network of its 64 leading bits too: a host has as many addresses
//! there as it likes, and so have the hosts beside it on one LAN. So an address has as much as an IPv4
//! address has, and its network three times that. Entries live as long as a permit of theirs does: there
//! are never more than two for each permit.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

/// How many times an address's share a network of IPv6 has.
const NETWORK_TIMES: usize = 3;

#[derive(Debug)]
pub(super) struct Shares {
    most: usize,
    taken: Mutex<HashMap<Source, usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Host(IpAddr),
    /// The leading 64 bits of an IPv6 address.
    Network(u64),
}

/// A part of its source's share, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    from: IpAddr,
}

/// A place among those who greet, and the part of its source's share that it is: until the greeting has
/// ended, whoever it is. One who has a key could else take all places by being slow to end.
#[derive(Debug)]
pub(super) struct Greeting {
    _place: OwnedSemaphorePermit,
    _share: Share,
}

impl Greeting {
    pub fn of(place: OwnedSemaphorePermit, share: Share) -> Self {
        Self { _place: place, _share: share }
    }
}

impl Shares {
    /// Each address may have as many as `most`.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// None where the source has all of its share.
    pub fn take(self: &Arc<Self>, from: IpAddr) -> Option<Share> {
        let mut taken = self.taken();
        let has_room = sources(from).all(|source| {
            let most = if matches!(source, Source::Host(_)) { self.most } else { self.most * NETWORK_TIMES };
            taken.get(&source).is_none_or(|count| *count < most)
        });
        if !has_room {
            return None;
        }
        for source in sources(from) {
            *taken.entry(source).or_default() += 1;
        }
        Some(Share { shares: self.clone(), from })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken();
        for source in sources(self.from) {
            if let Some(count) = taken.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(&source);
                }
            }
        }
    }
}

fn sources(from: IpAddr) -> impl Iterator<Item = Source> {
    let host = from.to_canonical();
    let network = match host {
        IpAddr::V6(ip) => Some(Source::Network((ip.to_bits() >> 64) as u64)),
        IpAddr::V4(_) => None,
    };
    std::iter::once(Source::Host(host)).chain(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_a_share_and_gets_it_back() {
        let shares = Shares::new(2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = shares.take(ip("10.0.0.1")).unwrap();
        let second = shares.take(ip("::ffff:10.0.0.1")).unwrap();
        assert!(shares.take(ip("10.0.0.1")).is_none());
        assert!(shares.take(ip("10.0.0.2")).is_some());
        drop(second);
        assert!(shares.take(ip("10.0.0.1")).is_some());
        drop(first);
        assert!(shares.taken().is_empty(), "nothing is kept of who has nothing");
    }

    #[test]
    fn an_ipv6_address_has_a_share_and_its_network_three_times_that() {
        let shares = Shares::new(2);
        let take = |text: &str| shares.take(text.parse().unwrap());
        // Also of the address that reads like its network.
        let of_one = [take("2001:db8::").unwrap(), take("2001:db8::").unwrap()];
        assert!(take("2001:db8::").is_none());
        let of_others: Vec<_> = (1..=4).map(|host| take(&format!("2001:db8::{host}")).unwrap()).collect();
        assert!(take("2001:db8::ffff:1").is_none(), "the network has all of its share");
        assert!(take("2001:db8:0:1::1").is_some());
        drop(of_one);
        assert!(take("2001:db8::").is_some());
        drop(of_others);
        assert!(shares.taken().is_empty(), "nothing is kept of who has nothing");
    }
}
