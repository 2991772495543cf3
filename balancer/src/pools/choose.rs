//! Which backend gets a request. Pure.
//!
//! Power of two choices: of two backends drawn at random, the one with the lower cost. The cost is
//! peak EWMA latency times the requests that are outstanding there and this one (Finagle's rule): a
//! backend that turns slow is left at the first slow answer. It comes back as that fades, and because a
//! small share of the picks looks at the load alone: one that is never asked can show nothing better.
//! Latencies that differ little are chance, and count as equal.
//!
//! An operator's weight scales what is outstanding. Where little is, chance goes by it as well, for then no load
//! would show.
//!
//! What changes something goes to the leader, where the other that is drawn does not cost far less.
//!
//! Requests with a key go by it: rendezvous hashing, so that what it names is warm in one backend's
//! memory rather than in all, with a bound on what one backend may get.

use std::time::Duration;

use skep_base::random::Random;

use crate::pools::latency::Estimate;
use crate::pools::orders;

/// How long a backend that comes (back) gets less than its share.
pub const SLOW_START: Duration = Duration::from_secs(10);
/// The share that it starts with.
const SLOW_START_SHARE_MIN: f64 = 0.1;
/// One of so many picks looks at the load alone.
const LOOKS: u64 = 64;
/// Latencies below this are no worse than each other: a scheduler's whim is as long.
const ALIKE_NS: f64 = 0.5e6;
/// One latency is worse than another from this many times that.
const ALIKE_FACTOR: f64 = 2.0;
/// The leader gets what writes up to this many times the cost of another: that would hand it on to the
/// leader anyway.
const LEADER_FACTOR: f64 = 4.0;

/// One backend as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    pub outstanding: u32,
    /// Of requests of this kind.
    pub latency: Estimate,
    /// How much of its usual share it may have: 1.0 past its slow start, where it does not fail.
    pub share: f64,
    /// How many times the load of another an operator would have it have.
    pub weight: f64,
    /// It may have one more request in flight.
    pub has_room: bool,
    pub ejected: bool,
    /// This request was there already.
    pub tried: bool,
}

impl Candidate {
    fn is_available(&self) -> bool {
        self.has_room && !self.ejected
    }

    /// With a latency of `latency_ns`.
    fn cost(&self, latency_ns: f64) -> f64 {
        latency_ns * (f64::from(self.outstanding) / self.weight + 1.0)
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
    let (weights, outstanding) =
        usable().fold((0.0, 0u32), |(n, sum), (_, it)| (n + it.weight, sum.saturating_add(it.outstanding)));
    let most = f64::from(outstanding) / f64::max(weights, orders::WEIGHT_MIN) * KEYED_LOAD_MAX + 1.0;
    usable()
        .filter(|(_, it)| f64::from(it.outstanding) <= most * it.weight)
        // Weighted: a share of a tenth keeps a tenth of its keys, and no other backend's move.
        .map(|(at, it)| (at, it.share * it.weight / -Random::new(key ^ identity(at)).unit().ln()))
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(at, _)| at)
}

