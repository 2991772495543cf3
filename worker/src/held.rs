//! The tasks that are here: given, and not yet ended at a node. Cheap to share; no tasks of its own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Why a task is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// A node says that it is another's, or nobody's: what became of it here is of no use.
    Lost,
    /// No beat got through for as long as a lease: it may be another's by now.
    Silent,
    /// This worker ends: it is given back.
    Ending,
}

#[derive(Debug)]
struct Entry {
    stop: CancellationToken,
    why: Option<Stopped>,
    /// When its lease was whole, at the earliest.
    kept: Instant,
}

/// By their fences.
#[derive(Debug, Default)]
pub struct Held {
    entries: Mutex<HashMap<u64, Entry>>,
    /// Told whenever one is here no more.
    freed: Notify,
}

/// A task that is here until this is dropped.
#[derive(Debug)]
pub struct Slot<'a> {
    held: &'a Held,
    fence: u64,
    /// Cancelled where the task is stopped.
    pub stop: CancellationToken,
}

impl Slot<'_> {
    /// Why it was stopped, if it was.
    pub fn why_stopped(&self) -> Option<Stopped> {
        self.held.entries().get(&self.fence).and_then(|entry| entry.why)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.held.entries().remove(&self.fence);
        self.held.freed.notify_waiters();
    }
}

impl Held {
    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it in. `false`: it is here already, as where a claim was answered twice.
    pub fn take(&self, fence: u64) -> bool {
        let mut entries = self.entries();
        if entries.contains_key(&fence) {
            return false;
        }
        let entry = Entry { stop: CancellationToken::new(), why: None, kept: Instant::now() };
        entries.insert(fence, entry);
        true
    }

    /// Of one that was taken in.
    pub fn slot(&self, fence: u64) -> Slot<'_> {
        let stop = self.entries().get(&fence).map(|entry| entry.stop.clone()).unwrap_or_default();
        Slot { held: self, fence, stop }
    }

    pub fn fences(&self) -> Vec<u64> {
        let mut fences: Vec<u64> = self.entries().keys().copied().collect();
        fences.sort_unstable();
        fences
    }

    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// A beat that began then was heard, and named these.
    pub fn keep(&self, fences: &[u64], began: Instant) {
        let mut entries = self.entries();
        for fence in fences {
            if let Some(entry) = entries.get_mut(fence) {
                entry.kept = entry.kept.max(began);
            }
        }
    }

    /// Stops those that no beat has kept for so long; how many.
    pub fn stop_unkept(&self, now: Instant, lease: Duration) -> usize {
        let mut entries = self.entries();
        let is_over =
            |entry: &&mut Entry| entry.why.is_none() && now.saturating_duration_since(entry.kept) >= lease;
        entries.values_mut().filter(is_over).map(|entry| entry.stop(Stopped::Silent)).count()
    }

    pub fn stop(&self, fence: u64, why: Stopped) {
        if let Some(entry) = self.entries().get_mut(&fence) {
            entry.stop(why);
        }
    }

    pub fn stop_all(&self, why: Stopped) {
        self.entries().values_mut().for_each(|entry| entry.stop(why));
    }

    /// Returns once there are fewer than so many. Cancel-safe.
    pub async fn fewer_than(&self, count: usize) {
        loop {
            // Listened for before it is looked at.
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.len() < count {
                return;
            }
            freed.await;
        }
    }
}

impl Entry {
    /// The first reason counts, but a node's word counts in any case.
    fn stop(&mut self, why: Stopped) {
        if self.why.is_none() || why == Stopped::Lost {
            self.why = Some(why);
        }
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_held_is_named_until_it_ends_and_room_is_waited_for() {
        let held = Held::default();
        assert!(held.take(7) && held.take(3));
        assert!(!held.take(7), "it is here already");
        assert_eq!(held.fences(), [3, 7]);
        let slot = held.slot(7);
        let mut waits = Box::pin(held.fewer_than(2));
        assert!(still_waits(&mut waits).await);
        tokio::join!(waits, async { drop(slot) });
        assert_eq!(held.fences(), [3]);
    }

    #[test]
    fn of_the_reasons_for_a_stop_the_first_counts_and_a_nodes_word_over_all() {
        let held = Held::default();
        assert!(held.take(7));
        let slot = held.slot(7);
        assert_eq!((slot.why_stopped(), slot.stop.is_cancelled()), (None, false));
        held.stop(7, Stopped::Ending);
        held.stop_all(Stopped::Silent);
        assert_eq!((slot.why_stopped(), slot.stop.is_cancelled()), (Some(Stopped::Ending), true));
        held.stop(7, Stopped::Lost);
        held.stop(7, Stopped::Ending);
        assert_eq!(slot.why_stopped(), Some(Stopped::Lost));
    }

    #[test]
    fn what_no_beat_keeps_for_a_lease_is_stopped() {
        const LEASE: Duration = Duration::from_secs(15);
        let held = Held::default();
        assert!(held.take(1) && held.take(2));
        let began = Instant::now();
        held.keep(&[2, 9], began + Duration::from_secs(4));
        held.keep(&[2], began);
        assert_eq!(held.stop_unkept(began + Duration::from_millis(14_900), LEASE), 0);
        assert_eq!(held.stop_unkept(began + LEASE, LEASE), 1);
        assert_eq!(held.slot(1).why_stopped(), Some(Stopped::Silent));
        assert!(held.take(1), "a slot that is dropped is free");
        assert_eq!(held.slot(2).why_stopped(), None);
    }

    async fn still_waits(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
        })
        .await
    }
}
