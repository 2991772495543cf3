//! Commands: what the replicated log carries. A command packs many operations, so that one
//! log entry, one fsync and one round to the quorum serve many clients.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::gateway::{GatewayOp, GatewayOutcome};
use crate::level::Level;
use crate::message::Digest;
use crate::purge::{PurgeOp, PurgeOutcome};
use crate::schedule::{ScheduleOp, ScheduleOutcome};
use crate::shift::{ShiftOp, ShiftOutcome};
use crate::task::{TaskOp, TaskOutcome};
use skep_base::id::RequestId;

/// Most operations in one command.
pub const COMMAND_OPS_MAX: usize = 1024;

/// Where a command's operations reach this many bytes of bodies, it takes no further one.
/// One operation may itself be larger, up to the body limit.
pub const COMMAND_BYTES_TARGET: usize = 1024 * 1024;

/// Operations that the log orders and every node applies alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The [level](crate::level) that one must know to apply what follows; a node that does not stops
    /// rather than diverge.
    pub format: u16,
    pub ops: Arc<[Op]>,
}

/// One operation. Variants are only ever added at the end: the codec numbers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Stores a message. Repeating it changes nothing: its digest names it.
    PutMessage {
        digest: Digest,
        content_type: String,
        body: Bytes,
        /// Milliseconds since the Unix epoch; the leader says it, see [`Op::stamp`].
        time_ms: u64,
        /// Tells the request that made the message, carried again, from one that repeats it.
        nonce: u64,
    },
    /// Makes `text` the newest text. `request` makes a retry of it take effect once.
    WriteText { request: RequestId, text: Bytes, time_ms: u64 },
    /// Guards the operation that follows it in the same command: that takes effect only where no
    /// claim of the same key is remembered. Format 2.
    Claim {
        key: ClaimKey,
        /// Tells one request from another that was given the same key.
        fingerprint: u128,
        time_ms: u64,
        /// How long the claim is remembered.
        ttl_ms: u64,
    },
    /// Takes out the messages up to this `seq`: some of them, where they are many. Format 2.
    DropMessages { upto: u64 },
    /// Takes out one message. Format 2.
    RemoveMessage { digest: Digest },
    /// Raises the level of what the members read and do. Format 3.
    Level { level: Level },
    /// Changes tasks. Level [`Level::TASKS`].
    Tasks { time_ms: u64, op: TaskOp },
    /// Sets the replicated clock back, where it is ahead; what has a later time counts as no later. Times are in
    /// milliseconds since the Unix epoch. Level [`Level::TIME_MENDS`].
    MendTime {
        /// To this: the leader's agreed time.
        time_ms: u64,
        /// Where it is still at this or later, as it was when it was looked at: so a second try of the same, when
        /// time has gone on, does nothing.
        newest_ms: u64,
    },
    /// Changes the gateway's document. Level [`Level::GATEWAY`], or what the operation needs.
    Gateway { time_ms: u64, op: GatewayOp },
    /// Changes schedules, or has one fire. Level [`Level::SCHEDULES`].
    Schedules { time_ms: u64, op: ScheduleOp },
    /// Has balancers forget something of what they have stored. Level [`Level::PURGES`].
    Purges { op: PurgeOp },
    /// Changes shifts of the gateway's routes. Level [`Level::SHIFTS`].
    Shifts { time_ms: u64, op: ShiftOp },
}

/// A client's idempotency key, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClaimKey(pub u128);

