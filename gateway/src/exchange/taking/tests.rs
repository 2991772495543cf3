//! Pages that are lost, late and twice.

use std::collections::BTreeMap;

use super::*;

/// What is owed at each place goes into a page of so many places.
fn page((place, until): (u32, u32), width: u32) -> (u32, u32) {
    (place, until.min(place + width))
}

#[test]
fn every_place_is_heard_of_once_whatever_becomes_of_datagrams() {
    let mut random = 1u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut now = Instant::now();
    let mut taking = Taking::begin(9, now);
    let mut heard: BTreeMap<u32, u32> = BTreeMap::new();
    let mut on_the_way: Vec<(u32, u32)> = Vec::new();
    let mut rounds = 0;
    while !taking.is_over() {
        rounds += 1;
        assert!(rounds < 1_000_000);
        now += Duration::from_millis(1 + draw(40));
        for ask in taking.asks(now) {
            // Some asks are lost, some are answered twice.
            on_the_way.extend((0..draw(3)).map(|_| page(ask, 1 + draw(300) as u32)));
        }
        for _ in 0..draw(8) {
            if on_the_way.is_empty() {
                break;
            }
            let at = draw(on_the_way.len() as u64) as usize;
            let (place, next) = if draw(4) == 0 { on_the_way[at] } else { on_the_way.swap_remove(at) };
            if taking.hear((place, next), now) {
                assert_eq!(heard.insert(place, next), None);
            }
        }
    }
    let mut at = 0;
    for (place, next) in heard {
        assert_eq!(place, at);
        at = next;
    }
    assert_eq!(at, PLACES);
    assert!(taking.asks(now + AGAIN).is_empty());
}

#[test]
fn who_has_said_nothing_is_asked_for_one_page_and_again_after_a_while_and_left_at_last() {
    let now = Instant::now();
    let mut taking = Taking::begin(9, now);
    assert_eq!(taking.asks(now), [(0, 3072)]);
    assert_eq!(taking.asks(now + AGAIN - Duration::from_millis(1)), []);
    assert_eq!(taking.asks(now + AGAIN), [(0, 3072)]);
    assert!(!taking.is_silent(now + SILENT - Duration::from_millis(1)) && taking.is_silent(now + SILENT));
    assert!(!taking.hear((3072, 3073), now), "that was not asked for");
    for bad in [(0, 0), (0, 3073), (1, 2)] {
        assert!(!taking.hear(bad, now), "{bad:?}");
    }
    assert!(taking.hear((0, 7), now + SILENT));
    assert!(!taking.hear((0, 7), now + SILENT), "it comes twice");
    assert!(!taking.is_silent(now + SILENT));
    let asks = taking.asks(now + SILENT);
    assert_eq!((asks.len(), asks[0], asks[LANES - 1]), (LANES, (7, 3072), (PLACES - 3072, PLACES)));
}

#[test]
fn no_more_pages_are_taken_than_are_given() {
    let now = Instant::now();
    let mut taking = Taking::begin(9, now);
    let mut pages = 0;
    while !taking.is_over() {
        for (place, _) in taking.asks(now) {
            pages += usize::from(taking.hear((place, place + 1), now));
        }
    }
    assert!((PAGES_MAX..PAGES_MAX + LANES).contains(&pages), "{pages}");
}
