//! What balancers are not to answer with any more, of what they have stored.
//!
//! What an operator purges is bytes here, as the gateway's document is: who proposes it has looked what it says. What
//! follows of messages that are taken out is derived where those operations are applied, and is nowhere in the log twice.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Most bytes of one purge.
pub const PURGE_BYTES_MAX: usize = 4096;

/// One change. Variants are only ever added at the end: the codec numbers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PurgeOp {
    /// Something of what is stored is not to be used any more.
    Add {
        /// Tells this request, carried again, from another.
        nonce: u64,
        what: Bytes,
    },
}

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PurgeOutcome {
    /// It has this number: balancers that say it, or a higher one, obey it.
    Added { number: u64 },
    /// It has more bytes than one may, or none: nothing was done.
    TooLarge,
}

/// What is not to be used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// As an operator said it.
    Said(Bytes),
    /// The message of this `seq`.
    Message { seq: u64 },
    /// All messages up to this `seq`.
    Messages { upto: u64 },
}

impl PurgeOp {
    /// About how many bytes it takes in a log or a frame.
    pub fn size_estimate(&self) -> usize {
        match self {
            Self::Add { what, .. } => 32 + what.len(),
        }
    }

    /// Tells the request that it is of, carried again, from one that repeats it.
    pub fn nonce(&self) -> u64 {
        match self {
            Self::Add { nonce, .. } => *nonce,
        }
    }
}
