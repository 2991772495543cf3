//! The replicated clock: the latest time that anything applied was given.
//!
//! Commands bring the times of those who proposed them, which may differ and go back; the clock makes
//! of them one that never does, the same on every node, unless an operator sets it back ([`mends`]).

pub mod mends;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp(pub u64);

/// The latest time that was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    latest: Stamp,
}

impl Clock {
    /// A clock that has given this time.
    pub fn at(latest: Stamp) -> Self {
        Self { latest }
    }

    /// The latest time that was given.
    pub fn latest(&self) -> Stamp {
        self.latest
    }

    /// The time that something applied now gets: its proposer's, but none before the latest.
    pub fn time(&self, proposed: Stamp) -> Stamp {
        self.latest.max(proposed)
    }

    /// Something was given this time.
    pub fn note(&mut self, time: Stamp) {
        self.latest = self.time(time);
    }

    /// The latest time was ahead: it counts as no later than this.
    pub fn set_back(&mut self, to: Stamp) {
        self.latest = self.latest.min(to);
    }
}
