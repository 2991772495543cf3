//! What goes from one run's tables to another's.

use skep_gateway::exchange::debts::DEBTS_MAX;
use skep_gateway::limit::{By, Limit, Neighbours, Per, Scope};

use super::*;

fn held(rate: u32, burst: u32, by: By) -> Held {
    Held::new("r", Limit { rate, per: Per::Hour, burst, by, scope: Scope::Cluster, is_shared: false })
}

fn client(n: u32) -> Who {
    Who::Client(Neighbours::V4(n))
}

fn take(rates: &Rates, held: &Held, who: Who) -> bool {
    rates.take(held, who, rates.now()).is_ok()
}

/// All that is owed, page by page, and how many pages those were.
fn pages(rates: &Rates, mut apart: impl FnMut(u64, Who, i32) -> Option<i64>) -> (Vec<Debt>, usize) {
    let (mut all, mut at, mut pages) = (Vec::new(), 0, 0);
    while at < PLACES {
        let (debts, next) = rates.debts(at..PLACES, DEBTS_MAX, &mut apart);
        assert!(debts.len() <= DEBTS_MAX && next > at, "{at} {next}");
        all.extend(debts);
        (at, pages) = (next, pages + 1);
    }
    (all, pages)
}

#[test]
fn what_was_spent_in_one_run_is_spent_in_the_next_of_each_table() {
    let (old, new) = (Rates::default(), Rates::default());
    let by = [
        (held(10, 3, By::Address), client(1)),
        (held(10, 3, By::Consumer), Who::Consumer(1)),
        (held(10, 3, By::Route), Who::Anybody),
    ];
    for (held, who) in &by {
        assert_eq!([(); 4].map(|()| take(&old, held, *who)), [true, true, true, false]);
    }
    let (debts, _) = pages(&old, |_, _, _| Some(0));
    assert_eq!((debts.len(), old.all_debts().len()), (3, 3));
    let find = |id| by.iter().map(|(held, _)| held).find(|it| it.id == id);
    // However often it is heard.
    for _ in 0..3 {
        assert_eq!(new.take_over(&debts, find), 3);
    }
    for (held, who) in &by {
        assert!(!take(&new, held, *who), "{held:?}");
        assert!(new.too_early(held, *who, new.now()).unwrap() <= held.limit.step());
    }
    assert!(take(&new, &by[0].0, client(2)), "who owes nothing is let in");
}

#[test]
fn what_others_are_yet_to_hear_of_is_left_out_and_counts_once_when_they_do() {
    let (giver, taker) = (Rates::default(), Rates::default());
    giver.tell(1);
    let held = held(1, 5, By::Address);
    let ask = |giver: &Rates| pages(giver, |_, _, untold| Some(untold.into())).0;
    assert!((0..2).all(|_| take(&giver, &held, client(1))));
    assert_eq!(ask(&giver), [], "it will hear of both");
    giver.take_untold(|_| {});
    assert!(take(&giver, &held, client(1)));
    let debts = ask(&giver);
    taker.take_over(&debts, |_| Some(&held));
    let mut untold = 0;
    giver.take_untold(|entry| untold += entry.count);
    assert_eq!(untold, 1);
    taker.owe(&held, client(1), untold, taker.now());
    assert_eq!([(); 3].map(|()| take(&taker, &held, client(1))), [true, true, false]);
}

#[test]
fn a_request_that_was_told_and_given_back_is_owed_by_who_starts_as_by_all_others() {
    let (giver, taker) = (Rates::default(), Rates::default());
    giver.tell(1);
    let held = held(1, 2, By::Address);
    assert!(take(&giver, &held, client(1)));
    giver.take_untold(|_| {});
    giver.give_back(&held, client(1));
    // They have counted it, and will not be told of the next.
    let debts = pages(&giver, |_, _, untold| Some(untold.into())).0;
    taker.take_over(&debts, |_| Some(&held));
    assert_eq!([(); 2].map(|()| take(&taker, &held, client(1))), [true, false]);
}

#[test]
fn who_owes_by_a_limit_that_is_not_there_or_counts_another_thing_owes_nothing() {
    let (old, new) = (Rates::default(), Rates::default());
    let there = held(1, 1, By::Address);
    let gone = Held::new("gone", there.limit);
    assert!(take(&old, &there, client(1)) && take(&old, &gone, client(1)));
    let mut debts = old.all_debts();
    debts.push(Debt { limit: there.id, who: Who::Consumer(7), step: 1, owed: u64::MAX });
    assert_eq!(new.take_over(&debts, |id| Some(&there).filter(|it| it.id == id)), 1);
    assert_eq!(new.handed.strange.load(Relaxed), 2);
    assert!(!take(&new, &there, client(1)) && take(&new, &gone, client(1)));
}

#[test]
fn who_owed_by_a_slow_limit_owes_as_many_requests_by_a_fast_one() {
    let (old, new) = (Rates::default(), Rates::default());
    let (slow, fast) = (held(1, 5, By::Address), held(100, 5, By::Address));
    assert!((0..4).all(|_| take(&old, &slow, client(1))));
    new.take_over(&old.all_debts(), |_| Some(&fast));
    assert_eq!([(); 2].map(|()| take(&new, &fast, client(1))), [true, false]);
}

#[test]
fn a_full_table_goes_in_bounded_pages_and_all_that_owe_most_arrive() {
    let (old, new) = (Rates::default(), Rates::default());
    let held = held(1, 3, By::Address);
    for n in 0..KEYS_MAX as u32 {
        assert!(take(&old, &held, client(n)));
    }
    // These spend all of it.
    for n in 0..1000 {
        while take(&old, &held, client(n)) {}
    }
    let living = old.fill()[0].keys;
    let (debts, pages) = pages(&old, |_, _, _| Some(0));
    assert_eq!(debts.len(), living);
    assert!(pages <= living / (DEBTS_MAX - 2 * WAYS) + 16, "{pages}");
    new.take_over(&debts, |_| Some(&held));
    assert!((0..1000).all(|n| !take(&new, &held, client(n))));
}
