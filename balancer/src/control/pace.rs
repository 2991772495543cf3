//! How much of the time goes into reading documents that follow one another: one part in so many, and some at once after
//! a rest. So whoever writes without an end costs requests little, and what one writes now and then waits for nothing.
//! Pure: the time is given.

use std::time::{Duration, Instant};

/// Of the time, one part in so many.
const PARTS: u32 = 10;
/// How far that may be ahead: the time that what was read is worth.
const AHEAD_MAX: Duration = Duration::from_secs(1);
/// Longest that the next is waited for, whatever the last one took.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Of one who reads documents.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When all that was read would have been read at that pace.
    due: Option<Instant>,
}

impl Pace {
    /// Reading one took so long, until now.
    pub fn took(&mut self, cost: Duration, now: Instant) {
        let from = self.due.map_or(now, |it| it.max(now));
        let most = now + AHEAD_MAX + WAIT_MAX;
        self.due = Some((from + cost.min(AHEAD_MAX + WAIT_MAX) * PARTS).min(most));
    }

    /// How long the next is to wait.
    pub fn wait(&self, now: Instant) -> Duration {
        let ahead = self.due.map_or(Duration::ZERO, |it| it.saturating_duration_since(now));
        ahead.saturating_sub(AHEAD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// How many are read within a minute where there is always another, each of which takes so long.
    fn read(cost: Duration) -> u32 {
        let begun = Instant::now();
        let (mut pace, mut now, mut count) = (Pace::default(), begun, 0);
        while now < begun + 60_000 * MS {
            now += pace.wait(now) + cost;
            pace.took(cost, now);
            count += 1;
        }
        count
    }

    #[test]
    fn documents_without_an_end_take_a_tenth_of_the_time_and_a_rest_more() {
        for ms in [1, 5, 50, 100] {
            let spent = read(ms * MS);
            assert!((6_000..=6_200).contains(&(spent * ms)), "{ms} ms: {spent} of them");
        }
    }

    #[test]
    fn what_comes_now_and_then_waits_for_nothing() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(pace.wait(now), Duration::ZERO);
            pace.took(50 * MS, now);
            now += 500 * MS;
        }
        // Nor do some at once, after a rest.
        now += 2000 * MS;
        for _ in 0..2 {
            assert_eq!(pace.wait(now), Duration::ZERO);
            pace.took(50 * MS, now);
        }
    }

    #[test]
    fn none_waits_longer_than_that_whatever_the_last_one_took() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        for cost in [3000 * MS, Duration::MAX] {
            pace.took(cost, now);
            assert_eq!(pace.wait(now), WAIT_MAX);
        }
    }
}
