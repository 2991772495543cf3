use std::collections::BTreeSet;

use skep_base::id::ClusterId;
use skep_members::gossip::{PeerRecord, RaftRole};

use super::*;

const ME: NodeId = NodeId(1);

fn record(id: u64, state: NodeState) -> PeerRecord {
    PeerRecord {
        id: NodeId(id),
        program: Program::Node,
        state,
        cluster: Some(ClusterId(7)),
        peer: ([127, 0, 0, 1], 7400).into(),
        http: None,
        admin: None,
        version: "0.1.0".into(),
        protocol: (1, 1),
        expect: 3,
        raft: RaftRole::Follower,
        leader: None,
        term: 1,
        gateway: None,
        generation: 1,
    }
}

fn view(others: impl IntoIterator<Item = (u64, NodeState)>) -> View {
    View {
        me: record(1, NodeState::Draining),
        live: others.into_iter().map(|(id, state)| record(id, state)).collect(),
        dead: vec![],
        settled_since: Instant::now(),
        trusted: true,
        proved: Default::default(),
    }
}

fn membership<const N: usize>(configs: [&[u64]; N], learners: &[u64]) -> Membership {
    let ids = |ids: &[u64]| -> BTreeSet<NodeId> { ids.iter().map(|id| NodeId(*id)).collect() };
    Membership { configs: configs.into_iter().map(ids).collect(), learners: ids(learners), committed: true }
}

use NodeState::{Draining, Joining, Left, Ready};

#[test]
fn a_voter_waits_until_its_demotion_is_committed_and_uniform() {
    let others = view([(2, Ready), (3, Ready)]);
    assert_eq!(decide(ME, &others, &membership([&[1, 2, 3]], &[]), false), None);
    assert_eq!(decide(ME, &others, &membership([&[1, 2, 3], &[2]], &[]), false), None, "joint");
    let mut demoted = membership([&[2]], &[1, 3]);
    demoted.committed = false;
    assert_eq!(decide(ME, &others, &demoted, false), None, "not committed");
    demoted.committed = true;
    assert_eq!(decide(ME, &others, &demoted, false), Some(LeaveOutcome::Demoted));
}

#[test]
fn a_leader_hands_over_before_it_stops() {
    let others = view([(2, Ready)]);
    assert_eq!(decide(ME, &others, &membership([&[2]], &[1]), true), None);
    assert_eq!(decide(ME, &others, &membership([&[2]], &[1]), false), Some(LeaveOutcome::Demoted));
}

#[test]
fn a_learner_and_a_stranger_stop_at_once() {
    let others = view([(2, Ready)]);
    assert_eq!(decide(ME, &others, &membership([&[2]], &[1]), false), Some(LeaveOutcome::Demoted));
    assert_eq!(decide(ME, &others, &membership([&[2]], &[]), false), Some(LeaveOutcome::NotMember));
    assert_eq!(decide(ME, &others, &membership([], &[]), false), Some(LeaveOutcome::NotMember));
}

#[test]
fn where_nobody_stays_there_is_nothing_to_wait_for() {
    let voters = membership([&[1, 2, 3]], &[]);
    for others in [vec![], vec![(2, Draining), (3, Left)]] {
        assert_eq!(decide(ME, &view(others), &voters, true), Some(LeaveOutcome::NobodyStays));
    }
    for state in [Ready, Joining] {
        assert_eq!(decide(ME, &view([(2, Draining), (3, state)]), &voters, true), None);
    }
    let mut stalled = view([]);
    stalled.trusted = false;
    assert_eq!(decide(ME, &stalled, &voters, true), None, "the others may be there");
}

#[test]
fn balancers_and_other_clusters_are_nobody() {
    let mut strangers = view([(2, Ready), (3, Ready)]);
    strangers.live[0].program = Program::Balancer;
    strangers.live[1].cluster = Some(ClusterId(8));
    let voters = membership([&[1]], &[]);
    assert_eq!(decide(ME, &strangers, &voters, true), Some(LeaveOutcome::NobodyStays));
}
