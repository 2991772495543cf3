//! What an operator may ask of a running node: who follows how far, a hand-over of leadership,
//! a member's removal, a snapshot, a restore, a clock that is set back.

mod mend;

mod restore;

use openraft::async_runtime::watch::WatchReceiver as _;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use openraft::ChangeMembers;
use serde::Serialize;
use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, NodeState};
use skep_state::command::{Op, OpOutcome};
use skep_state::message::Digest;
use tokio::time::Instant;

use super::level::require;
use super::proposer::Proposer;
use super::read_index::ReadIndexer;
use super::secrets::Secrets;
use super::time::Time;
use skep_raft::membership::plan::{QuorumLost, Settings};
use skep_raft::membership::reconciler::facts::{Tracker, raft_facts};
use skep_raft::peers::Peers;
use skep_raft::types::Metrics;
use skep_raft::wait_until;
use skep_raft::wire::{Operation, OperationError, OperationOutcome, Request, Response};
use skep_state::level::Limits;
use skep_store::Raft;
use skep_store::{Lookup, Reader};

/// How long a hand-over, a removal or a snapshot may take.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a node that an operator calls dead may still be seen alive.
const DEATH_SEEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries of a change that another was quicker than.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Why an operator's request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// It would do harm, or makes no sense now.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Failed(String),
    /// There is no such message.
    #[error("{0}")]
    NoMessage(String),
    /// The message was taken out before.
    #[error("{0}")]
    Gone(String),
}

impl From<OperationError> for OperatorError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Refused(why) => OperatorError::Refused(why),
            OperationError::NotLeader { .. } | OperationError::Failed(_) => {
                OperatorError::Failed(error.to_string())
            }
        }
    }
}

/// How far a member of Raft's membership is.
#[derive(Debug, Clone, Serialize)]
pub struct PeerProgress {
    pub id: String,
    /// `leader`, `follower` or `learner`.
    pub role: &'static str,
    pub state: &'static str,
    /// The highest log index known to be on its disk; only the leader knows.
    pub matched: Option<u64>,
    /// Log entries that it lacks; only the leader knows.
    pub lag: Option<u64>,
    pub address: Option<String>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Operator {
    pub(crate) node_id: NodeId,
    pub(crate) raft: Raft,
    pub(crate) gossip: Gossip,
    pub(crate) peers: Peers,
    pub(crate) proposer: Proposer,
    pub(crate) read_indexer: ReadIndexer,
    pub(crate) reader: Reader,
    pub(crate) time: Time,
    pub(crate) secrets: Secrets,
}

impl Operator {
    /// Whether this node leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.raft.metrics().borrow_watched().current_leader == Some(self.node_id.0)
    }

    /// The members of Raft's membership, and how far the leader knows each to be.
    pub async fn peers(&self) -> Vec<PeerProgress> {
        // Without a leader there is still the membership to show.
        let matched: BTreeMap<_, _> = match self.operate(Operation::Progress).await {
            Ok(OperationOutcome::Progress(progress)) => progress.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        let metrics = self.raft.metrics().borrow_watched().clone();
        let view = self.gossip.view().borrow().clone();
        let last = matched.values().flatten().copied().max();
        let membership = metrics.membership_config.membership();
        let voters: Vec<_> = membership.voter_ids().collect();
        membership
            .nodes()
            .map(|(id, _)| {
                let matched = matched.get(&NodeId(*id)).copied().flatten();
                let record = std::iter::once(&view.me).chain(&view.live).find(|record| record.id.0 == *id);
                PeerProgress {
                    id: NodeId(*id).to_string(),
                    role: match metrics.current_leader {
                        Some(leader) if leader == *id => "leader",
                        _ if voters.contains(id) => "follower",
                        _ => "learner",
                    },
                    state: if record.is_some() { "live" } else { "dead" },
                    matched,
                    lag: matched.zip(last).map(|(matched, last)| last.saturating_sub(matched)),
                    address: record.map(|record| record.peer.to_string()),
                }
            })
            .collect()
    }

    /// Hands leadership to `to`, or to the voter that is furthest; answers who leads then.
    pub async fn transfer_leader(&self, to: Option<NodeId>) -> Result<NodeId, OperatorError> {
        match self.operate(Operation::TransferLeader { to }).await? {
            OperationOutcome::LeaderTransferred(leader) => Ok(leader),
            other => Err(OperatorError::Failed(format!("unexpected answer: {other:?}"))),
        }
    }

    /// Takes a member out of Raft's membership, whatever gossip says of it.
    pub async fn force_leave(&self, node: NodeId) -> Result<(), OperatorError> {
        self.operate(Operation::ForceLeave { node }).await.map(|_| ())
    }

    /// Does it here if this node leads, else has the leader do it.
    async fn operate(&self, operation: Operation) -> Result<OperationOutcome, OperatorError> {
        let leader = self.raft.metrics().borrow_watched().current_leader;
        match leader {
            None => Err(OperatorError::Failed("there is no leader".into())),
            Some(id) if id == self.node_id.0 => Ok(self.operate_here(operation).await?),
            Some(id) => {
                let deadline = Instant::now() + OPERATION_TIMEOUT;
                match self.peers.call(NodeId(id), Request::Operate(operation), deadline).await {
                    Ok(Response::Operated(result)) => Ok(result?),
                    Ok(other) => Err(OperatorError::Failed(format!("unexpected answer: {other:?}"))),
                    Err(error) => Err(OperatorError::Failed(format!("asking the leader: {error}"))),
                }
            }
        }
    }

    /// The leader's part of an operation.
    pub async fn operate_here(&self, operation: Operation) -> Result<OperationOutcome, OperationError> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        if metrics.current_leader != Some(self.node_id.0) {
            return Err(OperationError::NotLeader { leader: metrics.current_leader.map(NodeId) });
        }
        match operation {
            Operation::Progress => Ok(OperationOutcome::Progress(progress(&metrics, self.node_id))),
            Operation::TransferLeader { to } => {
                self.hand_over(&metrics, to).await.map(OperationOutcome::LeaderTransferred)
            }
            Operation::ForceLeave { node } => {
                self.remove(&metrics, node).await.map(|()| OperationOutcome::NodeLeft)
            }
            Operation::MendTime { agreed_ms } => {
                self.mend_time_here(agreed_ms).await.map(OperationOutcome::Time)
            }
        }
    }

