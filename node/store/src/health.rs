//! What the rest of the node watches and measures of the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::Lack;

/// Whether the store can take writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// The log, the messages, the claims or the bytes of tasks cannot be written for want of this, or soon could not. Writes wait, or are
    /// refused, and go on by themselves when that ends.
    pub full: Option<Lack>,
    /// Set once and for good: the store has stopped, for this reason.
    pub failed: Option<String>,
}

/// Who says what the store lacks: one of its writers, or the look at the disk's room.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Writer {
    Log,
    Messages,
    Claims,
    Payloads,
    Room,
}

/// The sending side of [`StoreHealth`], shared by the writers.
#[derive(Debug)]
pub(crate) struct HealthSender {
    /// Of each writer.
    lacks: Mutex<[Option<Lack>; 5]>,
    sender: watch::Sender<StoreHealth>,
}

impl HealthSender {
    pub(crate) fn new() -> Self {
        Self { lacks: Mutex::default(), sender: watch::Sender::new(StoreHealth::default()) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<StoreHealth> {
        self.sender.subscribe()
    }

    pub(crate) fn set_lack(&self, writer: Writer, lack: Option<Lack>) {
        let mut lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        lacks[writer as usize] = lack;
        let full = lacks.iter().flatten().next().copied();
        self.sender.send_if_modified(|health| std::mem::replace(&mut health.full, full) != full);
    }

    /// Whether a writer was told that there is no room.
    pub(crate) fn lacks_room(&self) -> bool {
        let lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        let writers = [Writer::Log, Writer::Messages, Writer::Claims, Writer::Payloads];
        writers.iter().any(|writer| lacks[*writer as usize] == Some(Lack::Room))
    }

    pub(crate) fn fail(&self, reason: &str) {
        self.sender.send_if_modified(|health| {
            let first = health.failed.is_none();
            if first {
                health.failed = Some(reason.to_owned());
            }
            first
        });
    }
}

/// Upper bounds of [`Histogram`]'s buckets, in seconds; one more holds what is above.
pub const LATENCY_BUCKETS_S: [f64; 14] =
    [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Latencies, counted in buckets without a lock.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; LATENCY_BUCKETS_S.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, latency: Duration) {
        let seconds = latency.as_secs_f64();
        let bucket = LATENCY_BUCKETS_S.iter().position(|bound| seconds <= *bound);
        self.buckets[bucket.unwrap_or(LATENCY_BUCKETS_S.len())].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(latency.as_nanos().min(u128::from(u64::MAX)) as u64, Ordering::Relaxed);
    }

    /// Observations per bucket (not cumulative; the last is above every bound).
    pub fn counts(&self) -> [u64; LATENCY_BUCKETS_S.len() + 1] {
        std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed))
    }

    /// The sum of all observations, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9
    }
}

/// Counters of the store since it was opened.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// Each fdatasync of the log.
    pub log_sync: Histogram,
    /// Batches written to the log (one write and at most one fdatasync each).
    pub log_batches: AtomicU64,
    /// Bytes written to the log.
    pub log_bytes: AtomicU64,
    /// Bytes of log records that wait to be written.
    pub log_pending_bytes: AtomicU64,
    /// Each apply of a run of committed entries.
    pub apply: Histogram,
    /// Operations applied.
    pub ops_applied: AtomicU64,
    /// Checkpoints written.
    pub checkpoints: AtomicU64,
    /// Each checkpoint's duration.
    pub checkpoint: Histogram,
    /// Bytes of tasks that were moved to other files, and places of which a disk had other bytes, or none.
    pub payload_bytes_moved: AtomicU64,
    pub payloads_lost: AtomicU64,
    /// Reads that were made on a thread that may wait for the disk.
    pub reads_elsewhere: AtomicU64,
    /// Room of the file system that the folder is on, for a program without privileges; and its size, 0 where it
    /// is not known.
    pub disk_free_bytes: AtomicU64,
    pub disk_size_bytes: AtomicU64,
    /// Sealed segments that were read again.
    pub segments_checked: AtomicU64,
    /// Of those that there are, the ones that are not as they were written.
    pub segments_rotten: AtomicU64,
    /// Segments that were mended, and the records that other nodes gave for it.
    pub segments_mended: AtomicU64,
    pub records_mended: AtomicU64,
}