/// What one operation came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpOutcome {
    /// The message has this `seq`; `created` is false where another request had made it.
    Message {
        seq: u64,
        created: bool,
    },
    /// The text was stored, as the `version`th one.
    Text {
        version: u64,
    },
    /// The key was free: the next outcome is that of the guarded operation.
    Claimed,
    /// The same request came before: the next outcome is what it came to then.
    Repeated,
    /// The key was given to another request, and nothing was done.
    KeyTaken,
    /// The guarded operation that a claim kept from taking effect.
    Skipped,
    /// All messages up to this `seq` are gone.
    Dropped {
        upto: u64,
    },
    /// The message of this `seq` was taken out; none had the digest where there is no `seq`.
    Removed {
        seq: Option<u64>,
    },
    /// As many messages are taken out one by one as can be remembered.
    TooManyRemoved,
    /// The level from here on.
    Level {
        level: Level,
    },
    /// As many keys are remembered as can be, and none is old enough to be forgotten: nothing was done.
    TooManyClaims,
    Tasks(TaskOutcome),
    /// The replicated clock was set back.
    TimeMended {
        from_ms: u64,
        to_ms: u64,
    },
    /// It was not ahead, or no more, or its level knows of no such thing: nothing was done.
    TimeKept,
    /// It was set back as often as can be remembered: nothing was done.
    TooManyMends,
    Gateway(GatewayOutcome),
    Schedules(ScheduleOutcome),
    Purges(PurgeOutcome),
    Shifts(ShiftOutcome),
}

/// What a command came to: one outcome for each of its operations, in their order.
/// Empty for entries that carry no command (membership, a new leader's blank entry).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutcome {
    pub outcomes: Vec<OpOutcome>,
}

impl Command {
    /// A command of the oldest format that has these operations: nodes that do not know a newer
    /// one go on as long as nobody uses it.
    pub fn new(ops: Vec<Op>) -> Self {
        let format = ops.iter().map(Op::level).max().unwrap_or(Level(1)).0;
        Self { format, ops: ops.into() }
    }

    /// About how many bytes it takes in a log or a frame.
    pub fn size_estimate(&self) -> usize {
        16 + self.ops.iter().map(Op::size_estimate).sum::<usize>()
    }
}

impl Op {
    /// About how many bytes it takes in a log or a frame.
    pub fn size_estimate(&self) -> usize {
        match self {
            Op::PutMessage { content_type, body, .. } => 72 + content_type.len() + body.len(),
            Op::WriteText { text, .. } => 48 + text.len(),
            Op::Claim { .. }
            | Op::DropMessages { .. }
            | Op::RemoveMessage { .. }
            | Op::Level { .. }
            | Op::MendTime { .. } => 64,
            Op::Tasks { op, .. } => 16 + op.size_estimate(),
            Op::Gateway { op, .. } => 16 + op.size_estimate(),
            Op::Schedules { op, .. } => 16 + op.size_estimate(),
            Op::Purges { op } => 16 + op.size_estimate(),
            Op::Shifts { op, .. } => 16 + op.size_estimate(),
        }
    }

    /// Whether a client's data takes room by it. What does not is done also where the disk is full: it is
    /// the way out.
    pub fn takes_room(&self) -> bool {
        match self {
            Op::PutMessage { .. } | Op::WriteText { .. } | Op::Claim { .. } => true,
            // By the level, claims become records, and it can wait.
            Op::Level { .. } => true,
            Op::Gateway { op, .. } => op.takes_room(),
            // What is purged is to go also where the disk is full; what is kept of it is bounded.
            Op::DropMessages { .. } | Op::RemoveMessage { .. } | Op::MendTime { .. } | Op::Purges { .. } => {
                false
            }
            Op::Tasks { op, .. } => op.takes_room(),
            Op::Schedules { op, .. } => op.takes_room(),
            Op::Shifts { op, .. } => op.takes_room(),
        }
    }

    /// Gives it its time, where it has one. The leader does, on each try, so that no other node's clock
    /// counts; what is made anew of a snapshot `keeps` its own, but none that is yet to come.
    pub fn stamp(&mut self, now_ms: u64, keeps: bool) {
        match self {
            Op::PutMessage { time_ms, .. }
            | Op::WriteText { time_ms, .. }
            | Op::Claim { time_ms, .. }
            | Op::Tasks { time_ms, .. }
            | Op::Gateway { time_ms, .. }
            | Op::Schedules { time_ms, .. }
            | Op::Shifts { time_ms, .. } => {
                *time_ms = if keeps { now_ms.min(*time_ms) } else { now_ms };
            }
            // By then another may lead, whose clocks have not agreed yet: no earlier than was looked at.
            Op::MendTime { time_ms, .. } => *time_ms = now_ms.max(*time_ms),
            Op::DropMessages { .. } | Op::RemoveMessage { .. } | Op::Level { .. } | Op::Purges { .. } => {}
        }
    }

