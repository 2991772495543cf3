//! The level: the one number for what the members of a cluster have agreed to read and to do.
//!
//! Formats of commands, checkpoints and snapshots, and the bounds that decide what a command does, are
//! functions of it. It is part of the replicated state and only ever rises, by [`Op::Level`], which a
//! leader proposes once every member reads the newer formats; so a cluster of two versions does what
//! the older one does, on every node alike. What a program of the version before could not open is
//! written above its level alone.
//!
//! | level | of | adds |
//! |---|---|---|
//! | 1 | 0.1.0 before claims | messages and the text |
//! | 2 | 0.1.0 | claims, removal |
//! | 3 | 0.2.0 | [`Op::Level`] itself, sections |
//! | 4 | 0.2.0 | claims as records, many more of them, and kept for their time; and a request of peers, which is no state |
//! | 5 | 0.2.0 | the [rolling hash](crate::rolling); and a request of peers, by which they compare it |
//! | 6 | 0.2.0 | tasks, and requests of peers for them, which are no state; [`Op::MendTime`], by which the replicated clock is set back, and that claims move it on; an operator's request to the leader for it; and that nodes' proofs in gossip are demanded |
//! | 7 | 0.2.0 | the gateway's document |
//! | 8 | 0.2.0 | bytes of tasks in files, and many more of them; schedules |
//! | 9 | 0.2.0 | sealed secrets of issuers in the gateway's document |
//! | 10 | 0.2.0 | purges of what balancers have stored; shifts of the gateway's routes; certificates in its document |
//!
//! [`Op::Level`]: crate::command::Op::Level
//! [`Op::MendTime`]: crate::command::Op::MendTime

use serde::{Deserialize, Serialize};

/// What a cluster has agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Level(pub u16);

impl Level {
    /// That of a cluster which never agreed to a higher one.
    pub const FIRST: Level = Level(2);
    /// The newest that this program reads.
    pub const NEWEST: Level = Level(10);
    /// From which on checkpoints and snapshots have sections.
    pub const SECTIONS: Level = Level(3);
    /// From which on claims are records beside the checkpoint.
    pub const CLAIM_RECORDS: Level = Level(4);
    /// From which on the state has a rolling hash.
    pub const ROLLING_HASH: Level = Level(5);
    /// From which on there are tasks.
    pub const TASKS: Level = Level(6);
    /// From which on the replicated clock can be set back.
    pub const TIME_MENDS: Level = Level(6);
    /// From which on bytes of tasks are in files.
    pub const TASK_FILES: Level = Level(8);
    /// From which on every node proves what it says of itself in gossip, and none that does not is seen.
    pub const PROOFS: Level = Level(6);
    /// From which on the cluster keeps what balancers obey.
    pub const GATEWAY: Level = Level(7);
    /// From which on there are schedules of tasks.
    pub const SCHEDULES: Level = Level(8);
    /// From which on secrets in the gateway's document are kept sealed.
    pub const SEALED: Level = Level(9);
    /// From which on the cluster keeps what balancers are to forget.
    pub const PURGES: Level = Level(10);
    /// From which on routes' requests are led over from one service to another.
    pub const SHIFTS: Level = Level(10);
    /// From which on the gateway's document may have certificates: to a member of the version before, their keys would be no
    /// secrets.
    pub const CERTIFICATES: Level = Level(10);
}

impl Default for Level {
    fn default() -> Self {
        Level::FIRST
    }
}

const MIB: usize = 1024 * 1024;

/// The bounds that decide what a command does. A golden test pins those of each level: two programs
/// that read one level have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Idempotency keys that are remembered; beyond it the oldest are forgotten before their time.
    pub claims_max: usize,
    /// But none that is younger than this: then there is no room for another.
    pub claim_age_ms_min: u64,
    /// Messages that may be removed one by one above the floor.
    pub removed_singly_max: usize,
    /// Digests of removed messages that are remembered, beyond those whose segments are still there.
    pub remembered_max: usize,
    /// Messages that one command drops at most: it reads the digest of each.
    pub dropped_at_once_max: u64,
    /// Text writes that are remembered, so that a retry of one is known for what it is.
    pub text_requests_max: usize,
    /// Bytes of all tasks, each counted with 256 more than it has: what is finished goes for what comes, and beyond
    /// that nothing comes.
    pub task_bytes_max: usize,
    /// What tasks hold in memory, as it is really taken: all but payloads, results and errors.
    pub task_memory_max: usize,
    /// Queues of tasks.
    pub task_queues_max: usize,
    /// Workers that are known.
    pub task_workers_max: usize,
    /// Dead tasks of a queue; beyond, the oldest is dropped.
    pub task_dead_max: u32,
    /// Puts that are remembered, so that a retry of one is known for what it is.
    pub task_puts_max: usize,
    /// Keys of which there are unfinished tasks, or which have rest, in queues where that counts.
    pub task_lanes_max: usize,
    /// Batches of tasks that are known.
    pub task_batches_max: usize,
    /// Bytes of the gateway's document.
    pub gateway_document_bytes_max: usize,
    /// Documents before the newest that are kept, and bytes of all of them.
    pub gateway_history_max: usize,
    pub gateway_history_bytes_max: usize,
    /// Schedules of tasks, bytes of one, and of all of them.
    pub schedules_max: usize,
    pub schedule_bytes_max: usize,
    pub schedules_bytes_max: usize,
    /// Shifts of the gateway's routes, those that are over with them.
    pub shifts_max: usize,
}

impl Limits {
    /// The bounds of a level.
    pub const fn of(level: Level) -> Limits {
        let (claims_max, claim_age_ms_min) = match level.0 >= Level::CLAIM_RECORDS.0 {
            false => (65_536, 0),
            true => (10 * 1024 * 1024, 15 * 60 * 1000),
        };
        let (task_bytes_max, task_memory_max) = match level.0 >= Level::TASK_FILES.0 {
            // Of 32 MiB not even tasks that are all keys come to so much in memory.
            false => (32 * MIB, 256 * MIB),
            true => (4096 * MIB, 192 * MIB),
        };
        Limits {
            claims_max,
            claim_age_ms_min,
            removed_singly_max: 16_384,
            remembered_max: 16_384,
            dropped_at_once_max: 16_384,
            text_requests_max: 4_096,
            task_bytes_max,
            task_memory_max,
            task_queues_max: 256,
            task_workers_max: 4_096,
            task_dead_max: 1_000,
            task_puts_max: 16_384,
            task_lanes_max: 16_384,
            task_batches_max: 4_096,
            gateway_document_bytes_max: 8 * 1024 * 1024,
            gateway_history_max: 32,
            gateway_history_bytes_max: 16 * 1024 * 1024,
            schedules_max: 1024,
            schedule_bytes_max: 64 * 1024,
            schedules_bytes_max: 8 * MIB,
            shifts_max: 64,
        }
    }

    /// The widest of any level: what decoding is bounded by.
    pub const WIDEST: Limits = Limits::of(Level::NEWEST);
}
