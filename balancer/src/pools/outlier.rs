//! Outlier detection: which backend traffic speaks against, and for how long it then gets nothing. Pure
//! but for counters.
//!
//! A backend is ejected that fails several times in a row, that fails far more often than the others, or
//! that is far slower than they are; never more than half of them. What fails, ejected or not, gets a
//! smaller share ([`Failing`]): to answer badly at once is no way to all traffic.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::pools::latency;

/// Failures in a row that eject a backend.
pub const FAILURES_MAX: u32 = 5;
/// The first ejection's length; each further one doubles it.
const EJECTION: Duration = Duration::from_secs(2);
/// The longest ejection.
const EJECTION_MAX: Duration = Duration::from_secs(60);
/// A backend is slow where it takes this many times the median of the others.
const SLOW_FACTOR: f64 = 10.0;
/// Rounds (of a second) over which failures are counted.
const ROUNDS_MAX: usize = 10;
/// With fewer attempts than this, a rate says nothing.
const ATTEMPTS_MIN: u64 = 10;
/// The rate of failures from which a backend is ejected...
const RATE_MIN: f64 = 0.5;
/// ...where it is this many times the median of the others: what fails everywhere is no backend's fault.
const RATE_FACTOR: f64 = 2.0;
/// What one answer weighs among those before it.
const ANSWER_WEIGHT: f64 = 0.2;
/// How long failures are remembered where nothing is answered: after this, to 1/e. Long, so that they count also
/// where a request comes only now and then; a good answer clears them sooner.
const FAILING_DECAY: Duration = Duration::from_secs(60);
/// Less than this is nothing.
const FAILING_MIN: f64 = 0.01;
/// The share that a backend keeps however badly it answers: how else would it be seen to be well again.
const FAILING_SHARE_MIN: f64 = 0.05;

/// Whether one more of `serving` backends may be ejected, where `ejected` are: never more than half.
pub fn may_eject(ejected: usize, serving: usize) -> bool {
    (ejected + 1) * 2 <= serving
}

/// How long the `nth` ejection in a row (from 1) lasts.
pub fn ejection_length(nth: u32) -> Duration {
    EJECTION.saturating_mul(1 << nth.saturating_sub(1).min(10)).min(EJECTION_MAX)
}

/// Whether a latency is far off those of the others, and slow in itself.
pub fn is_slow(latency_ns: f64, others_ns: &mut [f64]) -> bool {
    latency_ns >= latency::SLOW.as_nanos() as f64
        && median(others_ns).is_some_and(|median| latency_ns > median.max(1e3) * SLOW_FACTOR)
}

/// Whether a backend fails far more often than the others. Where each of them had few attempts, those are taken
/// together.
pub fn fails_often(own: Tally, others: &[Tally]) -> bool {
    let mut rates: Vec<f64> = others.iter().filter_map(Tally::rate).collect();
    let together = others.iter().fold((0, 0), |sum, it| (sum.0 + it.attempts, sum.1 + it.failures));
    let usual = median(&mut rates).unwrap_or(together.1 as f64 / together.0.max(1) as f64);
    own.rate().is_some_and(|rate| rate >= RATE_MIN && rate >= usual * RATE_FACTOR)
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// How many attempts there were, and how many of them failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub attempts: u64,
    pub failures: u64,
}

impl Tally {
    /// None where too few were made.
    fn rate(&self) -> Option<f64> {
        (self.attempts >= ATTEMPTS_MIN).then(|| self.failures as f64 / self.attempts as f64)
    }
}

/// The tallies of the last rounds, by a backend's serial.
#[derive(Debug, Default)]
pub struct Rates {
    totals: HashMap<u64, VecDeque<Tally>>,
}

impl Rates {
    /// A round is over: what each backend's totals grew by in the last ones. One that comes (back) is judged from
    /// here on, not by its whole life.
    pub fn round(&mut self, totals: &[(u64, Tally)]) -> Vec<Tally> {
        self.totals.retain(|serial, _| totals.iter().any(|(it, _)| it == serial));
        let grown = |(serial, total): &(u64, Tally)| {
            let rounds = self.totals.entry(*serial).or_insert_with(|| VecDeque::from([*total]));
            let before = rounds.front().copied().unwrap_or(*total);
            rounds.push_back(*total);
            if rounds.len() > ROUNDS_MAX {
                rounds.pop_front();
            }
            Tally {
                attempts: total.attempts.saturating_sub(before.attempts),
                failures: total.failures.saturating_sub(before.failures),
            }
        };
        totals.iter().map(grown).collect()
    }

    /// It is to be judged anew from here.
    pub fn begin_anew(&mut self, serial: u64, total: Tally) {
        self.totals.insert(serial, VecDeque::from([total]));
    }
}

/// How much of what a backend answered of late was a failure: from 0 to 1, over about five answers. It
/// fades where nothing is answered.
#[derive(Debug, Default)]
pub struct Failing {
    /// The bits of an f64; 0 for a backend that is well, and then nothing else is looked at.
    bits: AtomicU64,
    at_ns: AtomicU64,
}

