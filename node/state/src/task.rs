//! Tasks as commands and answers speak of them.

mod id;
mod size;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use id::{TaskId, TaskIdParseError};

/// Longest name of a queue, in bytes.
pub const QUEUE_BYTES_MAX: usize = 64;
/// Longest name of a worker.
pub const WORKER_BYTES_MAX: usize = 128;
/// Longest kind of a task.
pub const KIND_BYTES_MAX: usize = 128;
/// Longest key that makes a task the only one.
pub const UNIQUE_BYTES_MAX: usize = 256;
/// Longest key by which tasks of a queue are told apart.
pub const KEY_BYTES_MAX: usize = 256;
/// Largest payload, and largest result.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Longest error of a try.
pub const ERROR_BYTES_MAX: usize = 4096;
/// Longest word of a worker on how far it is.
pub const PROGRESS_BYTES_MAX: usize = 1024;
/// Tasks that are put at once.
pub const PUT_TASKS_MAX: usize = 1000;
/// Tasks that follow one that is done.
pub const FOLLOW_TASKS_MAX: usize = 32;
/// Tasks that are claimed at once.
pub const CLAIM_TASKS_MAX: usize = 32;
/// Queues that are claimed from at once.
pub const CLAIM_QUEUES_MAX: usize = 16;
/// Tasks that a worker holds.
pub const HOLDS_MAX: usize = 128;
/// Leases that end in one operation.
pub const EXPIRE_LEASES_MAX: usize = 1000;
/// Priorities: 0 is the least urgent, this less one the most.
pub const PRIORITIES: usize = 10;
/// Longest delay, backoff, time of a try and time that a finished task is kept.
pub const DURATION_MS_MAX: u64 = 366 * 24 * 3600 * 1000;
/// Most retries of a task.
pub const RETRIES_MAX: u16 = 1000;
/// Highest number that a task may have: a remembered claim has so many bits for it.
pub const SEQ_MAX: u64 = (1 << 46) - 1;
/// The queue of pages that are to be looked at: its keys are origins, and each has rest from its start.
pub const CRAWL_QUEUE: &str = "crawl";
/// Between the end of one page of an origin and the claim of the next, unless an operator says otherwise.
const CRAWL_PAUSE_MS: u64 = 1000;

/// A task that is to be put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTask {
    pub queue: String,
    /// What is to be done, as its worker understands it.
    pub kind: String,
    pub payload: Bytes,
    pub priority: u8,
    pub when: When,
    pub policy: Policy,
    /// While a task of this key is unfinished in the queue, no second one is put.
    pub unique: Option<String>,
    /// What of its queue it belongs to: so many of a key are active at once, in the order in which they came.
    pub key: Option<String>,
}

/// Which place a task has in which batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// The batch's number.
    pub batch: u64,
    /// Of what was put as the batch, counted from 0.
    pub place: u32,
}

/// From when on a task may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// So long after it was put; 0 is at once.
    After { delay_ms: u64 },
    /// Milliseconds since the Unix epoch.
    At { time_ms: u64 },
}

/// What becomes of a task that fails, and for how long one that is finished is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Policy {
    /// Tries after the first.
    pub retries: u16,
    /// Before the first retry; twice as long before each further one, up to an hour.
    pub backoff_ms: u64,
    /// How long a try may take; 0 is any time.
    pub timeout_ms: u64,
    pub keep_ms: u64,
}

/// Where a task is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// It can be claimed.
    Ready,
    /// It waits for its time.
    Due,
    /// A worker has it.
    Active,
    Done,
    /// Its tries are used up, or it took too many workers with it.
    Dead,
    Cancelled,
}

impl TaskState {
    /// As answers show it.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Ready => "ready",
            TaskState::Due => "due",
            TaskState::Active => "active",
            TaskState::Done => "done",
            TaskState::Dead => "dead",
            TaskState::Cancelled => "cancelled",
        }
    }

    /// Whether it is still to be done.
    pub fn is_unfinished(self) -> bool {
        matches!(self, TaskState::Ready | TaskState::Due | TaskState::Active)
    }
}

