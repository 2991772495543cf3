//! How backends fail, counted for each way: an operator sees what to look for. Pure but for counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How an attempt at a backend failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// No connection.
    Connect,
    /// The connection ended before an answer.
    Reset,
    /// It was found dead or hung.
    Silent,
    /// Its answer cannot be passed on.
    Malformed,
    /// It had not answered in time.
    Late,
    /// Its answer's status counts as a failure.
    Status,
    /// Its answer broke off.
    Broken,
    /// It did nothing, and said so.
    Declined,
}

impl Way {
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Reset,
        Self::Silent,
        Self::Malformed,
        Self::Late,
        Self::Status,
        Self::Broken,
        Self::Declined,
    ];

    /// As metrics label it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Silent => "silent",
            Self::Malformed => "malformed",
            Self::Late => "late",
            Self::Status => "status",
            Self::Broken => "broken",
            Self::Declined => "declined",
        }
    }
}

/// One backend's failures, over all cores.
#[derive(Debug, Default)]
pub struct Failures([AtomicU64; Way::ALL.len()]);

impl Failures {
    pub fn add(&self, way: Way) {
        self.0[way as usize].fetch_add(1, Relaxed);
    }

    pub fn count(&self, way: Way) -> u64 {
        self.0[way as usize].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_a_count_and_a_name_of_its_own() {
        let failures = Failures::default();
        for (at, way) in Way::ALL.into_iter().enumerate() {
            assert_eq!(way as usize, at);
            (0..=at).for_each(|_| failures.add(way));
        }
        let counts: Vec<u64> = Way::ALL.into_iter().map(|way| failures.count(way)).collect();
        assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 8]);
        let mut names: Vec<&str> = Way::ALL.into_iter().map(Way::as_str).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Way::ALL.len());
    }
}
