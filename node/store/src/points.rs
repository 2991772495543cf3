//! The hashes of the state after log entries, as members compare them.
//!
//! They have a lock of their own, held for a copy alone: who asks waits for nobody that applies.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use skep_state::rolling::StateHash;

/// Log indexes divisible by this are those at which nodes compare their hashes, however far each is.
const ROUND_ENTRIES: u64 = 4096;
/// Of so many of them the hashes are remembered: others ask for them some seconds later.
const ROUND_MAX: usize = 32;
/// Of so many of the last indexes: nodes that are as far but for a few entries meet there, also one that has just
/// begun.
const LAST_MAX: usize = 256;

/// The hash of the state after a log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub index: u64,
    pub hash: StateHash,
}

/// Of what this process has applied, and of what it began with.
#[derive(Default)]
pub(crate) struct Points(Mutex<Kept>);

/// The newest last.
#[derive(Default)]
struct Kept {
    round: VecDeque<Point>,
    last: VecDeque<Point>,
}

impl Points {
    /// Takes note of entries that were applied.
    pub(crate) fn extend(&self, applied: impl IntoIterator<Item = Point>) {
        let mut kept = self.lock();
        for point in applied {
            if point.index.is_multiple_of(ROUND_ENTRIES) {
                push(&mut kept.round, point, ROUND_MAX);
            }
            push(&mut kept.last, point, LAST_MAX);
        }
    }

    /// From here on: the state is another one.
    pub(crate) fn restart(&self, from: Option<Point>) {
        *self.lock() = Kept::default();
        self.extend(from);
    }

    /// All, by their indexes.
    pub(crate) fn all(&self) -> Vec<Point> {
        let kept = self.lock();
        let oldest = kept.last.front().map_or(0, |point| point.index);
        let round = kept.round.iter().filter(|point| point.index < oldest);
        round.chain(&kept.last).copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push(points: &mut VecDeque<Point>, point: Point, max: usize) {
    if points.len() == max {
        points.pop_front();
    }
    points.push_back(point);
}
