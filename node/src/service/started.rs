//! Whether the node has started, as who starts nodes one after another needs to know it.
//!
//! Readiness is no answer to that: an orchestrator that gives a task its name in DNS only once the
//! task's health check is content (Swarm does) would never let the first nodes meet, nor those of a
//! cluster that was switched off as a whole. So a node that finds no cluster which it could be
//! ready in has started, too; one that finds such a cluster has started once it is ready there.
//! Started is started: a node that falls behind later is slow, and killing it would not help. Nor would it help one
//! whose state is not that of the others: that is no fault of how it was started, and its log is needed.
//!
//! No tasks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use skep_members::gossip::{NodeState, PeerRecord, Program, View};

use skep_raft::formation::bootstrap::only_strangers;

/// How long a node looks around before it may say that nobody is there. Gossip with a seed that
/// lives shows a leader well within it.
const LOOK_MIN: Duration = Duration::from_secs(2);

/// What the node says of itself.
pub(super) struct Readiness {
    /// Whether it can serve,
    pub able: Result<(), String>,
    /// and whether its state is that of the others.
    pub equal: Result<(), String>,
}

impl Readiness {
    /// Whether it should get traffic.
    pub(super) fn whole(self) -> Result<(), String> {
        self.able.and(self.equal)
    }
}

pub(super) struct Started {
    since: Instant,
    has: AtomicBool,
}

impl Started {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), has: AtomicBool::new(false) }
    }

    /// `view` is what gossip shows.
    pub(super) fn check(&self, readiness: Readiness, view: &View) -> Result<(), String> {
        let has = self.has.load(Ordering::Relaxed)
            || readiness.able.is_ok()
            || self.since.elapsed() >= LOOK_MIN && finds_no_cluster(view);
        self.has.store(has, Ordering::Relaxed);
        if has { Ok(()) } else { readiness.able }
    }
}

/// Whether nobody shows a leader that this node could follow.
fn finds_no_cluster(view: &View) -> bool {
    let follows = |record: &&PeerRecord| {
        record.program == Program::Node
            && record.id != view.me.id
            && record.state != NodeState::Left
            && (view.me.cluster.is_none() || record.cluster == view.me.cluster)
            // Term 0 is a cluster's initialisation, not an elected leader.
            && record.leader.is_some()
            && record.term > 0
    };
    only_strangers(view).is_none() && view.live.iter().find(follows).is_none()
}

#[cfg(test)]
mod tests;
