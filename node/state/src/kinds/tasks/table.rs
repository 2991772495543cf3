//! Where tasks lie: slots in pages, and lists that go through the slots themselves.
//!
//! A page that a checkpoint holds as well is copied when it is next written to: to capture all of them is to
//! count up a reference a page. Free slots are a list, too, so that every node gives the same one next.

pub(super) mod wire;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Task;

use wire::WireSlot;

/// Slots of a page.
pub(super) const PAGE_SLOTS: usize = 64;

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// A place for a task, and its neighbours in the list that it is in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "WireSlot")]
pub(super) struct Slot {
    pub prev: u32,
    pub next: u32,
    pub task: Option<Task>,
}

/// A list through slots.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct List {
    pub head: u32,
    pub tail: u32,
    pub len: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }
}

/// At which end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Head,
    Tail,
}

/// All slots.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Table {
    pub pages: Vec<Arc<Vec<Slot>>>,
    pub free: List,
}

impl Table {
    pub fn slot(&self, slot: u32) -> Option<&Slot> {
        let (page, at) = (slot as usize / PAGE_SLOTS, slot as usize % PAGE_SLOTS);
        self.pages.get(page)?.get(at)
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        let (page, at) = (slot as usize / PAGE_SLOTS, slot as usize % PAGE_SLOTS);
        Arc::make_mut(self.pages.get_mut(page)?).get_mut(at)
    }

    pub fn get(&self, slot: u32) -> Option<&Task> {
        self.slot(slot)?.task.as_ref()
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Task> {
        self.slot_mut(slot)?.task.as_mut()
    }

    /// How many slots there are, free or not.
    pub fn slots(&self) -> u32 {
        (self.pages.len() * PAGE_SLOTS) as u32
    }

    /// Tasks in slots.
    pub fn used(&self) -> u32 {
        self.slots() - self.free.len
    }

    /// Puts a task into a free slot, where it is in no list yet.
    pub fn insert(&mut self, task: Task) -> u32 {
        if self.free.len == 0 {
            let first = self.slots();
            let slot = || Slot { prev: NONE, next: NONE, task: None };
            self.pages.push(Arc::new(std::iter::repeat_with(slot).take(PAGE_SLOTS).collect()));
            let mut free = self.free;
            (first..first + PAGE_SLOTS as u32).for_each(|slot| self.link(&mut free, slot, Edge::Tail));
            self.free = free;
        }
        let mut free = self.free;
        let slot = free.head;
        self.unlink(&mut free, slot);
        self.free = free;
        if let Some(place) = self.slot_mut(slot) {
            place.task = Some(task);
        }
        slot
    }

    /// Takes out a task that is in no list.
    pub fn remove(&mut self, slot: u32) -> Option<Task> {
        let task = self.slot_mut(slot)?.task.take()?;
        let mut free = self.free;
        // The one that was used last is in the processor's cache.
        self.link(&mut free, slot, Edge::Head);
        self.free = free;
        Some(task)
    }

    /// Puts a slot that is in no list into one.
    pub fn link(&mut self, list: &mut List, slot: u32, edge: Edge) {
        let neighbour = match edge {
            Edge::Head => list.head,
            Edge::Tail => list.tail,
        };
        let Some(own) = self.slot_mut(slot) else { return };
        (own.prev, own.next) = match edge {
            Edge::Head => (NONE, neighbour),
            Edge::Tail => (neighbour, NONE),
        };
        if let Some(other) = self.slot_mut(neighbour) {
            match edge {
                Edge::Head => other.prev = slot,
                Edge::Tail => other.next = slot,
            }
        }
        match edge {
            Edge::Head => list.head = slot,
            Edge::Tail => list.tail = slot,
        }
        if neighbour == NONE {
            (list.head, list.tail) = (slot, slot);
        }
        list.len += 1;
    }

    /// Takes a slot out of the list that it is in.
    pub fn unlink(&mut self, list: &mut List, slot: u32) {
        let Some(own) = self.slot_mut(slot) else { return };
        let (prev, next) = (own.prev, own.next);
        (own.prev, own.next) = (NONE, NONE);
        match self.slot_mut(prev) {
            Some(before) => before.next = next,
            None => list.head = next,
        }
        match self.slot_mut(next) {
            Some(behind) => behind.prev = prev,
            None => list.tail = prev,
        }
        list.len -= 1;
    }

    /// The slots of a list, from its head on.
    pub fn walk(&self, list: &List) -> impl Iterator<Item = u32> {
        let (mut next, len) = (list.head, list.len);
        std::iter::from_fn(move || {
            let slot = next;
            next = self.slot(slot)?.next;
            Some(slot)
        })
        .take(len as usize)
    }

    /// The tasks of a list, from its head on.
    pub fn tasks(&self, list: &List) -> impl Iterator<Item = &Task> {
        self.walk(list).filter_map(|slot| self.get(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_waits_takes_little() {
        assert!(size_of::<Slot>() <= 80, "{}", size_of::<Slot>());
    }
}
