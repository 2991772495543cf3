//! What is found, what goes, and what is fetched for several.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use skep_cache::kept::Kept;
use skep_cache::vary::{Variant, Vary};

use super::flight::{News, Read};
use super::stored::{Body, Head};
use super::*;

mod purged;

const REALM: Realm = Realm { secure: false, digest: 1, route: 2, service: 3 };

fn cache(bytes_max: u64) -> Arc<Cache> {
    Arc::new(Cache::new(bytes_max))
}

fn key(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

fn place(key: &Arc<[u8]>) -> Place<'_> {
    Place { key, realm: REALM, for_all: false }
}

fn none() -> std::iter::Empty<Field<'static>> {
    std::iter::empty()
}

fn by(value: &'static str) -> impl Iterator<Item = Field<'static>> + Clone {
    [(&b"a"[..], value.as_bytes())].into_iter()
}

fn variant(value: &'static str) -> Variant {
    let mut vary = Vary::default();
    vary.read(b"a");
    vary.select(by(value)).unwrap()
}

fn head(variant: Variant, is_shared: bool) -> Arc<Head> {
    Arc::new(Head {
        status: 200,
        reason: Vec::new(),
        is_old: false,
        lines: Vec::new(),
        kept: Kept { lifetime_s: 60, is_shared, ..Kept::default() },
        variant,
        received: Instant::now(),
        says_age: false,
        groups: Box::default(),
        message: None,
    })
}

/// Fetches what is not there, and stores it.
fn fetch(cache: &Arc<Cache>, key: &Arc<[u8]>, head: &Arc<Head>, bytes: usize) -> Option<Arc<Stored>> {
    let Entered::Leads(_, fetch) = cache.enter(place(key), none(), None, false, true) else { panic!() };
    let room = fetch.room(bytes as u64)?;
    let body = Body::new(Bytes::from(vec![b'x'; bytes]), room);
    let stored = Stored::new(head.clone(), body, fetch.room(Stored::room_bytes(head, key.len()))?);
    fetch.store(&stored);
    Some(stored)
}

fn is_there(cache: &Arc<Cache>, key: &Arc<[u8]>) -> bool {
    matches!(cache.find(place(key), none(), Instant::now()), Found::Stored(_))
}

#[test]
fn an_answer_is_found_in_its_realm_by_what_it_varies_by_and_by_whom_it_is_for() {
    let cache = cache(1 << 20);
    let url = key("u");
    fetch(&cache, &url, &head(variant("1"), false), 10).unwrap();
    fetch(&cache, &url, &head(variant("2"), true), 10).unwrap();
    let find = |place: Place<'_>, value| match cache.find(place, by(value), Instant::now()) {
        Found::Stored(stored) => Some(stored.head.kept.is_shared),
        _ => None,
    };
    assert_eq!(
        (find(place(&url), "1"), find(place(&url), "2"), find(place(&url), "3")),
        (Some(false), Some(true), None)
    );
    for realm in [Realm { secure: true, ..REALM }, Realm { digest: 2, ..REALM }] {
        assert_eq!(find(Place { realm, ..place(&url) }, "1"), None);
    }
    let known = Place { for_all: true, ..place(&url) };
    assert_eq!((find(known, "1"), find(known, "2")), (None, Some(true)));
    assert_eq!(find(place(&key("v")), "1"), None);
}

#[test]
fn another_takes_the_place_of_the_same_variant_and_no_url_has_more_than_so_many() {
    let cache = cache(1 << 20);
    let url = key("u");
    for _ in 0..5 {
        fetch(&cache, &url, &head(Variant::default(), false), 10).unwrap();
    }
    assert_eq!(cache.count(), 1);
    let names: Vec<&'static str> =
        (0..VARIANTS_MAX + 5).map(|at| &*Box::leak(at.to_string().into_boxed_str())).collect();
    for name in &names {
        fetch(&cache, &url, &head(variant(name), false), 10).unwrap();
    }
    assert_eq!(cache.count(), VARIANTS_MAX);
    let found = |name| matches!(cache.find(place(&url), by(name), Instant::now()), Found::Stored(_));
    assert!(!found(names[4]) && found(names[5]));
}

#[test]
fn no_more_is_held_than_may_be_what_is_used_stays_and_what_is_read_counts() {
    const MOST: u64 = 100_000;
    let cache = cache(MOST);
    let first = key("first");
    fetch(&cache, &first, &head(Variant::default(), false), 1000).unwrap();
    for at in 0..1000 {
        let Found::Stored(it) = cache.find(place(&first), none(), Instant::now()) else { panic!("{at}") };
        it.use_it();
        drop(it);
        let other = key(&format!("other {at}"));
        fetch(&cache, &other, &head(Variant::default(), false), 1000);
        assert!(cache.budget().held() <= MOST);
    }
    assert!(cache.count() > 10 && cache.counts.evicted.load(Relaxed) > 500);
    // Nobody has it but who reads it still.
    let large = key("large");
    let read = fetch(&cache, &large, &head(Variant::default(), false), 90_000).unwrap();
    cache.invalidate(&large);
    assert!(!is_there(&cache, &large) && cache.budget().held() >= 90_000);
    assert!(fetch(&cache, &first, &head(Variant::default(), false), 90_000).is_none(), "there is no room");
    drop(read);
    assert!(fetch(&cache, &first, &head(Variant::default(), false), 90_000).is_some());
}

