//! Where readers wait for tasks, and for batches, to end at this node.
//!
//! One task follows what is applied and looks for all of them at once, so that a change costs the same however many
//! wait; and those alone are woken whose task has ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skep_state::kinds::tasks::Tasks;
use skep_state::task::TaskId;
use tokio::sync::watch;

use crate::http::problem::{Problem, ProblemKind};
use crate::kinds::served::TaskApi;

/// Readers that wait at a node.
pub(crate) const READERS_MAX: usize = 4096;
/// Between two looks: so late may a reader be told.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// The readers that wait.
#[derive(Default)]
pub(crate) struct Readers {
    waiting: Mutex<HashMap<TaskId, watch::Sender<bool>>>,
    count: AtomicUsize,
}

/// A reader's place.
pub(crate) struct Reading {
    readers: Arc<Readers>,
    id: TaskId,
    ended: Option<watch::Receiver<bool>>,
}

impl Readers {
    /// With the task that looks.
    pub(crate) fn start<A: TaskApi>(api: &Arc<A>) -> Arc<Readers> {
        let readers = Arc::new(Readers::default());
        let (of, api) = (Arc::downgrade(&readers), Arc::downgrade(api));
        tokio::spawn(async move {
            let Some(mut applied) = api.upgrade().map(|api| api.applied()) else { return };
            loop {
                let seen = applied.borrow_and_update().revisions.tasks;
                let (Some(readers), Some(api)) = (of.upgrade(), api.upgrade()) else { return };
                readers.look(&*api);
                drop((readers, api));
                tokio::time::sleep(LOOK_PAUSE).await;
                if applied.wait_for(|applied| applied.revisions.tasks != seen).await.is_err() {
                    return;
                }
            }
        });
        readers
    }

    /// Readers that wait here.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<TaskId, watch::Sender<bool>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<A: TaskApi>(&self, api: &A) {
        let mut ids: Vec<TaskId> = self.waiting().keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        api.tasks(|tasks| ids.retain(|id| !is_open(tasks, *id)));
        let mut waiting = self.waiting();
        for id in ids {
            // Whoever asks for it from here on looks first.
            if let Some(ended) = waiting.remove(&id) {
                ended.send_replace(true);
            }
        }
    }

    /// A place for who waits for a task's end. What ends before is not told: look after it.
    pub(crate) fn join(self: &Arc<Self>, id: TaskId) -> Result<Reading, Problem> {
        let mut reading = Reading { readers: self.clone(), id, ended: None };
        if self.count.fetch_add(1, Ordering::Relaxed) >= READERS_MAX {
            let detail = format!("{READERS_MAX} readers wait at this node already: ask without wait");
            return Err(Problem::unprocessed(ProblemKind::Overloaded, detail));
        }
        let mut waiting = self.waiting();
        let ended = waiting.entry(id).or_insert_with(|| watch::Sender::new(false));
        reading.ended = Some(ended.subscribe());
        drop(waiting);
        Ok(reading)
    }
}

/// Whether a task, or something of a batch, is still to be done.
pub(crate) fn is_open(tasks: &Tasks, id: TaskId) -> bool {
    match tasks.batch(id) {
        Ok(batch) => batch.unfinished > 0,
        Err(_) => tasks.find(id).is_ok_and(|task| task.state.is_unfinished()),
    }
}

impl Reading {
    /// Waits until the task may have ended. Cancel-safe.
    pub(crate) async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.readers.count.fetch_sub(1, Ordering::Relaxed);
        if self.ended.take().is_some() {
            let mut waiting = self.readers.waiting();
            if waiting.get(&self.id).is_some_and(|ended| ended.receiver_count() == 0) {
                waiting.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_readers_and_no_more_and_who_leaves_makes_room() {
        let readers = Arc::new(Readers::default());
        let id = |number: usize| TaskId { seq: 1 + number as u64 / 2, nonce: 1 };
        let mut all: Vec<_> = (0..READERS_MAX).map(|number| readers.join(id(number)).ok().unwrap()).collect();
        assert_eq!(readers.waiting().len(), READERS_MAX / 2);
        assert!(readers.join(id(0)).is_err());
        all.pop();
        assert!(readers.join(id(0)).is_ok());
        all.clear();
        assert!(readers.waiting().is_empty());
        assert_eq!(readers.count(), 0);
    }
}
