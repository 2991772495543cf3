//! How many connections there are, in all and of each client address, and how many of something else each
//! client has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Bits of an IPv6 address that tell clients apart: a host has a /64 to itself.
const CLIENT_PREFIX_V6: u32 = 64;

/// The connections that are open.
#[derive(Debug, Default)]
pub struct Connections {
    total: AtomicUsize,
    by_client: ByClient,
}

impl Connections {
    pub fn total(&self) -> usize {
        self.total.load(Relaxed)
    }
}

/// How many of something each client has.
#[derive(Debug, Default)]
pub struct ByClient(Mutex<HashMap<IpAddr, usize>>);

impl ByClient {
    /// One more for the client, where it may have it. Dropping it gives it back.
    pub fn take(self: &Arc<Self>, client: IpAddr, limit: usize) -> Option<Place> {
        let client = prefix(client);
        self.count(client, limit).then(|| Place { counts: self.clone(), client })
    }

    fn count(&self, client: IpAddr, limit: usize) -> bool {
        let mut by_client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_client.entry(client).or_default();
        let fits = *count < limit;
        *count += usize::from(fits);
        if !fits && limit == 0 {
            by_client.remove(&client);
        }
        fits
    }

    fn discount(&self, client: IpAddr) {
        let mut by_client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&client);
            }
        }
    }
}

/// One that a client has.
#[derive(Debug)]
pub struct Place {
    counts: Arc<ByClient>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.discount(self.client);
    }
}

/// What tells clients apart.
fn prefix(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6((address.to_bits() >> (128 - CLIENT_PREFIX_V6) << (128 - CLIENT_PREFIX_V6)).into())
        }
        v4 => v4,
    }
}

/// The right to hold a connection; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    connections: Arc<Connections>,
    client: Option<IpAddr>,
}

impl Permit {
    /// Of a client that is not known yet. `None` where there are as many as may be in all.
    pub fn take(connections: &Arc<Connections>, most: usize) -> Option<Self> {
        if connections.total.fetch_add(1, Relaxed) >= most {
            connections.total.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Self { connections: connections.clone(), client: None })
    }

    /// Counts it for a client. Whether that one may have it.
    pub fn is_of(&mut self, client: IpAddr, per_client_max: usize) -> bool {
        let client = prefix(client);
        let may = self.connections.by_client.count(client, per_client_max);
        if may && let Some(before) = self.client.replace(client) {
            self.connections.by_client.discount(before);
        }
        may
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            self.connections.by_client.discount(client);
        }
        self.connections.total.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_limit_and_all_together_have_theirs() {
        let connections = Arc::new(Connections::default());
        let take = |address: &str| {
            let mut permit = Permit::take(&connections, 3)?;
            permit.is_of(address.parse().unwrap(), 2).then_some(permit)
        };
        let first = take("192.0.2.1");
        let second = take("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(take("192.0.2.1").is_none());
        let third = take("2001:db8::1");
        assert!(third.is_some());
        assert!(take("2001:db8::2").is_none());
        drop(first);
        assert!(take("192.0.2.1").is_some());
        drop((second, third));
        assert_eq!(connections.total(), 0);
        assert!(connections.by_client.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_client_has_so_many_places_and_gives_them_back() {
        let counts = Arc::new(ByClient::default());
        let take = |address: &str| counts.take(address.parse().unwrap(), 1);
        let first = take("2001:db8::1");
        assert!(first.is_some() && take("2001:db8::2").is_none(), "a host has a /64");
        assert!(take("192.0.2.1").is_some());
        drop(first);
        assert!(take("2001:db8::2").is_some());
        assert!(counts.0.lock().unwrap().is_empty());
    }
}
