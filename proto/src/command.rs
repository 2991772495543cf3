//! Commands: what the replicated log carries. A command packs many operations, so that one
//! log entry, one fsync and one round to the quorum serve many clients.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::RequestId;
use crate::message::Digest;

/// The newest command format that this program writes.
pub const COMMAND_FORMAT: u16 = 1;

/// Most operations in one command.
pub const COMMAND_OPS_MAX: usize = 1024;

/// Where a command's operations reach this many bytes of bodies, it takes no further one.
/// One operation may itself be larger, up to the body limit.
pub const COMMAND_BYTES_TARGET: usize = 1024 * 1024;

/// Operations that the log orders and every node applies alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The format of what follows; a node that does not know it stops rather than diverge.
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
        /// Milliseconds since the Unix epoch, by the clock of the node that took it.
        time_ms: u64,
        /// Tells the request that made the message, carried again, from one that repeats it.
        nonce: u64,
    },
    /// Makes `text` the newest text. `request` makes a retry of it take effect once.
    WriteText { request: RequestId, text: Bytes, time_ms: u64 },
}

/// What one operation came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpOutcome {
    /// The message has this `seq`; `created` is false where another request had made it.
    Message { seq: u64, created: bool },
    /// The text was stored, as the `version`th one.
    Text { version: u64 },
}

/// What a command came to: one outcome for each of its operations, in their order.
/// Empty for entries that carry no command (membership, a new leader's blank entry).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutcome {
    pub outcomes: Vec<OpOutcome>,
}

impl Command {
    /// A command of the newest format.
    pub fn new(ops: Vec<Op>) -> Self {
        Self { format: COMMAND_FORMAT, ops: ops.into() }
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
