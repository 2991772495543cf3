//! What becomes of tasks where the replicated clock is set back.
//!
//! No time of the past is later than the clock from then on, and what waits for a time waits as long as it would
//! have. It follows from the operation and the tasks: the hash of the first tells of both.

use super::{Tasks, TasksRecord};

impl Tasks {
    /// The clock was set back, from the one time to the other.
    pub fn mend_time(&mut self, from_ms: u64, to_ms: u64) {
        // Where there never was a task, nothing says that there was.
        if self.held == TasksRecord::default() {
            return;
        }
        let past = |time: &mut u64| *time = (*time).min(to_ms);
        let timer = |time: &mut u64| {
            if *time > to_ms {
                *time = to_ms.saturating_add(time.saturating_sub(from_ms)).max(1);
            }
        };
        let mut held = std::mem::take(&mut self.held);
        for slot in 0..held.table.slots() {
            // A page of which nothing changes is shared with a checkpoint still.
            let is_later =
                held.table.get(slot).is_some_and(|task| task.since_ms().max(task.timer_ms) > to_ms);
            if let Some(task) = is_later.then(|| held.table.get_mut(slot)).flatten() {
                task.put = task.put_ms().min(to_ms).into();
                task.since = task.since_ms().min(to_ms).into();
                // What has none does not get room for one.
                if task.timer_ms != 0 {
                    timer(&mut task.timer_ms);
                }
            }
        }
        for lane in held.queues.iter_mut().flat_map(|queue| queue.lanes.values_mut()) {
            timer(&mut lane.rests_until_ms);
        }
        for batch in held.batches.values_mut() {
            past(&mut batch.put_ms);
            // That it is over is told by this time.
            batch.ended_ms = if batch.ended_ms > 0 { batch.ended_ms.min(to_ms).max(1) } else { 0 };
        }
        for worker in held.workers.values_mut().filter(|worker| worker.seen_ms > to_ms) {
            past(&mut std::sync::Arc::make_mut(worker).seen_ms);
        }
        held.changes += 1;
        let heap = std::mem::take(&mut self.heap);
        *self = Tasks::of(held, heap.recounted());
    }
}
