use proptest::prelude::*;

use super::*;
use crate::history::exhaustive::{explains, operation, timed};

fn write(called: u64, returned: u64, value: u64) -> Op {
    operation(called, Some(returned), Access::Write { value, version: None })
}

fn versioned(called: u64, returned: u64, value: u64, version: u64) -> Op {
    operation(called, Some(returned), Access::Write { value, version: Some(version) })
}

fn unknown(called: u64, value: u64) -> Op {
    operation(called, None, Access::Write { value, version: None })
}

fn read(called: u64, returned: u64, value: impl Into<Option<u64>>) -> Op {
    operation(called, Some(returned), Access::Read { value: value.into() })
}

/// The words of a contradiction.
fn told(history: &[Op]) -> String {
    check(history).map_or_else(|contradiction| contradiction.to_string(), |()| "linearizable".to_owned())
}

#[test]
fn what_one_client_does_after_the_other_is_linearizable() {
    let history = [read(1, 2, None), write(3, 4, 7), read(5, 6, 7), write(7, 8, 9), read(9, 10, 9)];
    assert_eq!(told(&history), "linearizable");
}

#[test]
fn reads_beside_a_write_may_see_either_value_in_one_order() {
    let history = [write(1, 2, 1), write(3, 12, 2), read(4, 5, 1), read(6, 9, 2), read(7, 10, 1)];
    assert_eq!(told(&history), "linearizable", "the last overlaps the one that saw the new value");
    let history = [write(1, 2, 1), write(3, 12, 2), read(4, 5, 1), read(6, 7, 2), read(8, 9, 1)];
    assert!(told(&history).starts_with("the register must have had another value all the time"));
    let history = [write(1, 2, 1), write(3, 14, 2), read(4, 5, 2), read(6, 7, 1), read(8, 9, 2)];
    assert!(told(&history).starts_with("the register must have had two values at a time"));
}

#[test]
fn a_value_that_was_written_over_before_the_read_began_is_stale() {
    let history = [write(1, 2, 1), write(3, 4, 2), read(5, 6, 1)];
    let told = told(&history);
    assert!(told.starts_with("the register must have had another value all the time"), "{told}");
    assert!(told.contains("client 0 at node 1, 0.0050 s to 0.0060 s (events 5 to 6): read 1"), "{told}");
    assert_eq!(told.lines().count(), 4, "each of the three is told once: {told}");
}

#[test]
fn that_nothing_was_written_is_stale_after_a_write() {
    assert_ne!(told(&[write(1, 2, 1), read(3, 4, None)]), "linearizable");
    assert_eq!(told(&[write(1, 3, 1), read(2, 4, None)]), "linearizable");
}

#[test]
fn a_value_is_read_neither_before_its_write_nor_without_one() {
    assert!(told(&[read(1, 2, 7), write(3, 4, 7)]).starts_with("it was read before it was written"));
    assert!(told(&[read(1, 2, 7), unknown(3, 7)]).starts_with("it was read before it was written"));
    assert!(told(&[read(1, 2, 7)]).starts_with("nobody wrote what was read"));
}

#[test]
fn a_write_of_unknown_end_takes_effect_late_or_never() {
    let after_others = [unknown(1, 1), write(2, 3, 2), read(4, 5, 2), read(6, 7, 1)];
    assert_eq!(told(&after_others), "linearizable");
    assert_eq!(told(&[unknown(1, 1), write(2, 3, 2), read(4, 5, 2)]), "linearizable");
    let twice = [unknown(1, 1), write(2, 3, 2), read(4, 5, 1), read(6, 7, 2), read(8, 9, 1)];
    assert_ne!(told(&twice), "linearizable");
}

#[test]
fn versions_go_with_the_order_of_writes() {
    assert_eq!(told(&[versioned(1, 2, 7, 1), versioned(3, 4, 8, 3), read(5, 6, 8)]), "linearizable");
    let back = told(&[versioned(1, 2, 7, 2), versioned(3, 4, 8, 1)]);
    assert!(back.starts_with("the second began after the first had ended"), "{back}");
    let twice = told(&[versioned(1, 4, 7, 1), versioned(2, 3, 8, 1)]);
    assert!(twice.starts_with("two writes made one version"), "{twice}");
}

