//! The membership plan: what the leader changes next, if anything. A pure function of what
//! gossip shows, what Raft's membership is, and the time; [`crate::membership::reconciler`] gathers the
//! facts and takes the step. No tasks.
//!
//! # The rules, in the order in which they are tried
//!
//! 1. Nothing while a membership entry is not committed.
//! 2. A joint configuration is finished first: it is what an interrupted change leaves. Where
//!    the new voters have no living majority any more, it goes back to the old ones.
//! 3. A leader that leaves, or is no voter, hands leadership to a voter that stays. Only where
//!    no voter stays does it take part in its own removal.
//! 4. Voters that leave are demoted, all of them in one change: the plan gathers them for
//!    [`Settings::gather`], so that of nine nodes eight may leave at the same moment while the
//!    old quorum is still up. Voters dead for [`Settings::dead_grace`] are demoted, replaced in
//!    the same change where a learner is ready. Learners that have caught up and are ready are promoted.
//!    The voters are to be the largest odd number that fits, at most [`Settings::voters_max`].
//! 5. Live nodes of the cluster that are no members become learners.
//! 6. Learners that left, or have been dead for the grace, are removed.
//!
//! **Invariants**: a step is given only where both the old and the new voters have a majority
//! that lives: in gossip, and answering the leader. A healthy voter is never exchanged for
//! another. Death alone never leaves fewer than three voters where there were three: two living
//! of three tolerate no less than one of one, and keep two copies of what is acknowledged.
//! Where this process was stalled, nobody counts as dead.
//!
//! Demoted voters stay learners until they are gone. A node that leaves thereby still hears from
//! Raft that it is no voter any more, and knows when it may stop ([`crate::membership::leave`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use skep_base::id::NodeId;

/// Most learners that are added or removed in one step.
pub const LEARNERS_PER_STEP_MAX: usize = 32;

/// Fewest voters that deaths alone leave.
const VOTERS_KEPT_MIN: usize = 3;

/// For how many times [`Settings::gather`] a stream of leavers may put the change off.
const GATHER_TIMES_MAX: u32 = 4;

/// What the plan goes by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most voters; an even number counts as the odd one below it.
    pub voters_max: usize,
    /// How long a member must have been dead before that has consequences.
    pub dead_grace: Duration,
    /// By how many log entries a learner may be behind to be promoted, and a voter to be handed
    /// leadership.
    pub promote_lag: u64,
    /// For how long a learner must have been that close.
    pub promote_stable: Duration,
    /// How long to gather leavers for one change.
    pub gather: Duration,
}

impl Settings {
    /// The settings that an operator gives; the others as they are by default.
    pub fn new(voters_max: u32, dead_grace: Duration) -> Self {
        Self { voters_max: voters_max as usize, dead_grace, ..Self::default() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            voters_max: 5,
            dead_grace: Duration::from_secs(30),
            promote_lag: 256,
            promote_stable: Duration::from_millis(500),
            gather: Duration::from_millis(300),
        }
    }
}

/// What is known of one node of this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Live,
    /// Live, and going to stop.
    Leaving {
        since: Instant,
    },
    /// Stopped in order.
    Left,
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
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make these the voters, out of a joint configuration.
    FinishJoint(BTreeSet<NodeId>),
    TransferLeader(NodeId),
    /// Make these the voters; those that are none any more become learners.
    ChangeVoters(BTreeSet<NodeId>),
    AddLearners(BTreeSet<NodeId>),
    RemoveLearners(BTreeSet<NodeId>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::FinishJoint(voters) => write!(f, "finish the change to voters {voters:?}"),
            Step::TransferLeader(id) => write!(f, "hand leadership to {id}"),
            Step::ChangeVoters(voters) => write!(f, "make the voters {voters:?}"),
            Step::AddLearners(ids) => write!(f, "add learners {ids:?}"),
            Step::RemoveLearners(ids) => write!(f, "remove learners {ids:?}"),
        }
    }
}

