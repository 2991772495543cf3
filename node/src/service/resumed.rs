//! Asks the other members, after a start, whether they saw more of this node's log than there is.
//!
//! A node votes again once a quorum has answered, and of those that gossip shows nobody is left to be asked.
//! Where one saw more, the log went back: an old volume, or a copied folder. Then the node tells the leader,
//! which demotes it, gets all again, and votes from then on: in no term in which it may have voted before.
//!
//! One task, [`run`]; it may be dropped at any await.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::vote::RaftLeaderId as _;
use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, NodeState, PeerRecord, Program, View};
use skep_raft::peers::Peers;
use skep_raft::resumption::{Resumption, State};
use skep_raft::wire::{RESUMES, Request, Response};
use skep_raft::witness::{self, Held};
use skep_store::{HeldVote, Raft};
use tokio::time::Instant;

use super::read_index::ReadIndexer;

/// How long one node is waited for.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// For how long one that gossip shows, and that does not answer, is asked again: it may be about to.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Between two rounds of questions.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long one try to read what is newest may take.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks whether a node whose log went back has all again.
const INTERVAL_BACK: Duration = Duration::from_millis(200);

/// What the task goes by.
pub struct Asks {
    pub node_id: NodeId,
    pub raft: Raft,
    pub peers: Peers,
    pub gossip: Gossip,
    pub held: HeldVote,
    /// What there was when the store was opened.
    pub found: Option<Held>,
    pub reads: ReadIndexer,
    pub resumption: Resumption,
}

/// Runs until the node may vote.
pub async fn run(asks: Asks) {
    if asks.resumption.may_vote() {
        return;
    }
    if let Some((witness, seen)) = asks.find_witness().await {
        let index = |held: &Held| held.last.map_or(0, |last| last.index);
        tracing::error!(
            %witness,
            term_seen = seen.vote.leader_id.term(),
            term = asks.found.map_or(0, |held| held.vote.leader_id.term()),
            index_seen = index(&seen),
            index = asks.found.as_ref().map_or(0, index),
            "this node's log went back: another saw more of it than there is. Its folder is an old volume, or a \
             copy. It votes for nobody until it has all again; see to its disk"
        );
        asks.resumption.set(State::WentBack { witness });
        asks.get_all_again(seen).await;
        tracing::warn!("this node's log has again what was seen of it; it votes");
    }
    asks.resumption.set(State::Whole);
    // One that leaves counts on those who stay to lead.
    if !matches!(asks.gossip.view().borrow().me.state, NodeState::Draining | NodeState::Left) {
        asks.raft.runtime_config().elect(true);
    }
}

impl Asks {
    /// Who saw more of this node's log than there is, once nobody is left to be asked.
    async fn find_witness(&self) -> Option<(NodeId, Held)> {
        let began = Instant::now();
        let mut answered = BTreeSet::new();
        let mut silent = BTreeSet::new();
        loop {
            let view = self.gossip.view().borrow().clone();
            let asked: Vec<_> = members(&view).filter(|id| !answered.contains(id)).collect();
            let answers = asked.iter().map(|id| self.ask(*id, false));
            for (id, answer) in asked.iter().zip(join_all(answers).await) {
                match answer {
                    Some(Some(seen)) if !witness::covers(self.found.as_ref(), Some(&seen)) => {
                        return Some((*id, seen));
                    }
                    Some(_) => {
                        answered.insert(*id);
                    }
                    None if began.elapsed() >= SILENCE_MAX => {
                        silent.insert(*id);
                    }
                    None => {}
                }
            }
            // Whoever has come up meanwhile is asked first.
            let view = self.gossip.view().borrow().clone();
            answered.extend(of_versions_before(&view));
            let is_left = |id: NodeId| !answered.contains(&id) && !silent.contains(&id);
            if !members(&view).any(is_left) && self.is_quorum(&answered) {
                return None;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// What another node saw of this one's log; none where it did not say.
    async fn ask(&self, id: NodeId, went_back: bool) -> Option<Option<Held>> {
        let request = Request::Resumes { session: self.peers.session(), held: self.found, went_back };
        match self.peers.call(id, request, Instant::now() + ASK_TIMEOUT).await {
            Ok(Response::Seen(seen)) => Some(seen),
            answer => {
                tracing::debug!(peer = %id, ?answer, "what it saw of this node's log is not known");
                None
            }
        }
    }

    /// Whether these members and this node are a quorum, as far as this node knows the voters.
    fn is_quorum(&self, members: &BTreeSet<NodeId>) -> bool {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let is_there = |id: &u64| *id == self.node_id.0 || members.contains(&NodeId(*id));
        let configs = metrics.membership_config.membership().get_joint_config().clone();
        configs.iter().all(|voters| voters.iter().filter(|id| is_there(id)).count() * 2 > voters.len())
    }

    /// Waits until the leader knows, and all is here again that was seen, under a vote that is no older.
    async fn get_all_again(&self, seen: Held) {
        let mut told = false;
        loop {
            let leader = self.raft.metrics().borrow_watched().current_leader.map(NodeId);
            if let Some(leader) = leader.filter(|_| !told) {
                told = self.ask(leader, true).await.is_some();
            }
            let confirmed = told && self.reads.confirm(Instant::now() + CONFIRM_TIMEOUT).await.is_ok();
            if confirmed && witness::covers(self.held.held().as_ref(), Some(&seen)) {
                return;
            }
            tokio::time::sleep(INTERVAL_BACK).await;
        }
    }
}

/// The other nodes of the cluster that can be asked.
fn members(view: &View) -> impl Iterator<Item = NodeId> {
    of_cluster(view).filter(|record| record.protocol.1 >= RESUMES).map(|record| record.id)
}

/// Those of whom nothing can be learned.
fn of_versions_before(view: &View) -> impl Iterator<Item = NodeId> {
    of_cluster(view).filter(|record| record.protocol.1 < RESUMES).map(|record| record.id)
}

fn of_cluster(view: &View) -> impl Iterator<Item = &PeerRecord> {
    view.live.iter().filter(|record| {
        record.program == Program::Node
            && record.cluster.is_some()
            && record.cluster == view.me.cluster
            && record.state != NodeState::Left
    })
}
