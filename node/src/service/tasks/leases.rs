//! Leases: until when each claim that is in a worker's hands is believed. Pure; in the leader's memory alone.
//!
//! What is kept is by the monotonic clock. A leader that is new gives each lease its full length again, so that no
//! change of leaders costs one; and one that stood still gives all the time that it missed.

use std::collections::HashMap;
use std::time::Duration;

use skep_raft::wire::HeardWorker;
use skep_state::task::{HOLDS_MAX, Lease};
use tokio::time::Instant;

/// How long a worker is believed to have its tasks after it was last heard of.
pub const LEASE: Duration = Duration::from_secs(15);
/// What is heard of a worker may be told by so much earlier or later than the end of its stream is.
const TOLD_WITHIN: Duration = Duration::from_millis(300);
/// How long a worker is believed yet of whose stream nothing more is known than that it has ended: it beats by then.
const DOUBTED: Duration = Duration::from_millis(5_500);
/// Workers that are remembered as heard of; of more nothing is known but their leases.
const HEARD_MAX: usize = 4096;
/// Longest version of a worker's that is kept.
pub const VERSION_BYTES_MAX: usize = 32;
/// Workers that are told of at once.
const WORKERS_MAX: u32 = 1000;
/// Leases that end at one look, so that not all of a lost rack come back in one moment.
const EXPIRED_AT_ONCE_MAX: usize = 250;

/// What a worker said of itself.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    pub worker: &'a str,
    /// The number of its newest stream; 0 where it says none.
    pub stream: u64,
    /// Of the tasks that it holds.
    pub fences: &'a [u64],
    /// How many tasks it does at a time; 0 where it does not say.
    pub slots: u32,
    /// Empty where it does not say.
    pub version: &'a str,
    /// Whether it claims nothing at present; none where it does not say.
    pub quiet: Option<bool>,
}

/// What is known of a worker that was heard of.
#[derive(Debug)]
struct Heard {
    stream: u64,
    at: Instant,
    slots: u32,
    version: Box<str>,
    /// What it says of whether it claims nothing; and what an operator wants of it that it does not say yet.
    quiet: Option<bool>,
    wanted: Option<bool>,
}

impl Heard {
    fn note(&mut self, said: Said<'_>, now: Instant) {
        (self.stream, self.at) = (self.stream.max(said.stream), now);
        self.quiet = said.quiet.or(self.quiet);
        self.wanted = self.wanted.filter(|wanted| self.quiet != Some(*wanted));
        // A claim says no more than what is held.
        if said.slots > 0 {
            self.slots = said.slots;
        }
        if !said.version.is_empty()
            && said.version.len() <= VERSION_BYTES_MAX
            && *self.version != *said.version
        {
            self.version = said.version.into();
        }
    }
}

/// By fence, until when each holds; and by worker, when it was last heard of, and what it says of itself.
#[derive(Debug, Default)]
pub(super) struct Leases {
    until: HashMap<u64, Instant>,
    heard: HashMap<String, Heard>,
}

impl Leases {
    /// A worker said that it holds these: each is believed for its full length from now on. Answers what it is to be
    /// told: to claim nothing, or to go on.
    pub fn extend(&mut self, said: Said<'_>, now: Instant) -> Option<bool> {
        let has_room = self.heard.len() < HEARD_MAX;
        if let Some(heard) = self.heard.get_mut(said.worker) {
            heard.note(said, now);
        } else if has_room {
            let version = "".into();
            let mut heard = Heard { stream: 0, at: now, slots: 0, version, quiet: None, wanted: None };
            heard.note(said, now);
            self.heard.insert(said.worker.to_owned(), heard);
        }
        for fence in said.fences.iter().take(HOLDS_MAX) {
            if let Some(until) = self.until.get_mut(fence) {
                *until = now + LEASE;
            }
        }
        self.heard.get(said.worker)?.wanted
    }

    /// A worker is to claim nothing, or to go on. Answers whether it was heard of.
    pub fn ask_quiet(&mut self, worker: &str, quiet: bool) -> bool {
        let Some(heard) = self.heard.get_mut(worker) else { return false };
        // Whatever it said last: it may have been told otherwise since, and not have said so yet.
        heard.wanted = Some(quiet);
        true
    }

