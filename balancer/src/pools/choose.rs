//! Which backend gets a request. Pure.
//!
//! Power of two choices: of two backends drawn at random, the one with the lower cost. The cost is
//! peak EWMA latency times the requests that are outstanding there and this one (Finagle's rule): a
//! backend that turns slow is left at the first slow answer and comes back only as time passes.
//!
//! Requests with a key go by it: rendezvous hashing, so that what it names is warm in one backend's
//! memory rather than in all, with a bound on what one backend may get.

use std::time::Duration;

use skep_base::random::Random;

/// How long a latency is remembered: after this, to 1/e.
const EWMA_DECAY: Duration = Duration::from_secs(5);
/// How long a backend that comes (back) gets less than its share.
pub const SLOW_START: Duration = Duration::from_secs(10);
/// The share that it starts with.
const SLOW_START_SHARE_MIN: f64 = 0.1;
/// Failures in a row that eject a backend.
pub const FAILURES_MAX: u32 = 5;
/// The first ejection's length; each further one doubles it.
const EJECTION: Duration = Duration::from_secs(2);
/// The longest ejection.
const EJECTION_MAX: Duration = Duration::from_secs(60);
/// A backend is slow where it takes this many times the median of the others...
const SLOW_FACTOR: f64 = 10.0;
/// ...and more than this.
const SLOW_NS_MIN: f64 = 100e6;

/// One backend as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    pub outstanding: u32,
    /// Peak EWMA of the latency, in ns; 0 while there is none.
    pub latency_ns: f64,
    /// How much of its share it may have: 1.0 past its slow start.
    pub share: f64,
    /// Not ejected, not full.
    pub available: bool,
    /// This request was there already.
    pub tried: bool,
}

impl Candidate {
    fn cost(&self) -> f64 {
        // 1 µs for a backend that has no latency yet: it is worth a try, but not everything.
        self.latency_ns.max(1e3) * (f64::from(self.outstanding) + 1.0)
    }
}

/// By key, a backend gets at most this many times the mean of what is outstanding, and one more.
const KEYED_LOAD_MAX: f64 = 1.25;

/// The index of the backend that `key` belongs to: of those that may have it, the one with the
/// highest score. A backend that comes or goes moves its own keys alone. `identity` must outlive a
/// backend's restart.
pub fn choose_by_key(
    count: usize,
    key: u64,
    identity: impl Fn(usize) -> u64,
    candidate: impl Fn(usize) -> Candidate,
) -> Option<usize> {
    let usable = || (0..count).map(|at| (at, candidate(at))).filter(|(_, it)| usable(it));
    let (number, outstanding) =
        usable().fold((0u32, 0u32), |(n, sum), (_, it)| (n + 1, sum.saturating_add(it.outstanding)));
    let most = f64::from(outstanding) / f64::from(number.max(1)) * KEYED_LOAD_MAX + 1.0;
    usable()
        .filter(|(_, it)| f64::from(it.outstanding) <= most)
        .max_by_key(|(at, _)| Random::new(key ^ identity(*at)).next_u64())
        .map(|(at, _)| at)
}

/// The index of the backend that gets the request, of `count`; `None` where none is available.
/// `leader` is preferred where it is given and available. One that was tried is taken only where
/// no other is available.
pub fn choose(
    count: usize,
    leader: Option<usize>,
    random: &mut Random,
    candidate: impl Fn(usize) -> Candidate,
) -> Option<usize> {
    if let Some(leader) = leader.filter(|leader| *leader < count) {
        let it = candidate(leader);
        if it.available && !it.tried {
            return Some(leader);
        }
    }
    // The common case: two draws and both will do.
    if count > 1 {
        let first = random.below(count);
        let second = (first + 1 + random.below(count - 1)) % count;
        let (a, b) = (candidate(first), candidate(second));
        if usable(&a) && usable(&b) {
            return Some(if better(&a, &b, random) { first } else { second });
        }
    }
    // Draw among those that are left: those not tried, else any.
    for only_fresh in [true, false] {
        let fits = |at: &usize| {
            let it = candidate(*at);
            it.available && !(only_fresh && it.tried)
        };
        let left = (0..count).filter(fits).count();
        if left == 0 {
            continue;
        }
        let nth = |n: usize| (0..count).filter(fits).nth(n);
        let first = random.below(left);
        if left == 1 {
            return nth(first);
        }
        let second = (first + 1 + random.below(left - 1)) % left;
        let (Some(first), Some(second)) = (nth(first), nth(second)) else { continue };
        let first_is_better = better(&candidate(first), &candidate(second), random);
        return Some(if first_is_better { first } else { second });
    }
    None
}

