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
//! 4. A voter that leaves stays in the configuration, *away*, where those who stay are a quorum of it: it
//!    asks for leave to stop ([`may_stop`]), and no copy is lost. It is replaced at once where a learner is
//!    ready, and demoted when it has been away for [`Settings::away_grace`].
//!    Where those who stay are no quorum, all that leave are demoted in one change before they stop: the
//!    plan gathers them for [`Settings::gather`], so that of nine nodes eight may leave at the same moment
//!    while the old quorum is still up. Voters dead for [`Settings::dead_grace`] are demoted, replaced in
//!    the same change where a learner is ready. Learners that have caught up and are ready are promoted.
//!    A voter whose log went back (an old volume, a copied folder) is demoted, and promoted again as any learner.
//!    The voters are to be two of two, else the largest odd number that fits, at most
//!    [`Settings::voters_max`].
//! 5. Live nodes of the cluster that are no members become learners.
//! 6. Learners that left, or have been dead for the grace, are removed.
//!
//! **Invariants**: a step is given only where both the old and the new voters have a majority
//! that lives: in gossip, and answering the leader. A healthy voter is never exchanged for
//! another. Neither death nor absence leaves fewer than three voters where there were three: two living
//! of three tolerate no less than one of one, and keep two copies of what is acknowledged.
//! Where this process was stalled, nobody counts as dead; where it has just been elected, nobody as silent.
//!
//! While a node of a version before 0.2.0 lives, which knows no leave to stop, each that leaves is demoted
//! and the voters are an odd number: the plan of that version, for everybody ([`Facts::all_ask`]).
//!
//! Demoted voters stay learners until they are gone. A node that leaves thereby still hears from
//! Raft that it is no voter any more, and knows when it may stop ([`crate::membership::leave`]).

mod facts;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use skep_base::id::NodeId;

pub use facts::{Facts, Membership, Presence, Progress, QuorumLost};

/// Most learners that are added or removed in one step.
pub const LEARNERS_PER_STEP_MAX: usize = 32;

/// Fewest voters that deaths alone leave.
const VOTERS_KEPT_MIN: usize = 3;

/// For how many times [`Settings::gather`] a stream of leavers may put the change off.
const GATHER_TIMES_MAX: u32 = 4;

/// What the plan goes by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most voters; an even number above two counts as the odd one below it.
    pub voters_max: usize,
    /// How long a member must have been dead before that has consequences.
    pub dead_grace: Duration,
    /// How long a voter that stopped in order is waited for.
    pub away_grace: Duration,
    /// By how many log entries a learner may be behind to be promoted, and a voter to be handed
    /// leadership.
    pub promote_lag: u64,
    /// For how long a learner must have been that close.
    pub promote_stable: Duration,
    /// The same for the second voter of two: it can stop the first from then on.
    pub promote_stable_second: Duration,
    /// How long to gather leavers for one change.
    pub gather: Duration,
}

impl Settings {
    /// The settings that an operator gives; the others as they are by default.
    pub fn new(voters_max: u32, dead_grace: Duration, away_grace: Duration) -> Self {
        Self { voters_max: voters_max as usize, dead_grace, away_grace, ..Self::default() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            voters_max: 5,
            dead_grace: Duration::from_secs(30),
            away_grace: Duration::from_secs(300),
            promote_lag: 256,
            promote_stable: Duration::from_millis(500),
            promote_stable_second: Duration::from_secs(5),
            gather: Duration::from_millis(300),
        }
    }
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
    plan.next_step()
}