    async fn hand_over(&self, metrics: &Metrics, to: Option<NodeId>) -> Result<NodeId, OperationError> {
        let voters: Vec<_> = metrics.membership_config.membership().voter_ids().collect();
        let target = match to {
            Some(id) if id == self.node_id => {
                return Err(OperationError::Refused(format!("node {id} leads already")));
            }
            Some(id) if !voters.contains(&id.0) => {
                return Err(OperationError::Refused(format!("node {id} is not a voter")));
            }
            Some(id) => id,
            None => progress(metrics, self.node_id)
                .into_iter()
                .filter(|(id, _)| *id != self.node_id && voters.contains(&id.0) && self.stays(*id))
                .max_by_key(|(_, matched)| *matched)
                .map(|(id, _)| id)
                .ok_or_else(|| OperationError::Refused("there is no other voter".into()))?,
        };
        self.raft
            .trigger()
            .transfer_leader(target.0)
            .await
            .map_err(|error| OperationError::Failed(error.to_string()))?;
        let own = self.node_id.0;
        let mut successor = target;
        let handed_over = wait_until(&self.raft, |metrics| {
            let leader = metrics.current_leader.filter(|id| *id != own);
            successor = leader.map_or(successor, NodeId);
            leader.is_some()
        });
        match tokio::time::timeout(OPERATION_TIMEOUT, handed_over).await {
            Ok(true) => Ok(successor),
            Ok(false) => Err(OperationError::Failed("the node is stopping".into())),
            Err(_) => Err(OperationError::Failed(format!(
                "node {target} did not take over in {OPERATION_TIMEOUT:?}"
            ))),
        }
    }

    /// Whether gossip shows a node, and it does not leave.
    fn stays(&self, id: NodeId) -> bool {
        let view = self.gossip.view().borrow().clone();
        view.live(id).is_some_and(|record| matches!(record.state, NodeState::Joining | NodeState::Ready))
    }

