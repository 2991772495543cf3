use super::*;

fn set(count: u64) -> BackendSet {
    let backend = |_| Known::well(Arc::new(Backend::new(([127, 0, 0, 1], 1).into(), None)));
    BackendSet::of((0..count).map(backend).collect(), [])
}

#[test]
fn failures_in_a_row_eject_a_backend_and_a_good_answer_breaks_the_row() {
    let set = set(3);
    let backend = &set.serving[0];
    for _ in 1..choose::FAILURES_MAX {
        assert!(!set.failed(backend));
    }
    backend.succeeded(Duration::from_millis(1), Instant::now());
    for _ in 1..choose::FAILURES_MAX {
        assert!(!set.failed(backend));
    }
    assert!(set.failed(backend));
    assert!(backend.is_ejected() && !backend.candidate(Instant::now(), 10, false).available);
    for _ in 0..20 {
        assert!(!set.failed(&set.serving[1]), "a second of three would be more than half");
    }
}

#[test]
fn what_is_ejected_unseen_or_a_last_resort_is_not_able() {
    let set = set(2);
    assert_eq!(set.able(), 2);
    for _ in 0..choose::FAILURES_MAX {
        set.failed(&set.serving[0]);
    }
    assert_eq!(set.able(), 1);
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
    for (backend, ms) in set.serving.iter().zip([2, 3, 900]) {
        backend.succeeded(Duration::from_millis(ms), Instant::now());
    }
    set.eject_slow();
    let ejected: Vec<bool> = set.serving.iter().map(|it| it.is_ejected()).collect();
    assert_eq!(ejected, [false, false, true]);
}

#[test]
fn a_request_in_flight_is_counted_until_it_is_dropped() {
    let set = set(1);
    let backend = &set.serving[0];
    let in_flight = InFlight::begin(backend.clone());
    assert!(!backend.candidate(Instant::now(), 1, false).available);
    drop(in_flight);
    assert!(backend.candidate(Instant::now(), 1, false).available);
}
