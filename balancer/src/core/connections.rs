//! How many connections there are, in all and of each client address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::worker::Shared;

/// Bits of an IPv6 address that tell clients apart: a host has a /64 to itself.
const CLIENT_PREFIX_V6: u32 = 64;

/// The connections that are open.
#[derive(Debug, Default)]
pub struct Connections {
    total: AtomicUsize,
    by_client: Mutex<HashMap<IpAddr, usize>>,
}

impl Connections {
    pub fn total(&self) -> usize {
        self.total.load(Relaxed)
    }

    fn count(&self, client: IpAddr, limit: usize) -> bool {
        let mut by_client = self.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_client.entry(client).or_default();
        let fits = *count < limit;
        *count += usize::from(fits);
        if !fits && limit == 0 {
            by_client.remove(&client);
        }
        fits
    }

    fn discount(&self, client: IpAddr) {
        let mut by_client = self.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&client);
            }
        }
    }
}

/// The right to hold a connection; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    client: IpAddr,
}

impl Permit {
    /// `None` where there are as many as may be.
    pub fn take(shared: &Arc<Shared>, client: IpAddr) -> Option<Self> {
        let client = match client.to_canonical() {
            IpAddr::V6(address) => {
                IpAddr::V6((address.to_bits() >> (128 - CLIENT_PREFIX_V6) << (128 - CLIENT_PREFIX_V6)).into())
            }
            v4 => v4,
        };
        let settings = shared.settings.load();
        let connections = &shared.connections;
        if connections.total.fetch_add(1, Relaxed) >= settings.connections_max
            || !connections.count(client, settings.connections_per_client_max)
        {
            connections.total.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Self { shared: shared.clone(), client })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.connections.discount(self.client);
        self.shared.connections.total.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::settings::Settings;

    #[test]
    fn a_client_has_its_limit_and_all_together_have_theirs() {
        let settings = Settings { connections_max: 3, connections_per_client_max: 2, ..Settings::default() };
        let shared = Arc::new(Shared { settings: Arc::new(settings).into(), ..Shared::default() });
        let take = |address: &str| Permit::take(&shared, address.parse().unwrap());
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
        assert_eq!(shared.connections.total(), 0);
        assert!(shared.connections.by_client.lock().unwrap().is_empty());
    }
}
