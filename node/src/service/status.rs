//! The cluster as this node sees it: what Raft says of who votes, and gossip of who is there.

use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use serde::Serialize;
use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, NodeState, PeerRecord, Program, View};
use tokio::sync::watch;
use tokio::time::Instant;

use super::equal::Equal;
use super::level;
use super::pulse::{Pulse, SILENCE_MAX};
use super::reached::Reached;
use super::secrets::{Secrets, SecretsStatus};
use crate::service::ServiceError;
use crate::service::started::{Readiness, Started};
use skep_raft::formation::bootstrap::{Wait, only_strangers};
use skep_raft::resumption::{Resumption, State};
use skep_raft::types::{LogId, Metrics};
use skep_state::level::Level;
use skep_store::Raft;
use skep_store::StoreHealth;

/// A node that has not applied this many committed entries is not ready.
pub const READY_LAG_MAX: u64 = 10_000;

/// The answer of `/cluster`.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterStatus {
    pub cluster_id: Option<String>,
    pub node_id: String,
    pub leader: Option<String>,
    pub term: u64,
    /// The highest log index that this node knows to be committed.
    pub committed: Option<u64>,
    pub applied: Option<u64>,
    /// In what the state of this node is not that of the others; none where it is, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
    /// What is known of the gateway's sealed secrets; none where there is no cluster key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretsStatus>,
    pub members: Vec<MemberStatus>,
}

/// One member, of gossip, of Raft's membership, or of both.
#[derive(Debug, Clone, Serialize)]
pub struct MemberStatus {
    pub id: String,
    /// What it runs: `node` or `balancer`.
    pub role: &'static str,
    /// `joining`, `ready`, `draining`, `left`, or `dead`.
    pub state: &'static str,
    /// `leader`, `follower` (a voter), `learner`, or `none` where Raft does not know it.
    pub raft: &'static str,
    pub http: Option<String>,
    pub peer: Option<String>,
    pub version: Option<String>,
}

pub(super) struct Status {
    pub node_id: NodeId,
    pub raft: Raft,
    pub gossip: Gossip,
    pub health: watch::Receiver<StoreHealth>,
    pub waiting: watch::Receiver<Option<Wait>>,
    pub pulse: Pulse,
    pub reached: Reached,
    pub resumption: Resumption,
    pub equal: Equal,
    pub started: Started,
    pub secrets: Secrets,
}

impl Status {
    pub(super) fn cluster(&self) -> ClusterStatus {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let view = self.gossip.view().borrow().clone();
        let own_cluster = view.me.cluster;
        let ours = |record: &&PeerRecord| {
            record.program == Program::Node && (record.cluster.is_none() || record.cluster == own_cluster)
        };
        let mut members: Vec<MemberStatus> = std::iter::once(&view.me)
            .chain(&view.live)
            .filter(ours)
            .map(|record| member(&metrics, record, state_name(record.state)))
            .collect();
        let known = |members: &[MemberStatus], id: &str| members.iter().any(|member| member.id == id);
        for record in view.dead.iter().filter(ours) {
            if !known(&members, &record.id.to_string()) {
                let state = if record.state == NodeState::Left { "left" } else { "dead" };
                members.push(member(&metrics, record, state));
            }
        }
        for (id, _) in metrics.membership_config.membership().nodes() {
            let id = NodeId(*id);
            if !known(&members, &id.to_string()) {
                members.push(MemberStatus {
                    id: id.to_string(),
                    role: "node",
                    state: "dead",
                    raft: raft_name(&metrics, id),
                    http: None,
                    peer: None,
                    version: None,
                });
            }
        }
        members.sort_by(|a, b| a.id.cmp(&b.id));
        ClusterStatus {
            cluster_id: own_cluster.map(|id| id.to_string()),
            node_id: self.node_id.to_string(),
            leader: metrics.current_leader.map(|id| NodeId(id).to_string()),
            term: metrics.current_term,
            committed: metrics.local_committed.map(|log_id| log_id.index),
            applied: metrics.last_applied.map(|log_id| log_id.index),
            differs: self.equal.differs(),
            secrets: self.secrets.status(),
            members,
        }
    }

    /// Fails while a live node does not read the level that `what` needs.
    pub(super) fn require(
        &self,
        agreed: Level,
        needs: Level,
        what: &'static str,
    ) -> Result<(), ServiceError> {
        level::require(agreed, &self.gossip, needs, what)
            .map_err(|error| ServiceError::TooOld { detail: error.to_string() })
    }

    pub(super) fn log_went_back(&self) -> bool {
        matches!(self.resumption.state(), State::WentBack { .. })
    }

    /// Whether the node should get traffic.
    pub(super) fn readiness(&self) -> Result<(), String> {
        self.says().whole()
    }

    fn says(&self) -> Readiness {
        Readiness { able: self.able(), equal: self.equal.lack().map_or(Ok(()), Err) }
    }

