//! Copies of requests that are on their way to services that get copies, and what became of them. Nobody waits for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Most copies that are on their way, over all cores.
pub const IN_FLIGHT_MAX: usize = 128;
/// Largest body of a request that is copied, framed as it is sent.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// What became of copies.
#[derive(Debug, Default)]
pub struct Mirrors {
    in_flight: AtomicUsize,
    /// That were answered, whatever with.
    pub answered: AtomicU64,
    /// That were not.
    pub failed: AtomicU64,
    /// Of which none was made, as so many were on their way.
    pub full: AtomicU64,
    /// Of which none was made, as the body was too large, or not there yet.
    pub large: AtomicU64,
}

impl Mirrors {
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }
}

/// The place of one that is on its way.
#[derive(Debug)]
pub struct Place(Arc<Mirrors>);

impl Place {
    pub fn take(mirrors: &Arc<Mirrors>) -> Option<Self> {
        if mirrors.in_flight.fetch_add(1, Relaxed) < IN_FLIGHT_MAX {
            return Some(Self(mirrors.clone()));
        }
        mirrors.in_flight.fetch_sub(1, Relaxed);
        mirrors.full.fetch_add(1, Relaxed);
        None
    }

    /// What became of it.
    pub fn end(self, was_answered: bool) {
        let count = if was_answered { &self.0.answered } else { &self.0.failed };
        count.fetch_add(1, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
