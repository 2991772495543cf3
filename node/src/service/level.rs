//! What the members of the cluster can read, and when they agree to more: see [`skep_state::level`].

use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, Program, View};
use skep_state::level::Level;

/// A member that does not read what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node of version {version} does not know {what}; upgrade it first")]
pub struct TooOld {
    version: String,
    what: &'static str,
}

/// Fails while what `needs` is a level that the cluster has not agreed to, and a live node of it does not
/// read that.
pub fn require(agreed: Level, gossip: &Gossip, needs: Level, what: &'static str) -> Result<(), TooOld> {
    // What was agreed, everyone reads; gossip can say anything, until proofs are demanded.
    if agreed >= needs {
        return Ok(());
    }
    match who_does_not_read(&gossip.view().borrow(), needs) {
        None => Ok(()),
        Some(version) => Err(TooOld { version, what }),
    }
}

fn who_does_not_read(view: &View, level: Level) -> Option<String> {
    view.live
        .iter()
        .filter(|record| record.program == Program::Node && record.cluster == view.me.cluster)
        .find(|record| !reads(record.protocol.1, level))
        .map(|record| record.version.clone())
}

/// Who speaks a protocol reads the level of the same number.
fn reads(protocol: u16, level: Level) -> bool {
    protocol >= level.0
}

/// Whether all members are there and read a level. One that is away may come back as it was.
///
/// What they read is what each `spoke` in its hello to this node, for which it had to have the cluster key:
/// of an agreement that nobody can go back from, an edge shall not be the one to make it, nor keep the
/// cluster from it.
pub fn all_read(
    view: &View,
    spoke: impl Fn(NodeId) -> Option<u16>,
    mut members: impl Iterator<Item = NodeId>,
    level: Level,
) -> bool {
    let there = |id| view.live(id).is_some() && spoke(id).is_some_and(|protocol| reads(protocol, level));
    members.all(|id| view.me.id == id || there(id))
}

#[cfg(test)]
mod tests {
    use skep_base::id::ClusterId;
    use skep_members::gossip::PeerRecord;

    use super::*;
    use crate::service::peers;

    const OURS: Option<ClusterId> = Some(ClusterId(7));

    fn record(id: u64, cluster: Option<ClusterId>, protocol: (u16, u16)) -> PeerRecord {
        let version = format!("0.{}.0", protocol.1);
        PeerRecord { cluster, version, protocol, ..peers::member(id, Program::Node) }
    }

    fn view(live: Vec<PeerRecord>) -> View {
        peers::view(record(1, OURS, (1, 3)), live)
    }

    #[test]
    fn all_agree_only_where_every_member_is_there_and_reads_the_level() {
        let agrees = |view: &View, spoke: [Option<u16>; 2]| {
            let spoke = |id: NodeId| spoke[id.0 as usize - 2];
            all_read(view, spoke, [1, 2, 3].into_iter().map(NodeId), Level(3))
        };
        let (two, three) = (record(2, OURS, (1, 3)), record(3, OURS, (1, 3)));
        let all = view(vec![two.clone(), three.clone()]);
        assert!(agrees(&all, [Some(3), Some(4)]));
        assert!(
            !agrees(&view(vec![two.clone()]), [Some(3), Some(3)]),
            "one is away, and may come back as it was"
        );
        assert!(!agrees(&all, [Some(3), Some(2)]), "one reads less, whatever gossip says of it");
        assert!(!agrees(&all, [Some(3), None]), "one has not said what it reads");
        let old = view(vec![two, record(3, OURS, (1, 1)), record(4, OURS, (1, 1))]);
        assert!(agrees(&old, [Some(3), Some(3)]), "whatever gossip says of them and of others");
    }

    #[test]
    fn what_a_live_node_of_the_cluster_does_not_read_is_named_with_its_version() {
        let old = record(2, OURS, (1, 1));
        assert_eq!(who_does_not_read(&view(vec![old.clone()]), Level(2)), Some("0.1.0".into()));
        assert_eq!(who_does_not_read(&view(vec![old]), Level(1)), None);
        let stranger = record(2, Some(ClusterId(8)), (1, 1));
        let balancer = PeerRecord { program: Program::Balancer, ..record(3, OURS, (1, 1)) };
        assert_eq!(who_does_not_read(&view(vec![stranger, balancer]), Level(3)), None);
    }
}
