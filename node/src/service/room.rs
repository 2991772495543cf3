//! Room for writes, in the cluster: whether a quorum has any, and who should lead where the leader has none.
//!
//! What the leader takes into its log is of no use where no quorum can write it, and what makes room again would
//! wait behind it: then clients' writes are refused. A leader without room hands over to a voter that has
//! some; where none has, it goes on to lead, for retention and removals.
//!
//! One task, [`run`]; it may be dropped at any await.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, NodeState};
use skep_raft::peers::Peers;
use skep_raft::wire::{Request, Response};
use skep_state::level::Level;
use skep_store::{Raft, StoreHealth};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// One that takes longer says nothing.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// The first level at which members tell whether they have room.
const ROOM: Level = Level(3);

/// What the leader knows of it. Clones share it.
#[derive(Clone)]
pub struct Room {
    /// How often it was looked, and whether too few have room.
    short: watch::Sender<(u64, bool)>,
    look: Arc<Notify>,
}

impl Default for Room {
    fn default() -> Self {
        Self { short: watch::Sender::new((0, false)), look: Arc::default() }
    }
}

impl Room {
    /// Whether too few voters have room for a write to be on a quorum's disks. Where it was so, they are asked
    /// once more: a write that could go on is not refused.
    pub async fn is_short(&self) -> bool {
        if self.short.borrow().1 {
            let mut looks = self.short.subscribe();
            self.look.notify_one();
            let _ = tokio::time::timeout(ASK_TIMEOUT * 2, looks.changed()).await;
        }
        self.short.borrow().1
    }

    fn note(&self, is_short: bool) {
        self.short.send_modify(|(looks, short)| (*looks, *short) = (*looks + 1, is_short));
    }
}

/// What [`run`] needs.
pub struct Asks {
    pub node_id: NodeId,
    pub room: Room,
    pub raft: Raft,
    pub peers: Peers,
    pub gossip: Gossip,
    pub health: watch::Receiver<StoreHealth>,
}

/// What the voters said, the leader among them; one that said nothing may have room.
struct Said {
    has: BTreeSet<NodeId>,
    lacks: BTreeSet<NodeId>,
}

impl Said {
    fn is_short(&self, voters: usize) -> bool {
        voters.saturating_sub(self.lacks.len()) <= voters / 2
    }

    /// To whom a leader without room hands over.
    fn heir(&self, leader: NodeId) -> Option<NodeId> {
        self.has.iter().copied().find(|id| self.lacks.contains(&leader) && *id != leader)
    }
}

/// Asks the voters for as long as Raft runs and this node leads.
pub async fn run<F>(asks: Asks, hand_over: impl Fn(NodeId) -> F + Send)
where
    F: Future<Output = Result<(), String>> + Send,
{
    let mut was_full = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = asks.room.look.notified() => {}
        }
        let now = asks.raft.metrics().borrow_watched().clone();
        if now.running_state.is_err() {
            return;
        }
        let is_full = asks.health.borrow().full.is_some();
        if is_full != was_full {
            match is_full {
                true => tracing::warn!(
                    "there is no room for writes here: nothing is lost, and they go on where there is"
                ),
                false => tracing::info!("there is room again"),
            }
            was_full = is_full;
        }
        if now.current_leader != Some(asks.node_id.0) {
            asks.room.note(false);
            continue;
        }
        let voters: BTreeSet<_> = now.membership_config.membership().voter_ids().map(NodeId).collect();
        let said = asks.ask(&voters).await;
        asks.room.note(said.is_short(voters.len()));
        if let Some(heir) = said.heir(asks.node_id) {
            match hand_over(heir).await {
                Ok(()) => tracing::info!(to = %heir, "leadership was handed over"),
                Err(error) => tracing::debug!(%error, "leadership could not be handed over"),
            }
        }
    }
}

impl Asks {
    async fn ask(&self, voters: &BTreeSet<NodeId>) -> Said {
        let view = self.gossip.view().borrow().clone();
        let tells = |id: &&NodeId| {
            let record = view.live(**id).filter(|record| record.protocol.1 >= ROOM.0);
            record.is_some_and(|record| matches!(record.state, NodeState::Joining | NodeState::Ready))
        };
        let asked = voters.iter().filter(|id| **id != self.node_id).filter(tells).map(async |id| {
            let deadline = Instant::now() + ASK_TIMEOUT;
            match self.peers.call(*id, Request::HasRoom, deadline).await {
                Ok(Response::HasRoom(has)) => Some((*id, has)),
                _ => None,
            }
        });
        let own = (self.node_id, self.health.borrow().full.is_none());
        let all: Vec<_> = join_all(asked).await.into_iter().flatten().chain([own]).collect();
        let of = |wanted: bool| all.iter().filter(|(_, has)| *has == wanted).map(|(id, _)| *id).collect();
        Said { has: of(true), lacks: of(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(has: &[u64], lacks: &[u64]) -> Said {
        let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
        Said { has: ids(has), lacks: ids(lacks) }
    }

    #[test]
    fn room_is_short_where_no_quorum_may_have_any() {
        assert!(!said(&[1, 2, 3], &[]).is_short(3));
        assert!(!said(&[1, 2], &[3]).is_short(3));
        assert!(said(&[1], &[2, 3]).is_short(3));
        assert!(!said(&[1], &[2]).is_short(3), "the third says nothing");
        assert!(said(&[], &[1]).is_short(1));
        assert!(said(&[1], &[2]).is_short(2));
    }

    #[test]
    fn a_leader_without_room_hands_over_to_one_that_has_some_and_to_no_other() {
        assert_eq!(said(&[2, 3], &[1]).heir(NodeId(1)), Some(NodeId(2)));
        assert_eq!(said(&[1, 3], &[2]).heir(NodeId(1)), None);
        assert_eq!(said(&[], &[1, 2, 3]).heir(NodeId(1)), None);
    }
}
