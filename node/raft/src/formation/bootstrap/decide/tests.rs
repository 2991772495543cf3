use std::time::Duration;

use super::*;
use crate::formation::bootstrap::Other;
use crate::formation::identity::Promise;

const X: ClusterId = ClusterId(0xa);
const Y: ClusterId = ClusterId(0xb);

fn pristine(id: u64) -> Other {
    Other { id: NodeId(id), cluster: None, pristine: true, expect: 3, has_leader: false }
}

fn member(id: u64, cluster: ClusterId, has_leader: bool) -> Other {
    Other { cluster: Some(cluster), pristine: false, has_leader, ..pristine(id) }
}

fn sight(others: impl Into<Vec<Other>>) -> Sight {
    Sight { trusted: true, settled_for: Duration::from_secs(9), others: others.into() }
}

fn identity(id: u64) -> Identity {
    Identity::new(NodeId(id))
}

fn promised(id: u64, proposer: u64) -> Identity {
    let members = vec![NodeId(1), NodeId(2), NodeId(3)];
    let promise = Promise { ballot: 1, proposer: NodeId(proposer), cluster: X, members };
    Identity { promise: Some(promise), ballot: 1, ..identity(id) }
}

fn of_three(sight: &Sight, identity: &Identity) -> Decision {
    decide(sight, identity, 3, true)
}

#[test]
fn the_smallest_of_the_expected_nodes_proposes_and_the_others_wait_for_it() {
    let members = vec![NodeId(1), NodeId(2), NodeId(3)];
    assert_eq!(of_three(&sight([pristine(2), pristine(3)]), &identity(1)), Decision::Propose(members));
    for id in [2, 3] {
        let others: Vec<_> = [1, 2, 3].into_iter().filter(|other| *other != id).map(pristine).collect();
        assert_eq!(of_three(&sight(others), &identity(id)), Decision::Wait(Wait::Proposer(NodeId(1))));
    }
}

#[test]
fn more_than_the_expected_nodes_are_all_proposed() {
    let members = (1..=4).map(NodeId).collect();
    let others = [pristine(2), pristine(3), pristine(4)];
    assert_eq!(of_three(&sight(others), &identity(1)), Decision::Propose(members));
}

#[test]
fn a_node_waits_for_those_expected_for_the_view_to_settle_and_after_a_stall() {
    let few = sight([pristine(2)]);
    assert_eq!(of_three(&few, &identity(1)), Decision::Wait(Wait::Missing { seen: 2, expect: 3 }));
    let mut moving = sight([pristine(2), pristine(3)]);
    moving.settled_for = Duration::ZERO;
    assert_eq!(of_three(&moving, &identity(1)), Decision::Wait(Wait::Settling));
    moving.trusted = false;
    assert_eq!(of_three(&moving, &identity(1)), Decision::Wait(Wait::Stalled));
}

#[test]
fn nodes_that_expect_different_numbers_wait_and_say_so() {
    let other = Other { expect: 5, ..pristine(2) };
    let wait = Wait::ExpectDiffers { node: NodeId(2), theirs: 5, own: 3 };
    assert!(wait.to_string().contains("--expect 5"), "{wait}");
    assert_eq!(of_three(&sight([other, pristine(3)]), &identity(1)), Decision::Wait(wait));
}

#[test]
fn an_established_cluster_is_joined_before_all_else() {
    let others = [pristine(2), pristine(3), member(4, X, true)];
    let adopt = Decision::Adopt { cluster: X, established: true };
    assert_eq!(of_three(&sight(others), &identity(1)), adopt);
    assert_eq!(decide(&sight(others), &identity(1), 1, true), adopt);
    assert_eq!(decide(&sight(others), &identity(1), 1, false), adopt);
    assert_eq!(of_three(&sight(others), &promised(1, 1)), adopt, "also before the own proposal");
}

#[test]
fn a_cluster_without_a_leader_or_beside_another_is_waited_for() {
    let none = sight([member(2, X, false), pristine(3), pristine(4)]);
    assert_eq!(of_three(&none, &identity(1)), Decision::Wait(Wait::NoLeader(X)));
    let two = sight([member(2, Y, true), member(3, X, true)]);
    assert_eq!(of_three(&two, &identity(1)), Decision::Wait(Wait::TwoClusters(X, Y)));
    let one_and_a_half = sight([member(2, Y, true), member(3, X, false)]);
    let adopt = Decision::Adopt { cluster: Y, established: true };
    assert_eq!(of_three(&one_and_a_half, &identity(1)), adopt);
}

#[test]
fn the_promised_cluster_is_adopted_when_it_is_seen_and_no_other_that_has_no_leader() {
    let adopt = Decision::Adopt { cluster: X, established: false };
    assert_eq!(of_three(&sight([member(1, X, false)]), &promised(2, 1)), adopt);
    let wait = Decision::Wait(Wait::NoLeader(Y));
    assert_eq!(of_three(&sight([member(1, Y, false)]), &promised(2, 1)), wait);
}

#[test]
fn who_promised_waits_for_its_proposer_and_goes_on_without_it_when_it_is_gone() {
    let wait = Wait::Promised { proposer: NodeId(1), cluster: X };
    let there = sight([pristine(1), pristine(3)]);
    assert_eq!(of_three(&there, &promised(2, 1)), Decision::Wait(wait));
    let gone = sight([pristine(3), pristine(4)]);
    let members = (2..=4).map(NodeId).collect();
    assert_eq!(of_three(&gone, &promised(2, 1)), Decision::Propose(members));
}

#[test]
fn a_proposer_goes_on_while_its_members_are_there_and_else_drops_the_proposal() {
    let smaller = sight([pristine(0), pristine(2), pristine(3)]);
    assert_eq!(of_three(&smaller, &promised(1, 1)), Decision::Continue);
    let gone = sight([pristine(0), pristine(2)]);
    assert_eq!(of_three(&gone, &promised(1, 1)), Decision::Drop(X));
}

#[test]
fn a_node_starts_alone_only_without_seeds() {
    assert_eq!(decide(&sight([]), &identity(1), 1, false), Decision::Alone);
    // Others may have this one as their seed.
    assert_eq!(decide(&sight([pristine(2)]), &identity(1), 1, false), Decision::Alone);
    for others in [vec![], vec![pristine(2)]] {
        assert_eq!(decide(&sight(others), &identity(1), 1, true), Decision::Wait(Wait::NobodyToJoin));
    }
}

#[test]
fn a_member_never_bootstraps() {
    let member = Identity { cluster: Some(Y), ..identity(1) };
    assert_eq!(of_three(&sight([pristine(2), pristine(3)]), &member), Decision::Member(Y));
    assert_eq!(decide(&sight([]), &member, 1, false), Decision::Member(Y));
}
