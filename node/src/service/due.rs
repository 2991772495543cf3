//! What a leader proposes as time passes: what is due in the replicated state, and the next level once
//! every member has read it for a while. One task a node; it may be dropped at any await.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use skep_base::id::NodeId;
use skep_members::gossip::Gossip;
use skep_raft::peers::Peers;
use skep_state::clock::Stamp;
use skep_state::command::{Op, OpOutcome};
use skep_state::kinds::tasks::DUE_MAX;
use skep_state::level::Level;
use skep_state::task::TaskOutcome;
use skep_store::Reader;
use tokio::time::{Instant, MissedTickBehavior};

use super::proposer::Proposer;
use super::time::Time;
use super::{level, status};
use skep_store::Raft;

/// How often it is looked, at most and at least.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(50);
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(200);
/// How long what is proposed may take to be committed.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the task needs.
#[derive(Clone)]
pub struct Due {
    pub node_id: NodeId,
    pub raft: Raft,
    pub gossip: Gossip,
    pub peers: Peers,
    pub reader: Reader,
    pub proposer: Proposer,
    pub time: Time,
    /// For how long every member must have read a level before the cluster agrees to it. Until then
    /// the version before can be gone back to.
    pub level_after: Duration,
}

impl Due {
    /// Runs until Raft stops.
    pub async fn run(self) {
        let interval = (self.level_after / 4).clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL_MAX);
        let mut look = tokio::time::interval(interval);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut read_since = None;
        loop {
            look.tick().await;
            if self.reader.level() >= Level::PROOFS {
                self.gossip.demand_proofs();
            }
            let metrics = self.raft.metrics().borrow_watched().clone();
            if metrics.running_state.is_err() {
                return;
            }
            if !status::leads_quorum(self.node_id, &metrics) {
                read_since = None;
                continue;
            }
            let members = metrics.membership_config.membership().nodes().map(|(id, _)| NodeId(*id));
            let spoke = |id| self.peers.protocol_of(id);
            let raises = self.reader.level() < Level::NEWEST
                && level::all_read(&self.gossip.view().borrow(), spoke, members, Level::NEWEST);
            if !raises {
                read_since = None;
            }
            let mut ops = self.reader.due(Stamp(self.time.now_ms()));
            if raises && read_since.get_or_insert_with(Instant::now).elapsed() >= self.level_after {
                ops.push(Op::Level { level: Level::NEWEST });
            }
            for op in ops {
                let raised = matches!(op, Op::Level { .. });
                match self.proposer.propose(op, Instant::now() + PROPOSE_TIMEOUT).await {
                    Ok(outcome) if raised => {
                        tracing::info!(
                            ?outcome,
                            "the members agree: the version before cannot be gone back to"
                        );
                    }
                    // There is more.
                    Ok(OpOutcome::Tasks(TaskOutcome::Changed { count })) if count >= DUE_MAX => {
                        look.reset_immediately();
                    }
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "what is due is proposed later"),
                }
            }
        }
    }
}
