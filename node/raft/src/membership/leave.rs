//! The orderly way to stop, on SIGTERM.
//!
//! The node says `draining` in gossip, and a leader that leaves hands over first. Then it asks the leader
//! for leave to stop ([`super::stops`]): where those who stay are a quorum it gets it, stays a voter, and is
//! away until it is back. Where they are not, the leader's plan gathers those who leave and makes them
//! learners in one change ([`crate::membership::plan`]); the node goes on serving Raft until that is
//! committed as a uniform configuration and it hears so, as a learner does. Then it may stop, and nobody's
//! quorum has lost anything.
//!
//! Where everyone leaves there is nobody to hand anything to: each stops with its data, and the
//! cluster goes on when a majority of the voters starts again. The reconciler must go on running
//! while this waits: on the leader it is what everyone waits for.
//!
//! No tasks. [`leave`] may be dropped at any await; the node then goes on leaving in gossip.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftServerMetrics;
use openraft::storage::RaftStateMachine;
use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, NodeState, Program, View};
use tokio::sync::watch;

use super::plan::Membership;
use super::reconciler::membership_of;
use crate::types::TypeConfig;

/// Between two times that the leader is asked.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// How leaving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveOutcome {
    /// The node was no member of a cluster.
    NotMember,
    /// Those who stay are a quorum: the node stays a voter, and is away.
    Away,
    /// The node is no voter any more, and that is committed.
    Demoted,
    /// Nobody stays, or there never was anyone else.
    NobodyStays,
    /// The others did not bring it about in time: a voter stops, as if it had died.
    TimedOut,
    /// Raft or gossip stopped before.
    Stopped,
}

/// Says `draining` and waits until the node may stop, at the latest until `deadline`; `ask` asks the leader
/// whether it may. The caller finishes what is in flight, says `left`, and stops Raft.
pub async fn leave<SM: RaftStateMachine<TypeConfig>>(
    gossip: &Gossip,
    raft: &openraft::Raft<TypeConfig, SM>,
    deadline: Instant,
    ask: impl AsyncFn(NodeId) -> bool,
) -> LeaveOutcome {
    gossip.update(|record| record.state = NodeState::Draining);
    wait_until_free(gossip.view(), raft, deadline, ask).await
}

/// Waits until this node may stop.
pub(super) async fn wait_until_free<SM: RaftStateMachine<TypeConfig>>(
    mut view: watch::Receiver<Arc<View>>,
    raft: &openraft::Raft<TypeConfig, SM>,
    deadline: Instant,
    ask: impl AsyncFn(NodeId) -> bool,
) -> LeaveOutcome {
    let mut metrics = raft.server_metrics();
    let mut asking = pin!(ask_until_told(raft, &ask));
    loop {
        let seen = view.borrow_and_update().clone();
        if let Some(outcome) = outcome(&seen, &metrics.borrow_and_update()) {
            return outcome;
        }
        tokio::select! {
            () = &mut asking => {
                // Those who stay are counted on to lead, while this node ends what is in flight.
                raft.runtime_config().elect(false);
                return LeaveOutcome::Away;
            }
            () = tokio::time::sleep_until(deadline.into()) => return LeaveOutcome::TimedOut,
            changed = view.changed() => if changed.is_err() { return LeaveOutcome::Stopped },
            changed = metrics.changed() => if changed.is_err() { return LeaveOutcome::Stopped },
        }
    }
}

/// Asks whoever leads, where that is another, until it says that this node may stop.
async fn ask_until_told<SM: RaftStateMachine<TypeConfig>>(
    raft: &openraft::Raft<TypeConfig, SM>,
    ask: &impl AsyncFn(NodeId) -> bool,
) {
    let metrics = raft.server_metrics();
    loop {
        let leader = {
            let metrics = metrics.borrow_watched();
            metrics.current_leader.filter(|leader| *leader != metrics.id)
        };
        if let Some(leader) = leader
            && ask(NodeId(leader)).await
        {
            return;
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}

fn outcome(view: &View, metrics: &RaftServerMetrics<TypeConfig>) -> Option<LeaveOutcome> {
    let membership = membership_of(&metrics.membership_config, &metrics.committed_membership_config);
    decide(NodeId(metrics.id), view, &membership, metrics.state == ServerState::Leader)
}

/// Whether the node may stop, and why. Pure.
fn decide(me: NodeId, view: &View, membership: &Membership, leads: bool) -> Option<LeaveOutcome> {
    let is_voter = membership.configs.iter().any(|voters| voters.contains(&me));
    if !is_voter && !membership.learners.contains(&me) && !leads {
        return Some(LeaveOutcome::NotMember);
    }
    // A leader that is no voter any more still has to hand over.
    if !is_voter && membership.committed && !leads {
        return Some(LeaveOutcome::Demoted);
    }
    let stays = view.live.iter().any(|record| {
        record.program == Program::Node
            && record.cluster == view.me.cluster
            && matches!(record.state, NodeState::Joining | NodeState::Ready)
    });
    (view.trusted && !stays).then_some(LeaveOutcome::NobodyStays)
}

#[cfg(test)]
mod tests;