#[test]
fn what_was_fetched_before_an_invalidation_is_not_stored_after_it() {
    let cache = cache(1 << 20);
    let url = key("u");
    let Entered::Leads(_reader, fetch) = cache.enter(place(&url), none(), None, true, false) else {
        panic!()
    };
    cache.invalidate(&url);
    let made = head(Variant::default(), false);
    let stored = Stored::new(
        made.clone(),
        Body::new(Bytes::new(), fetch.room(0).unwrap()),
        fetch.room(Stored::room_bytes(&made, 1)).unwrap(),
    );
    fetch.store(&stored);
    fetch.mark();
    assert!(matches!(cache.find(place(&url), none(), Instant::now()), Found::Nothing));
    // Who asks after it waits for another.
    let next = cache.enter(place(&url), none(), None, true, false);
    assert!(matches!(next, Entered::Leads(..)));
}

#[test]
fn who_wants_the_same_waits_and_gets_the_bytes_as_they_come() {
    let cache = cache(1 << 20);
    let url = key("u");
    let cx = &mut Context::from_waker(Waker::noop());
    let Entered::Leads(Some(first), fetch) = cache.enter(place(&url), none(), None, true, false) else {
        panic!()
    };
    let Entered::Waits(second) = cache.enter(place(&url), none(), None, true, false) else { panic!() };
    assert!(first.poll_news(cx, false).is_pending() && second.poll_news(cx, false).is_pending());
    assert!(fetch.flight.interim(b"early".to_vec()));
    assert!(
        matches!(first.poll_news(cx, false), Poll::Ready(News::Interim(_)))
            && second.poll_news(cx, false).is_pending()
    );
    fetch.flight.fill(head(Variant::default(), false), Some(6));
    assert!(matches!(second.poll_news(cx, false), Poll::Ready(News::Filling(_, Some(6)))));
    fetch.flight.push(b"abc", 6, |_| true).unwrap();
    let mut out = Vec::new();
    assert_eq!(second.poll_body(cx, 0, 2, &mut out), Poll::Ready(Read::Some));
    assert_eq!(second.poll_body(cx, 2, 9, &mut out), Poll::Ready(Read::Some));
    assert!(second.poll_body(cx, 3, 9, &mut out).is_pending());
    drop(first);
    assert!(fetch.poll_left(cx).is_pending(), "it goes on without who asked first");
    fetch.flight.push(b"def", 6, |_| true).unwrap();
    assert!(fetch.flight.push(b"g", 6, |_| true).is_none());
    assert_eq!(fetch.flight.complete(), "abcdef");
    assert_eq!(second.poll_body(cx, 3, 9, &mut out), Poll::Ready(Read::Some));
    assert_eq!((second.poll_body(cx, 6, 9, &mut out), &out[..]), (Poll::Ready(Read::End), &b"abcdef"[..]));
}

#[test]
fn what_is_not_stored_is_for_who_asked_first_and_the_others_are_freed() {
    let cache = cache(1 << 20);
    let url = key("u");
    let cx = &mut Context::from_waker(Waker::noop());
    let Entered::Leads(Some(first), fetch) = cache.enter(place(&url), none(), None, true, false) else {
        panic!()
    };
    let Entered::Waits(second) = cache.enter(place(&url), none(), None, true, false) else { panic!() };
    fetch.mark();
    fetch.part();
    fetch.flight.pass(b"head".as_slice().into(), None);
    assert!(matches!(second.poll_news(cx, false), Poll::Ready(News::Freed)));
    assert!(matches!(second.poll_news(cx, true), Poll::Ready(News::Freed)));
    assert!(matches!(first.poll_news(cx, false), Poll::Ready(News::Passing(_))));
    assert!(matches!(cache.find(place(&url), none(), Instant::now()), Found::NotStored));
    // No faster than it is taken.
    let piece = vec![b'x'; 100_000];
    let Poll::Ready(n) = fetch.flight.poll_pass(cx, &piece) else { panic!() };
    assert!(n < piece.len() && fetch.flight.poll_pass(cx, &piece).is_pending());
    let mut out = Vec::new();
    assert_eq!(first.poll_body(cx, 0, usize::MAX, &mut out), Poll::Ready(Read::Some));
    assert_eq!((out.len(), second.poll_body(cx, 0, 1, &mut out)), (n, Poll::Ready(Read::Cut)));
    assert!(fetch.flight.poll_pass(cx, &piece).is_ready() && fetch.poll_left(cx).is_pending());
    drop(first);
    assert!(fetch.poll_left(cx).is_ready());
}

