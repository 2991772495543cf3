//! Tasks: what clients and workers ask of the node about them, and what a leader does for them.

pub mod dispatcher;
mod leases;

use std::time::Duration;

use bytes::Bytes;
use skep_state::command::{Op, OpOutcome};
use skep_state::heap::Held;
use skep_state::kinds::tasks::Tasks;
use skep_state::level::Level;
use skep_state::task::{TaskOp, TaskOutcome};
use tokio::time::Instant;

use super::{Claim, Service, ServiceError, unexpected};

pub use dispatcher::Word;
pub use leases::{LEASE, Said, VERSION_BYTES_MAX};
pub use skep_raft::wire::HeardWorker;

/// Bytes of tasks that are read by who asks, where they are in memory.
const READ_NOW_BYTES_MAX: usize = 256 * 1024;
/// How long a beat may look for a leader: a worker sends the next one soon.
const BEAT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long the leader may take to say which workers it has heard of.
const HEARD_TIMEOUT: Duration = Duration::from_secs(2);

/// The bytes, where they are in memory, or are lost; the outer one is none where the disk has to be waited for.
fn now(held: &Held) -> Option<Option<Bytes>> {
    match held.now() {
        Ok(bytes) => bytes.map(Some),
        Err(_) => Some(None),
    }
}

/// Bytes of a task that this node's disk has lost. Another node has them: whoever stands between is to ask that one.
pub fn lost() -> ServiceError {
    let detail = "this node's disk has lost bytes of a task: ask another one".into();
    ServiceError::Unavailable { detail, unprocessed: true }
}

impl Service {
    /// Looks at the tasks as far as they are applied here.
    pub fn tasks<T>(&self, look: impl FnOnce(&Tasks) -> T) -> T {
        self.reader().tasks(look)
    }

    /// Reads bytes of tasks: at once where they are few and in memory, else when their turn comes. There are none where
    /// the disk has lost them.
    pub async fn read_each(&self, held: Vec<Held>) -> Result<Vec<Option<Bytes>>, ServiceError> {
        if held.iter().map(Held::len).sum::<usize>() <= READ_NOW_BYTES_MAX
            && let Some(now) = held.iter().map(now).collect::<Option<_>>()
        {
            return Ok(now);
        }
        self.read(move |_| Ok(held.iter().map(|held| held.read().ok()).collect())).await
    }

    /// Changes tasks; answers whether the outcome is that of an earlier request.
    pub async fn change_tasks(
        &self,
        op: TaskOp,
        claim: Option<Claim>,
    ) -> Result<(TaskOutcome, bool), ServiceError> {
        self.require_tasks().await?;
        let op = Op::Tasks { time_ms: self.0.time.now_ms(), op };
        match self.propose(op, claim).await? {
            (OpOutcome::Tasks(outcome), repeated) => Ok((outcome, repeated)),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Changes many at once, by one entry of the log; what each comes to, in the same order.
    pub async fn change_all_tasks(&self, ops: Vec<TaskOp>) -> Result<Vec<TaskOutcome>, ServiceError> {
        self.require_tasks().await?;
        let time_ms = self.0.time.now_ms();
        let ops = ops.into_iter().map(|op| Op::Tasks { time_ms, op }).collect();
        let outcomes = self.0.proposer.propose_all(ops, self.deadline()).await?;
        let outcome = |outcome| match outcome {
            OpOutcome::Tasks(outcome) => Ok(outcome),
            other => Err(unexpected(&other)),
        };
        outcomes.into_iter().map(outcome).collect()
    }

    /// Has the leader believe for a lease's length more that a worker holds what it says; or no more, where its stream
    /// has ended and nothing was heard of it since. Answers what the worker is to be told: to claim nothing, or to go on.
    pub async fn tell_of_worker(&self, word: Word<'_>) -> Result<Option<bool>, ServiceError> {
        self.0.beats.tell(word, Instant::now() + BEAT_TIMEOUT).await
    }

    /// The workers after this name that the leader has heard of within a lease's length, at most so many; none where it
    /// cannot be asked now.
    pub async fn heard_workers(&self, after: &str, limit: u32) -> Option<Vec<HeardWorker>> {
        self.0.beats.heard(after, limit, Instant::now() + HEARD_TIMEOUT).await
    }

    /// Has a worker claim nothing from here on, or go on, with its next beat. Answers whether the leader has heard of it
    /// within a lease's length.
    pub async fn quiet_worker(&self, worker: &str, quiet: bool) -> Result<bool, ServiceError> {
        self.0.beats.quiet(worker, quiet, Instant::now() + HEARD_TIMEOUT).await
    }

    /// Fails until the cluster has agreed to have tasks: a member of the version before could not read them.
    async fn require_tasks(&self) -> Result<(), ServiceError> {
        if self.reader().level() >= Level::TASKS {
            return Ok(());
        }
        // One that has just joined may not have heard of it.
        self.current().await?;
        if self.reader().level() >= Level::TASKS {
            return Ok(());
        }
        self.0.status.require(self.reader().level(), Level::TASKS, "tasks")?;
        Err(ServiceError::TooOld {
            detail:
                "the members have not agreed to tasks yet: they do once all have been of this version for \
                     --level-after"
                    .into(),
        })
    }
}
