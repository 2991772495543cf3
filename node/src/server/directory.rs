//! The peers as gossip and their connections show them: where each is, and what it says to bootstrap.

use std::net::SocketAddr;
use std::time::Duration;

use skep_base::id::NodeId;
use skep_members::gossip::Gossip;
use skep_raft::formation::bootstrap::driver::{Ask, AskError};
use skep_raft::formation::bootstrap::{BootstrapAnswer, BootstrapAsk};
use skep_raft::peers::{Directory, Peers};
use skep_raft::wire::{Request, Response};
use tokio::time::Instant;

/// How long a bootstrap question may go unanswered.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Where peers are, by gossip.
pub struct GossipDirectory(pub Gossip);

impl Directory for GossipDirectory {
    fn address_of(&self, id: NodeId) -> Option<SocketAddr> {
        let view = self.0.view().borrow().clone();
        // One that fell silent may be back at the same place before gossip says so.
        let dead = || view.dead.iter().find(|record| record.id == id);
        view.live(id).or_else(dead).map(|record| record.peer)
    }
}

/// Bootstrap's questions, over the peers' connections.
pub struct PeerAsk(pub Peers);

impl Ask for PeerAsk {
    async fn ask(&self, member: NodeId, ask: BootstrapAsk) -> Result<BootstrapAnswer, AskError> {
        match self.0.call(member, Request::Bootstrap(ask), Instant::now() + ASK_TIMEOUT).await {
            Ok(Response::Bootstrap(answer)) => Ok(answer),
            Ok(other) => Err(AskError(format!("unexpected answer: {other:?}"))),
            Err(error) => Err(AskError(error.to_string())),
        }
    }
}