/// The next step, if one is due at `now`.
pub fn next_step(facts: &Facts, settings: &Settings, now: Instant) -> Option<Step> {
    if !facts.membership.committed {
        return None;
    }
    let (old, new) = (facts.membership.configs.first()?, facts.membership.configs.last()?);
    if facts.membership.configs.len() > 1 {
        return [new, old]
            .into_iter()
            .find(|voters| facts.has_living_majority(voters))
            .map(|voters| Step::FinishJoint(voters.clone()));
    }
    let plan = Plan { facts, settings, now, voters: new };
    match plan.handover() {
        Handover::To(id) => return Some(Step::TransferLeader(id)),
        Handover::Later => return None,
        Handover::No => {}
    }
    if plan.is_gathering() {
        return None;
    }
    plan.change_voters().or_else(|| plan.add_learners()).or_else(|| plan.remove_learners())
}

impl Facts {
    fn presence(&self, id: NodeId) -> Option<Presence> {
        self.nodes.get(&id).copied()
    }

    fn progress(&self, id: NodeId) -> Progress {
        self.progress.get(&id).copied().unwrap_or_default()
    }

    /// Whether it is there and takes part, leaving or not.
    fn lives(&self, id: NodeId) -> bool {
        let there = matches!(self.presence(id), Some(Presence::Live | Presence::Leaving { .. }));
        id == self.me || (there && self.progress(id).answers)
    }

    fn leaves(&self, id: NodeId) -> bool {
        matches!(self.presence(id), Some(Presence::Leaving { .. } | Presence::Left))
    }

    fn stays(&self, id: NodeId) -> bool {
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

enum Handover {
    To(NodeId),
    /// Due, but not possible yet.
    Later,
    No,
}

struct Plan<'a> {
    facts: &'a Facts,
    settings: &'a Settings,
    now: Instant,
    voters: &'a BTreeSet<NodeId>,
}

impl Plan<'_> {
    fn handover(&self) -> Handover {
        let me = self.facts.me;
        let is_voter = self.voters.contains(&me);
        if is_voter && !self.facts.leaves(me) {
            return Handover::No;
        }
        if is_voter && self.is_gathering() {
            return Handover::Later;
        }
        let stays = |id: &&NodeId| **id != me && self.facts.stays(**id);
        let close = |id: &&NodeId| self.is_close(**id);
        let lag = |id: &&NodeId| (self.facts.progress(**id).lag, **id);
        match self.voters.iter().filter(stays).filter(close).min_by_key(lag) {
            Some(id) => Handover::To(*id),
            // Nobody to hand over to: the change of voters must come from here.
            None if !self.voters.iter().any(|id| stays(&id)) => Handover::No,
            None => Handover::Later,
        }
    }

    /// Whether more voters may be about to say that they leave.
    fn is_gathering(&self) -> bool {
        let leaving = |id: &NodeId| match self.facts.presence(*id) {
            Some(Presence::Leaving { since }) => Some(since),
            _ => None,
        };
        let since = || self.voters.iter().filter_map(leaving);
        let within = |since: Option<Instant>, limit| {
            since.is_some_and(|since| self.now.saturating_duration_since(since) < limit)
        };
        within(since().max(), self.settings.gather)
            && within(since().min(), self.settings.gather * GATHER_TIMES_MAX)
    }

    fn is_close(&self, id: NodeId) -> bool {
        self.facts.progress(id).lag.is_some_and(|lag| lag <= self.settings.promote_lag)
    }

    /// Whether it has been dead for long enough to do something about it.
    fn is_due(&self, id: NodeId) -> bool {
        let grace = self.settings.dead_grace;
        self.facts.trusted
            && matches!(self.facts.presence(id), Some(Presence::Dead { since })
                if self.now.saturating_duration_since(since) >= grace)
    }

