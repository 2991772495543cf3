//! The tasks that are here: given, and not yet ended at a node. Cheap to share; no tasks of its own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Why a task is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It is another's, or nobody's: what became of it here is of no use.
    Lost,
    /// This worker ends: it is given back.
    Ending,
}

#[derive(Debug, Clone)]
struct Entry {
    stop: CancellationToken,
    why: Option<Stopped>,
}

/// By their fences.
#[derive(Debug, Default)]
pub struct Held {
    entries: Mutex<HashMap<u64, Entry>>,
    /// Told whenever one is here no more.
    freed: Notify,
}

impl Held {
    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stops it. `None`: it is here already, as where a claim was answered twice.
    pub fn begin(&self, fence: u64) -> Option<CancellationToken> {
        let mut entries = self.entries();
        if entries.contains_key(&fence) {
            return None;
        }
        let stop = CancellationToken::new();
        entries.insert(fence, Entry { stop: stop.clone(), why: None });
        Some(stop)
    }

    pub fn end(&self, fence: u64) {
        self.entries().remove(&fence);
        self.freed.notify_waiters();
    }

    pub fn fences(&self) -> Vec<u64> {
        let mut fences: Vec<u64> = self.entries().keys().copied().collect();
        fences.sort_unstable();
        fences
    }

    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Stops one; the first reason counts, but that nothing is of use any more counts in any case.
    pub fn stop(&self, fence: u64, why: Stopped) {
        if let Some(entry) = self.entries().get_mut(&fence) {
            if entry.why.is_none() || why == Stopped::Lost {
                entry.why = Some(why);
            }
            entry.stop.cancel();
        }
    }

    pub fn stop_all(&self, why: Stopped) {
        self.fences().into_iter().for_each(|fence| self.stop(fence, why));
    }

    /// Why it was stopped, if it was.
    pub fn why_stopped(&self, fence: u64) -> Option<Stopped> {
        self.entries().get(&fence).and_then(|entry| entry.why)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_held_is_named_until_it_ends_and_room_is_waited_for() {
        let held = Held::default();
        let stop = held.begin(7).unwrap();
        held.begin(3).unwrap();
        assert!(held.begin(7).is_none(), "it is here already");
        assert_eq!(held.fences(), [3, 7]);
        held.stop(7, Stopped::Ending);
        assert!(stop.is_cancelled());
        assert_eq!(held.why_stopped(7), Some(Stopped::Ending));
        held.stop(7, Stopped::Lost);
        held.stop(7, Stopped::Ending);
        assert_eq!(held.why_stopped(7), Some(Stopped::Lost));
        let (mut waits, end) = (Box::pin(held.fewer_than(2)), async { held.end(7) });
        assert!(futures_poll_once(&mut waits).await);
        tokio::join!(waits, end);
        assert_eq!(held.fences(), [3]);
    }

    /// Whether it still waits.
    async fn futures_poll_once(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
        })
        .await
    }
}
