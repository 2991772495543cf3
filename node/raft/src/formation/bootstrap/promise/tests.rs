//! Tables for each rule, and a model that plays them against everything that can go wrong.

use std::time::Duration;

use super::*;
use crate::formation::bootstrap::Other;

mod model;

const X: ClusterId = ClusterId(0xa);
const Y: ClusterId = ClusterId(0xb);

fn ids(ids: impl IntoIterator<Item = u64>) -> Vec<NodeId> {
    ids.into_iter().map(NodeId).collect()
}

fn proposal(ballot: u64, cluster: ClusterId, members: impl IntoIterator<Item = u64>) -> Proposal {
    let members = ids(members);
    Proposal { ballot, proposer: members[0], cluster, members, expect: 3 }
}

fn sees(others: impl IntoIterator<Item = u64>) -> Sight {
    let other = |id| Other { id: NodeId(id), cluster: None, pristine: true, expect: 3, has_leader: false };
    let others = others.into_iter().map(other).collect();
    Sight { trusted: true, settled_for: Duration::from_secs(9), others }
}

/// Node 3, which promised X to node 1.
fn promised() -> Identity {
    let mut identity = Identity::new(NodeId(3));
    grant(&mut identity, &sees([1, 2]), &proposal(1, X, 1..=3)).unwrap();
    identity
}

fn ask(identity: &mut Identity, sight: &Sight, ask: BootstrapAsk) -> BootstrapAnswer {
    let from = match &ask {
        BootstrapAsk::Check(proposal) | BootstrapAsk::Promise(proposal) => proposal.proposer,
        BootstrapAsk::Query { .. } => NodeId(99),
    };
    answer(identity, sight, 3, from, &ask)
}

fn no(reason: No, ballot: u64) -> BootstrapAnswer {
    BootstrapAnswer::No { reason, ballot }
}

#[test]
fn a_check_changes_nothing_and_a_promise_is_kept_and_repeated() {
    let mut identity = Identity::new(NodeId(3));
    let asked = proposal(1, X, 1..=3);
    let sight = sees([1, 2]);
    assert_eq!(ask(&mut identity, &sight, BootstrapAsk::Check(asked.clone())), BootstrapAnswer::Yes);
    assert_eq!(identity, Identity::new(NodeId(3)));
    for _ in 0..2 {
        assert_eq!(ask(&mut identity, &sight, BootstrapAsk::Promise(asked.clone())), BootstrapAnswer::Yes);
        assert_eq!(identity, promised());
    }
}

#[test]
fn a_check_prefers_the_smallest_node_and_a_cluster_but_a_promise_goes_through() {
    let asked = proposal(1, X, 2..=4);
    let mut identity = Identity::new(NodeId(3));
    let smaller = sees([1, 2, 4]);
    let refused = no(No::SeesSmaller(NodeId(1)), 0);
    assert_eq!(ask(&mut identity, &smaller, BootstrapAsk::Check(asked.clone())), refused);
    let mut cluster = sees([2, 4]);
    cluster.others[1].cluster = Some(Y);
    let refused = no(No::SeesCluster(Y), 0);
    assert_eq!(ask(&mut identity, &cluster, BootstrapAsk::Check(asked.clone())), refused);
    assert_eq!(ask(&mut identity, &smaller, BootstrapAsk::Promise(asked)), BootstrapAnswer::Yes);
}

#[test]
fn malformed_proposals_are_refused() {
    let node = NodeId(3);
    let good = proposal(1, X, 1..=3);
    let twice = Proposal { members: ids([1, 3, 3]), ..good.clone() };
    let unsorted = Proposal { members: ids([1, 3, 2]), ..good.clone() };
    let not_first = Proposal { proposer: NodeId(2), ..good.clone() };
    let few = Proposal { members: ids([1, 3]), ..good.clone() };
    let without_me = Proposal { members: ids([1, 2, 4]), ..good.clone() };
    let none = Proposal { members: vec![], ..good.clone() };
    let many = Proposal { members: ids(1..=MEMBERS_MAX as u64 + 1), ..good.clone() };
    for bad in [twice, unsorted, not_first, few, without_me, none, many] {
        let mut identity = Identity::new(node);
        let from = bad.proposer;
        let answered = answer(&mut identity, &sees([1, 2]), 3, from, &BootstrapAsk::Promise(bad.clone()));
        assert_eq!(answered, no(No::Malformed, 0), "{bad:?}");
        assert_eq!(identity, Identity::new(node));
    }
    let mut identity = Identity::new(node);
    let other = answer(&mut identity, &sees([1, 2]), 3, NodeId(2), &BootstrapAsk::Promise(good.clone()));
    assert_eq!(other, no(No::Malformed, 0), "asked by another than the proposer");
    let other = answer(&mut identity, &sees([1, 2]), 5, NodeId(1), &BootstrapAsk::Promise(good));
    assert_eq!(other, no(No::Expects(5), 0));
}

#[test]
fn a_word_holds_while_its_proposer_lives_or_may_live() {
    let asked = proposal(2, Y, 2..=4);
    let mut identity = promised();
    assert_eq!(grant(&mut identity, &sees([1, 2, 4]), &asked), Err(No::PromisedTo(NodeId(1))));
    let mut stalled = sees([2, 4]);
    stalled.trusted = false;
    assert_eq!(grant(&mut identity, &stalled, &asked), Err(No::PromisedTo(NodeId(1))));
    assert_eq!(identity, promised());
}

