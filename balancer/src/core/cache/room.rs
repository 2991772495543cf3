//! How many bytes the cache may hold, and who holds them: what was evicted and is still read counts until it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The bytes of a cache.
#[derive(Debug)]
pub struct Budget {
    bytes_max: u64,
    held: AtomicU64,
}

impl Budget {
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { bytes_max, held: AtomicU64::new(0) })
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let taken = |held: u64| held.checked_add(bytes).filter(|after| *after <= self.bytes_max);
        self.held.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }

    /// Room for so many bytes, where there is as much.
    pub fn room(self: &Arc<Self>, bytes: u64) -> Option<Room> {
        self.take(bytes).then(|| Room { budget: self.clone(), bytes })
    }
}

/// Bytes that somebody holds; dropping it gives them back.
#[derive(Debug)]
pub struct Room {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Relaxed);
    }
}

impl Room {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is for so many bytes, now.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let grows = self.budget.take(more);
        self.bytes += if grows { more } else { 0 };
        grows
    }

    pub fn shrink(&mut self, bytes: u64) {
        let back = self.bytes.saturating_sub(bytes);
        self.bytes -= back;
        self.budget.held.fetch_sub(back, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_may_be_and_all_comes_back() {
        let budget = Budget::new(100);
        let mut room = budget.room(60).unwrap();
        assert!(budget.room(41).is_none() && room.grow(100) && !room.grow(101));
        assert_eq!((room.bytes(), budget.held()), (100, 100));
        room.shrink(10);
        assert_eq!(budget.held(), 10);
        assert!(budget.room(u64::MAX).is_none());
        drop(room);
        assert_eq!(budget.held(), 0);
    }
}
