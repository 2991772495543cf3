//! Whether a leader still leads, for reads by read index (Ongaro's dissertation, section 6.4),
//! without a heartbeat where one is not needed.
//!
//! A member that held the leader's vote at some moment had, until then, voted in no later term.
//! So once members that make a quorum have each been seen with that vote after a read arrived,
//! nobody else can have been elected before it arrived, and what the leader knows to be
//! committed holds everything that was acknowledged before it. How the members are seen does not
//! matter: a follower that asks the leader for a read index shows its vote with the question,
//! and is thereby one of the quorum. Of three voters it and the leader are enough.
//!
//! **Invariant**: a vote shown here is read from the log store, which learns of a new vote before
//! anybody else does; openraft's metrics learn of it later and must not be used for this.

use std::collections::BTreeSet;

use openraft::storage::RaftStateMachine;
use skep_base::id::{NodeId, RawNodeId};

use crate::Raft;
use crate::types::{LogId, TypeConfig, Vote};

/// What a node's consensus knows of its own leadership at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Leading(Leading),
    NotLeading { leader: Option<NodeId> },
}

/// A leader's knowledge at one moment. That it led then is not yet proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leading {
    pub vote: Vote,
    /// A node that has applied up to here may answer, once the leadership is proved.
    pub read_index: u64,
    /// The voters: one set, or two while a change of membership is under way.
    pub voters: Vec<BTreeSet<RawNodeId>>,
}

impl Leading {
    /// Whether these members make a quorum, in each of the sets.
    pub fn is_quorum(&self, members: &[RawNodeId]) -> bool {
        self.voters.iter().all(|voters| {
            let present = voters.iter().filter(|voter| members.contains(voter)).count();
            present > voters.len() / 2
        })
    }

    /// All voters but `node`.
    pub fn others(&self, node: RawNodeId) -> BTreeSet<RawNodeId> {
        self.voters.iter().flatten().copied().filter(|voter| *voter != node).collect()
    }

    /// Whether somebody who holds `vote` has voted for this leader, in its term.
    pub fn is_supported_by(&self, vote: &Vote) -> bool {
        same_leader(&self.vote, vote)
    }
}

/// Whether two votes are for the same leader in the same term.
pub fn same_leader(a: &Vote, b: &Vote) -> bool {
    a.leader_id == b.leader_id
}

/// Asks this node's consensus what it knows; none where it has stopped.
pub async fn standing<SM: RaftStateMachine<TypeConfig>>(raft: &Raft<SM>, node: NodeId) -> Option<Standing> {
    let look = move |state: &openraft::RaftState<TypeConfig>| {
        let vote = *state.vote_ref();
        if !vote.is_committed() || vote.leader_id.voted_for != node.0 {
            let leader = vote.is_committed().then_some(NodeId(vote.leader_id.voted_for));
            return Standing::NotLeading { leader };
        }
        let committed = state.cluster_committed().max(state.local_committed());
        let own_term = |id: &&LogId| **id.committed_leader_id() == vote.leader_id.term;
        // Until an entry of its own term is committed, a leader does not know how far its
        // predecessors had committed: all of its log counts.
        let read_index = committed.filter(own_term).or(state.log_ids.last()).map_or(0, |id| id.index);
        let voters = state.membership_state.effective().membership().get_joint_config().clone();
        Standing::Leading(Leading { vote, read_index, voters })
    };
    raft.with_raft_state(look).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leading(voters: &[&[RawNodeId]]) -> Leading {
        let voters = voters.iter().map(|set| set.iter().copied().collect()).collect();
        Leading { vote: Vote::new_committed(3, 1), read_index: 7, voters }
    }

    #[test]
    fn a_quorum_is_more_than_half_of_each_set_of_voters() {
        assert!(leading(&[&[1]]).is_quorum(&[1]));
        assert!(!leading(&[&[1, 2]]).is_quorum(&[1]));
        assert!(leading(&[&[1, 2, 3]]).is_quorum(&[1, 3]));
        assert!(!leading(&[&[1, 2, 3, 4]]).is_quorum(&[1, 3]));
        assert!(!leading(&[&[1, 2, 3, 4, 5]]).is_quorum(&[1, 3]));
        let joint = leading(&[&[1, 2, 3], &[3, 4, 5]]);
        assert!(!joint.is_quorum(&[1, 2, 3]), "a majority of the old voters alone");
        assert!(joint.is_quorum(&[1, 3, 4]));
    }

    #[test]
    fn one_that_is_no_voter_counts_for_nothing() {
        assert!(!leading(&[&[1, 2, 3]]).is_quorum(&[1, 8, 9]));
        assert!(!leading(&[&[2, 3, 4]]).is_quorum(&[1, 2]), "a leader that was voted out");
    }

    #[test]
    fn the_others_are_all_voters_of_both_sets() {
        let others = leading(&[&[1, 2, 3], &[3, 4, 5]]).others(1);
        assert_eq!(others.into_iter().collect::<Vec<_>>(), [2, 3, 4, 5]);
    }

    #[test]
    fn a_vote_supports_the_leader_of_its_term_alone() {
        let leader = leading(&[&[1, 2, 3]]);
        assert!(leader.is_supported_by(&Vote::new_committed(3, 1)));
        assert!(leader.is_supported_by(&Vote::new(3, 1)), "it has not heard of the election's end");
        assert!(!leader.is_supported_by(&Vote::new(3, 2)));
        assert!(!leader.is_supported_by(&Vote::new(4, 1)));
        assert!(!leader.is_supported_by(&Vote::new(2, 1)));
    }
}
