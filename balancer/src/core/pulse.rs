//! Whether the cores make turns: the ticker of each counts, and one whose count stands still hangs.
//!
//! Pure; the control task looks now and then. Where it was itself late, nothing is said of the cores: then the
//! process, or its machine, stood still.

use std::time::{Duration, Instant};

/// How often it is looked.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A core that makes no turn for so long hangs; no turn takes a hundredth of it.
pub const HANGS_AFTER: Duration = Duration::from_secs(2);

/// Once one hung, all must make turns for so long.
pub const GOES_ON_AFTER: Duration = Duration::from_secs(1);

/// How many hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hanging {
    None,
    Some,
    All,
}

/// What was seen of the cores.
#[derive(Debug)]
pub struct Pulse {
    /// The count of each, and since when it is that.
    seen: Vec<(u64, Instant)>,
    looked: Instant,
    /// When one hung last.
    hung: Option<Instant>,
}

impl Pulse {
    pub fn new(cores: usize, now: Instant) -> Self {
        Self { seen: vec![(0, now); cores], looked: now, hung: None }
    }

    /// How many hang of the cores that have these counts.
    pub fn look(&mut self, counts: impl Iterator<Item = u64>, now: Instant) -> Hanging {
        let late = now.saturating_duration_since(self.looked).saturating_sub(LOOK_INTERVAL);
        self.looked = now;
        let mut hanging = 0;
        for ((before, since), count) in self.seen.iter_mut().zip(counts) {
            // As late as this task was, so may they be.
            *since += late;
            if *before != count {
                (*before, *since) = (count, now);
            }
            hanging += usize::from(now.saturating_duration_since(*since) >= HANGS_AFTER);
        }
        if hanging > 0 {
            self.hung = Some(now);
        }
        let of_late = self.hung.is_some_and(|hung| now.saturating_duration_since(hung) < GOES_ON_AFTER);
        match hanging {
            0 if !of_late => Hanging::None,
            all if all == self.seen.len() => Hanging::All,
            _ => Hanging::Some,
        }
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
        for look in 1..=17 {
            let now = begun + LOOK_INTERVAL * look;
            let stuck = if look >= 12 { u64::from(look) } else { 1 };
            seen.push(pulse.look([u64::from(look), stuck].into_iter(), now));
        }
        // For two seconds nothing is said, and for one after it goes on.
        assert_eq!(seen, [&[Hanging::None; 8][..], &[Hanging::Some; 6], &[Hanging::None; 3]].concat());
        let both = begun + LOOK_INTERVAL * 17 + HANGS_AFTER;
        let mut at = begun + LOOK_INTERVAL * 17;
        while at < both {
            at += LOOK_INTERVAL;
            seen.push(pulse.look([17, 17].into_iter(), at));
        }
        assert_eq!(seen.last(), Some(&Hanging::All));
    }

    #[test]
    fn a_process_that_stood_still_as_a_whole_says_nothing_of_its_cores() {
        let begun = Instant::now();
        let mut pulse = Pulse::new(1, begun);
        let minute = Duration::from_secs(60);
        for after in [LOOK_INTERVAL, minute, minute + HANGS_AFTER / 2] {
            assert_eq!(pulse.look([5].into_iter(), begun + after), Hanging::None, "{after:?}");
        }
    }
}
