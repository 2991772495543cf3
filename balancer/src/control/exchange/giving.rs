//! Who is told what is owed, and when: so many pages from one look to the next, whoever asks, so that nothing else that
//! balancers say to one another waits for it. Pure.

use std::collections::VecDeque;
use std::ops::Range;

/// Most pages from one look to the next: some 4 MB/s.
const PAGES_A_LOOK: usize = 64;
/// Those that wait for the next; who asks beyond that asks again.
const WAITING_MAX: usize = 256;

/// One that starts asks what is owed at these places.
#[derive(Debug)]
pub(super) struct Asked {
    pub by: u64,
    pub number: u64,
    pub places: Range<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Giving {
    /// Pages that were told since the last look.
    told: usize,
    waiting: VecDeque<Asked>,
}

impl Giving {
    pub fn look(&mut self) {
        self.told = 0;
    }

    /// Whether it is told now, or waits, or is not heard.
    pub fn turn(&mut self, asked: Asked) -> Option<Asked> {
        if self.waiting.is_empty() && self.told < PAGES_A_LOOK {
            self.told += 1;
            return Some(asked);
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(asked);
        }
        None
    }

    /// Who waits, and is told now.
    pub fn next(&mut self) -> Option<Asked> {
        if self.told >= PAGES_A_LOOK {
            return None;
        }
        let asked = self.waiting.pop_front()?;
        self.told += 1;
        Some(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(by: usize) -> Asked {
        Asked { by: by as u64, number: 1, places: 0..1 }
    }

    #[test]
    fn who_asks_for_much_is_told_so_much_a_look_and_in_order() {
        let mut giving = Giving::default();
        let at_once: Vec<_> = (0..1000).filter_map(|by| giving.turn(asked(by))).map(|it| it.by).collect();
        assert_eq!(at_once, (0..PAGES_A_LOOK as u64).collect::<Vec<_>>());
        assert!(giving.next().is_none());
        let mut later = Vec::new();
        for _ in 0..10 {
            giving.look();
            let told: Vec<_> = std::iter::from_fn(|| giving.next()).map(|it| it.by).collect();
            assert!(told.len() <= PAGES_A_LOOK);
            // Who asks now comes behind who waits.
            assert!(giving.turn(asked(7)).is_none() || told.len() < PAGES_A_LOOK);
            later.extend(told);
        }
        let waited: Vec<_> = (0..WAITING_MAX as u64).map(|it| it + PAGES_A_LOOK as u64).collect();
        assert_eq!(later[..WAITING_MAX], waited);
    }
}