    /// The first level whose readers know it.
    pub fn level(&self) -> Level {
        match self {
            Op::PutMessage { .. } | Op::WriteText { .. } => Level(1),
            Op::Claim { .. } | Op::DropMessages { .. } | Op::RemoveMessage { .. } => Level(2),
            // One who does not know the level that it raises to must not take it for a lower one.
            Op::Level { level } => (*level).max(Level(3)),
            Op::Tasks { .. } => Level::TASKS,
            Op::MendTime { .. } => Level::TIME_MENDS,
            Op::Gateway { op, .. } => op.level(),
            Op::Schedules { .. } => Level::SCHEDULES,
            Op::Purges { .. } => Level::PURGES,
            Op::Shifts { .. } => Level::SHIFTS,
        }
    }

    /// Tells the request that it is of, carried again, from one that repeats it; 0 of what has none.
    pub fn nonce(&self) -> u64 {
        match self {
            Op::PutMessage { nonce, .. } => *nonce,
            Op::WriteText { request, .. } => request.0 as u64,
            Op::Tasks { op, .. } => op.nonce(),
            Op::Gateway { op, .. } => op.nonce(),
            Op::Schedules { op, .. } => op.nonce(),
            Op::Purges { op } => op.nonce(),
            Op::Claim { .. }
            | Op::DropMessages { .. }
            | Op::RemoveMessage { .. }
            | Op::Level { .. }
            | Op::MendTime { .. }
            | Op::Shifts { .. } => 0,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} operations", self.ops.len())
    }
}

impl fmt::Display for CommandOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} outcomes", self.outcomes.len())
    }
}

#[cfg(test)]
mod tests {
    use skep_base::codec::{CodecError, decode, encode};

    use super::*;

    fn command() -> Command {
        let body = Bytes::from_static(b"foo");
        Command::new(vec![Op::PutMessage {
            digest: Digest::of(&body),
            content_type: "text/plain".into(),
            body,
            time_ms: 1,
            nonce: 7,
        }])
    }

    #[test]
    fn the_leaders_time_counts_but_for_what_is_restored() {
        let time_of = |op: &Op| match op {
            Op::PutMessage { time_ms, .. } => *time_ms,
            _ => panic!("another operation"),
        };
        let mut op = command().ops[0].clone();
        for (now_ms, keeps, time_ms) in [(900, false, 900), (50, false, 50), (70, true, 50), (40, true, 40)] {
            op.stamp(now_ms, keeps);
            assert_eq!(time_of(&op), time_ms, "at {now_ms}");
        }
    }

    #[test]
    fn a_clock_is_set_back_to_no_earlier_time_than_was_looked_at() {
        for (looked_at, leaders, to) in [(900, 950, 950), (900, 100, 900)] {
            let mut op = Op::MendTime { time_ms: looked_at, newest_ms: 90_000 };
            op.stamp(leaders, false);
            assert_eq!(op, Op::MendTime { time_ms: to, newest_ms: 90_000 });
        }
        assert_eq!(Command::new(vec![Op::MendTime { time_ms: 1, newest_ms: 2 }]).format, Level::TIME_MENDS.0);
    }

    #[test]
    fn who_does_not_know_a_level_does_not_read_the_command_that_raises_to_it() {
        let raises = |level| Command::new(vec![Op::Level { level: Level(level) }]).format;
        assert_eq!((raises(3), raises(4)), (3, 4));
    }

    #[test]
    fn a_command_survives_the_codec_and_is_nothing_where_it_is_cut() {
        let bytes = encode(&command()).unwrap();
        assert_eq!(decode::<Command>(&bytes).unwrap(), command());
        for end in 0..bytes.len() {
            assert!(matches!(decode::<Command>(&bytes[..end]), Err(CodecError::UnexpectedEnd)), "{end}");
        }
    }
}