impl Failing {
    pub fn read(&self, now_ns: u64) -> f64 {
        match self.bits.load(Relaxed) {
            0 => 0.0,
            bits => {
                let elapsed = now_ns.saturating_sub(self.at_ns.load(Relaxed));
                latency::faded(f64::from_bits(bits), Duration::from_nanos(elapsed), FAILING_DECAY)
            }
        }
    }

    pub fn failed(&self, now_ns: u64) {
        let before = self.read(now_ns);
        self.write(before + (1.0 - before) * ANSWER_WEIGHT, now_ns);
    }

    pub fn succeeded(&self, now_ns: u64) {
        if self.bits.load(Relaxed) != 0 {
            let next = self.read(now_ns) * (1.0 - ANSWER_WEIGHT);
            self.write(if next < FAILING_MIN { 0.0 } else { next }, now_ns);
        }
    }

    pub fn forget(&self) {
        self.bits.store(0, Relaxed);
    }

    fn write(&self, failing: f64, now_ns: u64) {
        self.at_ns.store(now_ns, Relaxed);
        self.bits.store(failing.to_bits(), Relaxed);
    }
}

/// The share of its usual traffic that a backend gets which fails so often.
pub fn share_of(failing: f64) -> f64 {
    let good = 1.0 - failing;
    (good * good).max(FAILING_SHARE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_half_are_ejected() {
        for (ejected, serving, expected) in [
            (0, 0, false),
            (0, 1, false),
            (0, 2, true),
            (1, 2, false),
            (0, 3, true),
            (1, 3, false),
            (1, 4, true),
        ] {
            assert_eq!(may_eject(ejected, serving), expected, "{ejected} of {serving}");
        }
    }

    #[test]
    fn ejections_grow_to_a_bound() {
        assert_eq!(ejection_length(1), Duration::from_secs(2));
        assert_eq!(ejection_length(3), Duration::from_secs(8));
        assert_eq!(ejection_length(u32::MAX), EJECTION_MAX);
    }

    #[test]
    fn slow_is_far_off_the_median_and_slow_in_itself() {
        assert!(is_slow(2e9, &mut [1e6, 2e6, 3e6]));
        assert!(!is_slow(50e6, &mut [1e6, 2e6, 3e6]));
        assert!(!is_slow(2e9, &mut [1e9, 1e9, 1e9]));
        assert!(!is_slow(2e9, &mut []));
    }

    #[test]
    fn one_good_of_five_is_too_few_where_the_others_do_better() {
        let tally = |attempts, failures| Tally { attempts, failures };
        let well = [tally(100, 0), tally(100, 1)];
        for (own, others, expected) in [
            (tally(100, 80), &well[..], true),
            (tally(100, 49), &well, false),
            (tally(9, 9), &well, false),
            (tally(100, 80), &[tally(100, 70), tally(100, 75)], false),
            (tally(100, 80), &[tally(5, 5), tally(4, 4)], false),
            (tally(100, 80), &[tally(5, 0), tally(4, 1)], true),
            (tally(100, 80), &[tally(0, 0)], true),
        ] {
            assert_eq!(fails_often(own, others), expected, "{own:?} {others:?}");
        }
    }

    #[test]
    fn what_was_long_ago_is_counted_no_more() {
        let mut rates = Rates::default();
        let total = |attempts, failures| [(7, Tally { attempts, failures })];
        let grown = |it: Vec<Tally>| (it[0].attempts, it[0].failures);
        assert_eq!(grown(rates.round(&total(10, 10))), (0, 0), "what it was before");
        assert_eq!(grown(rates.round(&total(30, 30))), (20, 20));
        for round in 1..ROUNDS_MAX as u64 {
            rates.round(&total(30 + round, 30));
        }
        assert_eq!(grown(rates.round(&total(40, 30))), (10, 0), "the first rounds have left");
        rates.begin_anew(7, total(40, 30)[0].1);
        assert_eq!(grown(rates.round(&total(41, 31))), (1, 1));
        rates.round(&[]);
        assert!(rates.totals.is_empty());
        assert_eq!(
            grown(rates.round(&total(41, 31))),
            (0, 0),
            "it is back, and was not served from meanwhile"
        );
    }

    #[test]
    fn the_share_of_what_fails_shrinks_with_each_failure_and_returns_with_good_answers_or_with_time() {
        let failing = Failing::default();
        assert_eq!(share_of(failing.read(0)), 1.0);
        let mut before = 1.0;
        for _ in 0..5 {
            failing.failed(0);
            let share = share_of(failing.read(0));
            assert!(share < before);
            before = share;
        }
        assert!(before < 0.2, "{before}");
        for _ in 0..100 {
            failing.failed(0);
        }
        assert_eq!(share_of(failing.read(0)), FAILING_SHARE_MIN);
        assert!(share_of(failing.read(10_000_000_000)) < 0.1, "not by a pause");
        assert!(share_of(failing.read(360_000_000_000)) > 0.99);
        for _ in 0..40 {
            failing.succeeded(0);
        }
        assert_eq!(failing.read(0), 0.0);
    }
}
