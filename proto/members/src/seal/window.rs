//! The replay window of one session, as in RFC 4303, section 3.4.3.

use super::WINDOW;

const WINDOW_WORDS: usize = (WINDOW / 64) as usize;

/// Which of the last [`WINDOW`] counters of a session were seen: a ring of bits.
pub(super) struct Window {
    newest: u64,
    seen: [u64; WINDOW_WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self { newest: 0, seen: [0; WINDOW_WORDS] }
    }
}

impl Window {
    fn place(counter: u64) -> (usize, u64) {
        let bit = counter % WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Whether the counter was seen or is too old to tell. Sealers count from 1.
    pub fn has(&self, counter: u64) -> bool {
        if counter > self.newest {
            return false;
        }
        let (word, bit) = Self::place(counter);
        self.newest - counter >= WINDOW || self.seen[word] & bit != 0
    }

    pub fn insert(&mut self, counter: u64) {
        if counter > self.newest {
            // The places between the newest and this one belonged to older counters.
            for skipped in 1..=(counter - self.newest).min(WINDOW) {
                let (word, bit) = Self::place(counter - (skipped - 1));
                self.seen[word] &= !bit;
            }
            self.newest = counter;
        }
        let (word, bit) = Self::place(counter);
        self.seen[word] |= bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set_of_all_that_was_seen(counters in prop::collection::vec(1..6000u64, 1..300)) {
            let (mut window, mut seen, mut newest) = (Window::default(), std::collections::HashSet::new(), 0);
            for counter in counters {
                let old = newest >= counter && newest - counter >= WINDOW;
                prop_assert_eq!(window.has(counter), old || seen.contains(&counter));
                if !window.has(counter) {
                    window.insert(counter);
                    seen.insert(counter);
                    newest = newest.max(counter);
                }
            }
        }
    }
}
