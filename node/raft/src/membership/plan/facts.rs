//! All that the plan looks at, and what follows from it about one node or one set of voters. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use skep_base::id::NodeId;

#[cfg(doc)]
use super::Settings;

/// What is known of one node of this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Live,
    /// Live, and going to stop.
    Leaving {
        since: Instant,
    },
    /// Stopped in order.
    Away {
        since: Instant,
    },
    Dead {
        since: Instant,
    },
}

/// Raft's membership, as it is effective.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// The sets of voters; more than one where it is joint, the new voters last.
    pub configs: Vec<BTreeSet<NodeId>>,
    pub learners: BTreeSet<NodeId>,
    /// Whether the entry that made it is committed.
    pub committed: bool,
}

/// How the leader fares with one member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// By how many entries its log is behind the leader's, where that is known.
    pub lag: Option<u64>,
    /// Since when that has been at most [`Settings::promote_lag`].
    pub close_since: Option<Instant>,
    /// Whether it answered lately.
    pub answers: bool,
    /// Whether it answered a moment ago.
    pub answers_now: bool,
}

/// Too few voters live for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{living} of {voters} voters are alive and answer, which is no majority")]
pub struct QuorumLost {
    pub living: usize,
    pub voters: usize,
}

/// All that the plan looks at.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The leader, whose plan this is.
    pub me: NodeId,
    /// False where absence from gossip proves nothing at the moment.
    pub trusted: bool,
    /// The live nodes of this cluster, `me` among them, and all members.
    pub nodes: BTreeMap<NodeId, Presence>,
    pub membership: Membership,
    pub progress: BTreeMap<NodeId, Progress>,
    /// The live nodes that say that they are ready: they have caught up, and others reach them.
    pub ready: BTreeSet<NodeId>,
    /// Those that were told a moment ago that they may stop.
    pub granted: BTreeSet<NodeId>,
    /// Voters whose logs went back: they lack what they had acknowledged.
    pub gone_back: BTreeSet<NodeId>,
    /// Whether all live nodes ask for leave to stop.
    pub all_ask: bool,
    /// Whether silence says anything yet: a leader that has just been elected has heard from few.
    pub settled: bool,
}

impl Facts {
    pub(super) fn presence(&self, id: NodeId) -> Option<Presence> {
        self.nodes.get(&id).copied()
    }

    pub(super) fn progress(&self, id: NodeId) -> Progress {
        self.progress.get(&id).copied().unwrap_or_default()
    }

    /// Whether it is there and takes part, leaving or not.
    pub(super) fn lives(&self, id: NodeId) -> bool {
        let there = matches!(self.presence(id), Some(Presence::Live | Presence::Leaving { .. }));
        id == self.me || (there && self.progress(id).answers && !self.granted.contains(&id))
    }

    pub(super) fn leaves(&self, id: NodeId) -> bool {
        matches!(self.presence(id), Some(Presence::Leaving { .. } | Presence::Away { .. }))
    }

    pub(super) fn stays(&self, id: NodeId) -> bool {
        self.lives(id) && !self.leaves(id)
    }

    /// Whether a member can be taken out at once: the change needs a living majority of the
    /// voters as they are, and leaves one. Says why not.
    pub fn may_remove(&self, id: NodeId) -> Result<(), QuorumLost> {
        for voters in &self.membership.configs {
            let mut left = voters.clone();
            left.remove(&id);
            for voters in [voters, &left] {
                if !self.has_living_majority(voters) {
                    let living = voters.iter().filter(|id| self.lives(**id)).count();
                    return Err(QuorumLost { living, voters: voters.len() });
                }
            }
        }
        Ok(())
    }

    /// Whether more than half of these voters live.
    pub fn has_living_majority(&self, voters: &BTreeSet<NodeId>) -> bool {
        voters.iter().filter(|id| self.lives(**id)).count() > voters.len() / 2
    }
}