    /// The worker that held these has let its stream of this number go, so long ago. Where it was heard of over that
    /// one, and not since, it is gone; where it has a newer one, this is old news. Else it is doubted: it has until
    /// its next beat.
    pub fn end(&mut self, worker: &str, stream: u64, ago: Duration, fences: &[u64], now: Instant) {
        let (newest, heard) = self.heard.get(worker).map_or((0, now), |heard| (heard.stream, heard.at));
        if newest > stream {
            return;
        }
        let is_gone = stream > 0 && newest == stream && heard + ago + TOLD_WITHIN <= now;
        for fence in fences.iter().take(HOLDS_MAX) {
            if let Some(until) = self.until.get_mut(fence) {
                *until = (*until).min(if is_gone { now } else { now + DOUBTED });
            }
        }
    }

    /// Nobody could be heard for so long.
    pub fn pause(&mut self, missed: Duration) {
        self.until.values_mut().for_each(|until| *until += missed);
        self.heard.values_mut().for_each(|heard| heard.at += missed);
    }

    /// Those that were heard of, by their names: after this one, and at most so many.
    pub fn heard(&self, after: &str, limit: u32, now: Instant) -> Vec<HeardWorker> {
        let mut found: Vec<_> = self.heard.iter().filter(|(name, _)| name.as_str() > after).collect();
        found.sort_unstable_by_key(|(name, _)| *name);
        found.truncate(limit.min(WORKERS_MAX) as usize);
        let heard = found.into_iter().map(|(name, heard)| HeardWorker {
            worker: name.clone(),
            ago_ms: now.saturating_duration_since(heard.at).as_millis().try_into().unwrap_or(u64::MAX),
            slots: heard.slots,
            version: heard.version.clone().into_string(),
            quiet: heard.wanted.or(heard.quiet),
        });
        heard.collect()
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
        self.heard.retain(|_, heard| heard.at + LEASE > now);
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

    fn holds<'a>(worker: &'a str, stream: u64, fences: &'a [u64]) -> Said<'a> {
        Said { worker, stream, fences, slots: 0, version: "", quiet: None }
    }

    #[test]
    fn workers_that_were_heard_of_are_told_by_their_names_with_what_they_said() {
        let (began, mut leases) = (Instant::now(), Leases::default());
        let s = |seconds| began + Duration::from_secs(seconds);
        leases.extend(Said { slots: 8, version: "1.2.3", ..holds("b", 1, &[]) }, s(0));
        leases.extend(holds("c", 0, &[]), s(1));
        leases.extend(Said { slots: 2, ..holds("a", 0, &[]) }, s(2));
        let long = "9".repeat(VERSION_BYTES_MAX + 1);
        leases.extend(Said { version: &long, ..holds("b", 1, &[]) }, s(3));
        let heard = |worker: &str, ago_ms, slots, version: &str| HeardWorker {
            worker: worker.into(),
            ago_ms,
            slots,
            version: version.into(),
            quiet: None,
        };
        let all = [heard("a", 2_000, 2, ""), heard("b", 1_000, 8, "1.2.3"), heard("c", 3_000, 0, "")];
        assert_eq!(leases.heard("", 9, s(4)), all, "a claim says nothing of slots, and takes nothing back");
        assert_eq!(leases.heard("a", 1, s(4)), all[1..2]);
        assert_eq!(leases.heard("", u32::MAX, s(4)).len(), 3);
        leases.look(&[], s(16));
        assert_eq!(leases.heard("", 9, s(16)).len(), 2, "one that is silent for a lease is not told of");
    }

    #[test]
    fn a_worker_is_told_to_be_quiet_until_it_says_that_it_is() {
        let (now, mut leases) = (Instant::now(), Leases::default());
        let says = |quiet| Said { quiet, ..holds("w", 0, &[]) };
        assert!(!leases.ask_quiet("w", true), "it was never heard of");
        assert_eq!(leases.extend(says(Some(false)), now), None);
        assert!(leases.ask_quiet("w", true));
        assert_eq!(leases.heard("", 1, now)[0].quiet, Some(true), "as it is to be");
        assert_eq!(leases.extend(says(None), now), Some(true), "a claim says nothing of it");
        assert_eq!(leases.extend(says(Some(true)), now), None);
        assert!(leases.ask_quiet("w", true));
        assert_eq!(leases.extend(says(Some(true)), now), None, "it is already");
        assert!(leases.ask_quiet("w", false));
        assert_eq!(leases.extend(says(Some(true)), now), Some(false));
        assert!(leases.ask_quiet("w", true), "changed again, before it said so");
        assert_eq!(leases.extend(says(Some(false)), now), Some(true), "the last word counts");
        assert_eq!(leases.extend(says(Some(true)), now), None);
        // Another leader knows what the worker says.
        let mut other = Leases::default();
        other.extend(says(Some(true)), now);
        assert_eq!(other.heard("", 1, now)[0].quiet, Some(true));
    }

    #[test]
    fn a_lease_is_over_once_its_worker_was_not_heard_for_its_length() {
        let (began, mut leases) = (Instant::now(), Leases::default());
        let s = |seconds| began + Duration::from_secs(seconds);
        let all = [lease(1), lease(2)];
        assert_eq!(leases.look(&all, s(0)), []);
        leases.extend(holds("w", 0, &[2, 3]), s(10));
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

    /// Heard of over its stream's number, at this time.
    fn beats(leases: &mut Leases, stream: u64, now: Instant) {
        leases.extend(holds("w", stream, &[1]), now);
    }

    #[test]
    fn a_worker_is_gone_where_nothing_was_heard_of_it_since_its_stream_ended() {
        let ms = |began: Instant, millis| began + Duration::from_millis(millis);
        let ago = Duration::from_millis(1500);
        let over = |beaten: &[(u64, u64)], ended: (u64, u64)| {
            let (began, mut leases) = (Instant::now(), Leases::default());
            leases.look(&[lease(1)], began);
            beaten.iter().for_each(|(stream, at)| beats(&mut leases, *stream, ms(began, *at)));
            let (stream, at) = ended;
            leases.end("w", stream, ago, &[1, 9], ms(began, at));
            let at_once = !leases.look(&[lease(1)], ms(began, at)).is_empty();
            let later = !leases.look(&[lease(1)], ms(began, at + 5_500)).is_empty();
            (at_once, later)
        };
        assert_eq!(over(&[(1, 10), (1, 5_000)], (1, 7_000)), (true, true));
        assert_eq!(
            over(&[(1, 10), (1, 5_000), (1, 5_510)], (1, 7_000)),
            (false, true),
            "it beat as it ended"
        );
        assert_eq!(
            over(&[(1, 10), (2, 5_510)], (1, 14_000)),
            (false, false),
            "it has a newer one, and this is old"
        );
        assert_eq!(over(&[], (1, 7_000)), (false, true), "this leader has heard nothing of it");
        assert_eq!(over(&[(0, 10)], (0, 7_000)), (false, true), "it numbers none");
    }

    #[test]
    fn one_beat_as_its_stream_ends_keeps_a_worker_what_it_has() {
        let (began, mut leases) = (Instant::now(), Leases::default());
        let ms = |millis| began + Duration::from_millis(millis);
        leases.look(&[lease(1)], ms(0));
        beats(&mut leases, 1, ms(1_000));
        // It breaks at 2,000; the worker says so at once, opens another, and beats again as always.
        beats(&mut leases, 1, ms(2_010));
        beats(&mut leases, 2, ms(2_120));
        leases.end("w", 1, Duration::from_millis(1500), &[1], ms(3_500));
        assert_eq!(leases.look(&[lease(1)], ms(7_100)), []);
        beats(&mut leases, 2, ms(7_120));
        assert_eq!(leases.look(&[lease(1)], ms(22_100)), []);
    }

    #[test]
    fn leases_that_end_together_come_back_a_part_at_a_time() {
        let (began, mut leases) = (Instant::now(), Leases::default());
        let all: Vec<Lease> = (1..=600).map(lease).collect();
        leases.look(&all, began);
        assert_eq!(leases.look(&all, began + LEASE), all[..EXPIRED_AT_ONCE_MAX]);
    }
}
