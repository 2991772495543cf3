use skep_base::random::Random;

use super::*;

fn set(count: u64) -> BackendSet {
    let backend = |_| Known::well(Arc::new(Backend::new(([127, 0, 0, 1], 1).into(), None)));
    BackendSet::of((0..count).map(backend).collect(), [])
}

fn good(kind: Kind, ms: u64) -> Sample {
    Sample { kind, good: true, latency: Some(Duration::from_millis(ms)) }
}

fn ejected(set: &BackendSet) -> Vec<bool> {
    set.serving.iter().map(|it| it.is_ejected()).collect()
}

fn candidate(backend: &Backend, in_flight_max: u32) -> Candidate {
    backend.candidate(Instant::now(), Kind::Safe, false, in_flight_max, false)
}

#[test]
fn failures_in_a_row_eject_a_backend_and_a_good_answer_breaks_the_row() {
    let set = set(3);
    let backend = &set.serving[0];
    for _ in 1..outlier::FAILURES_MAX {
        assert!(!set.failed(backend, false, Instant::now()));
    }
    backend.began(good(Kind::Safe, 1), Instant::now());
    for _ in 1..outlier::FAILURES_MAX {
        assert!(!set.failed(backend, true, Instant::now()));
    }
    // An answer that is neither good nor counts breaks no row.
    backend.began(Sample { good: false, ..good(Kind::Safe, 1) }, Instant::now());
    assert!(set.failed(backend, true, Instant::now()));
    assert!(backend.is_ejected() && candidate(backend, 10).ejected);
    for _ in 0..20 {
        assert!(
            !set.failed(&set.serving[1], false, Instant::now()),
            "a second of three would be more than half"
        );
    }
}

#[test]
fn what_is_ejected_unseen_or_a_last_resort_is_not_able() {
    let set = set(2);
    assert_eq!(set.able(), 2);
    for _ in 0..outlier::FAILURES_MAX {
        set.failed(&set.serving[0], false, Instant::now());
    }
    assert_eq!(set.able(), 1);
    let alone = BackendSet::of(vec![set.known[0].clone()], []);
    assert!(alone.serving[0].is_ejected());
    assert_eq!(alone.able(), 1, "where all are ejected, they are chosen");
    for health in [Health::Unknown, Health::Refused, Health::Silent] {
        let known = set.known.iter().map(|it| Known { health, ..it.clone() }).collect();
        let next = BackendSet::of(known, []);
        assert_eq!((next.able(), next.serving.len()), (0, 2), "{health:?}");
        assert_eq!(next.last_resort, health != Health::Unknown);
        assert!(next.gone.is_empty());
    }
}

#[test]
fn who_refuses_a_probe_finishes_what_it_has_and_who_is_silent_is_gone() {
    let backends = set(2).serving;
    for (health, gone) in [(Health::Refused, false), (Health::Silent, true)] {
        let other = Known { health, is_leader: true, ..Known::well(backends[1].clone()) };
        let set = BackendSet::of(vec![Known::well(backends[0].clone()), other], [99]);
        assert_eq!((set.serving.len(), set.leader), (1, None));
        assert_eq!(set.gone.contains(&backends[1].serial), gone);
        assert!(set.gone.contains(&99));
    }
}

#[test]
fn a_far_slower_backend_is_ejected() {
    let set = set(3);
    for expected in [[false; 3], [false; 3], [false, false, true]] {
        for (backend, ms) in set.serving.iter().zip([2, 3, 900]) {
            backend.began(good(Kind::Safe, ms), Instant::now());
        }
        set.eject_outliers(&mut Rates::default(), Instant::now());
        assert_eq!(ejected(&set), expected, "one slow answer is chance");
    }
}

#[test]
fn a_backend_among_equals_is_not_slow_because_what_is_known_of_the_others_has_faded() {
    let (set, mut rates, begun) = (set(2), Rates::default(), Instant::now());
    // A request every so many seconds, to the one and the other in turn.
    for (pause, requests) in [(10, 20), (3, 40)] {
        for at in 0..requests {
            let now = begun + Duration::from_secs(at * pause);
            set.serving[at as usize % 2].began(good(Kind::Safe, 300), now);
            for second in 0..pause {
                set.eject_outliers(&mut rates, now + Duration::from_secs(second));
            }
            let stats = |it: &Arc<Backend>| it.stats.ejections.load(Relaxed);
            assert_eq!(set.serving.iter().map(stats).sum::<u64>(), 0, "the {at}th, one every {pause} s");
        }
    }
}

#[test]
fn a_leader_is_not_slow_beside_one_that_wrote_something_a_while_ago() {
    let (set, begun) = (set(3), Instant::now());
    for _ in 0..5 {
        set.serving[0].began(good(Kind::Unsafe, 100), begun);
    }
    for second in 25..40 {
        let now = begun + Duration::from_secs(second);
        set.serving[2].began(good(Kind::Unsafe, 150), now);
        set.eject_outliers(&mut Rates::default(), now);
    }
    assert!(set.serving.iter().all(|it| it.stats.ejections.load(Relaxed) == 0));
}

