//! What a node notices of itself and acts on: a disk without room, a cluster that is not its own.

use std::time::Duration;

use skep_base::id::NodeId;
use skep_members::gossip::Gossip;
use tokio::sync::watch;

use crate::service::operator::Operator;
use skep_raft::formation::bootstrap::only_strangers;
use skep_store::StoreHealth;

/// Between two tries to hand over while the disk is full.
const HAND_OVER_INTERVAL: Duration = Duration::from_secs(1);

/// Hands leadership to another voter whenever this node's disk is full: it could not take
/// writes, and would keep those from taking them who can. Runs until the store has ended.
pub async fn step_down_when_full(operator: Operator, mut health: watch::Receiver<StoreHealth>) {
    while health.wait_for(|health| health.full.is_some()).await.is_ok() {
        tracing::warn!("the disk is full: nothing is lost, and writes go on where there is room");
        while health.borrow().full.is_some() {
            if operator.leads() {
                match operator.transfer_leader(None).await {
                    Ok(leader) => tracing::info!(%leader, "leadership was handed over"),
                    Err(error) => tracing::debug!(%error, "leadership could not be handed over"),
                }
            }
            tokio::time::sleep(HAND_OVER_INTERVAL).await;
        }
        tracing::info!("the disk has room again");
    }
}

/// Says so, once, where all that this node sees belong to another cluster. Runs until gossip
/// has ended.
pub async fn name_strangers(node_id: NodeId, gossip: Gossip) {
    let mut views = gossip.view();
    let mut named = None;
    loop {
        let strangers = only_strangers(&views.borrow_and_update());
        if strangers != named {
            if let Some(strangers) = strangers {
                tracing::error!(node = %node_id, "{strangers}");
            }
            named = strangers;
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}
