//! What the members of the cluster can read, and when they agree to more: see [`skep_state::level`].

use skep_members::gossip::{Gossip, Program, View};
use skep_raft::types::Metrics;
use skep_state::level::Level;

/// A member that does not read what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node of version {version} does not know {what}; upgrade it first")]
pub struct TooOld {
    version: String,
    what: &'static str,
}

/// Fails while a live node of the cluster does not read the level that `what` needs.
pub fn require(gossip: &Gossip, needs: Level, what: &'static str) -> Result<(), TooOld> {
    match who_does_not_read(&gossip.view().borrow(), needs) {
        None => Ok(()),
        Some(version) => Err(TooOld { version, what }),
    }
}

fn who_does_not_read(view: &View, level: Level) -> Option<String> {
    // Who speaks a protocol reads the level of the same number.
    let reads = |protocol: (u16, u16)| protocol.1 >= level.0;
    view.live
        .iter()
        .filter(|record| record.program == Program::Node && record.cluster == view.me.cluster)
        .find(|record| !reads(record.protocol))
        .map(|record| record.version.clone())
}

/// Whether all members are there and read a level. One that is away may come back as it was.
pub fn all_read(view: &View, metrics: &Metrics, level: Level) -> bool {
    let is_there = |id: u64| view.me.id.0 == id || view.live.iter().any(|record| record.id.0 == id);
    let mut members = metrics.membership_config.membership().nodes();
    members.all(|(id, _)| is_there(*id)) && who_does_not_read(view, level).is_none()
}
