//! How long a backend takes to begin an answer: a peak EWMA, which fades where it is read.
//!
//! A slow answer counts at once, what is better only by and by. A backend that gets no requests gives no
//! samples either, so what is known of it fades without them: to nothing, which says that nobody
//! knows, and not that it is fast.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long a latency is remembered: after this, to 1/e.
const DECAY: Duration = Duration::from_secs(2);
/// A sample this young counts in full: with traffic, reading costs no more than a comparison.
const FRESH: Duration = Duration::from_millis(100);
/// What was seen longer ago than this is compared with nobody's.
const COMPARED_MAX: Duration = Duration::from_secs(10);
/// Fewer samples than this are chance, and compared with nobody's.
const COMPARED_SAMPLES_MIN: u32 = 3;
/// A sample is slow in itself from here on.
pub const SLOW: Duration = Duration::from_millis(100);

/// What is known of a latency at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// As it was last seen, in ns; 0 where it never was.
    pub seen_ns: f64,
    /// What is left of that by now.
    pub now_ns: f64,
}

impl Estimate {
    /// The latencies of two, to be compared with each other: what has faded is taken for as good as the
    /// other's, never for better than it was seen to be.
    pub fn of_two(a: Self, b: Self) -> (f64, f64) {
        let level = a.now_ns.max(b.now_ns);
        let of = |it: Self| if it.seen_ns > 0.0 { it.seen_ns.min(level) } else { level };
        (of(a), of(b))
    }
}

/// The latency of one backend, written and read by all cores.
#[derive(Debug, Default)]
pub struct Latency {
    /// In ns, as the bits of an f64.
    bits: AtomicU64,
    at_ns: AtomicU64,
    /// Samples of late, none longer than [`COMPARED_MAX`] after the one before; no more are counted than matter.
    samples: AtomicU32,
    /// How many of the last of them were slow.
    slow_in_row: AtomicU32,
}

impl Latency {
    /// `now_ns` is on the clock of [`Self::observe`].
    pub fn read(&self, now_ns: u64) -> Estimate {
        let seen_ns = f64::from_bits(self.bits.load(Relaxed));
        let elapsed = Duration::from_nanos(now_ns.saturating_sub(self.at_ns.load(Relaxed)));
        Estimate { seen_ns, now_ns: faded(seen_ns, elapsed, DECAY) }
    }

    /// Two cores may write at once; one observation lost is none missed.
    pub fn observe(&self, sample: Duration, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.at_ns.swap(now_ns, Relaxed));
        let before = f64::from_bits(self.bits.load(Relaxed));
        let elapsed = Duration::from_nanos(elapsed);
        let next = peak_ewma(before, sample.as_nanos() as f64, elapsed);
        self.bits.store(next.to_bits(), Relaxed);
        if elapsed > COMPARED_MAX {
            self.samples.store(0, Relaxed);
            self.slow_in_row.store(0, Relaxed);
        }
        // With traffic these are not written.
        if self.samples.load(Relaxed) < COMPARED_SAMPLES_MIN {
            self.samples.fetch_add(1, Relaxed);
        }
        if sample >= SLOW {
            self.slow_in_row.fetch_add(1, Relaxed);
        } else if self.slow_in_row.load(Relaxed) != 0 {
            self.slow_in_row.store(0, Relaxed);
        }
    }

    /// As it was last seen, in ns, where that was of late and is more than chance: what may be held against
    /// another's. What has faded may not: it says less each second, and not that it is fast.
    pub fn compared(&self, now_ns: u64) -> Option<f64> {
        let elapsed = Duration::from_nanos(now_ns.saturating_sub(self.at_ns.load(Relaxed)));
        let counts = elapsed <= COMPARED_MAX && self.samples.load(Relaxed) >= COMPARED_SAMPLES_MIN;
        counts.then(|| f64::from_bits(self.bits.load(Relaxed)))
    }

    /// Whether it was slow again and again: one slow answer is chance.
    pub fn is_slow_in_row(&self) -> bool {
        self.slow_in_row.load(Relaxed) >= COMPARED_SAMPLES_MIN
    }

    /// As [`Self::observe`], where that makes it no better.
    pub fn observe_worse(&self, sample: Duration, now_ns: u64) {
        if sample.as_nanos() as f64 > self.read(now_ns).now_ns {
            self.observe(sample, now_ns);
        }
    }

    pub fn forget(&self) {
        self.bits.store(0, Relaxed);
        self.samples.store(0, Relaxed);
        self.slow_in_row.store(0, Relaxed);
    }
}

