//! What the peers' network counts. Read by metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::wire::{REJECT_REASONS, RejectReason};

/// A count that only rises, or a level (see the field's name).
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(super) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }
}

/// All counts of the peers' network. Levels are said so; all others only rise.
#[derive(Debug, Default)]
pub struct PeerCounters {
    pub frames_in: Counter,
    pub frames_out: Counter,
    /// Before encryption, with the headers of frames.
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    /// Level: connections after their hello, of both kinds.
    pub connections_open: Counter,
    pub connections_dialed: Counter,
    pub connections_accepted: Counter,
    /// Connections that were made after an earlier one to the same peer.
    pub reconnects: Counter,
    pub dial_failures: Counter,
    /// TLS handshakes that failed, at either side: a wrong key.
    pub tls_failures: Counter,
    /// Connections that said nothing sensible in time.
    pub hello_failures: Counter,
    /// Connections that this node refused, and that refused it, by reason.
    rejected: [Counter; REJECT_REASONS.len()],
    /// Connections ended because of bytes that are no frames.
    pub decode_errors: Counter,
    /// Connections ended because the peer was silent or took no bytes.
    pub stalls: Counter,
    /// Level: requests to peers that wait for their answers.
    pub calls_in_flight: Counter,
    /// Level: requests of peers that are in the handler's hands.
    pub serving: Counter,
    /// Requests of peers that were refused because too many were in hand.
    pub overloaded: Counter,
    /// Level: encoded bytes that wait to be written, all connections.
    pub queued_bytes: Counter,
    /// Level: bytes of appends sent and not answered, all connections.
    pub append_bytes_in_flight: Counter,
    pub snapshots_sent: Counter,
    pub snapshots_received: Counter,
    pub snapshot_bytes_sent: Counter,
    pub snapshot_bytes_received: Counter,
}

impl PeerCounters {
    /// Connections refused for this reason, by either side.
    pub fn rejected(&self, reason: RejectReason) -> u64 {
        self.rejected[reason as usize].get()
    }

    pub(super) fn count_rejected(&self, reason: RejectReason) {
        self.rejected[reason as usize].add(1);
    }
}

/// Raises a level for as long as it lives.
#[derive(Debug)]
pub(super) struct Level {
    counters: std::sync::Arc<PeerCounters>,
    of: fn(&PeerCounters) -> &Counter,
}

impl Level {
    pub fn raise(counters: &std::sync::Arc<PeerCounters>, of: fn(&PeerCounters) -> &Counter) -> Self {
        of(counters).add(1);
        Self { counters: counters.clone(), of }
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        (self.of)(&self.counters).sub(1);
    }
}
