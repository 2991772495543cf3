//! Asks the other members, after a start, whether they saw more of this node's log than there is.
//!
//! A node votes again once a quorum has answered, and of those that gossip shows nobody is left to be asked.
//! Where one saw more, the log went back: an old volume, or a copied folder. Then the node tells the leader,
//! which demotes it, and gets all again; what it may do meanwhile, [`Resumption`] says.
//!
//! One task, [`run`]; it may be dropped at any await.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
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
/// For how long one that this node followed, and that gossip does not show, is waited for: it may lead still.
const HIDDEN_MAX: Duration = Duration::from_secs(1);
/// For how long a node looks around at least: gossip shows nobody in the first moment.
const LOOK_MIN: Duration = Duration::from_millis(500);
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
    if asks.resumption.may_stand() {
        return;
    }
    if let Some((witness, seen)) = asks.find_witness().await {
        let index = |held: &Held| held.last.map_or(0, |last| last.index);
        tracing::error!(
            %witness,
            term_seen = seen.vote.leader_id.term,
            term = asks.found.map_or(0, |held| held.vote.leader_id.term),
            index_seen = index(&seen),
            index = asks.found.as_ref().map_or(0, index),
            "this node's log went back: another saw more of it than there is. Its folder is an old volume, or a \
             copy. It is no voter until it has all again; see to its disk"
        );
        asks.resumption.set(State::WentBack { witness, seen });
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
    /// Who saw the most of this node's log, where that is more than there is. Once nobody is left to be asked, and
    /// a quorum has answered, and whoever leads.
    async fn find_witness(&self) -> Option<(NodeId, Held)> {
        let began = Instant::now();
        let mut answered = BTreeSet::new();
        let mut asked: BTreeMap<NodeId, Instant> = BTreeMap::new();
        let mut lacking: Option<(NodeId, Held)> = None;
        loop {
            let view = self.gossip.view().borrow().clone();
            let those = members(&view).filter(|id| !answered.contains(id));
            let answers = those.map(|id| async move { (id, self.ask(id, false).await) });
            for (id, answer) in join_all(answers).await {
                asked.entry(id).or_insert_with(Instant::now);
                let Some(seen) = answer else { continue };
                answered.insert(id);
                if let Some(seen) = seen.filter(|seen| !witness::covers(self.found.as_ref(), Some(seen))) {
                    lacking = match lacking {
                        Some((_, most)) if !seen.covers(&most) => lacking,
                        _ => Some((id, seen)),
                    };
                }
            }
            // Whoever has come up meanwhile is asked first. One that does not answer may be about to.
            let view = self.gossip.view().borrow().clone();
            answered.extend(of_versions_before(&view));
            let leader = self.leader().filter(|leader| *leader != self.node_id);
            let is_hidden = |id: &NodeId| view.live(*id).is_none() && began.elapsed() < HIDDEN_MAX;
            let is_silent = |id: &NodeId| asked.get(id).is_some_and(|since| since.elapsed() >= SILENCE_MAX);
            let is_left = |id: NodeId| !answered.contains(&id) && !is_silent(&id);
            let nobody_is_left = !members(&view).any(is_left) && !leader.as_ref().is_some_and(is_hidden);
            if nobody_is_left
                && began.elapsed() >= LOOK_MIN
                && (lacking.is_some() || self.is_quorum(&answered))
            {
                return lacking;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow_watched().current_leader.map(NodeId)
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
        let is_quorum =
            |voters: &BTreeSet<u64>| voters.iter().filter(|id| is_there(id)).count() * 2 > voters.len();
        !configs.is_empty() && configs.iter().all(is_quorum)
    }

    /// Waits until whoever leads knows, and all is here again that was seen, under a vote that is no older.
    async fn get_all_again(&self, seen: Held) {
        let mut told = None;
        loop {
            if let Some(leader) = self.leader().filter(|leader| told != Some(*leader)) {
                let view = self.gossip.view().borrow().clone();
                let can_be_asked = members(&view).any(|id| id == leader);
                let is_told = match can_be_asked {
                    true => self.ask(leader, true).await.is_some(),
                    // One of the version before cannot be; one that gossip does not show yet, later.
                    false => of_versions_before(&view).any(|id| id == leader),
                };
                if is_told {
                    told = Some(leader);
                }
            }
            let confirmed =
                told.is_some() && self.reads.confirm(Instant::now() + CONFIRM_TIMEOUT).await.is_ok();
            if confirmed && told == self.leader() && witness::covers(self.held.held().as_ref(), Some(&seen)) {
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