fn usable(it: &Candidate) -> bool {
    it.available && !it.tried
}

fn better(a: &Candidate, b: &Candidate, random: &mut Random) -> bool {
    // Slow start by chance, not by cost: whatever the load, a share of 0.1 is a tenth of the
    // usual traffic.
    match (a.share < 1.0, b.share < 1.0) {
        (true, false) if random.unit() >= a.share => return false,
        (false, true) if random.unit() >= b.share => return true,
        _ => {}
    }
    let (cost_a, cost_b) = (a.cost(), b.cost());
    if cost_a == cost_b { random.next_u64() & 1 == 0 } else { cost_a < cost_b }
}

/// The latency after an observation of `sample_ns`, `elapsed` after the one before: a peak counts
/// at once, what is better only by and by.
pub fn peak_ewma(latency_ns: f64, sample_ns: f64, elapsed: Duration) -> f64 {
    if sample_ns >= latency_ns {
        return sample_ns;
    }
    let weight = (-elapsed.as_secs_f64() / EWMA_DECAY.as_secs_f64()).exp();
    latency_ns * weight + sample_ns * (1.0 - weight)
}

/// The share of a backend that came (back) `since` ago.
pub fn slow_start(since: Duration) -> f64 {
    if since >= SLOW_START {
        return 1.0;
    }
    (since.as_secs_f64() / SLOW_START.as_secs_f64()).max(SLOW_START_SHARE_MIN)
}

/// Whether one more of `serving` backends may be ejected, where `ejected` are: never more than half.
pub fn may_eject(ejected: usize, serving: usize) -> bool {
    (ejected + 1) * 2 <= serving
}

/// How long the `nth` ejection in a row (from 1) lasts.
pub fn ejection_length(nth: u32) -> Duration {
    EJECTION.saturating_mul(1 << nth.saturating_sub(1).min(10)).min(EJECTION_MAX)
}

