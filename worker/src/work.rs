//! One task from its claim to its end. A tokio task each, which is never dropped: its end is said.

use std::sync::Arc;

use tokio::time::Instant;

use crate::api::Task;
use crate::doing::Outcome;
use crate::ends;
use crate::held::Slot;
use crate::worker::Worker;

/// Has it done. It is held before this returns, so that the next claim names it.
pub fn begin(worker: &Arc<Worker>, task: Task) {
    if !worker.held.take(task.fence) {
        return;
    }
    let of = worker.clone();
    worker.tasks.spawn(async move {
        let (slot, began) = (of.held.slot(task.fence), Instant::now());
        of.metrics.running.inc();
        let outcome = of.doer.run(&task, &slot.stop).await;
        of.metrics.running.dec();
        of.metrics.run_seconds.observe(began.elapsed().as_secs_f64());
        end(&of, &task, &slot, &outcome).await;
    });
}

/// Says that it is to be another's: it was given, and is not begun.
pub fn give_back(worker: &Arc<Worker>, task: Task) {
    if !worker.held.take(task.fence) {
        return;
    }
    let of = worker.clone();
    worker.tasks.spawn(async move {
        let slot = of.held.slot(task.fence);
        end(&of, &task, &slot, &Outcome::Stopped).await;
    });
}

async fn end(worker: &Worker, task: &Task, slot: &Slot<'_>, outcome: &Outcome) {
    let how = outcome.as_str();
    worker.metrics.tasks.get_or_create(&[("outcome", how)]).inc();
    let counts = ends::end(worker, task, slot, outcome).await;
    if !counts {
        worker.metrics.late.inc();
    }
    tracing::info!(task = task.id, queue = task.queue, fence = task.fence, counts, "{how}");
}
