//! What operations on tasks take, and of what.

use super::{End, NewTask, TaskOp};

impl NewTask {
    fn size_estimate(&self) -> usize {
        let len = |key: &Option<String>| key.as_ref().map_or(0, String::len);
        64 + self.queue.len() + self.kind.len() + self.payload.len() + len(&self.unique) + len(&self.key)
    }
}

impl TaskOp {
    /// About how many bytes it takes in a log or a frame.
    pub fn size_estimate(&self) -> usize {
        32 + match self {
            TaskOp::Put { tasks, .. } | TaskOp::PutBatch { tasks, .. } => {
                tasks.iter().map(NewTask::size_estimate).sum()
            }
            TaskOp::Claim(claim) => {
                let queues: usize = claim.queues.iter().map(|queue| queue.len() + 1).sum();
                queues + claim.worker.len() + 9 * claim.holds.len()
            }
            TaskOp::End { end: End::Done { result }, .. } => result.len(),
            TaskOp::End { end: End::Failed { error, .. }, .. } => error.len(),
            TaskOp::Expire { leases } => 27 * leases.len(),
            TaskOp::Progress { progress, .. } => progress.len(),
            TaskOp::QueueSet { queue, .. } => 32 + queue.len(),
            TaskOp::RestoreBatch(_) => 64,
            TaskOp::EndWith { result, follow, .. } => {
                result.len() + follow.iter().map(NewTask::size_estimate).sum::<usize>()
            }
            TaskOp::Restore(saved) => 64 + saved.task.size_estimate() + saved.outcome.len(),
            TaskOp::End { .. }
            | TaskOp::Due { .. }
            | TaskOp::Cancel { .. }
            | TaskOp::Revive { .. }
            | TaskOp::Given { .. }
            | TaskOp::RaiseFence => 0,
        }
    }

    /// Whether a client's data takes room by it.
    pub fn takes_room(&self) -> bool {
        match self {
            TaskOp::Put { .. }
            | TaskOp::PutBatch { .. }
            | TaskOp::Restore(_)
            | TaskOp::RestoreBatch(_)
            | TaskOp::EndWith { .. }
            | TaskOp::Progress { .. } => true,
            TaskOp::End { end, .. } => matches!(end, End::Done { .. }),
            TaskOp::Claim(_)
            | TaskOp::Expire { .. }
            | TaskOp::Due { .. }
            | TaskOp::Cancel { .. }
            | TaskOp::Revive { .. }
            | TaskOp::QueueSet { .. }
            | TaskOp::Given { .. }
            | TaskOp::RaiseFence => false,
        }
    }

    /// Tells the request that it is of, carried again, from one that repeats it.
    pub fn nonce(&self) -> u64 {
        match self {
            TaskOp::Put { nonce, .. } | TaskOp::PutBatch { nonce, .. } => *nonce,
            _ => 0,
        }
    }
}
