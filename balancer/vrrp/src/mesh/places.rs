//! How many may be connected at once: strangers together, and each unicast peer for itself, so that nobody can
//! take the places by which a peer's advertisements are confirmed. Nor the time: where there are peers, strangers
//! come in at a pace, for each costs a handshake.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{CONNECTIONS_MAX, PEER_CONNECTIONS_MAX, Seat};

/// Between two strangers on an interface with peers; as many as there are places may come at once.
const STRANGER_INTERVAL: Duration = Duration::from_millis(20);

/// The places on one interface.
#[derive(Debug, Clone)]
pub(super) struct Places {
    others: Arc<Semaphore>,
    peers: BTreeMap<IpAddr, Arc<Semaphore>>,
    pace: Pace,
}

/// Strangers that may come: one more in each interval, up to as many as there are places.
#[derive(Debug, Clone)]
struct Pace {
    left: u32,
    since: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { left: CONNECTIONS_MAX as u32, since: now }
    }

    fn takes(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_millis() / STRANGER_INTERVAL.as_millis();
        let more = u32::try_from(passed).unwrap_or(u32::MAX).min(CONNECTIONS_MAX as u32 - self.left);
        self.left += more;
        // A part of an interval counts, too, but where nothing is missing.
        self.since =
            if self.left < CONNECTIONS_MAX as u32 { self.since + STRANGER_INTERVAL * more } else { now };
        let takes = self.left > 0;
        self.left = self.left.saturating_sub(1);
        takes
    }
}

impl Places {
    pub fn of_others() -> Self {
        let others = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { others, peers: BTreeMap::new(), pace: Pace::new(Instant::now()) }
    }

    /// The same, and those of the peers of these.
    pub fn with_peers<'a>(&self, seats: impl Iterator<Item = &'a Seat>) -> Self {
        let mut peers = BTreeMap::new();
        for address in seats.flat_map(|seat| &seat.peers) {
            let places: &mut Arc<Semaphore> =
                peers.entry(address.ip()).or_insert_with(|| Arc::new(Semaphore::new(0)));
            places.add_permits(PEER_CONNECTIONS_MAX);
        }
        Self { others: self.others.clone(), peers, pace: self.pace.clone() }
    }

    /// Where there are no peers anyone may be a member, and waits in the kernel until there is a place: one that is
    /// closed at once looks like one that has ended.
    pub async fn before(&self) -> Option<OwnedSemaphorePermit> {
        if self.peers.is_empty() { self.others.clone().acquire_owned().await.ok() } else { None }
    }

    /// A place for whoever comes from there; none where they are taken.
    pub fn of(&mut self, address: IpAddr) -> Option<OwnedSemaphorePermit> {
        let places = match self.peers.get(&address) {
            Some(places) => places,
            None if self.pace.takes(Instant::now()) => &self.others,
            None => return None,
        };
        places.clone().try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests;
