//! In which slot the task of a number is: numbers that follow each other share a page, as mostly they do.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::table::NONE;

/// Numbers of a page. One that is there for a single task takes as much as some of them.
pub(super) const PAGE_SEQS: usize = 32;

/// What a page holds in memory with its place in the tree, whether all of its numbers are of tasks or one is.
pub(super) const PAGE_BYTES: usize = 192;

/// Slots by the numbers of their tasks.
#[derive(Debug, Default)]
pub(super) struct Seqs {
    pages: BTreeMap<u64, Box<[u32; PAGE_SEQS]>>,
}

fn place(seq: u64) -> (u64, usize) {
    (seq / PAGE_SEQS as u64, (seq % PAGE_SEQS as u64) as usize)
}

impl Seqs {
    pub fn get(&self, seq: u64) -> Option<u32> {
        let (page, at) = place(seq);
        let slot = self.pages.get(&page)?.get(at).copied();
        slot.filter(|slot| *slot != NONE)
    }

    pub fn contains(&self, seq: u64) -> bool {
        self.get(seq).is_some()
    }

    pub fn insert(&mut self, seq: u64, slot: u32) {
        let (page, at) = place(seq);
        self.pages.entry(page).or_insert_with(|| Box::new([NONE; PAGE_SEQS]))[at] = slot;
    }

    pub fn remove(&mut self, seq: u64) {
        let (number, at) = place(seq);
        let Some(page) = self.pages.get_mut(&number) else { return };
        page[at] = NONE;
        if page.iter().all(|slot| *slot == NONE) {
            self.pages.remove(&number);
        }
    }

    /// What they hold in memory.
    pub fn memory(&self) -> usize {
        PAGE_BYTES * self.pages.len()
    }

    /// Numbers behind one, with their slots.
    pub fn after(&self, seq: u64) -> impl Iterator<Item = (u64, u32)> {
        let pages = self.pages.range((Bound::Included(place(seq).0), Bound::Unbounded));
        let all = pages.flat_map(|(number, page)| (number * PAGE_SEQS as u64..).zip(page.iter().copied()));
        all.filter(move |(found, slot)| *found > seq && *slot != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_until_they_are_taken_out_and_none_else() {
        let mut seqs = Seqs::default();
        let all = [1, 31, 32, 33, 1 << 40];
        for (slot, seq) in (0..).zip(all) {
            seqs.insert(seq, slot);
        }
        assert_eq!(seqs.after(0).map(|(seq, _)| seq).collect::<Vec<_>>(), all);
        assert_eq!(seqs.after(31).collect::<Vec<_>>(), [(32, 2), (33, 3), (1 << 40, 4)]);
        assert_eq!((seqs.get(33), seqs.get(34), seqs.get(1 << 41)), (Some(3), None, None));
        all.into_iter().for_each(|seq| seqs.remove(seq));
        assert!(seqs.pages.is_empty() && !seqs.contains(1));
    }
}
