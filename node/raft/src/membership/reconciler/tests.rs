//! The plan on real Raft, in one process: what openraft makes of each step.

use openraft::storage::RaftStateMachine;

use super::*;
use crate::membership::leave::LeaveOutcome;

mod nodes;

use nodes::{LEAVE, Nodes};

#[tokio::test]
async fn nodes_that_come_become_learners_and_then_voters() {
    let nodes = Nodes::start(1, 5).await;
    nodes.join(2..=7).await;
    nodes.until_voters(|voters| voters.len() == 5).await;
    nodes.until("two learners", |membership| membership.learners.len() == 2).await;
    nodes.write().await;
}

#[tokio::test]
async fn nine_that_start_together_keep_five_voters() {
    let nodes = Nodes::start(9, 5).await;
    nodes.until_voters(|voters| voters.len() == 5).await;
    nodes.until("four learners", |membership| membership.learners.len() == 4).await;
    nodes.write().await;
}

#[tokio::test]
async fn eight_of_nine_leave_at_once_and_the_last_one_accepts_writes() {
    // Who stays is the leader, a voter, or a learner.
    for stays in [Stays::Leader, Stays::Voter, Stays::Learner] {
        let nodes = Nodes::start(1, 5).await;
        nodes.join(2..=9).await;
        let settled = nodes
            .until("all members", |m| m.learners.len() == 4 && m.configs == [m.configs[0].clone()])
            .await;
        nodes.write().await;
        let leader = nodes.leader().await;
        let voters = &settled.configs[0];
        let last = match stays {
            Stays::Leader => leader,
            Stays::Voter => *voters.iter().find(|id| **id != leader).unwrap(),
            Stays::Learner => *settled.learners.first().unwrap(),
        };
        let leavers: Vec<_> = nodes.ids().into_iter().filter(|id| *id != last).collect();
        let started = Instant::now();
        for outcome in nodes.leave(&leavers).await {
            assert!(
                matches!(outcome, LeaveOutcome::Demoted | LeaveOutcome::NotMember),
                "{stays:?}: {outcome:?}"
            );
        }
        assert!(started.elapsed() < LEAVE / 2, "{stays:?}: {:?}", started.elapsed());
        nodes.until_voters(|voters| voters.iter().eq([&last])).await;
        nodes.write().await;
        nodes.until("no learners", |membership| membership.learners.is_empty()).await;
    }
}

#[tokio::test]
async fn a_voter_that_stops_stays_one_where_a_quorum_stays() {
    for leads in [false, true] {
        let nodes = Nodes::start(3, 5).await;
        nodes.write().await;
        let leader = nodes.leader().await;
        let first = nodes.ids().into_iter().find(|id| (*id == leader) == leads).unwrap();
        assert_eq!(nodes.leave(&[first]).await, [LeaveOutcome::Away]);
        nodes.write().await;
        nodes.until_voters(|voters| voters.len() == 3).await;
        // Of the two that are left, one alone would be no quorum of three.
        let leader = nodes.leader().await;
        let second = nodes.ids().into_iter().find(|id| (*id == leader) != leads).unwrap();
        assert_eq!(nodes.leave(&[second]).await, [LeaveOutcome::Demoted]);
        nodes.until_voters(|voters| voters.len() == 1).await;
        nodes.write().await;
    }
}

#[derive(Debug)]
enum Stays {
    Leader,
    Voter,
    Learner,
}

#[tokio::test]
async fn where_all_leave_nobody_waits() {
    let nodes = Nodes::start(3, 5).await;
    nodes.write().await;
    let started = Instant::now();
    for outcome in nodes.leave_all().await {
        assert!(matches!(outcome, LeaveOutcome::NobodyStays | LeaveOutcome::Demoted), "{outcome:?}");
    }
    assert!(started.elapsed() < LEAVE / 4, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_dead_voter_is_replaced_and_a_dead_leader_too() {
    let nodes = Nodes::start(3, 3).await;
    nodes.join(4..=5).await;
    nodes.until("learners", |membership| membership.learners.len() == 2).await;
    for _ in 0..2 {
        let leader = nodes.leader().await;
        nodes.kill(leader);
        nodes.until_voters(|voters| voters.len() == 3 && !voters.contains(&leader)).await;
        nodes.write().await;
    }
    nodes.until("the dead are gone", |membership| membership.learners.is_empty()).await;
}

#[tokio::test]
async fn one_after_the_other_is_replaced_until_none_of_the_first_is_left() {
    let nodes = Nodes::start(3, 5).await;
    for (old, new) in [(1, 4), (2, 5), (3, 6)] {
        nodes.leave(&[NodeId(old)]).await;
        nodes.join(new..=new).await;
        nodes.until_voters(|voters| voters.len() == 3 && voters.contains(&NodeId(new))).await;
        nodes.write().await;
    }
    nodes.until_voters(|voters| voters.iter().copied().eq((4..=6).map(NodeId))).await;
}

#[tokio::test]
async fn a_change_left_joint_is_finished() {
    let nodes = Nodes::start_idle(5, 5).await;
    let leader = nodes.leader().await;
    let configs: Vec<_> = vec![(1..=5).collect(), [1, 2, 3].into()];
    let joint = openraft::Membership::new_with_defaults(configs, 1..=5);
    let raft = nodes.raft(leader);
    // A new leader refuses until a quorum has answered it.
    while raft.append_membership(joint.clone(), openraft::EntryPayload::Blank, []).await.is_err() {
        nodes.write().await;
    }
    assert_eq!(nodes.membership(leader).configs.len(), 2);
    nodes.reconcile();
    // Then all five are there, and become voters again.
    nodes.until("uniform", |membership| membership.configs.len() == 1).await;
    nodes.until_voters(|voters| voters.len() == 5).await;
    nodes.write().await;
}
