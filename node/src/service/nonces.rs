//! Numbers that tell one request from another that carries the same message.

use std::sync::atomic::{AtomicU64, Ordering};

use skep_base::id::RequestId;

/// A counter from a random start: two processes' numbers meet with next to no probability, and
/// a number costs no call into the system.
#[derive(Debug)]
pub(super) struct Nonces(AtomicU64);

impl Nonces {
    pub fn new() -> Self {
        Self(AtomicU64::new(RequestId::random().0 as u64))
    }

    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
