//! What was seen to be right of late, and a while ago. Pure: times come from outside.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// For how long it is known.
pub const KEPT_FOR: Duration = Duration::from_secs(60);
/// For how long after that it is remembered that it was right: who presents it again renews it, and is no guess.
pub const RENEWED_FOR: Duration = Duration::from_secs(60 * 60);
/// Most that are remembered at a time.
pub const KEPT_MAX: usize = 4096;

/// Each for the same time, so the first to come is the first to go.
#[derive(Debug)]
pub(super) struct Kept<T> {
    /// Until when each is known, and its number.
    known: HashMap<T, (Instant, u64)>,
    /// By their numbers, which rise with time.
    order: BTreeMap<u64, T>,
    number: u64,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { known: HashMap::new(), order: BTreeMap::new(), number: 0 }
    }
}

impl<T: Copy + Eq + Hash> Kept<T> {
    /// How many are known.
    pub(super) fn count(&self, now: Instant) -> usize {
        self.known.values().filter(|(until, _)| now < *until).count()
    }

    /// Whether it is known.
    pub(super) fn has(&self, it: &T, now: Instant) -> bool {
        self.known.get(it).is_some_and(|(until, _)| now < *until)
    }

    /// Whether it is known, or was.
    pub(super) fn had(&self, it: &T, now: Instant) -> bool {
        self.known.get(it).is_some_and(|(until, _)| now < *until + RENEWED_FOR)
    }

    pub(super) fn keep(&mut self, it: T, now: Instant) {
        if let Some((_, number)) = self.known.remove(&it) {
            self.order.remove(&number);
        }
        while let Some(first) = self.order.first_entry() {
            if self.known.len() < KEPT_MAX
                && self.known.get(first.get()).is_some_and(|(until, _)| now < *until + RENEWED_FOR)
            {
                break;
            }
            self.known.remove(&first.remove());
        }
        self.number += 1;
        self.known.insert(it, (now + KEPT_FOR, self.number));
        self.order.insert(self.number, it);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_over_after_its_time_and_makes_room_for_what_comes() {
        let begin = Instant::now();
        let mut kept = Kept::default();
        kept.keep(0, begin);
        let last = begin + KEPT_FOR - Duration::from_millis(1);
        assert!(kept.has(&0, last) && !kept.has(&0, begin + KEPT_FOR) && !kept.has(&1, begin));
        kept.keep(0, last);
        kept.keep(1, begin + KEPT_FOR);
        assert!(kept.has(&0, begin + KEPT_FOR), "it came again");
        for it in 2..10_000 {
            kept.keep(it, begin + KEPT_FOR);
            assert!(kept.has(&it, begin + KEPT_FOR));
        }
        assert_eq!((kept.known.len(), kept.order.len()), (KEPT_MAX, KEPT_MAX));
        let after = begin + 2 * KEPT_FOR;
        assert_eq!((kept.count(begin + KEPT_FOR), kept.count(after)), (KEPT_MAX, 0));
        assert!(kept.had(&9_999, after) && !kept.had(&0, after), "the first to come went first");
        kept.keep(0, after + RENEWED_FOR);
        assert_eq!((kept.known.len(), kept.order.len()), (1, 1));
    }

    #[test]
    fn what_was_right_is_remembered_for_a_while_and_who_comes_again_and_again_pushes_nobody_out() {
        let begin = Instant::now();
        let mut kept = Kept::default();
        kept.keep(0, begin);
        for _ in 0..2 * KEPT_MAX {
            kept.keep(1, begin);
        }
        let end = begin + KEPT_FOR + RENEWED_FOR;
        assert!(kept.had(&0, end - Duration::from_millis(1)) && !kept.had(&0, end));
        assert!(!kept.has(&0, begin + KEPT_FOR) && !kept.had(&2, begin));
        assert_eq!((kept.known.len(), kept.order.len()), (2, 2));
    }
}
