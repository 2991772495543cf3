use proptest::prelude::*;

use super::*;
use crate::history::exhaustive::{explains, operation, timed};

fn put(called: u64, returned: u64, value: u64, seq: u64) -> Op {
    operation(called, Some(returned), Act::Put { value, seq: Some(seq) })
}

fn unknown(called: u64, value: u64) -> Op {
    operation(called, None, Act::Put { value, seq: None })
}

/// A list of values from the number after `after`, up to the log's end.
fn list(called: u64, returned: u64, after: u64, values: &[u64]) -> Op {
    operation(called, Some(returned), listed(after, values, false))
}

fn listed(after: u64, values: &[u64], more: bool) -> Act {
    let entries = (after + 1..).zip(values).map(|(seq, value)| Entry { seq, value: *value }).collect();
    Act::List { after, entries, more }
}

/// The words of a contradiction.
fn told(history: &[Op]) -> String {
    check(history).map_or_else(|contradiction| contradiction.to_string(), |()| "linearizable".to_owned())
}

const LESS: &str = "the second began after the first had ended, and knows less of the log";

#[test]
fn lists_that_grow_with_the_puts_are_linearizable() {
    let history = [
        list(1, 2, 0, &[]),
        put(3, 6, 70, 1),
        put(4, 5, 80, 2),
        list(7, 8, 0, &[70, 80]),
        list(9, 10, 1, &[80]),
        list(11, 12, 2, &[]),
        operation(13, Some(14), Act::Count { last: 2 }),
        operation(15, Some(16), Act::Look { value: 70, found: true }),
    ];
    assert_eq!(told(&history), "linearizable");
}

#[test]
fn what_was_acknowledged_before_is_in_a_list_a_count_and_found() {
    for did in [
        listed(0, &[], false),
        listed(1, &[], false),
        listed(0, &[70], false),
        Act::Count { last: 1 },
        Act::Look { value: 80, found: false },
    ] {
        let history = [put(1, 2, 70, 1), put(3, 4, 80, 2), operation(5, Some(6), did)];
        assert!(told(&history).starts_with(LESS), "{}", told(&history));
    }
}

#[test]
fn a_later_put_has_a_greater_number_and_no_other_has_it() {
    assert!(told(&[put(1, 2, 70, 2), put(3, 4, 80, 1)]).starts_with(LESS));
    assert!(told(&[put(1, 4, 70, 1), put(2, 3, 80, 1)]).starts_with("number 1 is 70 and 80"));
    assert!(
        told(&[put(1, 2, 70, 1), unknown(3, 80), list(4, 5, 0, &[80])]).starts_with("number 1 is 70 and 80")
    );
    let twice = [put(1, 2, 70, 1), list(3, 4, 0, &[70, 70])];
    assert!(told(&twice).starts_with("70 has number 1 and number 2"));
}

#[test]
fn a_list_shows_no_less_than_one_before_it_and_nothing_from_later() {
    assert!(told(&[unknown(1, 70), list(2, 3, 0, &[70]), list(4, 5, 0, &[])]).starts_with(LESS));
    assert!(told(&[list(1, 2, 0, &[70]), put(3, 4, 70, 1)]).starts_with(LESS));
    assert_eq!(told(&[unknown(1, 70), list(2, 4, 0, &[70]), list(3, 5, 0, &[])]), "linearizable");
}

#[test]
fn a_list_has_every_number_and_what_somebody_put() {
    let did = Act::List { after: 0, entries: vec![Entry { seq: 2, value: 70 }], more: false };
    let history = [put(1, 2, 70, 2), operation(3, Some(4), did)];
    assert!(told(&history).starts_with("number 1 is left out"));
    assert!(told(&[list(1, 2, 0, &[70])]).starts_with("nobody put 70, which has number 1"));
}

#[test]
fn a_put_of_unknown_end_takes_effect_late_or_never() {
    let history = [unknown(1, 70), list(2, 3, 0, &[]), put(4, 5, 80, 1), list(6, 7, 0, &[80, 70])];
    assert_eq!(told(&history), "linearizable");
    assert_eq!(told(&history[..3]), "linearizable");
}

/// A log that is as it should be.
fn step(log: &[u64], act: &Act) -> Option<Vec<u64>> {
    let length = log.len() as u64;
    let agrees = match act {
        Act::Put { value, seq } => {
            return seq.is_none_or(|seq| seq == length + 1).then(|| [log, &[*value]].concat());
        }
        Act::List { after, entries, more } => {
            let from = (*after as usize).min(log.len());
            let values: Vec<u64> = entries.iter().map(|entry| entry.value).collect();
            log[from..].starts_with(&values) && *more == (log.len() > from + values.len())
        }
        Act::Count { last } => *last == length,
        Act::Look { value, found } => log.contains(value) == *found,
    };
    agrees.then(|| log.to_vec())
}

