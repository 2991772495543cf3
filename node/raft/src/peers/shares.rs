//! A share of something bounded for each source address, so that no one source takes all of it.
//!
//! A source is an IPv4 address, or the 64 leading bits of an IPv6 address, of which a host has as many
//! as it likes. Entries live as long as a permit of theirs does: there are never more than permits.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Shares {
    most: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A part of its source's share, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    source: IpAddr,
}

impl Shares {
    /// Each source may have as many as `most`.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// None where the source has all of its share.
    pub fn take(self: &Arc<Self>, from: IpAddr) -> Option<Share> {
        let source = source(from);
        let mut taken = self.taken();
        let count = taken.entry(source).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { shares: self.clone(), source })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken();
        if let Some(count) = taken.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
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
    fn all_addresses_of_one_ipv6_network_are_one_source() {
        let shares = Shares::new(1);
        let _one = shares.take("2001:db8::1".parse().unwrap()).unwrap();
        assert!(shares.take("2001:db8::ffff:1".parse().unwrap()).is_none());
        assert!(shares.take("2001:db8:0:1::1".parse().unwrap()).is_some());
    }
}
