//! Tables that are full, that many threads take from, and that a change of the document leaves as they are.

use std::sync::atomic::AtomicUsize;
use std::thread;

use skep_gateway::limit::{Neighbours, Per};

use super::*;

fn held(rate: u32, per: Per, burst: u32, by: By) -> Held {
    Held::new("r", Limit { rate, per, burst, by, scope: Scope::Cluster, is_shared: false })
}

fn client(n: u32) -> Who {
    Who::Client(Neighbours::V4(n))
}

#[test]
fn threads_that_ask_at_one_instant_get_the_burst_and_no_more() {
    let rates = Rates::default();
    let held = held(1, Per::Second, 500, By::Route);
    let let_in = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let is_in = rates.take(&held, Who::Anybody, 7).is_ok();
                    let_in.fetch_add(usize::from(is_in), Relaxed);
                }
            });
        }
    });
    assert_eq!(let_in.into_inner(), 500);
}

#[test]
fn threads_that_ask_as_time_goes_by_get_the_burst_and_the_rate_and_no_more() {
    let rates = Rates::default();
    let held = held(20_000, Per::Second, 50, By::Address);
    let begun = Instant::now();
    let let_in = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // A busy machine may have been elsewhere for all of that.
                let is_over = || begun.elapsed().as_millis() >= 300 && let_in.load(Relaxed) > 50;
                while !is_over() && begun.elapsed().as_secs() < 20 {
                    let is_in = rates.take(&held, client(1), rates.now()).is_ok();
                    let_in.fetch_add(usize::from(is_in), Relaxed);
                }
            });
        }
    });
    let most = 50.0 + 20_000.0 * begun.elapsed().as_secs_f64();
    let let_in = let_in.into_inner() as f64;
    assert!(let_in <= most, "{let_in} of {most}");
    assert!(let_in > 50.0, "as time goes by more come in: {let_in}");
}

#[test]
fn each_key_of_each_limit_of_each_route_is_counted_for_itself() {
    let rates = Rates::default();
    let limit =
        Limit { rate: 1, per: Per::Hour, burst: 1, by: By::Address, scope: Scope::Cluster, is_shared: false };
    let other = Limit { per: Per::Minute, ..limit };
    let consumers = Limit { by: By::Consumer, ..limit };
    for (held, who) in [
        (Held::new("a", limit), client(1)),
        (Held::new("a", limit), client(2)),
        (Held::new("a", limit), Who::Client(Neighbours::V6(1))),
        (Held::new("b", limit), client(1)),
        (Held::new("a", other), client(1)),
        (Held::new("a", consumers), Who::Consumer(1)),
        (Held::new("a", consumers), Who::Consumer(2)),
        (Held::new("a", Limit { by: By::Route, ..limit }), Who::Anybody),
    ] {
        assert!(rates.take(&held, who, 5).is_ok(), "{held:?} {who:?}");
        assert!(rates.take(&held, who, 5).is_err(), "{held:?} {who:?}");
    }
    assert!(rates.take(&Held::new("a", limit), client(1), 5).is_err(), "also by what was made anew");
}

#[test]
fn what_is_given_back_is_there_for_the_next_and_what_was_forgotten_is_nobody_elses() {
    let rates = Rates::default();
    let held = held(1, Per::Hour, 1, By::Consumer);
    let (a, b) = (Who::Consumer(1), Who::Consumer(2));
    assert_eq!(rates.too_early(&held, a, 5), None);
    assert!(rates.take(&held, a, 5).is_ok());
    assert_eq!(rates.too_early(&held, a, 5), rates.take(&held, a, 5).err());
    rates.give_back(&held, b);
    assert!(rates.take(&held, a, 5).is_err());
    rates.give_back(&held, a);
    assert!(rates.take(&held, a, 5).is_ok());
}

#[test]
fn a_full_table_forgets_who_owes_least_and_counts_it_and_who_owes_most_stays() {
    let rates = Rates::default();
    let held = held(1, Per::Hour, 2, By::Address);
    // Who has asked twice owes more than all who come behind.
    for _ in 0..2 {
        assert!(rates.take(&held, client(0), 5).is_ok());
    }
    for n in 1..=4 * KEYS_MAX as u32 {
        assert!(rates.take(&held, client(n), 5).is_ok(), "{n}");
    }
    assert!(rates.take(&held, client(0), 5).is_err());
    let [addresses, others, _] = rates.fill();
    assert!(addresses.keys <= KEYS_MAX && addresses.keys > KEYS_MAX * 9 / 10, "{addresses:?}");
    assert_eq!(addresses.keys as u64 + addresses.forgotten, 4 * KEYS_MAX as u64 + 1);
    assert_eq!((others.keys, others.forgotten), (0, 0));
    assert!(rates.take(&Held::new("r", Limit { by: By::Route, ..held.limit }), Who::Anybody, 5).is_ok());
    assert_eq!(rates.fill()[2], Fill { table: "routes", keys: 1, forgotten: 0 });
}

#[test]
fn where_times_are_past_a_new_key_takes_nothing_from_anybody() {
    let rates = Rates::default();
    let held = held(1000, Per::Second, 1, By::Address);
    let mut now = 5;
    for n in 0..2 * KEYS_MAX as u32 {
        // Each is over before the next comes.
        now = rates.take(&held, client(n), now).unwrap().tat;
    }
    assert_eq!(rates.fill()[0].forgotten, 0);
}

