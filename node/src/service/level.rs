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
pub fn all_read(view: &View, mut members: impl Iterator<Item = NodeId>, level: Level) -> bool {
    let is_there = |id: NodeId| view.me.id == id || view.live(id).is_some();
    members.all(is_there) && who_does_not_read(view, level).is_none()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use skep_base::id::ClusterId;
    use skep_members::gossip::{NodeState, PeerRecord, RaftRole};

    use super::*;

    const OURS: Option<ClusterId> = Some(ClusterId(7));

    fn record(id: u64, cluster: Option<ClusterId>, protocol: (u16, u16)) -> PeerRecord {
        PeerRecord {
            id: NodeId(id),
            program: Program::Node,
            state: NodeState::Ready,
            cluster,
            peer: "127.0.0.1:7400".parse().unwrap(),
            http: None,
            admin: None,
            version: format!("0.{}.0", protocol.1),
            protocol,
            expect: 3,
            raft: RaftRole::None,
            leader: None,
            term: 1,
            generation: 1,
        }
    }

    fn view(live: Vec<PeerRecord>) -> View {
        let me = record(1, OURS, (1, 3));
        View { me, live, dead: Vec::new(), settled_since: Instant::now(), trusted: true }
    }

    fn agrees(view: &View) -> bool {
        all_read(view, [1, 2, 3].into_iter().map(NodeId), Level(3))
    }

    #[test]
    fn all_agree_only_where_every_member_is_there_and_reads_the_level() {
        let (two, three) = (record(2, OURS, (1, 3)), record(3, OURS, (1, 3)));
        assert!(agrees(&view(vec![two.clone(), three.clone()])));
        assert!(!agrees(&view(vec![two.clone()])), "one is away, and may come back as it was");
        assert!(!agrees(&view(vec![two.clone(), record(3, OURS, (1, 2))])), "one reads less");
        let joins = record(4, OURS, (1, 2));
        assert!(!agrees(&view(vec![two, three, joins])), "one that joins reads less");
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
