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
    let chances = Chances::of(candidates.iter().map(|it| it.weight));
    let mut counts = vec![0; candidates.len()];
    for _ in 0..10_000 {
        if let Some(at) = choose(candidates.len(), &chances, leader, &mut random, |at| candidates[at]) {
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
    for (weights, expected) in [([1.0, 1.0, 0.5], 0.2), ([1.0, 1.0, 2.0], 0.5), ([1.0, 1.0, 0.1], 0.048)] {
        let (mut random, mut outstanding) = (Random::new(3), [0u32; 3]);
        let chances = Chances::of(weights.into_iter());
        for _ in 0..1000 {
            let candidate =
                |at: usize| Candidate { weight: weights[at], outstanding: outstanding[at], ..IDLE };
            let at = choose(3, &chances, None, &mut random, candidate).unwrap();
            outstanding[at] += 1;
        }
        let part = f64::from(outstanding[2]) / 1000.0;
        assert!((part - expected).abs() < 0.04, "{weights:?}: {outstanding:?}");
    }
}

/// How many of so many requests each gets, one at a time.
fn one_at_a_time(candidates: &[Candidate], seed: u64, requests: u32) -> Vec<u32> {
    let chances = Chances::of(candidates.iter().map(|it| it.weight));
    let (mut random, mut counts) = (Random::new(seed), vec![0; candidates.len()]);
    for _ in 0..requests {
        counts[choose(candidates.len(), &chances, None, &mut random, |at| candidates[at]).unwrap()] += 1;
    }
    counts
}

/// Whether so many of so many are that part, as far as chance has it.
fn is_part(count: u32, of: u32, part: f64) -> bool {
    let of = f64::from(of);
    (f64::from(count) - of * part).abs() <= 6.0 * (of * part * (1.0 - part)).sqrt() + 4.0
}

fn any_weight() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.01), Just(0.1), Just(1.0), Just(2.0), Just(100.0), 0.01..100.0]
}

fn any_latency() -> impl Strategy<Value = Estimate> {
    let known = (1e4..1e10, 0.0..=1.0).prop_map(|(ns, left)| Estimate { seen_ns: ns, now_ns: ns * left });
    prop_oneof![1 => Just(Estimate::default()), 6 => known]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn of_two_that_have_one_request_at_a_time_each_gets_its_weight_whatever_their_latencies(
        weights in [any_weight(), any_weight()],
        latencies in [any_latency(), any_latency()],
        seed: u64,
    ) {
        prop_assume!(weights[0] != weights[1]);
        let candidate = |at: usize| Candidate { weight: weights[at], latency: latencies[at], ..IDLE };
        let counts = one_at_a_time(&[candidate(0), candidate(1)], seed, 3000);
        prop_assert!(is_part(counts[0], 3000, weights[0] / (weights[0] + weights[1])), "{counts:?}");
    }

    #[test]
    fn among_up_to_ten_a_weight_is_so_many_times_what_another_gets(
        weight in any_weight(),
        latencies in proptest::collection::vec(any_latency(), 2..=10),
        seed: u64,
    ) {
        prop_assume!(weight != 1.0);
        let others = latencies.iter().map(|latency| Candidate { latency: *latency, ..IDLE });
        let mut candidates: Vec<Candidate> = others.collect();
        candidates[0].weight = weight;
        let all = weight + (candidates.len() - 1) as f64;
        let counts = one_at_a_time(&candidates, seed, 3000);
        prop_assert!(is_part(counts[0], 3000, weight / all), "{counts:?}");
        // Those that weigh alike share alike where they are as fast.
        candidates.iter_mut().for_each(|it| it.latency = IDLE.latency);
        let counts = one_at_a_time(&candidates, seed, 3000);
        for (at, it) in candidates.iter().enumerate() {
            prop_assert!(is_part(counts[at], 3000, it.weight / all), "{at}: {counts:?}");
        }
    }
}

#[test]
fn one_of_ten_that_weighs_a_hundred_has_a_hundred_times_what_another_has_in_flight() {
    for (in_flight, weight) in [(20, 100.0), (436, 100.0), (110, 2.0)] {
        let weights: [f64; 10] = std::array::from_fn(|at| if at == 3 { weight } else { 1.0 });
        let (chances, mut random) = (Chances::of(weights.into_iter()), Random::new(9));
        let (mut outstanding, mut held, mut begun) = ([0u32; 10], Vec::new(), [0u32; 10]);
        for _ in 0..40_000 {
            if held.len() == in_flight {
                let ended: usize = held.swap_remove(random.below(in_flight));
                outstanding[ended] -= 1;
            }
            let candidate =
                |at: usize| Candidate { weight: weights[at], outstanding: outstanding[at], ..IDLE };
            let at = choose(10, &chances, None, &mut random, candidate).unwrap();
            outstanding[at] += 1;
            begun[at] += 1;
            held.push(at);
        }
        let part = f64::from(begun[3]) / 40_000.0;
        assert!((part - weight / (weight + 9.0)).abs() < 0.02, "{in_flight} {weight}: {begun:?}");
    }
}

#[test]
fn a_weight_takes_no_write_from_the_leader_and_does_not_hide_what_costs_far_more() {
    let heavy = Candidate { weight: 100.0, ..IDLE };
    assert_eq!(spread(&[IDLE, heavy, heavy], Some(0)), [10_000, 0, 0]);
    for weight in [2.0, 100.0] {
        let busy = Candidate { weight, outstanding: 300, latency: lasting(1e10), ..IDLE };
        assert_eq!(spread(&[busy, IDLE], None), [0, 10_000], "{weight}");
    }
}

#[test]
fn where_most_are_full_a_weight_counts_among_the_rest() {
    let full = Candidate { has_room: false, ..IDLE };
    let weighing = |weight| Candidate { weight, ..IDLE };
    let counts = spread(&[full, weighing(4.0), full, full, weighing(1.0), full], None);
    assert!(counts[1].abs_diff(8000) < 250 && counts[4].abs_diff(2000) < 250, "{counts:?}");
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
            (any::<u8>(), any::<bool>(), any::<bool>(), any::<bool>(), 0.0f64..=1.0, any_weight()),
            0..9,
        ),
        leader in proptest::option::of(0usize..9),
        seed in any::<u64>(),
    ) {
        let candidates: Vec<Candidate> = candidates
            .into_iter()
            .map(|(load, has_room, ejected, tried, share, weight)| Candidate {
                outstanding: load.into(),
                has_room,
                ejected,
                tried,
                share,
                weight,
                ..IDLE
            })
            .collect();
        let chances = Chances::of(candidates.iter().map(|it| it.weight));
        let mut random = Random::new(seed);
        let chosen = choose(candidates.len(), &chances, leader, &mut random, |at| candidates[at]);
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
