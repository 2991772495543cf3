//! What is let go by number, and what nobody waits for.

use super::super::purges::{Change, GROUPS_MAX, Origin, RULES_MAX, Rule, mark};
use super::*;

fn prefix(path: &str) -> Rule {
    Rule::Prefix { host: None, path: path.into() }
}

fn url(path: &str) -> Arc<[u8]> {
    skep_cache::key::key(&[b"a.test", path.as_bytes(), b""]).into()
}

fn plain() -> Arc<Head> {
    head(Variant::default(), false)
}

#[test]
fn a_rule_holds_of_what_was_stored_before_it_alone() {
    let cache = cache(1 << 20);
    let (one, two) = (url("/x/1"), url("/y/1"));
    for it in [&one, &two] {
        fetch(&cache, it, &plain(), 10).unwrap();
    }
    cache.purges.add(prefix("/x/"));
    assert!(!is_there(&cache, &one) && is_there(&cache, &two));
    assert_eq!((cache.counts.purged.load(Relaxed), cache.count()), (1, 1));
    fetch(&cache, &one, &plain(), 10).unwrap();
    assert!(is_there(&cache, &one), "it is of after that");
    cache.purges.add(Rule::All);
    assert!(!is_there(&cache, &one) && !is_there(&cache, &two));
    assert_eq!(cache.budget().held(), 0);
}

#[test]
fn a_prefix_is_for_a_path_in_whatever_spelling_a_raw_route_stores_it() {
    let cache = cache(1 << 20);
    let all = ["/x/%61b", "/%78/b", "/x%2Fb", "/y/%78"].map(url);
    for it in &all {
        fetch(&cache, it, &plain(), 10).unwrap();
    }
    cache.purges.add(prefix("/x/"));
    assert_eq!(all.each_ref().map(|it| is_there(&cache, it)), [false, false, false, true]);
}

#[test]
fn what_was_held_to_none_of_the_rules_that_are_kept_is_not_used() {
    let cache = cache(1 << 20);
    let (one, two) = (url("/1"), url("/2"));
    for it in [&one, &two] {
        fetch(&cache, it, &plain(), 10).unwrap();
    }
    for at in 0..RULES_MAX + 5 {
        cache.purges.add(prefix(&format!("/none/{at}")));
        if at % 100 == 0 {
            assert!(is_there(&cache, &one), "it is looked at now and then");
        }
    }
    assert!(is_there(&cache, &one) && !is_there(&cache, &two));
}

#[tokio::test]
async fn a_sweep_lets_go_of_what_nobody_asks_for_and_of_nothing_else() {
    let cache = cache(1 << 22);
    let keys: Vec<_> = (0..2000).map(|at| url(&format!("/{}/{at}", at % 2))).collect();
    for key in &keys {
        fetch(&cache, key, &plain(), 10).unwrap();
    }
    cache.purges.add(prefix("/0/"));
    assert_eq!(cache.count(), 2000, "nothing is walked through for it");
    // Whoever waits for a sweep waits for a part alone.
    let most = (0..SHARDS).map(|at| cache.shard(at).count()).max();
    assert!(most < Some(40), "{most:?}");
    cache.sweep().await;
    assert_eq!((cache.count(), cache.counts.purged.load(Relaxed)), (1000, 1000));
    for at in 0..RULES_MAX {
        cache.purges.add(prefix(&format!("/none/{at}")));
        if at % 500 == 0 {
            cache.sweep().await;
        }
    }
    assert!(is_there(&cache, &keys[1]), "a sweep holds it to what there is");
}

#[test]
fn of_one_url_and_of_those_that_nobody_waits_for_so_many_are_fetched_at_a_time() {
    let cache = cache(1 << 20);
    let key = url("/x");
    let fetch = |key: &Arc<[u8]>, beside| cache.enter(place(key), none(), None, false, beside);
    let open: Vec<_> = (0..FETCHES_MAX).map(|_| fetch(&key, false)).collect();
    assert!(open.iter().all(|it| matches!(it, Entered::Leads(..))));
    assert!(matches!(fetch(&key, false), Entered::Fetched));
    drop(open);
    assert!(matches!(fetch(&key, false), Entered::Leads(..)));
    let beside: Vec<_> = (0..UNATTENDED_MAX / 2).map(|at| fetch(&url(&at.to_string()), true)).collect();
    assert!(beside.iter().all(|it| matches!(it, Entered::Leads(..))));
    assert!(matches!(fetch(&url("one more"), true), Entered::Fetched));
    let leave = |at: usize| {
        let Entered::Leads(reader, fetch) =
            cache.enter(place(&url(&format!("left {at}"))), none(), None, true, false)
        else {
            panic!()
        };
        fetch.flight.fill(plain(), Some(6));
        drop(reader);
        fetch
    };
    let others: Vec<_> = (0..UNATTENDED_MAX / 2).map(leave).collect();
    assert!(others.iter().all(|it| it.poll_left(&mut Context::from_waker(Waker::noop())).is_pending()));
    // Nor does one go on that its client has left.
    let cx = &mut Context::from_waker(Waker::noop());
    let Entered::Leads(reader, left) = fetch(&key, false) else { panic!() };
    left.flight.fill(plain(), Some(6));
    drop(reader);
    assert!(left.poll_left(cx).is_ready());
    drop(beside);
    assert!(left.poll_left(cx).is_pending(), "there is room for it");
    drop((left, others));
    assert_eq!(cache.unattended.load(Relaxed), 0);
}

