//! Histories: what clients asked, when they asked it, and when they were answered what; and whether one object
//! that does one thing after the other, each between its call and its return, could have answered so
//! (linearizability: Herlihy and Wing, *Linearizability: A Correctness Condition for Concurrent Objects*, 1990).
//!
//! `clients` and `workers` ask real nodes and `nemesis` harms them meanwhile; `register`, `log` and `tasks` judge what
//! came of it.

use std::fmt::{self, Display};

pub mod clients;
#[cfg(test)]
mod exhaustive;
pub mod log;
pub mod nemesis;
mod order;
pub mod recorder;
pub mod register;
pub mod tasks;
pub mod workers;

use recorder::Operation;

/// Operations that no order explains.
#[derive(Debug)]
pub struct Contradiction {
    what: String,
    operations: Vec<String>,
}

impl Contradiction {
    /// The operations are told in the order in which they were called, each once.
    fn new<D: Display>(what: impl Into<String>, operations: &[&Operation<D>]) -> Self {
        let mut operations = operations.to_vec();
        operations.sort_by_key(|operation| operation.called.event);
        operations.dedup_by_key(|operation| operation.called.event);
        Self { what: what.into(), operations: operations.iter().map(ToString::to_string).collect() }
    }
}

impl Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.what)?;
        self.operations.iter().try_for_each(|operation| write!(f, "\n  {operation}"))
    }
}
