//! Says `ready` in gossip once this node is a member that has caught up, and that the others reach.

use std::time::Duration;

use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, NodeState};

use crate::service::reached::Reached;
use crate::service::read_index::ReadIndexer;

use skep_raft::resumption::Resumption;
use skep_raft::types::Metrics;
use skep_raft::wait_until;
use skep_store::Raft;
use tokio::time::Instant;

/// Entries that a node may lack when it first says that it is ready.
const CAUGHT_UP_LAG_MAX: u64 = 1_000;

/// How long one try to read what is newest may take.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after one that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Runs until the node is ready, or Raft stops. May be dropped at any await.
pub async fn run(
    node_id: NodeId,
    raft: Raft,
    gossip: Gossip,
    reached: Reached,
    resumption: Resumption,
    reads: ReadIndexer,
) {
    if wait_until(&raft, |metrics| is_caught_up(metrics, node_id)).await {
        reached.wait().await;
        resumption.wait().await;
        // What was acknowledged up to now is here: whoever starts nodes one after another may go on.
        while reads.confirm(Instant::now() + CONFIRM_TIMEOUT).await.is_err() {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        tracing::info!(node = %node_id, "ready");
        gossip.update(|record| {
            // A node that was told to leave meanwhile goes on leaving.
            if record.state == NodeState::Joining {
                record.state = NodeState::Ready;
            }
        });
    }
}

fn is_caught_up(metrics: &Metrics, node_id: NodeId) -> bool {
    let index = |log_id: &Option<skep_raft::types::LogId>| log_id.as_ref().map(|log_id| log_id.index);
    let member = metrics.membership_config.membership().get_node(&node_id.0).is_some();
    // Before the first word of a leader's commit, nothing says how much is lacking.
    let Some(committed) = index(&metrics.cluster_committed) else { return false };
    let applied = index(&metrics.last_applied).unwrap_or(0);
    member && metrics.current_leader.is_some() && committed.saturating_sub(applied) <= CAUGHT_UP_LAG_MAX
}
