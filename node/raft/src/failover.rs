//! An election at once where the leader's process is known to be gone.
//!
//! Raft's timers find a dead leader after its lease and an election timeout: about a second. But
//! a killed process has its sockets closed by its kernel within a millisecond, and a new
//! connection to its port is refused: nobody is there to lead. The voter that finds both asks
//! for votes without waiting for the lease (Ongaro's dissertation, section 4.2.3, as for a
//! transfer of leadership). Votes are counted as ever, so a wrong guess costs an election and
//! never safety; no read rests on a lease here.

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::storage::RaftStateMachine;
use std::time::Duration;

use openraft::raft::TransferLeaderRequest;
use skep_base::id::{NodeId, RawNodeId};

use crate::peers::Peers;
use crate::types::{Metrics, TypeConfig};
use crate::{Raft, wait_until};
use tokio::sync::broadcast::error::RecvError;

/// Between two voters' tries, so that their votes do not split: the time of a few round trips.
const STAGGER: Duration = Duration::from_millis(60);

/// Runs until Raft stops. May be dropped at any await.
/// `is_there` tells the voters that may stand from those that are away or about to be, this node among them.
pub async fn run<SM: RaftStateMachine<TypeConfig>>(
    node_id: NodeId,
    raft: Raft<SM>,
    peers: Peers,
    is_there: impl Fn(NodeId) -> bool,
) {
    let mut ended = peers.ended();
    loop {
        let gone = match ended.recv().await {
            Ok(peer) => peer,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        if raft.metrics().borrow_watched().current_leader != Some(gone.0) || !peers.is_refused(gone).await {
            continue;
        }
        let rank = rank(&raft.metrics().borrow_watched(), node_id.0, gone.0, |id| is_there(NodeId(id)));
        let Some(rank) = rank else { continue };
        // Those before this node in rank go first; news of their success ends the wait.
        let replaced = wait_until(&raft, |metrics| metrics.current_leader != Some(gone.0));
        if tokio::time::timeout(STAGGER * rank, replaced).await.is_ok() {
            continue;
        }
        let request = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            tracing::info!(leader = %gone, rank, "the leader's process is gone; asking for votes");
            TransferLeaderRequest::new(metrics.vote, node_id.0, None)
        };
        if raft.handle_transfer_leader(request).await.is_err() {
            return;
        }
    }
}

/// This node's place among the voters that stay, by id; none where it should not stand.
fn rank(
    metrics: &Metrics,
    own: RawNodeId,
    gone: RawNodeId,
    is_there: impl Fn(RawNodeId) -> bool,
) -> Option<u32> {
    if metrics.current_leader != Some(gone) {
        return None;
    }
    let stands = |id: &RawNodeId| *id != gone && is_there(*id);
    let mut voters: Vec<_> = metrics.membership_config.membership().voter_ids().filter(stands).collect();
    // From the one after the leader round: not always the same node's turn.
    voters.sort_unstable_by_key(|id| id.wrapping_sub(gone));
    voters.iter().position(|id| *id == own).and_then(|rank| u32::try_from(rank).ok())
}