/// What is left of a value that was seen `elapsed` ago, and falls to 1/e in `decay`.
pub fn faded(value: f64, elapsed: Duration, decay: Duration) -> f64 {
    if elapsed < FRESH { value } else { value * weight(elapsed, decay) }
}

fn weight(elapsed: Duration, decay: Duration) -> f64 {
    (-elapsed.as_secs_f64() / decay.as_secs_f64()).exp()
}

/// The latency after an observation of `sample_ns`, `elapsed` after the one before.
fn peak_ewma(latency_ns: f64, sample_ns: f64, elapsed: Duration) -> f64 {
    if sample_ns >= latency_ns {
        return sample_ns;
    }
    let weight = weight(elapsed, DECAY);
    latency_ns * weight + sample_ns * (1.0 - weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_peak_counts_at_once_and_fades_with_better_ones() {
        let peak = peak_ewma(1e6, 5e6, Duration::from_millis(1));
        assert_eq!(peak, 5e6);
        let soon = peak_ewma(peak, 1e6, Duration::from_millis(1));
        assert!(soon > 4.9e6);
        let later = peak_ewma(peak, 1e6, Duration::from_secs(60));
        assert!(later < 1.01e6);
    }

    #[test]
    fn it_fades_without_a_sample_too() {
        let latency = Latency::default();
        latency.observe(Duration::from_millis(80), SECOND);
        assert_eq!(latency.read(SECOND + 1).now_ns, 80e6);
        let later = latency.read(11 * SECOND);
        assert!(later.seen_ns == 80e6 && later.now_ns < 1e6, "{later:?}");
        latency.forget();
        assert_eq!(latency.read(11 * SECOND), Estimate::default());
    }

    #[test]
    fn what_has_faded_is_as_good_as_the_other_and_no_better() {
        let fresh = |ns| Estimate { seen_ns: ns, now_ns: ns };
        let stale = |ns| Estimate { seen_ns: ns, now_ns: ns / 100.0 };
        for (a, b, expected) in [
            (fresh(2.0), fresh(3.0), (2.0, 3.0)),
            (stale(80.0), fresh(1.0), (1.0, 1.0)),
            (stale(1.0), fresh(3.0), (1.0, 3.0)),
            (stale(800.0), fresh(1.0), (8.0, 1.0)),
            (Estimate::default(), fresh(3.0), (3.0, 3.0)),
            (Estimate::default(), Estimate::default(), (0.0, 0.0)),
        ] {
            assert_eq!(Estimate::of_two(a, b), expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn what_is_held_against_anothers_is_of_late_and_more_than_one_sample() {
        let latency = Latency::default();
        let slow = Duration::from_millis(300);
        for (second, compared) in [(1, None), (2, None), (3, Some(300e6))] {
            latency.observe(slow, second * SECOND);
            assert_eq!(latency.compared(second * SECOND), compared, "{second}");
        }
        assert!(latency.is_slow_in_row());
        assert_eq!(latency.compared(12 * SECOND), Some(300e6), "not faded");
        assert_eq!(latency.compared(14 * SECOND), None);
        latency.observe(slow, 20 * SECOND);
        assert_eq!((latency.compared(20 * SECOND), latency.is_slow_in_row()), (None, false));
        for _ in 0..3 {
            latency.observe(slow, 21 * SECOND);
        }
        latency.observe(Duration::from_millis(1), 21 * SECOND);
        assert!(!latency.is_slow_in_row());
    }

    #[test]
    fn a_failure_makes_no_latency_better() {
        let latency = Latency::default();
        latency.observe(Duration::from_millis(20), SECOND);
        latency.observe_worse(Duration::from_millis(1), SECOND + 1);
        assert_eq!(latency.read(SECOND + 1).now_ns, 20e6);
        latency.observe_worse(Duration::from_millis(30), SECOND + 2);
        assert_eq!(latency.read(SECOND + 2).now_ns, 30e6);
    }
}