/// What one balancer lets in, in the order of who.
fn untold(rates: &Rates) -> Vec<(Who, u32)> {
    let mut all = Vec::new();
    rates.take_untold(|entry| all.push((entry.who, entry.count)));
    all.sort_by_key(|(who, _)| format!("{who:?}"));
    all
}

#[test]
fn what_was_let_in_is_told_once_where_somebody_hears_and_the_limit_is_for_all() {
    let rates = Rates::default();
    let all = held(1, Per::Hour, 2, By::Address);
    let own = Held::new("own", Limit { scope: Scope::Balancer, ..all.limit });
    assert!(rates.take(&all, client(0), 5).is_ok());
    assert_eq!(untold(&rates), [], "nobody hears it");
    rates.tell(1);
    for n in [1, 1, 1, 2] {
        let _ = rates.take(&all, client(n), 5);
        let _ = rates.take(&own, client(n), 5);
    }
    assert!(rates.take(&all, client(3), 5).is_ok());
    rates.give_back(&all, client(3));
    // What was refused or given back was not let in.
    assert_eq!(untold(&rates), [(client(1), 2), (client(2), 1)]);
    assert_eq!(untold(&rates), []);
    let route = held(1, Per::Hour, 9, By::Route);
    assert!(rates.take(&route, Who::Anybody, 5).is_ok());
    assert!(rates.take(&all, client(2), 5).is_ok());
    assert_eq!(untold(&rates), [(Who::Anybody, 1), (client(2), 1)]);
}

#[test]
fn what_others_let_in_is_not_let_in_here_and_told_to_nobody() {
    let rates = Rates::default();
    rates.tell(1);
    let held = held(1, Per::Hour, 3, By::Consumer);
    rates.owe(&held, Who::Consumer(1), 2, 5);
    assert!(rates.take(&held, Who::Consumer(1), 5).is_ok());
    assert!(rates.take(&held, Who::Consumer(1), 5).is_err());
    assert_eq!(untold(&rates), [(Who::Consumer(1), 1)]);
}

#[test]
fn threads_tell_all_that_they_let_in_while_it_is_taken_out() {
    let rates = Rates::default();
    rates.tell(1);
    let held = held(1_000_000, Per::Second, 1_000_000, By::Address);
    let (let_in, done) = (AtomicU64::new(0), AtomicUsize::new(0));
    let mut told = 0u64;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..20_000 {
                    let is_in = rates.take(&held, client(n % 100), 5).is_ok();
                    let_in.fetch_add(u64::from(is_in), Relaxed);
                }
                done.fetch_add(1, Relaxed);
            });
        }
        while done.load(Relaxed) < 4 {
            rates.take_untold(|entry| told += u64::from(entry.count));
        }
    });
    rates.take_untold(|entry| told += u64::from(entry.count));
    assert_eq!(told, let_in.into_inner());
}

#[test]
fn who_owes_hours_of_a_slow_limit_leaves_room_for_who_spent_more_of_a_fast_one() {
    let rates = Rates::default();
    let slow = Held::new(
        "slow",
        Limit {
            rate: 10,
            per: Per::Hour,
            burst: 240,
            by: By::Address,
            scope: Scope::Cluster,
            is_shared: false,
        },
    );
    let fast = Held::new("fast", Limit { rate: 1, per: Per::Second, burst: 1, ..slow.limit });
    for n in 0..4 * KEYS_MAX as u32 {
        assert!(rates.take(&slow, client(n), 5).is_ok());
    }
    for n in 0..1000 {
        assert!(rates.take(&fast, client(n), 5).is_ok());
    }
    for n in 0..1000 {
        assert!(rates.take(&fast, client(n), 5).is_err(), "{n}");
    }
}

#[test]
fn a_request_that_was_told_and_given_back_is_told_of_the_next_one() {
    let rates = Rates::default();
    rates.tell(1);
    let held = held(1, Per::Hour, 5, By::Address);
    let took = |rates: &Rates| assert!(rates.take(&held, client(1), 7).is_ok());
    took(&rates);
    assert_eq!(untold(&rates), [(client(1), 1)]);
    rates.give_back(&held, client(1));
    assert_eq!(untold(&rates), []);
    took(&rates);
    assert_eq!(untold(&rates), [], "the others have counted it");
    took(&rates);
    assert_eq!(untold(&rates), [(client(1), 1)]);
}

#[test]
fn who_owed_by_a_slow_limit_is_let_in_by_a_fast_one_when_it_says_so() {
    let rates = Rates::default();
    let (slow, fast) = (held(10, Per::Hour, 240, By::Address), held(100_000, Per::Hour, 5, By::Address));
    assert_eq!(slow.id, fast.id);
    while rates.take(&slow, client(1), 7).is_ok() {}
    let wait = rates.take(&fast, client(1), 7).unwrap_err();
    assert_eq!(rates.too_early(&fast, client(1), 7), Some(wait));
    assert!(rates.take(&fast, client(1), 7 + wait - 1).is_err());
    assert!(rates.take(&fast, client(1), 7 + wait).is_ok());
}
