//! Who is asked, who is left, and when nobody is waited for any more.

use skep_gateway::exchange::debts::PLACES;
use tokio::sync::oneshot;

use super::*;
use crate::core::routes::Routes;
use crate::core::shared::Shared;

const ME: u64 = 1;

fn begin(now: Instant) -> (Settling, oneshot::Receiver<()>) {
    let (done, told) = oneshot::channel();
    let parts = Routes::closed(Shared::default().pools.skep().clone()).parts().clone();
    (Settling::begin(Settle { parts, done }, now), told)
}

fn other(id: u64, is_other_version: bool, generation: u64) -> Other {
    let address = ([127, 0, 0, 1], 1000 + id as u16).into();
    Other { id, address, turn: (is_other_version, generation) }
}

/// Whom it asks now, and by which number.
fn asked(settling: &mut Settling, others: &[Other], now: Instant) -> Vec<(u64, u64)> {
    let asks = settling.turn(ME, others.to_vec(), !others.is_empty(), now).unwrap();
    let check = |(address, ask): (SocketAddr, Frame)| {
        assert_eq!((ask.from, u64::from(address.port())), (ME, 1000 + ask.to));
        (ask.to, ask.number)
    };
    asks.into_iter().map(check).collect()
}

#[test]
fn one_of_this_version_that_has_run_longest_is_asked_first_and_the_next_where_it_says_nothing() {
    let mut now = Instant::now();
    let (mut settling, _told) = begin(now);
    let others = [other(2, true, 1), other(3, false, 7), other(4, false, 5)];
    for wanted in [4, 3, 2, 4] {
        let asks = asked(&mut settling, &others, now);
        assert_eq!((asks.len(), asks[0].0), (1, wanted));
        assert!(settling.asks(wanted) && !settling.asks(9));
        now += Duration::from_millis(250);
    }
    assert!(settling.turn(ME, others.to_vec(), true, now).is_none(), "it has waited long enough");
}

#[test]
fn one_that_has_just_started_is_left_and_once_all_have_nobody_is_waited_for() {
    let now = Instant::now();
    let (mut settling, mut told) = begin(now);
    let others = [other(2, false, 1), other(3, false, 7)];
    for wanted in [2, 3] {
        let (id, number) = asked(&mut settling, &others, now)[0];
        assert_eq!(id, wanted);
        settling.hear_nothing(id, number + 1);
        settling.hear_nothing(9, number);
        assert!(settling.asks(id), "that was said by nobody who knows the number");
        settling.hear_nothing(id, number);
    }
    assert_eq!(asked(&mut settling, &others, now), [], "gossip may show another yet");
    assert!(settling.turn(ME, others.to_vec(), true, now + NOBODY_MAX).is_none());
    settling.end();
    assert_eq!(told.try_recv(), Ok(()));
}

#[test]
fn where_gossip_shows_nobody_at_all_it_is_waited_for_longer_than_where_it_shows_no_balancer() {
    let now = Instant::now();
    let (mut settling, _told) = begin(now);
    let late = now + ASKED_MAX - Duration::from_millis(1);
    assert!(settling.turn(ME, vec![], false, late).is_some());
    assert!(settling.turn(ME, vec![], false, now + ASKED_MAX).is_none());
    let (mut settling, _told) = begin(now);
    assert!(settling.turn(ME, vec![], true, now).is_some());
    assert!(settling.turn(ME, vec![], true, now + NOBODY_MAX).is_none());
    let (mut settling, told) = begin(now);
    drop(told);
    assert!(settling.turn(ME, vec![other(2, false, 1)], true, now).is_none(), "nobody waits for it");
}

#[test]
fn all_pages_of_one_are_enough_and_one_that_goes_away_is_begun_anew_at_another() {
    let now = Instant::now();
    let (mut settling, _told) = begin(now);
    let others = [other(2, false, 1), other(3, false, 7)];
    let (_, number) = asked(&mut settling, &others, now)[0];
    assert!(!settling.hear((3, number), (0, 1), now) && !settling.hear((2, number + 1), (0, 1), now));
    assert!(settling.hear((2, number), (0, 1), now));
    let left = &others[1..];
    let asks = asked(&mut settling, left, now);
    assert_eq!((asks.len(), asks[0].0), (1, 3));
    assert_ne!(asks[0].1, number);
    assert!(!settling.hear((2, number), (1, 2), now), "what was on its way says nothing");
    // All that are asked for, until nothing is.
    let mut pages = 0;
    let mut asks = settling.turn(ME, left.to_vec(), true, now + Duration::from_millis(60));
    while let Some(now_asked) = asks {
        for (_, Frame { number, body, .. }) in now_asked {
            let Body::Ask { place, until } = body else { panic!("{body:?}") };
            pages += u32::from(settling.hear((3, number), (place, until.min(place + 1000)), now));
        }
        asks = settling.turn(ME, left.to_vec(), true, now);
    }
    assert!(pages >= PLACES / 1000, "{pages}");
}