#[test]
fn what_slow_readers_hold_does_not_have_the_rest_go() {
    const MOST: u64 = 1_000_000;
    let cache = cache(MOST);
    let held: Vec<_> = (0..8).map(|at| fetch(&cache, &url(&at.to_string()), &plain(), 100_000)).collect();
    assert!(held.iter().all(Option::is_some));
    // They are evicted for others, and stay held: the others have what is left.
    let stored =
        (100..200).filter(|at| fetch(&cache, &url(&at.to_string()), &plain(), 50_000).is_some()).count();
    assert!(stored > 90 && cache.budget().held() > 900_000, "{stored}");
    assert!(cache.count() >= 2, "the rest stays: {}", cache.count());
    drop(held);
    assert!(fetch(&cache, &url("next"), &plain(), 50_000).is_some());
}

#[test]
fn variants_that_nobody_asks_for_twice_push_out_none_that_is_asked_for() {
    let cache = cache(1 << 20);
    let key = url("/x");
    fetch(&cache, &key, &head(variant("mine"), false), 10).unwrap();
    for at in 0..200 {
        if at % 20 == 0 {
            let found = cache.find(place(&key), by("mine"), Instant::now());
            let Found::Stored(mine) = found else { panic!("{at}") };
            mine.use_it();
        }
        let name: &'static str = Box::leak(at.to_string().into_boxed_str());
        fetch(&cache, &key, &head(variant(name), false), 10).unwrap();
    }
    assert_eq!(cache.count(), VARIANTS_MAX);
}

#[test]
fn groups_of_one_service_leave_what_is_of_another_and_what_has_none() {
    let cache = cache(1 << 20);
    let grouped = |groups: &[&str]| {
        let Head { kept, variant, received, .. } = &*plain();
        let groups = groups.iter().map(|it| mark(it.as_bytes())).collect();
        let (kept, variant, received) = (*kept, variant.clone(), *received);
        let (reason, lines) = (Vec::new(), Vec::new());
        Arc::new(Head {
            status: 200,
            reason,
            is_old: false,
            lines,
            kept,
            variant,
            received,
            says_age: false,
            groups,
            message: None,
        })
    };
    let all = [("/none", grouped(&[])), ("/a", grouped(&["a"])), ("/b", grouped(&["b", "c"]))];
    for (path, head) in &all {
        fetch(&cache, &url(path), head, 10).unwrap();
    }
    let are_there = || all.each_ref().map(|(path, _)| is_there(&cache, &url(path)));
    let change = |service, group: &str, host: &str| {
        let host = host.as_bytes().into();
        cache
            .purges
            .add_all([Change::Group(mark(group.as_bytes()), Origin { service, secure: false, host })]);
    };
    (0..2 * GROUPS_MAX).for_each(|at| change(99, &at.to_string(), "a.test"));
    change(REALM.service, "a", "b.test");
    assert_eq!(are_there(), [true; 3], "of other services and hosts");
    change(REALM.service, "a", "a.test");
    assert_eq!(are_there(), [true, false, true]);
    (0..2 * GROUPS_MAX).for_each(|at| change(REALM.service, &at.to_string(), "a.test"));
    assert_eq!(are_there(), [true, false, false], "too many to be known");
}

#[test]
fn what_was_purged_as_it_was_about_to_be_validated_is_asked_for_anew() {
    let cache = cache(1 << 20);
    let key = url("/x");
    let seen = fetch(&cache, &key, &plain(), 10).unwrap();
    cache.purges.add(prefix("/x"));
    let entered = cache.enter(place(&key), none(), Some(&seen), true, false);
    assert!(matches!(entered, Entered::Found(_)), "it is looked for again");
    assert!(!is_there(&cache, &key));
    let seen = fetch(&cache, &key, &plain(), 10).unwrap();
    let Entered::Leads(_, under_way) = cache.enter(place(&key), none(), Some(&seen), true, false) else {
        panic!()
    };
    cache.invalidate(&key);
    assert!(!under_way.may_use(&seen), "nor is it brought back by an error");
}

#[test]
fn what_is_passed_on_is_no_fetch_of_its_url_any_more() {
    let cache = cache(1 << 20);
    let key = url("/x");
    let passed: Vec<_> = (0..FETCHES_MAX)
        .map(|_| {
            let Entered::Leads(reader, fetch) = cache.enter(place(&key), none(), None, false, false) else {
                panic!()
            };
            fetch.part();
            (reader, fetch)
        })
        .collect();
    assert!(matches!(cache.enter(place(&key), none(), None, true, false), Entered::Leads(..)));
    drop(passed);
}
