//! Pauses between tries, each twice as long as the one before. Pure.

use std::time::Duration;

/// The first and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(PAUSE_MIN)
    }
}

impl Pauses {
    /// What is asked for by the other side counts where it is longer.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let pause = self.0.max(asked.unwrap_or_default().min(PAUSE_MAX));
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        pause
    }

    /// Whether there was none yet: what failed is told once, and not with each further try.
    pub fn is_first(&self) -> bool {
        self.0 == PAUSE_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_end_and_a_longer_one_that_is_asked_for_counts() {
        let mut pauses = Pauses::default();
        assert!(pauses.is_first());
        assert_eq!(pauses.next(None), PAUSE_MIN);
        assert!(!pauses.is_first());
        assert_eq!(pauses.next(Some(Duration::from_secs(1))), Duration::from_secs(1));
        let last = (0..20).map(|_| pauses.next(Some(Duration::from_secs(3600)))).last();
        assert_eq!(last, Some(PAUSE_MAX));
    }
}
