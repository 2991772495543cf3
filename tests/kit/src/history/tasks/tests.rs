use super::*;
use crate::history::exhaustive::operation;

fn id(value: u64) -> String {
    format!("task-{value}")
}

fn put(called: u64, returned: u64, value: u64) -> Op {
    operation(called, Some(returned), Act::Put { value, id: Some(id(value)) })
}

fn claim(called: u64, returned: u64, given: &[(u64, u64)]) -> Op {
    let given = given.iter().map(|(value, fence)| Given { id: id(*value), value: *value, fence: *fence });
    operation(called, Some(returned), Act::Claim { given: given.collect() })
}

fn end(called: u64, returned: u64, value: u64, fence: u64, how: How, counted: bool) -> Op {
    operation(called, Some(returned), Act::End { id: id(value), fence, how, counted: Some(counted) })
}

fn unknown_end(called: u64, value: u64, fence: u64, how: How) -> Op {
    operation(called, None, Act::End { id: id(value), fence, how, counted: None })
}

/// The words of a contradiction.
fn told(history: &[Op], became: &[(u64, Became)]) -> String {
    let became = became.iter().map(|(value, became)| (id(*value), *became)).collect();
    check(history, &became).map_or_else(|contradiction| contradiction.to_string(), |()| "fine".to_owned())
}

use Became::{Dead, Done};
use How::{Complete, Fail, Release};

const ORDER: &str = "the second began after the first had ended, and comes before it by their fences";

#[test]
fn tasks_that_run_again_and_end_once_are_fine() {
    let history = [
        put(1, 4, 1),
        // Claimed before its put was answered.
        claim(2, 3, &[(1, 10)]),
        end(5, 6, 1, 10, Fail, true),
        operation(7, None, Act::Put { value: 2, id: None }),
        claim(8, 9, &[(2, 20), (1, 21)]),
        end(10, 15, 1, 21, Release, true),
        unknown_end(11, 2, 20, Complete),
        claim(12, 13, &[(1, 30)]),
        end(14, 17, 1, 21, Complete, false),
        end(16, 18, 1, 30, Complete, true),
        end(19, 20, 1, 30, Complete, true),
        claim(21, 22, &[]),
    ];
    assert_eq!(told(&history, &[(1, Done), (2, Done)]), "fine");
}

#[test]
fn a_task_ends_once_and_is_not_claimed_after_it() {
    let begin = [put(1, 2, 1), claim(3, 4, &[(1, 10)]), claim(5, 6, &[(1, 20)])];
    let with = |more: &[Op]| told(&[&begin[..], more].concat(), &[(1, Done)]);
    let both = [end(7, 8, 1, 20, Complete, true), end(7, 9, 1, 10, Complete, true)];
    assert!(with(&both).starts_with("task-1 was completed twice"), "{}", with(&both));
    let stale = [end(7, 8, 1, 10, Complete, true)];
    assert!(with(&stale).starts_with("task-1 was claimed after it had ended"), "{}", with(&stale));
}

#[test]
fn an_end_by_a_fence_that_was_seen_to_be_old_does_not_count() {
    for how in [Fail, Release] {
        let history = [
            put(1, 2, 1),
            claim(3, 4, &[(1, 10)]),
            claim(5, 6, &[(1, 20)]),
            end(7, 8, 1, 10, how, true),
            end(9, 10, 1, 20, Complete, true),
        ];
        assert!(told(&history, &[(1, Done)]).starts_with(ORDER), "{}", told(&history, &[(1, Done)]));
    }
}

#[test]
fn fences_rise_from_one_claim_to_the_next_whatever_they_give() {
    let history = [put(1, 2, 1), put(3, 4, 2), claim(5, 6, &[(1, 20)]), claim(7, 8, &[(2, 10)])];
    let told_of = |history: &[Op]| told(history, &[(1, Dead), (2, Dead)]);
    assert!(told_of(&history).starts_with(ORDER), "{}", told_of(&history));
    let twice = [put(1, 2, 1), put(3, 4, 2), claim(5, 8, &[(1, 20)]), claim(6, 7, &[(2, 20)])];
    assert!(told_of(&twice).starts_with("fence 20 was given twice"), "{}", told_of(&twice));
}

#[test]
fn what_was_put_once_is_one_task_and_what_nobody_put_is_none() {
    let strange = operation(
        5,
        Some(6),
        Act::Claim { given: vec![Given { id: "another".to_owned(), value: 1, fence: 20 }] },
    );
    let history = [put(1, 2, 1), strange.clone()];
    assert!(told(&history, &[(1, Done)]).starts_with("1 was put once, and is task-1 and another"));
    assert!(told(&[strange], &[]).starts_with("nobody put 1"));
}

#[test]
fn what_was_acknowledged_is_not_lost_nor_done_by_nobody_nor_given_up_once_it_ended() {
    let ended = [put(1, 2, 1), claim(3, 4, &[(1, 10)]), end(5, 6, 1, 10, Complete, true)];
    assert!(told(&ended[..1], &[]).starts_with("task-1 was lost"));
    assert!(told(&ended[..1], &[(1, Became::Lost)]).starts_with("task-1 was lost"));
    assert!(told(&ended[..2], &[(1, Done)]).starts_with("task-1 is done, and nobody completed it"));
    assert!(told(&ended, &[(1, Dead)]).starts_with("task-1 was completed, and is given up"));
}
