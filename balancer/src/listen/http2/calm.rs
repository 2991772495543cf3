//! Streams that a client takes back after they were accepted (CVE-2023-44487): each may have cost a connection
//! to a backend, and none counts against the limit of streams that are open. Pure.
//!
//! A person who moves on takes back what a page asked for; so some are forgiven with time, and by requests
//! that were let run.

use std::time::Instant;

/// Most streams taken back that are not forgiven yet.
const RESETS_MAX: u32 = 100;
/// One is forgiven for so many that were answered.
const ANSWERED_FOR_ONE: u32 = 4;
/// And so many with each second.
const FORGIVEN_PER_S: u64 = 1;

/// What a connection's client has taken back.
#[derive(Debug)]
pub struct Calm {
    /// In parts: what one answer forgives.
    parts: u32,
    forgiven_at: Instant,
}

impl Calm {
    pub fn new(now: Instant) -> Self {
        Self { parts: 0, forgiven_at: now }
    }

    pub fn answered(&mut self) {
        self.parts = self.parts.saturating_sub(1);
    }

    pub fn taken_back(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.forgiven_at).as_secs();
        if seconds > 0 {
            self.forgiven_at = now;
            let forgiven = seconds.saturating_mul(FORGIVEN_PER_S * u64::from(ANSWERED_FOR_ONE));
            self.parts = self.parts.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        }
        self.parts = self.parts.saturating_add(ANSWERED_FOR_ONE);
    }

    /// Whether it is to calm down (ENHANCE_YOUR_CALM, RFC 9113, 7).
    pub fn is_over(&self) -> bool {
        self.parts > RESETS_MAX * ANSWERED_FOR_ONE
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_hundred_may_be_taken_back_at_once_and_more_with_time_or_among_many_answers() {
        let begun = Instant::now();
        let mut calm = Calm::new(begun);
        for _ in 0..RESETS_MAX {
            calm.taken_back(begun);
        }
        assert!(!calm.is_over());
        calm.taken_back(begun);
        assert!(calm.is_over());
        calm.taken_back(begun + Duration::from_secs(10));
        assert!(!calm.is_over(), "ten are forgiven");
        let mut calm = Calm::new(begun);
        for at in 0..2000 {
            calm.answered();
            if at % 4 == 0 {
                calm.taken_back(begun);
            }
        }
        assert!(!calm.is_over(), "one of four");
        for _ in 0..400 {
            calm.answered();
            calm.taken_back(begun);
        }
        assert!(calm.is_over(), "every second one");
    }
}
