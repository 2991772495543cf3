//! Whether the cores make turns: the ticker of each counts, and one whose count stands still hangs.
//!
//! Pure; the control task looks now and then. Where it was itself late, nothing is said of the cores: then the
//! process, or its machine, stood still.

use std::time::{Duration, Instant};

/// How often it is looked.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A core that makes no turn for so long hangs; no turn takes a hundredth of it.
pub const HANGS_AFTER: Duration = Duration::from_secs(2);

/// What was seen of the cores.
#[derive(Debug)]
pub struct Pulse {
    /// The count of each, and since when it is that.
    seen: Vec<(u64, Instant)>,
    looked: Instant,
}

impl Pulse {
    pub fn new(cores: usize, now: Instant) -> Self {
        Self { seen: vec![(0, now); cores], looked: now }
    }

    /// Whether a core hangs, of which the counts are these.
    pub fn hangs(&mut self, counts: impl Iterator<Item = u64>, now: Instant) -> bool {
        let late = now.saturating_duration_since(self.looked).saturating_sub(LOOK_INTERVAL);
        self.looked = now;
        let mut hangs = false;
        for ((before, since), count) in self.seen.iter_mut().zip(counts) {
            // As late as this task was, so may they be.
            *since += late;
            if *before != count {
                (*before, *since) = (count, now);
            }
            hangs |= now.saturating_duration_since(*since) >= HANGS_AFTER;
        }
        hangs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_of_two_that_stands_still_hangs_until_it_goes_on() {
        let begun = Instant::now();
        let mut pulse = Pulse::new(2, begun);
        let mut seen = Vec::new();
        for look in 1..=12 {
            let now = begun + LOOK_INTERVAL * look;
            let stuck = if look == 12 { 2 } else { 1 };
            seen.push(pulse.hangs([u64::from(look), stuck].into_iter(), now));
        }
        assert_eq!(seen, [&[false; 8][..], &[true; 3], &[false]].concat());
    }

    #[test]
    fn a_process_that_stood_still_as_a_whole_says_nothing_of_its_cores() {
        let begun = Instant::now();
        let mut pulse = Pulse::new(1, begun);
        assert!(!pulse.hangs([5].into_iter(), begun + LOOK_INTERVAL));
        assert!(!pulse.hangs([5].into_iter(), begun + Duration::from_secs(60)));
        assert!(!pulse.hangs([5].into_iter(), begun + Duration::from_secs(60) + HANGS_AFTER / 2));
    }
}
