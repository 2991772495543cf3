//! What came of reading the document: how often it was taken, and what is wrong with the newest.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use skep_gateway::Fault;

/// What came of reading the document, from the start on.
#[derive(Debug, Default)]
pub struct Readings {
    taken: AtomicU64,
    refused: AtomicU64,
    /// When the one that is in force was taken, in seconds of Unix time.
    taken_at_s: AtomicU64,
    /// What is wrong with the newest; nothing, where that is in force.
    faults: Mutex<Vec<Fault>>,
}

impl Readings {
    pub fn taken(&self, now: SystemTime) {
        self.taken.fetch_add(1, Relaxed);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.taken_at_s.store(now.as_secs(), Relaxed);
        self.set(Vec::new());
    }

    pub fn refused(&self, faults: Vec<Fault>) {
        self.refused.fetch_add(1, Relaxed);
        self.set(faults);
    }

    fn set(&self, faults: Vec<Fault>) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    pub fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many were taken, how many refused, and when the last was taken.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.taken.load(Relaxed), self.refused.load(Relaxed), self.taken_at_s.load(Relaxed))
    }
}