    fn able(&self) -> Result<(), String> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        if let Err(fatal) = &metrics.running_state {
            return Err(format!("the store has stopped: {fatal}"));
        }
        let view = self.gossip.view().borrow().clone();
        match view.me.state {
            NodeState::Ready => {}
            NodeState::Joining => return Err(format!("joining: {}", self.why_joining(&view, &metrics))),
            NodeState::Draining | NodeState::Left => return Err("draining".into()),
        }
        if let Some(lack) = self.health.borrow().full {
            return Err(lack.as_str().into());
        }
        if metrics.current_leader.is_none() {
            return Err(match only_strangers(&view) {
                Some(strangers) => format!("no leader is known: {strangers}"),
                None => "no leader is known".into(),
            });
        }
        if let Some(silent) = quorum_silence(self.node_id, &metrics).filter(|silent| *silent > SILENCE_MAX) {
            return Err(format!(
                "this node leads, but no quorum has answered it for {} ms",
                silent.as_millis()
            ));
        }
        match self.pulse.silence(Instant::now()) {
            None => return Err("no leader has answered this node yet".into()),
            Some(silent) if silent > SILENCE_MAX => {
                return Err(format!(
                    "no leader with a quorum has answered this node for {} ms",
                    silent.as_millis()
                ));
            }
            Some(_) => {}
        }
        let (committed, applied) = (
            metrics.local_committed.map_or(0, |log_id| log_id.index),
            metrics.last_applied.map_or(0, |log_id| log_id.index),
        );
        if committed.saturating_sub(applied) > READY_LAG_MAX {
            return Err(format!("lagging: {applied} of {committed} log entries are applied"));
        }
        Ok(())
    }

    /// Whether the node has started; see [`super::started`].
    pub(super) fn started(&self) -> Result<(), String> {
        if let Err(fatal) = &self.raft.metrics().borrow_watched().running_state {
            return Err(format!("the store has stopped: {fatal}"));
        }
        self.started.check(self.says(), &self.gossip.view().borrow())
    }

    /// What a joining node waits for.
    fn why_joining(&self, view: &View, metrics: &Metrics) -> String {
        let Some(cluster) = view.me.cluster else {
            let waiting = self.waiting.borrow();
            return waiting.as_ref().map_or("looking for a cluster".into(), ToString::to_string);
        };
        if let Some(strangers) = only_strangers(view) {
            return strangers.to_string();
        }
        if metrics.current_leader.is_none() {
            return format!("cluster {cluster} shows no leader");
        }
        if metrics.membership_config.membership().get_node(&self.node_id.0).is_none() {
            return format!("the leader of cluster {cluster} has not taken this node in yet");
        }
        if let Some(lack) = self.reached.lack() {
            return lack;
        }
        if let Some(lack) = self.resumption.lack() {
            return lack;
        }
        let index = |log_id: Option<LogId>| log_id.map_or(0, |log_id| log_id.index);
        let (committed, applied) = (index(metrics.cluster_committed), index(metrics.last_applied));
        format!("{applied} of {committed} log entries are applied")
    }
}

/// Whether this node leads, as far as it can tell: a quorum has answered it lately.
pub fn leads_quorum(node_id: NodeId, metrics: &Metrics) -> bool {
    let leads = metrics.current_leader == Some(node_id.0);
    leads && quorum_silence(node_id, metrics).is_none_or(|silent| silent <= SILENCE_MAX)
}

/// For how long no quorum has answered this node, if it leads others.
fn quorum_silence(node_id: NodeId, metrics: &Metrics) -> Option<Duration> {
    let leads = metrics.current_leader == Some(node_id.0);
    let alone = metrics.membership_config.membership().voter_ids().all(|voter| voter == node_id.0);
    let answered = metrics.last_quorum_acked.as_ref().filter(|_| leads && !alone)?;
    Some(answered.elapsed())
}

fn member(metrics: &Metrics, record: &PeerRecord, state: &'static str) -> MemberStatus {
    MemberStatus {
        id: record.id.to_string(),
        role: "node",
        state,
        raft: raft_name(metrics, record.id),
        http: record.http.map(|address| address.to_string()),
        peer: Some(record.peer.to_string()),
        version: Some(record.version.clone()),
    }
}

fn raft_name(metrics: &Metrics, id: NodeId) -> &'static str {
    let membership = metrics.membership_config.membership();
    if metrics.current_leader == Some(id.0) {
        "leader"
    } else if membership.voter_ids().any(|voter| voter == id.0) {
        "follower"
    } else if membership.get_node(&id.0).is_some() {
        "learner"
    } else {
        "none"
    }
}

fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Joining => "joining",
        NodeState::Ready => "ready",
        NodeState::Draining => "draining",
        NodeState::Left => "left",
    }
}