/// How a worker ends what it claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    Done {
        result: Bytes,
    },
    /// `is_final`: no retry.
    Failed {
        error: String,
        is_final: bool,
    },
    /// Given back, and no try is counted.
    Release,
    /// Given back for later, and no try is counted.
    Snooze {
        delay_ms: u64,
    },
}

/// A worker's word that it takes tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskClaim {
    /// In the order of preference.
    pub queues: Vec<String>,
    /// A process of a worker: another one has another name.
    pub worker: String,
    /// One more than that of the worker's last claim; the same again for the same tasks.
    pub number: u64,
    pub max: u32,
    /// The fences of what the worker holds: all else that it was given goes back.
    pub holds: Vec<u64>,
    /// The claim is over even where there is nothing to take.
    pub closes: bool,
}

/// What an operator sets of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// Nothing of it is claimed.
    pub paused: bool,
    /// Most unfinished tasks.
    pub length_max: u32,
    /// Most tasks that are active at once.
    pub active_max: u32,
    /// Most tasks of one key that are.
    pub per_key: u32,
    /// So long a key has rest: from the end of one of its tasks to the claim of the next, where one is active at
    /// once; else from claim to claim.
    pub key_pause_ms: u64,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { paused: false, length_max: u32::MAX, active_max: u32::MAX, per_key: u32::MAX, key_pause_ms: 0 }
    }
}

impl QueueSettings {
    /// What a queue of this name begins with.
    pub fn of(queue: &str) -> Self {
        match queue {
            CRAWL_QUEUE => Self { per_key: 1, key_pause_ms: CRAWL_PAUSE_MS, ..Self::default() },
            _ => Self::default(),
        }
    }

    /// Whether each is within its bounds.
    pub fn is_bounded(&self) -> bool {
        self.per_key > 0 && self.key_pause_ms <= DURATION_MS_MAX
    }

    /// Whether tasks of one key wait for each other.
    pub fn has_lanes(&self) -> bool {
        self.per_key != u32::MAX || self.key_pause_ms > 0
    }
}

/// A task as a snapshot has it, on its way into another cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTask {
    pub id: TaskId,
    pub task: NewTask,
    /// Never [`TaskState::Active`].
    pub state: TaskState,
    pub tries: u16,
    pub lost: u8,
    pub fence: u64,
    pub put_ms: u64,
    pub since_ms: u64,
    /// When it is due or forgotten; 0 where it waits for no time.
    pub timer_ms: u64,
    /// The result, or the last error.
    pub outcome: Bytes,
    /// Of a batch that came before it.
    pub member: Option<Member>,
}

/// A batch as a snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBatch {
    pub id: TaskId,
    pub posted: u32,
    pub met: u32,
    pub keep_ms: u64,
    pub put_ms: u64,
    /// 0 where it is not over.
    pub ended_ms: u64,
}

/// What changes tasks. Variants are only ever added at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskOp {
    /// All of them, or none. The `nonce` tells this request, carried again, from another.
    Put {
        nonce: u64,
        tasks: Vec<NewTask>,
    },
    Claim(TaskClaim),
    /// Takes effect only while the fence is the task's.
    End {
        id: TaskId,
        fence: u64,
        end: End,
    },
    /// The workers of these leases are lost.
    Expire {
        leases: Vec<Lease>,
    },
    /// What has become due since: at most so many tasks.
    Due {
        max: u32,
    },
    Cancel {
        id: TaskId,
    },
    /// Has a dead task tried again.
    Revive {
        id: TaskId,
    },
    Progress {
        id: TaskId,
        fence: u64,
        progress: Bytes,
    },
    QueueSet {
        queue: String,
        settings: QueueSettings,
    },
    Restore(Box<SavedTask>),
    /// Tasks and fences up to these were given before.
    Given {
        seq: u64,
        fence: u64,
    },
    /// Fences of another past of this cluster may be about: none of them is given again.
    RaiseFence,
    /// All of them, or none, as a batch. One whose unique key an unfinished task has is met, and not put.
    PutBatch {
        nonce: u64,
        /// For how long all of it is known once it is over.
        keep_ms: u64,
        tasks: Vec<NewTask>,
    },
    RestoreBatch(Box<SavedBatch>),
    /// The task is done, and these follow it, at its place in its batch: both, or neither. Of those whose unique key
    /// an unfinished task has, none is put.
    EndWith {
        id: TaskId,
        fence: u64,
        result: Bytes,
        nonce: u64,
        follow: Vec<NewTask>,
    },
}

