//! How requests to the new service of a shift ended of late, as one balancer saw it. Pure.

/// Seconds that are looked back on.
pub const WINDOW_S: u64 = 10;

/// So many requests, and how many of them failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub requests: u64,
    pub failed: u64,
}

impl Counts {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            failed: self.failed.saturating_add(other.failed),
        }
    }
}

/// Counts of each of the last seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    seconds: [(u64, Counts); WINDOW_S as usize],
}

impl Window {
    /// A request ended in that second, of any clock that does not go back.
    pub fn add(&mut self, second: u64, counts: Counts) {
        let (of, there) = &mut self.seconds[(second % WINDOW_S) as usize];
        if *of != second {
            (*of, *there) = (second, Counts::default());
        }
        *there = there.plus(counts);
    }

    /// Of the last seconds, that one included.
    pub fn sum(&self, second: u64) -> Counts {
        let is_late = |of: &u64| *of <= second && second - *of < WINDOW_S;
        let late = self.seconds.iter().filter(|(of, _)| is_late(of));
        late.fold(Counts::default(), |sum, (_, counts)| sum.plus(*counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(failed: u64) -> Counts {
        Counts { requests: 1, failed }
    }

    #[test]
    fn what_was_longer_ago_counts_no_more() {
        let mut window = Window::default();
        for second in 0..25 {
            window.add(second, one(u64::from(second < 12)));
            window.add(second, one(0));
            let since = second.saturating_sub(WINDOW_S - 1);
            let failed = (since..=second).filter(|it| *it < 12).count() as u64;
            assert_eq!(window.sum(second), Counts { requests: 2 * (second - since + 1), failed }, "{second}");
        }
        assert_eq!(window.sum(30), Counts { requests: 8, failed: 0 });
        assert_eq!(window.sum(90), Counts::default());
    }
}