#[test]
fn a_dead_proposers_word_is_taken_back_where_its_cluster_can_get_no_quorum() {
    let mut identity = promised();
    grant(&mut identity, &sees([2, 4]), &proposal(2, Y, 2..=4)).unwrap();
    assert_eq!(identity.past, [promised().promise.unwrap()]);
    assert_eq!(identity.promise.as_ref().unwrap().cluster, Y);
    // Nodes 1 and 2 are a majority of X's list.
    let mut identity = promised();
    let fenced = No::Fenced { proposer: NodeId(1), cluster: X };
    assert_eq!(grant(&mut identity, &sees([4, 5]), &proposal(2, Y, 3..=5)), Err(fenced));
    assert_eq!(identity, promised());
}

#[test]
fn a_word_taken_back_earlier_still_counts() {
    let mut identity = promised();
    grant(&mut identity, &sees([2, 4]), &proposal(2, Y, 2..=4)).unwrap();
    let third = Proposal { cluster: ClusterId(0xc), ..proposal(3, X, [3, 4, 5]) };
    let fenced = No::Fenced { proposer: NodeId(1), cluster: X };
    assert_eq!(grant(&mut identity, &sees([4, 5]), &third), Err(fenced));
}

#[test]
fn ballots_only_rise() {
    let mut identity = promised();
    drop_promise(&mut identity, X);
    assert_eq!(identity.promise, None);
    assert_eq!(grant(&mut identity, &sees([2]), &proposal(1, Y, 1..=3)), Err(No::BallotTooLow));
    grant(&mut identity, &sees([2]), &proposal(2, Y, 1..=3)).unwrap();
}

#[test]
fn a_proposer_may_propose_anew() {
    let mut identity = promised();
    grant(&mut identity, &sees([1, 2]), &proposal(2, Y, 1..=3)).unwrap();
    assert_eq!(identity.promise.as_ref().unwrap().cluster, Y);
    assert_eq!(identity.past, [], "it dropped what it proposed before");
}

#[test]
fn of_two_proposers_the_larger_id_yields_until_it_has_decided() {
    let own = proposal(1, X, 2..=4);
    let mut two = Identity::new(NodeId(2));
    grant(&mut two, &sees([3, 4]), &own).unwrap();
    let larger = Proposal { ballot: 2, ..proposal(2, Y, 2..=4) };
    let larger = Proposal { proposer: NodeId(3), members: ids([2, 3, 4]), ..larger };
    assert_eq!(grant(&mut two, &sees([3, 4]), &larger), Err(No::Malformed), "who is not the smallest");
    let mut decided = two.clone();
    assert!(decide(&mut decided, X));
    assert_eq!((decided.cluster, &decided.planned), (Some(X), &Some(own.members)));
    let smaller = proposal(2, Y, 1..=4);
    let refused = ask(&mut decided, &sees([1, 3, 4]), BootstrapAsk::Promise(smaller.clone()));
    assert_eq!(refused, BootstrapAnswer::HasCluster(X));
    let yes = ask(&mut two, &sees([1, 3, 4]), BootstrapAsk::Promise(smaller));
    assert_eq!(yes, BootstrapAnswer::Yes);
    assert!(!decide(&mut two, X), "it gave its word away");
    assert_eq!(two.cluster, None);
}

#[test]
fn a_proposer_says_whether_it_still_proposes() {
    let mut one = Identity::new(NodeId(1));
    grant(&mut one, &sees([2, 3]), &proposal(1, X, 1..=3)).unwrap();
    let query = BootstrapAsk::Query { cluster: X };
    assert_eq!(ask(&mut one, &sees([]), query.clone()), BootstrapAnswer::Yes);
    let mut dropped = one.clone();
    drop_promise(&mut dropped, X);
    assert_eq!(ask(&mut dropped, &sees([]), query.clone()), no(No::Dropped, 1));
    assert!(decide(&mut one, X));
    assert_eq!(ask(&mut one, &sees([]), query), BootstrapAnswer::HasCluster(X));
}

#[test]
fn a_cluster_is_adopted_when_promised_or_established() {
    let mut identity = promised();
    assert_eq!(adopt(&mut identity, Y, false), Err(NotAdopted::NotPromised));
    adopt(&mut identity, X, false).unwrap();
    adopt(&mut identity, X, false).unwrap();
    assert_eq!((identity.cluster, &identity.promise), (Some(X), &None));
    assert_eq!(adopt(&mut identity, Y, true), Err(NotAdopted::HasCluster(X)));
    drop_promise(&mut identity, X);
    assert_eq!(identity.cluster, Some(X));
    let mut identity = promised();
    adopt(&mut identity, Y, true).unwrap();
    assert_eq!(identity.cluster, Some(Y));
}

#[test]
fn nobody_adopts_its_own_proposal_from_hearsay() {
    let mut one = Identity::new(NodeId(1));
    grant(&mut one, &sees([2, 3]), &proposal(1, X, 1..=3)).unwrap();
    assert_eq!(adopt(&mut one, X, false), Err(NotAdopted::NotPromised));
}