/// The index of the backend that gets the request, of `count`; `None` where none is available.
/// `leader` is preferred where it is given. One that was tried is taken only where no other is
/// available; one that is ejected only where all are.
pub fn choose(
    count: usize,
    leader: Option<usize>,
    random: &mut Random,
    candidate: impl Fn(usize) -> Candidate,
) -> Option<usize> {
    // The common case: two draws and both will do. The leader is one of them, where it is asked for.
    if count > 1 {
        let first = leader.filter(|leader| *leader < count).unwrap_or_else(|| random.below(count));
        let second = (first + 1 + random.below(count - 1)) % count;
        let (a, b) = (candidate(first), candidate(second));
        if usable(&a) && usable(&b) {
            let factor = if leader == Some(first) { LEADER_FACTOR } else { 1.0 };
            return Some(if better(&a, &b, factor, random) { first } else { second });
        }
        if leader == Some(first) && usable(&a) {
            return leader;
        }
    }
    // Draw among those that are left: those not tried, else any, else those that are ejected.
    let all_ejected = (0..count).all(|at| candidate(at).ejected);
    for only_fresh in [true, false] {
        let fits = |at: &usize| {
            let it = candidate(*at);
            it.has_room && (all_ejected || !it.ejected) && !(only_fresh && it.tried)
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
        let first_is_better = better(&candidate(first), &candidate(second), 1.0, random);
        return Some(if first_is_better { first } else { second });
    }
    None
}

fn usable(it: &Candidate) -> bool {
    it.is_available() && !it.tried
}

/// Whether `a` gets it, which may cost `factor` times as much as `b`.
fn better(a: &Candidate, b: &Candidate, factor: f64, random: &mut Random) -> bool {
    // The share by chance, not by cost: whatever the load, a share of 0.1 is a tenth of the usual
    // traffic.
    if a.share != b.share && random.unit() * a.share.max(b.share) >= a.share.min(b.share) {
        return a.share > b.share;
    }
    // Of two the heavier gets it outright as often as leaves the rest, shared alike, what is the lighter's.
    if a.weight != b.weight {
        let (lighter, heavier) = (a.weight.min(b.weight), a.weight.max(b.weight));
        if random.unit() * (heavier + lighter) < heavier - lighter {
            return a.weight > b.weight;
        }
    }
    let (mut latency_a, mut latency_b) = Estimate::of_two(a.latency, b.latency);
    (latency_a, latency_b) = (latency_a.max(ALIKE_NS), latency_b.max(ALIKE_NS));
    let alike = latency_a <= latency_b * ALIKE_FACTOR && latency_b <= latency_a * ALIKE_FACTOR;
    if alike || random.next_u64().is_multiple_of(LOOKS) {
        (latency_a, latency_b) = (1.0, 1.0);
    }
    let (cost_a, cost_b) = (a.cost(latency_a), b.cost(latency_b) * factor);
    if cost_a == cost_b { random.next_u64() & 1 == 0 } else { cost_a < cost_b }
}

/// The share of a backend that came (back) `since` ago.
pub fn slow_start(since: Duration) -> f64 {
    if since >= SLOW_START {
        return 1.0;
    }
    (since.as_secs_f64() / SLOW_START.as_secs_f64()).max(SLOW_START_SHARE_MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Candidate = Candidate {
        outstanding: 0,
        latency: lasting(1e6),
        share: 1.0,
        weight: orders::WEIGHT,
        has_room: true,
        ejected: false,
        tried: false,
    };

    const fn lasting(ns: f64) -> Estimate {
        Estimate { seen_ns: ns, now_ns: ns }
    }

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
        assert_eq!(spread(&[IDLE], Some(0)), [10_000]);
        let tried = Candidate { tried: true, ..IDLE };
        assert_eq!(spread(&[IDLE, tried, IDLE], Some(1))[1], 0);
        let full = Candidate { has_room: false, ..IDLE };
        assert_eq!(spread(&[IDLE, full, IDLE], Some(1))[1], 0);
        assert_eq!(spread(&[full, IDLE, full], Some(1)), [0, 10_000, 0]);
        assert_eq!(spread(&[IDLE; 2], Some(7)).iter().sum::<usize>(), 10_000);
    }

    #[test]
    fn a_leader_that_costs_far_more_is_relieved() {
        let busy = |outstanding| Candidate { outstanding, ..IDLE };
        assert_eq!(spread(&[IDLE, busy(2), IDLE], Some(1))[1], 10_000);
        assert_eq!(spread(&[IDLE, busy(4), IDLE], Some(1))[1], 0);
        let slow = Candidate { latency: lasting(9e6), ..IDLE };
        assert!(spread(&[IDLE, slow, IDLE], Some(1))[1] < 400);
        // Nobody knows of another that it would be faster.
        let unknown = Candidate { latency: Estimate::default(), ..IDLE };
        assert_eq!(spread(&[unknown, slow], Some(1)), [0, 10_000]);
    }

    #[test]
    fn a_weight_is_a_part_of_what_idle_backends_get() {
        let weighing = |weight| Candidate { weight, ..IDLE };
        for (weights, expected) in
            [([1.0, 1.0], 0.5), ([1.0, 0.1], 0.091), ([2.0, 1.0], 0.333), ([1.0, 100.0], 0.99)]
        {
            let counts = spread(&weights.map(weighing), None);
            let part = counts[1] as f64 / 10_000.0;
            assert!((part - expected).abs() < 0.03, "{weights:?}: {part}");
        }
    }

    #[test]
    fn under_load_a_weight_is_a_part_of_what_is_in_flight() {
        for (weights, expected) in [([1.0, 1.0, 0.5], 0.2), ([1.0, 1.0, 2.0], 0.5), ([1.0, 1.0, 0.1], 0.048)]
        {
            let (mut random, mut outstanding) = (Random::new(3), [0u32; 3]);
            for _ in 0..1000 {
                let candidate =
                    |at: usize| Candidate { weight: weights[at], outstanding: outstanding[at], ..IDLE };
                let at = choose(3, None, &mut random, candidate).unwrap();
                outstanding[at] += 1;
            }
            let part = f64::from(outstanding[2]) / 1000.0;
            assert!((part - expected).abs() < 0.04, "{weights:?}: {outstanding:?}");
        }
    }

    #[test]
    fn a_weight_is_a_part_of_the_keys() {
        let candidate = |at: usize| Candidate { weight: if at == 0 { 0.25 } else { 1.0 }, ..IDLE };
        let firsts = (0..10_000).filter(|key| choose_by_key(2, *key, |at| at as u64, candidate) == Some(0));
        let part = firsts.count() as f64 / 10_000.0;
        assert!((part - 0.2).abs() < 0.03, "{part}");
    }

    #[test]
    fn latencies_that_differ_little_are_chance() {
        let slower = Candidate { latency: lasting(1.9e6), ..IDLE };
        let counts = spread(&[IDLE, slower, IDLE], None);
        assert!((3000..3700).contains(&counts[1]), "{counts:?}");
        let loaded = Candidate { outstanding: 1, ..IDLE };
        assert_eq!(spread(&[slower, loaded], None), [10_000, 0]);
    }

    #[test]
    fn a_slow_backend_is_looked_at_now_and_then_and_is_back_once_that_has_faded() {
        let slow = Candidate { latency: lasting(80e6), ..IDLE };
        let counts = spread(&[IDLE, slow, IDLE], None);
        assert!((20..150).contains(&counts[1]), "{counts:?}");
        let faded = Candidate { latency: Estimate { seen_ns: 80e6, now_ns: 0.5e6 }, ..IDLE };
        let counts = spread(&[IDLE, faded, IDLE], None);
        assert!((3000..3700).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn what_fails_gets_its_small_share_however_fast_it_is_and_however_busy_the_others_are() {
        let fails = Candidate { share: 0.05, latency: lasting(1e5), ..IDLE };
        let busy = Candidate { outstanding: 500, latency: lasting(20e6), ..IDLE };
        let counts = spread(&[fails, busy], None);
        assert!((350..650).contains(&counts[0]), "{counts:?}");
        // Where all fail alike, none is spared.
        let all = Candidate { share: 0.05, ..IDLE };
        assert!(spread(&[all; 2], None)[0] > 4500);
    }

    #[test]
    fn what_is_ejected_gets_something_only_where_all_are() {
        let ejected = Candidate { ejected: true, ..IDLE };
        let full = Candidate { has_room: false, ..IDLE };
        assert_eq!(spread(&[ejected, IDLE, IDLE], Some(0))[0], 0);
        assert_eq!(spread(&[ejected, full], None), [0, 0], "it is waited for the other");
        assert!(spread(&[ejected; 2], None)[0] > 4500);
    }

    #[test]
    fn one_that_was_tried_is_taken_only_where_no_other_is_available() {
        let tried = Candidate { tried: true, ..IDLE };
        let full = Candidate { has_room: false, ..IDLE };
        assert_eq!(spread(&[tried, IDLE, full], None), [0, 10_000, 0]);
        assert_eq!(spread(&[tried, full], None), [10_000, 0]);
        assert_eq!(spread(&[full, full], None), [0, 0]);
        assert_eq!(spread(&[], None), [0; 0]);
    }

    #[test]
    fn a_digest_stays_with_its_backend_and_only_those_of_one_that_is_gone_move() {
        let all = |key: u64, gone: Option<usize>| {
            let candidate = |at| Candidate { has_room: Some(at) != gone, ..IDLE };
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
    fn a_backend_with_a_small_share_keeps_as_many_of_its_keys_and_no_others_move() {
        let all = |key: u64, share: f64| {
            let candidate = |at| Candidate { share: if at == 2 { share } else { 1.0 }, ..IDLE };
            choose_by_key(4, key, |at| at as u64 * 7919, candidate).unwrap()
        };
        let mut kept = 0;
        for key in (0..8000u64).map(|n| Random::new(n).next_u64()) {
            let (before, after) = (all(key, 1.0), all(key, 0.1));
            assert!(before == 2 || after == before);
            kept += u32::from(after == 2);
        }
        assert!((150..350).contains(&kept), "{kept} of 2000");
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
        let fresh = Candidate { share: slow_start(Duration::ZERO), latency: Estimate::default(), ..IDLE };
        let counts = spread(&[fresh, IDLE, IDLE], None);
        assert!((250..450).contains(&counts[0]), "{counts:?}");
        assert_eq!(slow_start(SLOW_START), 1.0);
        assert!((0.49..0.51).contains(&slow_start(SLOW_START / 2)));
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_available_and_fresh_where_one_is(
            candidates in proptest::collection::vec(
                (any::<u8>(), any::<bool>(), any::<bool>(), any::<bool>(), 0.0f64..=1.0),
                0..9,
            ),
            leader in proptest::option::of(0usize..9),
            seed in any::<u64>(),
        ) {
            let candidates: Vec<Candidate> = candidates
                .into_iter()
                .map(|(load, has_room, ejected, tried, share)| Candidate {
                    outstanding: load.into(),
                    has_room,
                    ejected,
                    tried,
                    share,
                    ..IDLE
                })
                .collect();
            let chosen = choose(candidates.len(), leader, &mut Random::new(seed), |at| candidates[at]);
            let all_ejected = candidates.iter().all(|it| it.ejected);
            let may = |it: &Candidate| it.has_room && (all_ejected || !it.ejected);
            match chosen {
                Some(at) => {
                    prop_assert!(may(&candidates[at]));
                    prop_assert!(!candidates[at].tried || !candidates.iter().any(|it| may(it) && !it.tried));
                }
                None => prop_assert!(!candidates.iter().any(may)),
            }
        }
    }
}
