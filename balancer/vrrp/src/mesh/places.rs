//! How many may be connected at once: strangers together, and each unicast peer for itself, so that nobody can
//! take the places by which a peer's advertisements are confirmed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{CONNECTIONS_MAX, PEER_CONNECTIONS_MAX, Seat};

/// The places on one interface.
#[derive(Debug, Clone)]
pub(super) struct Places {
    others: Arc<Semaphore>,
    peers: BTreeMap<IpAddr, Arc<Semaphore>>,
}

impl Places {
    pub fn of_others() -> Self {
        Self { others: Arc::new(Semaphore::new(CONNECTIONS_MAX)), peers: BTreeMap::new() }
    }

    /// The same, and those of the peers of these.
    pub fn with_peers<'a>(&self, seats: impl Iterator<Item = &'a Seat>) -> Self {
        let mut peers = BTreeMap::new();
        for address in seats.flat_map(|seat| &seat.peers) {
            let places: &mut Arc<Semaphore> =
                peers.entry(address.ip()).or_insert_with(|| Arc::new(Semaphore::new(0)));
            places.add_permits(PEER_CONNECTIONS_MAX);
        }
        Self { others: self.others.clone(), peers }
    }

    /// Where there are no peers anyone may be a member, and waits in the kernel until there is a place: one that is
    /// closed at once looks like one that has ended.
    pub async fn before(&self) -> Option<OwnedSemaphorePermit> {
        if self.peers.is_empty() { self.others.clone().acquire_owned().await.ok() } else { None }
    }

    /// A place for whoever comes from there; none where they are taken.
    pub fn of(&self, address: IpAddr) -> Option<OwnedSemaphorePermit> {
        self.peers.get(&address).unwrap_or(&self.others).clone().try_acquire_owned().ok()
    }
}