#[test]
fn what_is_there_of_an_answer_that_turns_out_too_long_is_held_until_it_is_read() {
    const BYTES: usize = 500_000;
    let cache = cache(1 << 20);
    let url = key("u");
    let cx = &mut Context::from_waker(Waker::noop());
    let Entered::Leads(Some(first), fetch) = cache.enter(place(&url), none(), None, true, false) else {
        panic!()
    };
    let mut room = fetch.room(0).unwrap();
    fetch.flight.fill(head(Variant::default(), false), None);
    let piece = vec![b'x'; BYTES];
    fetch.flight.push(&piece, BYTES as u64, |bytes| fetch.grow(&mut room, bytes)).unwrap();
    assert!(fetch.flight.push(b"x", BYTES as u64, |_| true).is_none());
    fetch.part();
    fetch.flight.pass(b"head".as_slice().into(), Some(room));
    assert_eq!(cache.budget().held(), BYTES as u64);
    let (mut at, mut out) = (0, Vec::new());
    while at < BYTES as u64 {
        assert!(cache.budget().held() > 0 || BYTES as u64 - at < 20_000, "{at} are read");
        out.clear();
        assert_eq!(first.poll_body(cx, at, 10_000, &mut out), Poll::Ready(Read::Some));
        at += out.len() as u64;
    }
    assert_eq!((at, cache.budget().held()), (BYTES as u64, 0));
}

#[test]
fn a_fetch_that_ends_early_is_over_for_all_and_another_begins() {
    let cache = cache(1 << 20);
    let url = key("u");
    let cx = &mut Context::from_waker(Waker::noop());
    let Entered::Leads(Some(first), fetch) = cache.enter(place(&url), none(), None, true, false) else {
        panic!()
    };
    fetch.flight.fill(head(Variant::default(), false), Some(6));
    fetch.flight.push(b"abc", 6, |_| true).unwrap();
    drop(fetch);
    let mut out = Vec::new();
    assert_eq!(first.poll_body(cx, 0, 9, &mut out), Poll::Ready(Read::Some));
    assert_eq!(first.poll_body(cx, 3, 9, &mut out), Poll::Ready(Read::Cut));
    assert!(!is_there(&cache, &url) && cache.count() == 0);
    assert!(matches!(cache.enter(place(&url), none(), None, true, false), Entered::Leads(..)));
}

#[test]
fn who_cannot_use_what_is_fetched_does_not_wait_for_it() {
    let cache = cache(1 << 20);
    let url = key("u");
    let Entered::Leads(_first, fetch) = cache.enter(place(&url), by("1"), None, true, false) else {
        panic!()
    };
    fetch.flight.fill(head(variant("1"), false), Some(6));
    assert!(matches!(cache.enter(place(&url), by("1"), None, true, false), Entered::Waits(_)));
    assert!(matches!(cache.enter(place(&url), by("2"), None, true, false), Entered::Leads(..)));
    let other = Place { realm: Realm { secure: true, ..REALM }, ..place(&url) };
    assert!(matches!(cache.enter(other, by("1"), None, true, false), Entered::Leads(..)));
}

#[test]
fn nobody_begins_anew_what_was_just_stored() {
    let cache = cache(1 << 20);
    let url = key("u");
    let stale = fetch(&cache, &url, &head(Variant::default(), false), 1).unwrap();
    fetch(&cache, &url, &head(Variant::default(), false), 2).unwrap();
    assert!(matches!(cache.enter(place(&url), none(), Some(&stale), true, false), Entered::Found(_)));
    assert!(matches!(cache.enter(place(&url), none(), Some(&stale), false, false), Entered::Leads(..)));
}

#[test]
fn a_core_has_at_hand_what_is_stored_still_and_lets_go_of_what_is_not() {
    let (cache, hot) = (cache(1 << 20), hot::Hot::default());
    let url = key("u");
    assert!(hot.find(&cache, place(&url), none()).is_none());
    let stored = fetch(&cache, &url, &head(variant("1"), false), 10).unwrap();
    hot.put(place(&url), &stored);
    drop(stored);
    let has = |place: Place<'_>, value| hot.find(&cache, place, by(value)).is_some();
    assert!(has(place(&url), "1") && !has(place(&url), "2") && !has(place(&key("v")), "1"));
    assert!(!has(Place { for_all: true, ..place(&url) }, "1"));
    assert!(!has(Place { realm: Realm { secure: true, ..REALM }, ..place(&url) }, "1"));
    fetch(&cache, &url, &head(variant("2"), false), 10).unwrap();
    assert!(has(place(&url), "1"), "no request is for both");
    fetch(&cache, &url, &head(Variant::default(), false), 10).unwrap();
    assert!(!has(place(&url), "1"), "the newer may be for it, too");
    let held = cache.budget().held();
    cache.invalidate(&url);
    let left = cache.budget().held();
    hot.tick();
    assert!(left < held && left > 0 && cache.budget().held() == 0);
}