    async fn remove(&self, metrics: &Metrics, id: NodeId) -> Result<(), OperationError> {
        if id == self.node_id {
            return Err(OperationError::Refused(
                "that node leads; hand over with transfer-leader first, or stop it with SIGTERM".into(),
            ));
        }
        let membership = metrics.membership_config.membership();
        if membership.get_node(&id.0).is_none() {
            return Err(OperationError::Refused(format!("node {id} is not a member")));
        }
        // One that lives would be taken in again at once. One that has just died is seen as dead
        // within moments.
        let mut views = self.gossip.view();
        let silent = views.wait_for(|view| view.live(id).is_none());
        if tokio::time::timeout(DEATH_SEEN_TIMEOUT, silent).await.is_err() {
            return Err(OperationError::Refused(format!(
                "node {id} is alive; stop it with SIGTERM, and it leaves by itself"
            )));
        }
        let begun = Instant::now();
        let removed = async {
            loop {
                let change = {
                    let metrics = self.raft.metrics();
                    let metrics = metrics.borrow_watched();
                    let membership = metrics.membership_config.membership();
                    if membership.get_node(&id.0).is_none() {
                        return Ok(());
                    }
                    if let Err(lost) = self.may_remove(&metrics, id) {
                        // A new leader has yet to hear from those that live.
                        if begun.elapsed() < DEATH_SEEN_TIMEOUT {
                            None
                        } else {
                            return Err(OperationError::Refused(format!(
                                "node {id} cannot be removed: {lost}; start the others again, or, where they \
                                 are gone for good, make a new cluster of one folder with `skep-node recover`"
                            )));
                        }
                    } else {
                        let ids = BTreeSet::from([id.0]);
                        Some(match membership.voter_ids().any(|voter| voter == id.0) {
                            true => ChangeMembers::RemoveVoters(ids),
                            false => ChangeMembers::RemoveNodes(ids),
                        })
                    }
                };
                let Some(change) = change else {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                };
                // The plan may be at work on the same membership: who comes second looks again.
                if let Err(error) = self.raft.change_membership(change, false).await {
                    tracing::debug!(%error, node = %id, "a removal is tried again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        };
        tokio::time::timeout(OPERATION_TIMEOUT, removed).await.unwrap_or_else(|_| {
            Err(OperationError::Failed(format!(
                "the removal was not committed in {OPERATION_TIMEOUT:?}: is a quorum up?"
            )))
        })
    }

    /// The plan's word on the removal of a member.
    fn may_remove(&self, metrics: &Metrics, id: NodeId) -> Result<(), QuorumLost> {
        let view = self.gossip.view().borrow().clone();
        let (settings, now) = (Settings::default(), std::time::Instant::now());
        let facts = Tracker::default().observe(self.node_id, &view, raft_facts(metrics), &settings, now);
        // A leader has a cluster; without one there is nothing to lose.
        facts.map_or(Ok(()), |facts| facts.may_remove(id))
    }

    /// Takes a message out of the store, for good and on every node; answers its `seq`.
    pub async fn remove_message(&self, digest: Digest) -> Result<u64, OperatorError> {
        let remove = Op::RemoveMessage { digest };
        require(self.reader.level(), &self.gossip, remove.level(), "removal")
            .map_err(|error| OperatorError::Refused(error.to_string()))?;
        let deadline = Instant::now() + OPERATION_TIMEOUT;
        let outcome = self.proposer.propose(remove, deadline).await;
        match outcome.map_err(|error| OperatorError::Failed(error.to_string()))? {
            OpOutcome::Removed { seq: Some(seq) } => {
                tracing::info!(%digest, seq, "an operator removed a message");
                Ok(seq)
            }
            OpOutcome::Removed { seq: None } => {
                let failed = |error: &dyn std::fmt::Display| OperatorError::Failed(error.to_string());
                let looked_up = self.reader.elsewhere(move |reader| reader.look_up(&digest)).await;
                match looked_up.map_err(|busy| failed(&busy))?.map_err(|error| failed(&error))? {
                    Lookup::Gone => Err(OperatorError::Gone(format!("message {digest} is gone already"))),
                    _ => Err(OperatorError::NoMessage(format!("no message has the digest {digest}"))),
                }
            }
            OpOutcome::TooManyRemoved => Err(OperatorError::Refused(format!(
                "{} messages are removed one by one, and no more can be until retention has dropped the \
                 oldest of them",
                Limits::of(self.reader.level()).removed_singly_max
            ))),
            other => Err(OperatorError::Failed(format!("unexpected answer: {other:?}"))),
        }
    }

    /// A snapshot of everything applied so far, as the bytes of a snapshot file.
    pub async fn snapshot(
        &self,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + use<>, OperatorError> {
        let failed = |error: &dyn std::fmt::Display| OperatorError::Failed(error.to_string());
        let wanted = self.raft.metrics().borrow_watched().last_applied;
        if wanted.is_none() {
            return Err(OperatorError::Refused("nothing was ever written".into()));
        }
        self.raft.trigger().snapshot().await.map_err(|error| failed(&error))?;
        let built = wait_until(&self.raft, |metrics| metrics.snapshot >= wanted);
        match tokio::time::timeout(OPERATION_TIMEOUT, built).await {
            Ok(true) => {}
            _ => {
                return Err(OperatorError::Failed(format!("no snapshot was made in {OPERATION_TIMEOUT:?}")));
            }
        }
        match self.raft.get_snapshot().await.map_err(|error| failed(&error))? {
            Some(snapshot) => Ok(snapshot.snapshot.into_chunks()),
            None => Err(OperatorError::Failed("the snapshot is gone".into())),
        }
    }
}

/// Each member with the highest log index that the leader knows to be on its disk.
fn progress(metrics: &Metrics, leader: NodeId) -> Vec<(NodeId, Option<u64>)> {
    let replication = metrics.replication.as_ref();
    metrics
        .membership_config
        .membership()
        .nodes()
        .map(|(id, _)| {
            let matched = if *id == leader.0 {
                metrics.last_log_index
            } else {
                replication.and_then(|all| all.get(id)).and_then(|log_id| log_id.as_ref().map(|id| id.index))
            };
            (NodeId(*id), matched)
        })
        .collect()
}