/// What a client may be answered by a log of the values from 1 to `length`, at whatever time.
fn answer(length: u64, (kind, from, to): (u8, u64, u64)) -> Act {
    let (from, to) = (from % (length + 1), to % (length + 1));
    match kind % 4 {
        1 if length > 0 => Act::Look { value: to.max(1), found: from % 2 == 0 },
        2 | 3 => listed(from, &(from + 1..=to).collect::<Vec<_>>(), kind % 4 == 3),
        _ => Act::Count { last: to },
    }
}

/// Some puts of the values from 1 in this order, answered or not, some that never were, some answers, and in
/// the end a list of everything.
fn small_history() -> impl Strategy<Value = Vec<Op>> {
    let puts = prop::collection::vec((any::<u8>(), any::<u32>(), any::<u32>()), 0..5);
    let never = prop::collection::vec((any::<u32>(), any::<u32>()), 0..2);
    let answers = prop::collection::vec((any::<(u8, u64, u64)>(), any::<u32>(), any::<u32>()), 0..4);
    (puts, never, answers).prop_map(|(puts, never, answers)| {
        let length = puts.len() as u64;
        let puts = (1..).zip(puts).map(|(value, (unknown, a, b))| {
            let known = unknown % 4 > 0;
            (Act::Put { value, seq: known.then_some(value) }, known, a, b)
        });
        let never = (100..).zip(never).map(|(value, (a, b))| (Act::Put { value, seq: None }, false, a, b));
        let answers = answers.into_iter().map(|(drawn, a, b)| (answer(length, drawn), true, a, b));
        let mut history = timed(puts.chain(never).chain(answers).collect());
        let all: Vec<u64> = (1..=length).collect();
        history.push(list(1000, 1001, 0, &all));
        history
    })
}

/// A log that each operation reaches at a moment of its own, some time after the call and before the return.
fn true_history(done: Vec<(u8, u8, u16, u16)>) -> Vec<Op> {
    /// Between two operations' effects; an operation begins and ends several of these away.
    const STEP: u32 = 1 << 14;
    let mut log: Vec<u64> = Vec::new();
    let mut timed_ones = Vec::new();
    for (at, (kind, luck, before, after)) in (8u32..).zip(done) {
        let (value, length) = (u64::from(at), log.len() as u64);
        let from = (u64::from(luck) % (length + 1)) as usize;
        let unknown = kind % 8 == 0;
        let did = match kind % 8 {
            0..4 => {
                // Of those of unknown end, half have no effect.
                if kind % 16 != 0 {
                    log.push(value);
                }
                Act::Put { value, seq: (!unknown).then_some(log.len() as u64) }
            }
            4 => listed(from as u64, &log[from..], false),
            5 => listed(0, &log[..from], from < log.len()),
            6 => Act::Count { last: length },
            _ => Act::Look { value: u64::from(luck), found: log.contains(&u64::from(luck)) },
        };
        let effect = at * STEP;
        timed_ones.push((did, !unknown, effect - u32::from(before), effect + 1 + u32::from(after)));
    }
    timed(timed_ones)
}

fn many() -> impl Strategy<Value = Vec<(u8, u8, u16, u16)>> {
    prop::collection::vec(any::<(u8, u8, u16, u16)>(), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_numbers_say_what_all_orders_say(history in small_history()) {
        let step = |log: &Vec<u64>, act: &Act| step(log, act);
        prop_assert_eq!(check(&history).is_ok(), explains(&history, &Vec::new(), &step, 0), "{:?}", history);
    }
}

proptest! {
    #[test]
    fn what_a_log_answered_is_linearizable(done in many()) {
        prop_assert_eq!(told(&true_history(done)), "linearizable");
    }

    /// It gets shorter than what was acknowledged before it was called.
    #[test]
    fn a_count_that_is_made_stale_is_found(done in many(), which in any::<prop::sample::Index>()) {
        let mut history = true_history(done);
        let stale: Vec<(usize, u64)> = (0..history.len()).filter_map(|count| {
            let acknowledged = history.iter().filter(|put| put.end() < history[count].called.event);
            let acknowledged = acknowledged.filter_map(|put| match put.did {
                Act::Put { seq, .. } => seq,
                _ => None,
            });
            let last = acknowledged.max()?;
            matches!(history[count].did, Act::Count { .. }).then_some((count, last - 1))
        }).collect();
        prop_assume!(!stale.is_empty());
        let (count, last) = stale[which.index(stale.len())];
        history[count].did = Act::Count { last };
        prop_assert!(check(&history).is_err());
    }
}