/// Whether a voter that leaves may stop now and stay in the configuration: a quorum of it stays that is able
/// to go on at once, and nothing else is due. One that may not is demoted, or asks again.
pub fn may_stop(facts: &Facts, settings: &Settings, id: NodeId, now: Instant) -> bool {
    let membership = &facts.membership;
    let [voters] = membership.configs.as_slice() else { return false };
    let leaves = matches!(facts.presence(id), Some(Presence::Leaving { .. }));
    let in_order = membership.committed && facts.all_ask && facts.settled && !facts.leaves(facts.me);
    if !in_order || !leaves || !voters.contains(&id) {
        return false;
    }
    let plan = Plan { facts, settings, now, voters };
    let able = voters.iter().filter(|voter| plan.is_able(**voter)).count();
    able > voters.len() / 2 && !plan.is_gathering() && plan.next_step().is_none()
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
    fn next_step(&self) -> Option<Step> {
        match self.handover() {
            Handover::To(id) => return Some(Step::TransferLeader(id)),
            Handover::Later => return None,
            Handover::No => {}
        }
        if self.is_gathering() {
            return None;
        }
        self.change_voters().or_else(|| self.add_learners()).or_else(|| self.remove_learners())
    }

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
        let close = |id: &&NodeId| self.is_close(**id) && !self.facts.gone_back.contains(id);
        // One that has just been started again may not stand yet.
        let rank = |id: &&NodeId| (!self.facts.ready.contains(id), self.facts.progress(**id).lag, **id);
        match self.voters.iter().filter(stays).filter(close).min_by_key(rank) {
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

    /// Whether a voter that stays could make up a quorum at once.
    fn is_able(&self, id: NodeId) -> bool {
        let is_there = || self.facts.progress(id).answers_now && self.facts.ready.contains(&id);
        self.facts.stays(id) && (id == self.facts.me || is_there() && self.is_close(id))
    }

    /// Whether it has been dead or away for long enough to do something about it.
    fn is_due(&self, id: NodeId) -> bool {
        let (since, grace) = match self.facts.presence(id) {
            Some(Presence::Dead { since }) => (since, self.settings.dead_grace),
            // Where nothing is to spare, a quorum that is out of the dead and the away is waited for no longer.
            Some(Presence::Away { since }) if self.is_bare() => {
                (since, self.settings.away_grace.min(self.settings.dead_grace))
            }
            Some(Presence::Away { since }) => (since, self.settings.away_grace),
            _ => return false,
        };
        self.facts.trusted && self.now.saturating_duration_since(since) >= grace
    }

    /// Whether three or more stay, and just a quorum: fewer voters would have one to spare.
    fn is_bare(&self) -> bool {
        let staying = self.voters.iter().filter(|id| self.facts.stays(**id)).count();
        staying >= VOTERS_KEPT_MIN && staying == self.voters.len() / 2 + 1
    }

    /// Whether voters leave that must be no voters when they stop: those who stay would be no quorum.
    fn must_demote(&self) -> bool {
        let voters = || self.voters.iter().copied();
        if !self.facts.all_ask {
            return voters().any(|id| self.facts.leaves(id));
        }
        let asks = |id| {
            matches!(self.facts.presence(id), Some(Presence::Leaving { .. }))
                && !self.facts.granted.contains(&id)
        };
        voters().any(asks) && voters().filter(|id| self.facts.stays(*id)).count() <= self.voters.len() / 2
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

    /// Two voters out of two nodes, else the largest odd number out of so many.
    fn target(&self, nodes: usize) -> usize {
        match nodes.min(self.most()).max(1) {
            2 if self.facts.all_ask => 2,
            fitting => fitting - usize::from(fitting.is_multiple_of(2)),
        }
    }

    fn most(&self) -> usize {
        match self.settings.voters_max.max(1) {
            2 if self.facts.all_ask => 2,
            most => most - usize::from(most.is_multiple_of(2)),
        }
    }

    fn change_voters(&self) -> Option<Step> {
        if !self.facts.settled {
            return None;
        }
        let must_demote = self.must_demote();
        let in_haste = self.voters.iter().any(|id| self.facts.leaves(*id));
        let candidates = self.candidates(in_haste);
        let staying = |id: &NodeId| !self.facts.leaves(*id);
        let has_its_log = |id: &NodeId| !self.facts.all_ask || !self.facts.gone_back.contains(id);
        let voters = || self.voters.iter().copied().filter(has_its_log);
        let mut next: BTreeSet<_> = voters().filter(staying).filter(|id| !self.is_due(*id)).collect();
        let away: Vec<_> = voters().filter(|id| !staying(id) && !self.is_due(*id)).collect();
        // Each that is away, or about to be, keeps its place unless a learner is ready to take it.
        let places = if must_demote { 0 } else { away.len() };
        self.promote(&mut next, &candidates, places, in_haste);
        if must_demote {
            if !self.facts.has_living_majority(&next) && self.facts.trusted {
                // The dead would take the quorum with them when the leavers are gone, so they
                // go too, even within the grace. Who comes back is made a learner again.
                next = self.voters.iter().copied().filter(|id| self.facts.stays(*id)).collect();
                self.promote(&mut next, &candidates, 0, in_haste);
            }
        } else {
            next.extend(away.into_iter().take(self.voters.len().saturating_sub(next.len())));
            let kept_min = VOTERS_KEPT_MIN.min(self.voters.len()).min(self.target(VOTERS_KEPT_MIN));
            let missing = kept_min.saturating_sub(next.len());
            next.extend(self.voters.iter().copied().filter(|id| self.is_due(*id)).take(missing));
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

    /// Adds candidates up to the target, or into so many places.
    fn promote(&self, voters: &mut BTreeSet<NodeId>, candidates: &[NodeId], places: usize, in_haste: bool) {
        let wanted = self.target(voters.len() + candidates.len()).saturating_sub(voters.len());
        let wanted = wanted.max(places.min(self.most().saturating_sub(voters.len())));
        let is_second = voters.len() == 1 && wanted == 1 && !in_haste;
        let is_early = |id: &NodeId| {
            let since = self.facts.progress(*id).close_since.unwrap_or(self.now);
            self.now.saturating_duration_since(since) < self.settings.promote_stable_second
        };
        let chosen = candidates.iter().filter(|id| !(is_second && is_early(id)));
        voters.extend(chosen.take(wanted));
    }

    /// Takes out who is over the target: who was no voter before, then those furthest behind, never the leader.
    fn demote(&self, voters: &mut BTreeSet<NodeId>) {
        let surplus = voters.len().saturating_sub(self.target(voters.len()));
        let mut ids: Vec<_> = voters.iter().copied().filter(|id| *id != self.facts.me).collect();
        let behind = |id: &NodeId| Reverse((self.facts.progress(*id).lag.unwrap_or(u64::MAX), *id));
        ids.sort_by_key(|id| (self.voters.contains(id), behind(id)));
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
        let is_gone =
            |id: &NodeId| matches!(self.facts.presence(*id), Some(Presence::Away { .. })) || self.is_due(*id);
        let learners = self.facts.membership.learners.iter().copied();
        let gone: BTreeSet<_> = learners.filter(is_gone).take(LEARNERS_PER_STEP_MAX).collect();
        (!gone.is_empty()).then_some(Step::RemoveLearners(gone))
    }
}

#[cfg(test)]
mod tests;
