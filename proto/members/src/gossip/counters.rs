//! What happened in gossip so far. Written by the transport and the driver, read by metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::seal::OpenError;

/// Counts since the start, and how many members there are now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GossipCounters {
    /// Datagrams, and their bytes with the seal.
    pub sent: u64,
    pub sent_bytes: u64,
    pub received: u64,
    pub received_bytes: u64,
    /// Refused by the system: no route, too large, no room.
    pub send_errors: u64,
    pub receive_errors: u64,
    /// Received and dropped, by reason.
    pub dropped: Dropped,
    /// Parts of messages that were kept from the library: see [`super::admission`].
    pub left_out: u64,
    /// Records that could not be read; each once.
    pub bad_records: u64,
    /// How often this process was late for its own round by more than [`super::STALL`].
    pub stalls: u64,
    /// Members now: without this process; `foreign` are those among `live` of another cluster.
    pub live: u64,
    pub dead: u64,
    pub foreign: u64,
    /// Live members that go by this process's own id: a data folder that was copied.
    pub id_conflicts: u64,
}

/// Datagrams that were received and dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    pub too_short: u64,
    pub version: u64,
    pub unknown_key: u64,
    /// Sealed by a member for members; this process is an edge.
    pub members: u64,
    pub forged: u64,
    pub replayed: u64,
    pub reflected: u64,
    /// Opened, but no gossip message.
    pub undecodable: u64,
}

impl Dropped {
    /// The reasons as metrics name them, with their counts.
    pub fn by_reason(&self) -> [(&'static str, u64); 8] {
        [
            ("too_short", self.too_short),
            ("version", self.version),
            ("unknown_key", self.unknown_key),
            ("members", self.members),
            ("forged", self.forged),
            ("replayed", self.replayed),
            ("reflected", self.reflected),
            ("undecodable", self.undecodable),
        ]
    }

    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }
}

/// The counters as the tasks share them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub sent: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub received: AtomicU64,
    pub received_bytes: AtomicU64,
    pub send_errors: AtomicU64,
    pub receive_errors: AtomicU64,
    pub too_short: AtomicU64,
    pub version: AtomicU64,
    pub unknown_key: AtomicU64,
    pub members: AtomicU64,
    pub forged: AtomicU64,
    pub replayed: AtomicU64,
    pub reflected: AtomicU64,
    pub undecodable: AtomicU64,
    pub left_out: AtomicU64,
    pub bad_records: AtomicU64,
    pub stalls: AtomicU64,
    pub live: AtomicU64,
    pub dead: AtomicU64,
    pub foreign: AtomicU64,
    pub id_conflicts: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

pub(super) fn set(gauge: &AtomicU64, count: usize) {
    gauge.store(count as u64, Ordering::Relaxed);
}

impl Counters {
    pub fn dropped(&self, reason: OpenError) {
        let counter = match reason {
            OpenError::TooShort => &self.too_short,
            OpenError::Version => &self.version,
            OpenError::UnknownKey => &self.unknown_key,
            OpenError::Members => &self.members,
            OpenError::Forged => &self.forged,
            OpenError::Replayed => &self.replayed,
            OpenError::Reflected => &self.reflected,
        };
        add(counter, 1);
    }

    pub fn read(&self) -> GossipCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GossipCounters {
            sent: get(&self.sent),
            sent_bytes: get(&self.sent_bytes),
            received: get(&self.received),
            received_bytes: get(&self.received_bytes),
            send_errors: get(&self.send_errors),
            receive_errors: get(&self.receive_errors),
            dropped: Dropped {
                too_short: get(&self.too_short),
                version: get(&self.version),
                unknown_key: get(&self.unknown_key),
                members: get(&self.members),
                forged: get(&self.forged),
                replayed: get(&self.replayed),
                reflected: get(&self.reflected),
                undecodable: get(&self.undecodable),
            },
            left_out: get(&self.left_out),
            bad_records: get(&self.bad_records),
            stalls: get(&self.stalls),
            live: get(&self.live),
            dead: get(&self.dead),
            foreign: get(&self.foreign),
            id_conflicts: get(&self.id_conflicts),
        }
    }
}