#[test]
fn a_leader_that_writes_is_not_slow_beside_followers_that_read() {
    let set = set(3);
    for _ in 0..5 {
        for (backend, kind, ms) in
            [(0, Kind::Safe, 2), (1, Kind::Safe, 2), (2, Kind::Safe, 2), (2, Kind::Unsafe, 900)]
        {
            set.serving[backend].began(good(kind, ms), Instant::now());
        }
    }
    set.eject_outliers(&mut Rates::default(), Instant::now());
    assert_eq!(ejected(&set), [false; 3]);
}

#[test]
fn a_backend_with_one_good_answer_of_five_is_ejected_by_its_rate() {
    let (set, mut rates) = (set(3), Rates::default());
    set.eject_outliers(&mut rates, Instant::now());
    for _ in 0..20 {
        for (at, backend) in set.serving.iter().enumerate() {
            backend.answered(200);
            backend.began(good(Kind::Safe, 1), Instant::now());
            for _ in 0..4 {
                let status = if at == 1 { 503 } else { 200 };
                backend.answered(status);
                backend.began(Sample { good: status == 200, ..good(Kind::Safe, 1) }, Instant::now());
                if status == 503 {
                    assert!(!set.failed(backend, true, Instant::now()), "not in a row");
                }
            }
        }
    }
    assert!(set.serving[1].share() < set.serving[0].share());
    set.eject_outliers(&mut rates, Instant::now());
    assert_eq!(ejected(&set), [false, true, false]);
}

/// The share of one that answers 500 at once, beside one that answers 200 after 20 ms, at so many requests a second.
fn share_of_what_fails(per_second: u64, ejects: bool) -> f64 {
    let (set, mut rates, mut random) = (set(2), Rates::default(), Random::new(per_second));
    let (begun, requests) = (Instant::now() + choose::SLOW_START, 200 * per_second);
    let mut failed = 0;
    for at in 0..requests {
        let now = begun + Duration::from_millis(at * 1000 / per_second);
        let candidate = |at: usize| set.serving[at].candidate(now, Kind::Safe, false, 100, false);
        let at = choose::choose(2, &Chances::default(), None, &mut random, candidate).unwrap();
        let (good, ms) = if at == 0 { (false, 1) } else { (true, 20) };
        set.serving[at].answered(if good { 200 } else { 500 });
        let latency = Some(Duration::from_millis(ms));
        set.serving[at].began(Sample { kind: Kind::Safe, good, latency }, now);
        if !good {
            failed += 1;
            if ejects {
                set.failed(&set.serving[0], true, now);
                set.eject_outliers(&mut rates, now);
            }
        }
    }
    failed as f64 / requests as f64
}

#[test]
fn what_fails_at_once_gets_little_also_where_requests_are_few() {
    for per_second in [1, 2, 20] {
        for ejects in [false, true] {
            let share = share_of_what_fails(per_second, ejects);
            assert!(share < 0.2, "{share} at {per_second} a second, ejected: {ejects}");
        }
    }
}

#[test]
fn who_declines_or_breaks_off_gets_less_and_is_not_ejected() {
    let (set, now) = (set(3), Instant::now());
    set.serving[0].declined(now);
    set.serving[1].began(good(Kind::Safe, 1), now);
    set.serving[1].broke(now);
    let age = set.serving[0].age_at_ns(now + choose::SLOW_START * 2);
    let shares: Vec<bool> = set.serving.iter().map(|it| it.share_at(age) > 0.9).collect();
    assert_eq!(shares, [false, false, true]);
    (0..100).for_each(|_| set.serving[0].declined(now));
    assert_eq!(ejected(&set), [false; 3]);
}

#[test]
fn a_request_in_flight_is_counted_until_it_is_dropped() {
    let set = set(1);
    let backend = &set.serving[0];
    let in_flight = InFlight::begin(backend.clone(), Kind::Safe, false);
    assert!(!candidate(backend, 1).has_room);
    drop(in_flight);
    assert!(candidate(backend, 1).has_room);
}

#[test]
fn what_waits_is_no_load_and_takes_no_room_of_what_works() {
    let set = set(1);
    let backend = &set.serving[0];
    let waiting = |kind| backend.candidate(Instant::now(), kind, true, 2, false);
    let (claims, readers) = (|| waiting(Kind::Unsafe), || waiting(Kind::Safe));
    let begun = [(); 2].map(|()| InFlight::begin(backend.clone(), Kind::Unsafe, true));
    assert_eq!((candidate(backend, 1).outstanding, candidate(backend, 1).has_room), (0, true));
    assert_eq!((claims().outstanding, claims().has_room), (2, false));
    assert_eq!(
        (readers().outstanding, readers().has_room),
        (0, true),
        "who reads takes no room of who claims"
    );
    drop(begun);
    let working = InFlight::begin(backend.clone(), Kind::Unsafe, false);
    assert_eq!((claims().outstanding, claims().has_room), (0, true));
    drop(working);
}
