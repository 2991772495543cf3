//! Tables that are full, that many threads take from, and that a change of the document leaves as they are.

use std::sync::atomic::AtomicUsize;
use std::thread;

use skep_gateway::limit::Per;

use super::*;

fn held(rate: u32, per: Per, burst: u32, by: By) -> Held {
    Held::new("r", Limit { rate, per, burst, by })
}

fn client(n: u32) -> Who<'static> {
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
                while begun.elapsed().as_millis() < 300 {
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
    let limit = Limit { rate: 1, per: Per::Hour, burst: 1, by: By::Address };
    let other = Limit { rate: 2, ..limit };
    let consumers = Limit { by: By::Consumer, ..limit };
    for (held, who) in [
        (Held::new("a", limit), client(1)),
        (Held::new("a", limit), client(2)),
        (Held::new("a", limit), Who::Client(Neighbours::V6(1))),
        (Held::new("b", limit), client(1)),
        (Held::new("a", other), client(1)),
        (Held::new("a", consumers), Who::Consumer("a")),
        (Held::new("a", consumers), Who::Consumer("b")),
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
    let (a, b) = (Who::Consumer("a"), Who::Consumer("b"));
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
    let [addresses, others] = rates.fill();
    assert!(addresses.keys <= KEYS_MAX && addresses.keys > KEYS_MAX * 9 / 10, "{addresses:?}");
    assert_eq!(addresses.keys as u64 + addresses.forgotten, 4 * KEYS_MAX as u64 + 1);
    assert_eq!((others.keys, others.forgotten), (0, 0));
    assert!(rates.take(&Held::new("r", Limit { by: By::Route, ..held.limit }), Who::Anybody, 5).is_ok());
    assert_eq!(rates.fill()[1].forgotten, 0);
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
