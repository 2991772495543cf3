//! What a node notices of itself and tells: a cluster that is not its own.

use skep_base::id::NodeId;
use skep_members::gossip::Gossip;

use skep_raft::formation::bootstrap::only_strangers;

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