/// Whether a latency is far off those of the others.
pub fn is_slow(latency_ns: f64, others_ns: &mut [f64]) -> bool {
    if others_ns.is_empty() || latency_ns < SLOW_NS_MIN {
        return false;
    }
    others_ns.sort_by(f64::total_cmp);
    latency_ns > others_ns[others_ns.len() / 2].max(1e3) * SLOW_FACTOR
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Candidate =
        Candidate { outstanding: 0, latency_ns: 1e6, share: 1.0, available: true, tried: false };

    fn spread(candidates: &[Candidate], leader: Option<usize>) -> Vec<usize> {
        let mut random = Random::new(7);
        let mut counts = vec![0; candidates.len()];
        for _ in 0..10_000 {
            if let Some(at) = choose(candidates.len(), leader, &mut random, |at| candidates[at]) {
                counts[at] += 1;
            }
        }
        counts
    }

    #[test]
    fn equal_backends_share_alike() {
        for count in spread(&[IDLE; 4], None) {
            assert!((2300..2700).contains(&count), "{count}");
        }
    }

    #[test]
    fn the_most_loaded_of_three_gets_nothing() {
        let loaded = Candidate { outstanding: 9, ..IDLE };
        assert_eq!(spread(&[IDLE, loaded, IDLE], None)[1], 0);
    }

    #[test]
    fn writes_go_to_the_leader_while_it_is_available_and_not_tried() {
        assert_eq!(spread(&[IDLE; 3], Some(1)), [0, 10_000, 0]);
        let tried = Candidate { tried: true, ..IDLE };
        assert_eq!(spread(&[IDLE, tried, IDLE], Some(1))[1], 0);
        let full = Candidate { available: false, ..IDLE };
        assert_eq!(spread(&[IDLE, full, IDLE], Some(1))[1], 0);
        assert_eq!(spread(&[IDLE; 2], Some(7)).iter().sum::<usize>(), 10_000);
    }

    #[test]
    fn one_that_was_tried_is_taken_only_where_no_other_is_available() {
        let tried = Candidate { tried: true, ..IDLE };
        let full = Candidate { available: false, ..IDLE };
        assert_eq!(spread(&[tried, IDLE, full], None), [0, 10_000, 0]);
        assert_eq!(spread(&[tried, full], None), [10_000, 0]);
        assert_eq!(spread(&[full, full], None), [0, 0]);
        assert_eq!(spread(&[], None), [0; 0]);
    }

    #[test]
    fn a_digest_stays_with_its_backend_and_only_those_of_one_that_is_gone_move() {
        let all = |key: u64, gone: Option<usize>| {
            let candidate = |at| Candidate { available: Some(at) != gone, ..IDLE };
            choose_by_key(5, key, |at| at as u64 * 7919, candidate).unwrap()
        };
        let mut counts = [0; 5];
        for key in (0..5000u64).map(|n| Random::new(n).next_u64()) {
            let before = all(key, None);
            counts[before] += 1;
            let after = all(key, Some(2));
            assert!(if before == 2 { after != 2 } else { after == before });
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_digest_that_everybody_asks_for_does_not_load_one_backend_alone() {
        let mut outstanding = [0u32; 4];
        for _ in 0..100 {
            let candidate = |at: usize| Candidate { outstanding: outstanding[at], ..IDLE };
            let at = choose_by_key(4, 7, |at| at as u64, candidate).unwrap();
            outstanding[at] += 1;
        }
        assert!(outstanding.iter().all(|count| *count <= 34), "{outstanding:?}");
        assert_eq!(choose_by_key(0, 7, |_| 0, |_| IDLE), None);
    }

    #[test]
    fn a_backend_that_returns_gets_its_share_by_and_by() {
        let fresh = Candidate { share: slow_start(Duration::ZERO), latency_ns: 0.0, ..IDLE };
        let counts = spread(&[fresh, IDLE, IDLE], None);
        assert!((400..1000).contains(&counts[0]), "{counts:?}");
        assert_eq!(slow_start(SLOW_START), 1.0);
        assert!((0.49..0.51).contains(&slow_start(SLOW_START / 2)));
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let peak = peak_ewma(1e6, 5e6, Duration::from_millis(1));
        assert_eq!(peak, 5e6);
        let soon = peak_ewma(peak, 1e6, Duration::from_millis(1));
        assert!(soon > 4.9e6);
        let later = peak_ewma(peak, 1e6, Duration::from_secs(60));
        assert!(later < 1.01e6);
    }

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

    proptest! {
        #[test]
        fn what_is_chosen_is_available_and_fresh_where_one_is(
            candidates in proptest::collection::vec((any::<u8>(), any::<bool>(), any::<bool>(), 0.0f64..=1.0), 0..9),
            leader in proptest::option::of(0usize..9),
            seed in any::<u64>(),
        ) {
            let candidates: Vec<Candidate> = candidates.into_iter().map(|(load, available, tried, share)| {
                Candidate { outstanding: load.into(), latency_ns: 1e6, share, available, tried }
            }).collect();
            let chosen = choose(candidates.len(), leader, &mut Random::new(seed), |at| candidates[at]);
            match chosen {
                Some(at) => {
                    prop_assert!(candidates[at].available);
                    prop_assert!(!candidates[at].tried || !candidates.iter().any(|it| it.available && !it.tried));
                }
                None => prop_assert!(!candidates.iter().any(|it| it.available)),
            }
        }
    }
}
