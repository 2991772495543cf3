//! At what pace strangers come in.

use super::*;

#[test]
fn strangers_come_in_at_a_pace_once_as_many_have_come_as_there_are_places() {
    let begun = Instant::now();
    let mut pace = Pace::new(begun);
    let mut come = |since: Duration| (0..1000).filter(|_| pace.takes(begun + since)).count();
    assert_eq!(come(Duration::ZERO), CONNECTIONS_MAX);
    // Parts of an interval add up, however often anyone comes.
    let let_in: usize = (1..=1000).map(|at| come(Duration::from_millis(at))).sum();
    assert_eq!(let_in, 50);
    assert_eq!(come(Duration::from_secs(3600)), CONNECTIONS_MAX);
}

#[test]
fn a_stranger_that_comes_and_goes_is_let_in_at_that_pace_and_a_peer_whenever_it_comes() {
    let [peer, stranger] = [[127, 0, 0, 3], [127, 0, 0, 2]].map(IpAddr::from);
    let seat = Seat {
        interface: "lo".into(),
        vrid: 1,
        family: crate::socket::Family::V4,
        peers: vec![(peer, 7402).into()],
    };
    let begun = Instant::now();
    let mut places = Places::of_others().with_peers([&seat].into_iter());
    let let_in = (0..1000).filter(|_| places.of(stranger).is_some()).count();
    let more = begun.elapsed().as_millis() / STRANGER_INTERVAL.as_millis();
    assert!((CONNECTIONS_MAX..=CONNECTIONS_MAX + more as usize).contains(&let_in), "{let_in}, {more}");
    assert!((0..1000).all(|_| places.of(peer).is_some()));
}