/// A register that is as it should be.
fn step((value, version): &(Option<u64>, u64), access: &Access) -> Option<(Option<u64>, u64)> {
    match *access {
        Access::Write { value, version: said } => {
            said.is_none_or(|said| said == version + 1).then_some((Some(value), version + 1))
        }
        Access::Read { value: read } => (*value == read).then_some((*value, *version)),
    }
}

/// Some writes of values from 1, some of them of unknown end, and some reads of whatever value.
fn small_history() -> impl Strategy<Value = Vec<Op>> {
    let writes = prop::collection::vec((any::<u8>(), any::<u32>(), any::<u32>()), 0..5);
    let reads = prop::collection::vec((0u64..5, any::<u32>(), any::<u32>()), 0..5);
    (writes, reads).prop_map(|(writes, reads)| {
        let written = writes.len() as u64;
        let writes = (1..)
            .zip(writes)
            .map(|(value, (unknown, a, b))| (Access::Write { value, version: None }, unknown % 4 > 0, a, b));
        let reads = reads.into_iter().map(|(value, a, b)| {
            let value = value % (written + 1);
            (Access::Read { value: (value > 0).then_some(value) }, true, a, b)
        });
        timed(writes.chain(reads).collect())
    })
}

/// A register that each operation reaches at a moment of its own, some time after the call and before the return.
fn true_history(done: Vec<(bool, u8, u16, u16)>) -> Vec<Op> {
    /// Between two operations' effects; an operation begins and ends several of these away.
    const STEP: u32 = 1 << 14;
    let (mut state, mut version) = (None, 0);
    let mut timed_ones = Vec::new();
    for (at, (is_write, luck, before, after)) in (8u32..).zip(done) {
        let unknown = luck % 8 == 0;
        let access = if is_write {
            let value = u64::from(at);
            // Of those of unknown end, half have no effect.
            if luck % 16 != 0 {
                (state, version) = (Some(value), version + 1);
            }
            Access::Write { value, version: (!unknown).then_some(version) }
        } else {
            Access::Read { value: state }
        };
        let effect = at * STEP;
        let known = !(is_write && unknown);
        timed_ones.push((access, known, effect - u32::from(before), effect + 1 + u32::from(after)));
    }
    timed(timed_ones)
}

fn many() -> impl Strategy<Value = Vec<(bool, u8, u16, u16)>> {
    prop::collection::vec(any::<(bool, u8, u16, u16)>(), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_rule_of_zones_says_what_all_orders_say(history in small_history()) {
        prop_assert_eq!(check(&history).is_ok(), explains(&history, &(None, 0), &step, 0), "{:?}", history);
    }
}

proptest! {
    #[test]
    fn what_a_register_answered_is_linearizable(done in many()) {
        prop_assert_eq!(told(&true_history(done)), "linearizable");
    }

    /// Of a write that another had replaced before the read was called.
    #[test]
    fn a_read_that_is_made_stale_is_found(done in many(), which in any::<prop::sample::Index>()) {
        let mut history = true_history(done);
        let stale: Vec<(usize, u64)> = (0..history.len()).filter_map(|read| {
            let before = |end: u64| {
                move |one: &&Op| one.is_write() && one.end() < end
            };
            let last = history.iter().filter(before(history[read].called.event)).max_by_key(|one| one.called.event)?;
            let replaced = history.iter().find(before(last.called.event))?;
            (!history[read].is_write()).then_some((read, replaced.value()?))
        }).collect();
        prop_assume!(!stale.is_empty());
        let (read, value) = stale[which.index(stale.len())];
        history[read].did = Access::Read { value: Some(value) };
        prop_assert!(check(&history).is_err());
        // Also where no answer tells a version.
        for one in &mut history {
            if let Access::Write { version, .. } = &mut one.did {
                *version = None;
            }
        }
        prop_assert!(check(&history).is_err());
    }
}
