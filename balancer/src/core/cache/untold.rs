//! What requests have invalidated here, until other balancers are told of it: as far as there is room, for nothing is
//! promised of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use skep_gateway::exchange::voids::Void;

/// Most that waits.
const WAITING_MAX: usize = 1024;

/// What others are to be told of, and what was.
#[derive(Debug, Default)]
pub struct Untold {
    waiting: Mutex<VecDeque<Void>>,
    /// Somebody tells it.
    is_told: AtomicBool,
    /// To so many balancers each.
    pub told: AtomicU64,
    /// There was no room, or it is too long to be told.
    pub lost: AtomicU64,
    /// What others have told.
    pub heard: AtomicU64,
}

impl Untold {
    /// From now on somebody does.
    pub fn begin(&self) {
        self.is_told.store(true, Relaxed);
    }

    pub fn add(&self, void: Void) {
        if !self.is_told.load(Relaxed) {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.contains(&void) {
            return;
        }
        if waiting.len() >= WAITING_MAX || !void.fits() {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        waiting.push_back(void);
    }

    /// What waits, for who tells it.
    pub fn take(&self) -> VecDeque<Void> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts back what could not be told yet.
    pub fn put_back(&self, mut rest: VecDeque<Void>) {
        if rest.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let room = WAITING_MAX.saturating_sub(rest.len());
        self.lost.fetch_add(waiting.len().saturating_sub(room) as u64, Relaxed);
        waiting.truncate(room);
        rest.append(&mut waiting);
        *waiting = rest;
    }
}
