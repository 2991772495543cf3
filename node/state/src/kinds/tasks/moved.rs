//! How tasks are told that their bytes are elsewhere on this node: nothing that is replicated changes by it.

use std::ops::Range;

use super::{Task, Tasks};
use crate::heap::{Blob, Place};

/// Which bytes of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Payload,
    Outcome,
}

impl Which {
    fn of(self, task: &mut Task) -> &mut Blob {
        match self {
            Which::Payload => &mut task.payload,
            Which::Outcome => &mut task.outcome,
        }
    }
}

impl Tasks {
    /// Places for tasks, taken or free.
    pub fn slots(&self) -> u32 {
        self.held.table.slots()
    }

    /// Where the bytes of the tasks in these slots are.
    pub fn places_of(&self, slots: Range<u32>) -> impl Iterator<Item = (u32, Which, Place)> {
        let tasks = slots.filter_map(|slot| Some((slot, self.held.table.get(slot)?)));
        tasks.flat_map(|(slot, task)| {
            let both = [(Which::Payload, &task.payload), (Which::Outcome, &task.outcome)];
            both.into_iter().filter_map(move |(which, blob)| Some((slot, which, blob.place()?)))
        })
    }

    /// Bytes that were in one place are in another, where a task has them in the first still.
    pub fn move_bytes(&mut self, slot: u32, which: Which, from: Place, to: Place) {
        let blobs = self.held.table.get(slot).map(|task| match which {
            Which::Payload => task.payload.place(),
            Which::Outcome => task.outcome.place(),
        });
        // The file that they are in now may have been given up meanwhile, for want of anybody who needs it.
        if blobs.flatten() != Some(from) || !self.heap.has(to.file) {
            return;
        }
        if let Some(task) = self.held.table.get_mut(slot) {
            *which.of(task) = Blob::Filed(to);
            self.heap.hold(&Blob::Filed(to));
            self.heap.let_go(&Blob::Filed(from));
        }
    }
}
