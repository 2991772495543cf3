//! What a kind of replicated state is.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_base::codec::{self, CodecError};

use crate::clock::mends::Mends;
use crate::clock::{Clock, Stamp};
use crate::command::Op;
use crate::level::{Level, Limits};
use crate::part::Part;
use crate::rolling::Rolling;

/// A kind's number, in sections; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KindId(pub u16);

/// Where in the log an operation is applied, and by what it is bound.
#[derive(Debug)]
pub struct At<'a> {
    /// The index of its log entry.
    pub index: u64,
    /// The replicated clock.
    pub clock: &'a mut Clock,
    /// Where it was set back.
    pub mends: &'a Mends,
    /// What the cluster has agreed to.
    pub level: Level,
    /// The bounds of that level.
    pub limits: &'a Limits,
    /// Takes note of what the operation does.
    pub rolling: &'a mut Rolling,
}

/// A kind of replicated state. Every node applies the same operations in the same order and comes to
/// the same; so no kind has a clock, a random number or a file.
pub trait Kind: Sized {
    /// What changes it, borrowed from a command.
    type Op<'a>;
    /// What an operation comes to.
    type Outcome;
    /// Its part of a checkpoint and a snapshot, as a value.
    type Record: Record;
    /// What it stands on beside its record: a port to what is too large for one, or nothing.
    type Ground;

    /// Makes of the state what an operation asks. All nodes must come to the same: where one cannot,
    /// it stops.
    fn apply(&mut self, op: Self::Op<'_>, at: &mut At<'_>) -> Result<Self::Outcome, Stopped>;

    /// What a leader is to propose now that it is so late: ends, leases, schedules.
    fn due(&self, _now: Stamp) -> Option<Op> {
        None
    }

    /// The operations that make its contents anew in an empty cluster, in order: what a restore
    /// proposes. Their times are those that count since `mends`.
    fn again(&self, mends: &Mends) -> impl Iterator<Item = Result<Op, Stopped>>;

    /// Rises whenever the state changes in a way that somebody may wait for.
    fn revision(&self) -> u64;

    /// Its part of a checkpoint.
    fn record(&self) -> Self::Record;

    /// The state of a record.
    fn open(record: Self::Record, ground: Self::Ground) -> Result<Self, Invalid>;
}

/// A kind's part of a checkpoint, as a value. What is decoded comes from a disk or a network.
pub trait Record: Clone + fmt::Debug + Default + PartialEq + Serialize + DeserializeOwned {
    /// The kind's.
    const ID: KindId;
    const NAME: &'static str;
    /// The oldest and the newest format of it that this program reads.
    const FORMATS: (u16, u16);

    /// Whether it could be one: bounded, and true to itself.
    fn check(&self) -> Result<(), Invalid>;

    /// The oldest format that holds it.
    fn format(&self) -> u16 {
        Self::FORMATS.1
    }

    /// Appends a piece of its bytes in that format; whether there is one of the number. Pieces are asked for one after
    /// another, from 0 on: what is large has many, and is nowhere whole.
    fn encode_piece(&self, _format: u16, number: usize, bytes: &mut Vec<u8>) -> Result<bool, CodecError> {
        if number > 0 {
            return Ok(false);
        }
        codec::encode_into(self, bytes)?;
        Ok(true)
    }

    /// All of them.
    #[doc(hidden)]
    fn encode(&self) -> Result<(u16, Vec<u8>), CodecError> {
        let (format, mut bytes) = (self.format(), Vec::new());
        let mut pieces = 0..;
        while pieces.next().map_or(Ok(false), |number| self.encode_piece(format, number, &mut bytes))? {}
        Ok((format, bytes))
    }

    /// The record of bytes of a format that is read; not yet checked.
    fn decode(_format: u16, bytes: &[u8]) -> Result<Self, Invalid> {
        Ok(codec::decode(bytes)?)
    }

    /// The same of all bytes of a part.
    fn read(format: u16, part: &mut Part<'_>) -> Result<Self, Invalid> {
        Self::decode(format, part.next(part.left())?)
    }
}

/// A record that no state has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl From<CodecError> for Invalid {
    fn from(error: CodecError) -> Self {
        Invalid(error.to_string())
    }
}

/// Why a node cannot apply what the others apply: it must stop rather than come to something else.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The command is of a newer program.
    #[error("command format {format} at log index {index}; this program reads up to {known}")]
    Format { index: u64, format: u16, known: u16 },
    /// The records cannot be read.
    #[error("{0}")]
    Records(Box<dyn std::error::Error + Send + Sync>),
    /// The records were opened to be read.
    #[error("a record was appended where records are only read")]
    ReadOnly,
}
