//! Leases: until when each claim that is in a worker's hands is believed. Pure; in the leader's memory alone.
//!
//! What is kept is by the monotonic clock. A leader that is new gives each lease its full length again, so that no
//! change of leaders costs one; and one that stood still gives all the time that it missed.

use std::collections::HashMap;
use std::time::Duration;

use skep_state::task::Lease;
use tokio::time::Instant;

/// How long a worker is believed to have its tasks after it was last heard of.
pub const LEASE: Duration = Duration::from_secs(15);
/// Leases that end at one look, so that not all of a lost rack come back in one moment.
const EXPIRED_AT_ONCE_MAX: usize = 250;

/// By fence, until when each holds.
#[derive(Debug, Default)]
pub(super) struct Leases {
    until: HashMap<u64, Instant>,
}

impl Leases {
    /// A worker said that it holds these: each is believed for its full length from now on.
    pub fn extend(&mut self, fences: &[u64], now: Instant) {
        for fence in fences {
            if let Some(until) = self.until.get_mut(fence) {
                *until = now + LEASE;
            }
        }
    }

    /// Nobody could be heard for so long.
    pub fn pause(&mut self, missed: Duration) {
        self.until.values_mut().for_each(|until| *until += missed);
    }

    /// Takes note of what is in workers' hands, and answers those leases of it that are over, the oldest first.
    pub fn look(&mut self, current: &[Lease], now: Instant) -> Vec<Lease> {
        let mut until = HashMap::with_capacity(current.len());
        let mut over = Vec::new();
        for lease in current {
            let ends = self.until.get(&lease.fence).copied().unwrap_or(now + LEASE);
            until.insert(lease.fence, ends);
            if ends <= now {
                over.push((ends, *lease));
            }
        }
        self.until = until;
        over.sort_unstable();
        over.into_iter().map(|(_, lease)| lease).take(EXPIRED_AT_ONCE_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use skep_state::task::TaskId;

    use super::*;

    fn lease(fence: u64) -> Lease {
        Lease { id: TaskId { seq: fence, nonce: 0 }, fence }
    }

    #[test]
    fn a_lease_is_over_once_its_worker_was_not_heard_for_its_length() {
        let (began, mut leases) = (Instant::now(), Leases::default());
        let s = |seconds| began + Duration::from_secs(seconds);
        let all = [lease(1), lease(2)];
        assert_eq!(leases.look(&all, s(0)), []);
        leases.extend(&[2, 3], s(10));
        assert_eq!(leases.look(&all, s(14)), []);
        assert_eq!(leases.look(&all, s(15)), [lease(1)]);
        assert_eq!(leases.look(&all, s(25)), all, "as long as it is in nobody else's hands");
        assert_eq!(leases.look(&[lease(3)], s(26)), [], "one that nobody had before has its full length");
        assert_eq!(leases.until.len(), 1, "what is in nobody's hands is forgotten");
    }

    #[test]
    fn time_in_which_nobody_could_be_heard_is_given_to_all() {
        let (began, mut leases) = (Instant::now(), Leases::default());
        leases.look(&[lease(1)], began);
        leases.pause(Duration::from_secs(40));
        assert_eq!(leases.look(&[lease(1)], began + Duration::from_secs(54)), []);
        assert_eq!(leases.look(&[lease(1)], began + Duration::from_secs(55)), [lease(1)]);
    }

    #[test]
    fn leases_that_end_together_come_back_a_part_at_a_time() {
        let (began, mut leases) = (Instant::now(), Leases::default());
        let all: Vec<Lease> = (1..=600).map(lease).collect();
        leases.look(&all, began);
        assert_eq!(leases.look(&all, began + LEASE), all[..EXPIRED_AT_ONCE_MAX]);
    }
}
