//! The plan's facts, from gossip's view and Raft's metrics; and the memory of since when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use openraft::ServerState;
use openraft_rt::Instant as _;
use skep_base::id::NodeId;
use skep_members::gossip::{NodeState, PeerRecord, Program, View};

use super::Settings;
use crate::membership::plan::{Facts, Membership, Presence, Progress};
use crate::membership::stops::STOPS;
use crate::types::{Metrics, StoredMembership};
use crate::witness::Witness;

/// Within how long a member must have answered the leader to count as taking part.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// The same for one that makes up a quorum when another stops.
const ANSWERS_NOW_WITHIN: Duration = Duration::from_secs(1);
/// For how long a leader that has heard from all changes no voters yet: gossip of what was before its time may
/// still be on its way.
const NEW_LEADER_WAIT: Duration = Duration::from_millis(500);
/// How long a node that was told that it may stop counts as gone, whatever it does.
const GRANT_TIME: Duration = Duration::from_secs(5);

/// Raft's side of the facts.
#[derive(Debug, Clone, Default)]
pub struct RaftFacts {
    pub membership: Membership,
    /// The term in which this node leads, if it does.
    pub leads: Option<u64>,
    /// Known on the leader only.
    pub members: BTreeMap<NodeId, MemberFacts>,
    /// Voters whose logs went back.
    pub gone_back: BTreeSet<NodeId>,
}

/// How the leader fares with one member.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemberFacts {
    /// How many entries it lacks; `None` before it told.
    pub lag: Option<u64>,
    /// How long ago what it answered last was sent.
    pub answered_ago: Option<Duration>,
}

impl RaftFacts {
    /// The same, and who went back.
    pub fn witnessed(mut self, witness: &Witness, now: Instant) -> Self {
        // Who leads is told by those whose logs went back; what was known before is of another time.
        let is_of_now =
            |id| self.leads.is_some() && self.membership.configs.iter().any(|it| it.contains(&id));
        self.gone_back = witness.gone_back(is_of_now, now);
        self
    }
}

/// Reads Raft's metrics.
pub fn raft_facts(metrics: &Metrics) -> RaftFacts {
    let mut members: BTreeMap<NodeId, MemberFacts> = BTreeMap::new();
    let last = metrics.last_log_index.unwrap_or(0);
    for (id, matched) in metrics.replication.iter().flatten() {
        members.entry(NodeId(*id)).or_default().lag =
            matched.as_ref().map(|log_id| last.saturating_sub(log_id.index));
    }
    for (id, sent) in metrics.heartbeat.iter().flatten() {
        members.entry(NodeId(*id)).or_default().answered_ago = sent.as_ref().map(|sent| sent.elapsed());
    }
    RaftFacts {
        membership: membership_of(&metrics.membership_config, &metrics.committed_membership_config),
        leads: (metrics.state == ServerState::Leader).then_some(metrics.current_term),
        members,
        gone_back: BTreeSet::new(),
    }
}

/// The membership in the plan's terms.
pub fn membership_of(effective: &StoredMembership, committed: &StoredMembership) -> Membership {
    let membership = effective.membership();
    Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|voters| voters.iter().map(|id| NodeId(*id)).collect())
            .collect(),
        learners: membership.learner_ids().map(NodeId).collect(),
        committed: effective.log_id() == committed.log_id(),
    }
}

/// Remembers since when things are as they are.
#[derive(Debug, Default)]
pub struct Tracker {
    leaving: BTreeMap<NodeId, Instant>,
    dead: BTreeMap<NodeId, Instant>,
    /// Kept for as long as they are members, also when gossip has forgotten them.
    away: BTreeMap<NodeId, Instant>,
    close: BTreeMap<NodeId, Instant>,
    granted: BTreeMap<NodeId, Instant>,
    /// Since when this node leads, in which term.
    leads: Option<(u64, Instant)>,
}

impl Tracker {
    /// A node was told that it may stop.
    pub fn grant(&mut self, id: NodeId, now: Instant) {
        self.granted.insert(id, now);
    }