    /// Learners that could be voters, the closest first.
    fn candidates(&self, in_haste: bool) -> Vec<NodeId> {
        let is_stable = |id: &NodeId| {
            let since = self.facts.progress(*id).close_since;
            in_haste
                || since.is_some_and(|since| {
                    self.now.saturating_duration_since(since) >= self.settings.promote_stable
                })
        };
        let is_ready = |id: &NodeId| self.facts.ready.contains(id);
        let fits = |id: &NodeId| self.facts.stays(*id) && is_ready(id) && self.is_close(*id) && is_stable(id);
        let mut ids: Vec<_> = self.facts.membership.learners.iter().copied().filter(fits).collect();
        ids.sort_by_key(|id| (self.facts.progress(*id).lag, *id));
        ids
    }

    /// The largest odd number of voters out of so many.
    fn target(&self, nodes: usize) -> usize {
        let fitting = nodes.min(self.settings.voters_max).max(1);
        fitting - usize::from(fitting.is_multiple_of(2))
    }

    fn change_voters(&self) -> Option<Step> {
        let anyone_leaves = self.voters.iter().any(|id| self.facts.leaves(*id));
        let candidates = self.candidates(anyone_leaves);
        let of = |keep: &dyn Fn(NodeId) -> bool| -> BTreeSet<NodeId> {
            let staying = self.voters.iter().copied().filter(|id| !self.facts.leaves(*id));
            staying.filter(|id| keep(*id)).collect()
        };
        let mut next = of(&|id| !self.is_due(id));
        self.promote(&mut next, &candidates);
        if anyone_leaves {
            if !self.facts.has_living_majority(&next) && self.facts.trusted {
                // The dead would take the quorum with them when the leavers are gone, so they
                // go too, even within the grace. Who comes back is made a learner again.
                next = of(&|id| self.facts.stays(id));
                self.promote(&mut next, &candidates);
            }
        } else {
            let kept_min = VOTERS_KEPT_MIN.min(self.voters.len()).min(self.target(VOTERS_KEPT_MIN));
            let missing = kept_min.saturating_sub(next.len());
            next.extend(of(&|id| self.is_due(id)).into_iter().take(missing));
        }
        // Not where someone may be dead: who that is decides who goes.
        if next.iter().all(|id| self.facts.stays(*id)) {
            self.demote(&mut next);
        }
        let safe = !next.is_empty()
            && self.facts.has_living_majority(self.voters)
            && self.facts.has_living_majority(&next);
        (safe && next != *self.voters).then_some(Step::ChangeVoters(next))
    }

    /// Adds candidates up to the target.
    fn promote(&self, voters: &mut BTreeSet<NodeId>, candidates: &[NodeId]) {
        let wanted = self.target(voters.len() + candidates.len()).saturating_sub(voters.len());
        voters.extend(candidates.iter().take(wanted));
    }

    /// Takes out who is over the target: those furthest behind, never the leader.
    fn demote(&self, voters: &mut BTreeSet<NodeId>) {
        let surplus = voters.len().saturating_sub(self.target(voters.len()));
        let mut ids: Vec<_> = voters.iter().copied().filter(|id| *id != self.facts.me).collect();
        ids.sort_by_key(|id| Reverse((self.facts.progress(*id).lag.unwrap_or(u64::MAX), *id)));
        for id in ids.into_iter().take(surplus) {
            voters.remove(&id);
        }
    }

    fn add_learners(&self) -> Option<Step> {
        let membership = &self.facts.membership;
        let is_new = |id: &NodeId| !self.voters.contains(id) && !membership.learners.contains(id);
        let live = self.facts.nodes.iter().filter(|(_, presence)| **presence == Presence::Live);
        let new: BTreeSet<_> = live.map(|(id, _)| *id).filter(is_new).take(LEARNERS_PER_STEP_MAX).collect();
        (!new.is_empty()).then_some(Step::AddLearners(new))
    }

    fn remove_learners(&self) -> Option<Step> {
        let is_gone = |id: &NodeId| self.facts.presence(*id) == Some(Presence::Left) || self.is_due(*id);
        let learners = self.facts.membership.learners.iter().copied();
        let gone: BTreeSet<_> = learners.filter(is_gone).take(LEARNERS_PER_STEP_MAX).collect();
        (!gone.is_empty()).then_some(Step::RemoveLearners(gone))
    }
}

#[cfg(test)]
mod tests;
