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