    /// The facts at `now`. None while this node shows no cluster.
    pub fn observe(
        &mut self,
        me: NodeId,
        view: &View,
        raft: RaftFacts,
        settings: &Settings,
        now: Instant,
    ) -> Option<Facts> {
        let cluster = view.me.cluster?;
        let of_us = |record: &&PeerRecord| record.program == Program::Node && record.cluster == Some(cluster);
        let mut nodes: BTreeMap<NodeId, Presence> = BTreeMap::new();
        let mut leaving = BTreeMap::new();
        let mut ready = BTreeSet::new();
        let mut away = BTreeMap::new();
        let mut all_ask = true;
        for record in view.live.iter().filter(of_us).chain([&view.me]) {
            let presence = match record.state {
                NodeState::Joining | NodeState::Ready => Presence::Live,
                NodeState::Left => {
                    let since = self.away.get(&record.id).copied().unwrap_or(now);
                    away.insert(record.id, since);
                    Presence::Away { since }
                }
                NodeState::Draining => {
                    let since = self.leaving.get(&record.id).copied().unwrap_or(now);
                    leaving.insert(record.id, since);
                    Presence::Leaving { since }
                }
            };
            all_ask &= record.state == NodeState::Left || record.protocol.1 >= STOPS;
            if record.state == NodeState::Ready {
                ready.insert(record.id);
            }
            nodes.insert(record.id, presence);
        }
        let mut dead = BTreeMap::new();
        let voters = raft.membership.configs.iter().flatten();
        for id in voters.chain(&raft.membership.learners) {
            if nodes.contains_key(id) {
                continue;
            }
            // Who stopped in the middle of leaving meant to.
            let said_so = |record: &PeerRecord| {
                record.id == *id && matches!(record.state, NodeState::Left | NodeState::Draining)
            };
            let known = self.away.get(id).copied();
            let presence = if known.is_some() || view.dead.iter().any(said_so) {
                let since = known.unwrap_or(now);
                away.insert(*id, since);
                Presence::Away { since }
            } else {
                let since = self.dead.get(id).copied();
                if view.trusted || since.is_some() {
                    dead.insert(*id, since.unwrap_or(now));
                }
                // Gossip may have lost someone who still answers Raft.
                let answered = raft.members.get(id).and_then(|member| member.answered_ago);
                let answered = answered.and_then(|ago| now.checked_sub(ago));
                Presence::Dead { since: since.unwrap_or(now).max(answered.unwrap_or(since.unwrap_or(now))) }
            };
            nodes.insert(*id, presence);
        }
        let mut close = BTreeMap::new();
        let mut progress = BTreeMap::new();
        for (id, member) in &raft.members {
            let answers = member.answered_ago.is_some_and(|ago| ago <= ANSWERS_WITHIN);
            let is_close =
                answers && ready.contains(id) && member.lag.is_some_and(|lag| lag <= settings.promote_lag);
            let close_since = is_close.then(|| self.close.get(id).copied().unwrap_or(now));
            close.extend(close_since.map(|since| (*id, since)));
            let answers_now = member.answered_ago.is_some_and(|ago| ago <= ANSWERS_NOW_WITHIN);
            progress.insert(*id, Progress { lag: member.lag, close_since, answers, answers_now });
        }
        (self.leaving, self.dead, self.away, self.close) = (leaving, dead, away, close);
        // Who is there again has not stopped.
        self.granted.retain(|id, since| {
            nodes.get(id) != Some(&Presence::Live) && now.saturating_duration_since(*since) < GRANT_TIME
        });
        let granted = self.granted.keys().copied().collect();
        self.leads = raft.leads.map(|term| match self.leads {
            Some((before, since)) if before == term => (term, since),
            _ => (term, now),
        });
        let membership = raft.membership;
        let was_heard = |id: &NodeId| {
            *id == me
                || matches!(nodes.get(id), None | Some(Presence::Away { .. } | Presence::Dead { .. }))
                || raft.members.get(id).is_some_and(|member| member.answered_ago.is_some())
        };
        let settled = self.leads.is_some_and(|(_, since)| {
            let age = now.saturating_duration_since(since);
            age >= ANSWERS_WITHIN
                || age >= NEW_LEADER_WAIT && membership.configs.iter().flatten().all(was_heard)
        });
        Some(Facts {
            me,
            trusted: view.trusted,
            nodes,
            membership,
            progress,
            ready,
            granted,
            gone_back: raft.gone_back,
            all_ask,
            settled,
        })
    }
}

#[cfg(test)]
mod tests;