/// A task in a worker's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lease {
    pub id: TaskId,
    /// Rises with each claim, over all tasks.
    pub fence: u64,
}

/// What an operation on tasks came to. Variants are only ever added at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskOutcome {
    /// The tasks have the ids that [`TaskId::nth`] gives.
    Put {
        first: u64,
        count: u32,
        nonce: u64,
    },
    /// An unfinished task has the unique key.
    Met {
        id: TaskId,
    },
    /// The queue has as many unfinished tasks as it may.
    QueueFull {
        queue: String,
    },
    /// There is no room for more tasks, queues or workers.
    Full,
    /// The operation is not within its bounds.
    Invalid,
    Claimed {
        leases: Vec<Lease>,
    },
    /// A later claim of the worker came before.
    Stale,
    /// It took effect: the task's state from here on.
    Ended {
        state: TaskState,
    },
    /// It took effect before.
    Again {
        state: TaskState,
    },
    /// The fence is not the task's.
    LeaseLost,
    /// The task has ended otherwise.
    Finished {
        state: TaskState,
    },
    /// There was such a task.
    Gone,
    /// There never was.
    Unknown,
    /// An unfinished task has the unique key by now.
    Taken,
    /// So many tasks were changed.
    Changed {
        count: u32,
    },
    /// The claim of this number came to its end before, and its worker has nothing of it.
    Over,
    /// The batch has the first of the ids that [`TaskId::nth`] gives, and so many tasks of it those behind it.
    Batch {
        first: u64,
        count: u32,
        nonce: u64,
    },
}

/// Whether it can be a queue's name: letters, digits, `.`, `_` and `-`.
pub fn is_queue(name: &str) -> bool {
    (1..=QUEUE_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Whether it can be a worker's name: visible ASCII characters but `/`.
pub fn is_worker(name: &str) -> bool {
    (1..=WORKER_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

impl Policy {
    /// Whether each is within its bounds.
    pub fn is_bounded(&self) -> bool {
        let Policy { retries, backoff_ms, timeout_ms, keep_ms } = *self;
        retries <= RETRIES_MAX && [backoff_ms, timeout_ms, keep_ms].iter().all(|ms| *ms <= DURATION_MS_MAX)
    }
}

impl NewTask {
    /// Whether all of it is within its bounds.
    pub fn is_bounded(&self) -> bool {
        let is_key = |key: &Option<String>, bytes_max| {
            key.as_ref().is_none_or(|key| (1..=bytes_max).contains(&key.len()))
        };
        is_queue(&self.queue)
            && self.kind.len() <= KIND_BYTES_MAX
            && self.payload.len() <= PAYLOAD_BYTES_MAX
            && usize::from(self.priority) < PRIORITIES
            && is_key(&self.unique, UNIQUE_BYTES_MAX)
            && is_key(&self.key, KEY_BYTES_MAX)
            && self.policy.is_bounded()
            && match self.when {
                When::After { delay_ms } => delay_ms <= DURATION_MS_MAX,
                When::At { time_ms } => time_ms < 1 << 48,
            }
    }
}
