//! Where backends come from: the gossip, or a list of addresses.
//!
//! Pure: what a view means for the balancer is a function of the view.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use skep_base::id::{ClusterId, NodeId};
use skep_members::gossip::{NodeState, PeerRecord, Program, RaftRole, View};

/// The peer protocol that this program speaks; a node whose range leaves it out is of a version
/// that this balancer cannot tell anything about.
pub const PROTOCOL: u16 = 1;

/// A backend as its source knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub node: Option<NodeId>,
    /// Tells one run of a process from the next at the same address.
    pub generation: u64,
    pub address: SocketAddr,
    pub probe: Probe,
    pub state: TargetState,
    pub role: RaftRole,
    pub is_leader: bool,
    pub version: String,
    /// How many times the load of another its source would have it have.
    pub weight: f64,
}

/// What its source says of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// A flag named it.
    Static,
    Joining,
    Ready,
    Draining,
    Left,
    /// Gossip hears nothing of it; it may be the gossip that is lost.
    Dead,
    /// It drained or had left, and gossip hears nothing of it any more.
    Ended,
}

impl TargetState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Left => "left",
            Self::Dead => "dead",
            Self::Ended => "ended",
        }
    }
}

/// How a backend is asked whether it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `GET /readyz` at its admin address.
    Readyz(SocketAddr),
    /// Any answer below 500 to `GET /` at its HTTP address: where the admin address is not for us.
    Answers(SocketAddr),
    /// A connection to its HTTP address.
    Connects(SocketAddr),
    /// An answer below 400 to `GET` of that path at its HTTP address.
    Check(SocketAddr, Arc<str>),
    /// As a service of the gateway says.
    Service(SocketAddr, Question),
}

/// What the servers of a service are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The `Host` that they are asked for.
    pub host: Arc<str>,
    /// None: a connection is enough.
    pub path: Option<Arc<str>>,
    /// Answers that are good.
    pub statuses: RangeInclusive<u16>,
    /// Between a good answer and the next question.
    pub interval: Duration,
}

/// The backends that a list of addresses names, asked for `check` where that is given.
pub fn fixed(addresses: &[SocketAddr], check: Option<&Arc<str>>) -> Vec<Target> {
    let probe = |address: &SocketAddr| match check {
        Some(path) => Probe::Check(*address, path.clone()),
        None => Probe::Connects(*address),
    };
    addresses.iter().map(|address| named(*address, probe(address), 1.0)).collect()
}

/// A server of a service.
pub fn of_service(address: SocketAddr, question: &Question, weight: f64) -> Target {
    named(address, Probe::Service(address, question.clone()), weight)
}

fn named(address: SocketAddr, probe: Probe, weight: f64) -> Target {
    Target {
        node: None,
        generation: 0,
        address,
        probe,
        state: TargetState::Static,
        role: RaftRole::None,
        is_leader: false,
        version: String::new(),
        weight,
    }
}

/// The backends that a view of the gossip shows.
pub fn from_view(view: &View) -> Vec<Target> {
    let cluster = cluster_of(view);
    let usable = |record: &&PeerRecord| {
        record.program == Program::Node
            && record.cluster == cluster
            && (record.protocol.0..=record.protocol.1).contains(&PROTOCOL)
    };
    let leader = leader_of(view, cluster);
    let live = view.live.iter().filter(usable).filter_map(|record| target(record, true, leader));
    let dead = view.dead.iter().filter(usable).filter_map(|record| target(record, false, leader));
    live.chain(dead).collect()
}

/// The nodes that are there, ready, and of a cluster: that which is served.
pub fn ready_nodes(view: &View) -> Vec<PeerRecord> {
    let cluster = cluster_of(view);
    let is_ready = |record: &&PeerRecord| {
        record.program == Program::Node
            && record.state == NodeState::Ready
            && record.http.is_some()
            && record.cluster.is_some()
            && record.cluster == cluster
    };
    view.live.iter().filter(is_ready).cloned().collect()
}

/// The same, among those alone that have proved what they say: who has an edge key can invent others, and what is a
/// secret must not go there.
pub fn proved_nodes(view: &View) -> Vec<PeerRecord> {
    let live = view.live.iter().filter(|it| view.proved.contains(&it.id)).cloned().collect();
    ready_nodes(&View { live, ..view.clone() })
}

/// Nodes of two clusters may be seen for a moment, where a test's nodes meet or somebody errs; the
/// one with the most ready nodes is served.
fn cluster_of(view: &View) -> Option<ClusterId> {
    let mut counts: HashMap<ClusterId, usize> = HashMap::new();
    for record in &view.live {
        if let (Program::Node, NodeState::Ready, Some(cluster)) =
            (record.program, record.state, record.cluster)
        {
            *counts.entry(cluster).or_default() += 1;
        }
    }
    let most =
        counts.into_iter().max_by_key(|(cluster, count)| (*count, *cluster)).map(|(cluster, _)| cluster);
    most.or_else(|| view.dead.iter().find_map(|record| record.cluster))
}

/// The leader of the highest term that anybody knows of, by its own word or another's.
fn leader_of(view: &View, cluster: Option<ClusterId>) -> Option<NodeId> {
    let nodes =
        view.live.iter().filter(|record| record.program == Program::Node && record.cluster == cluster);
    nodes
        .filter_map(|record| match (record.raft, record.leader) {
            (RaftRole::Leader, _) => Some((record.term, true, record.id)),
            (_, Some(leader)) => Some((record.term, false, leader)),
            _ => None,
        })
        .max()
        .map(|(_, _, leader)| leader)
}

fn target(record: &PeerRecord, live: bool, leader: Option<NodeId>) -> Option<Target> {
    let address = record.http?;
    let state = match (record.state, live) {
        (NodeState::Left, true) => TargetState::Left,
        (NodeState::Draining, true) => TargetState::Draining,
        (NodeState::Left | NodeState::Draining, false) => TargetState::Ended,
        (_, false) => TargetState::Dead,
        (NodeState::Joining, true) => TargetState::Joining,
        (NodeState::Ready, true) => TargetState::Ready,
    };
    // An admin address on loopback is for its own host alone.
    let reachable = |admin: &SocketAddr| !admin.ip().is_loopback() || address.ip().is_loopback();
    let probe = record.admin.filter(reachable).map_or(Probe::Answers(address), Probe::Readyz);
    Some(Target {
        node: Some(record.id),
        generation: record.generation,
        address,
        probe,
        state,
        role: record.raft,
        is_leader: leader == Some(record.id),
        version: record.version.clone(),
        weight: 1.0,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn record(id: u64, state: NodeState) -> PeerRecord {
        PeerRecord {
            id: NodeId(id),
            program: Program::Node,
            state,
            cluster: Some(ClusterId(1)),
            peer: ([127, 0, 0, id as u8], 7400).into(),
            http: Some(([127, 0, 0, id as u8], 8080).into()),
            admin: Some(([127, 0, 0, id as u8], 9400).into()),
            version: "0.1.0".into(),
            protocol: (1, 1),
            expect: 3,
            raft: RaftRole::Follower,
            leader: None,
            term: 1,
            gateway: None,
            generation: 1,
        }
    }

    fn view(live: Vec<PeerRecord>, dead: Vec<PeerRecord>) -> View {
        let me = PeerRecord { program: Program::Balancer, ..record(99, NodeState::Ready) };
        View { me, live, dead, settled_since: Instant::now(), trusted: true, proved: Default::default() }
    }

    #[test]
    fn each_state_of_a_record_has_its_own() {
        let states: Vec<TargetState> = from_view(&view(
            vec![
                record(1, NodeState::Joining),
                record(2, NodeState::Ready),
                record(3, NodeState::Draining),
                record(4, NodeState::Left),
            ],
            vec![record(5, NodeState::Ready), record(6, NodeState::Draining)],
        ))
        .iter()
        .map(|target| target.state)
        .collect();
        use TargetState::*;
        assert_eq!(states, [Joining, Ready, Draining, Left, Dead, Ended]);
    }

    #[test]
    fn balancers_strangers_and_other_protocols_are_no_backends() {
        let other = PeerRecord { cluster: Some(ClusterId(2)), ..record(3, NodeState::Ready) };
        let newer = PeerRecord { protocol: (2, 3), ..record(4, NodeState::Ready) };
        let balancer = PeerRecord { program: Program::Balancer, ..record(5, NodeState::Ready) };
        let silent = PeerRecord { http: None, ..record(6, NodeState::Ready) };
        let live =
            vec![record(1, NodeState::Ready), record(2, NodeState::Ready), other, newer, balancer, silent];
        let nodes: Vec<_> = from_view(&view(live, vec![])).iter().filter_map(|it| it.node).collect();
        assert_eq!(nodes, [NodeId(1), NodeId(2)]);
    }

    #[test]
    fn who_did_not_prove_that_it_is_a_node_is_none_where_that_counts_however_many_they_are() {
        let invented = |id| PeerRecord { cluster: Some(ClusterId(2)), ..record(id, NodeState::Ready) };
        let live = vec![record(1, NodeState::Ready), record(2, NodeState::Ready), invented(3), invented(4)];
        let view = View { proved: [NodeId(2)].into(), ..view([live, vec![invented(5)]].concat(), vec![]) };
        assert_eq!(proved_nodes(&view), [record(2, NodeState::Ready)]);
    }

    #[test]
    fn the_leader_is_that_of_the_highest_term() {
        let old = PeerRecord { raft: RaftRole::Leader, term: 3, ..record(1, NodeState::Ready) };
        let says = PeerRecord { leader: Some(NodeId(2)), term: 4, ..record(3, NodeState::Ready) };
        let live = vec![old, record(2, NodeState::Ready), says];
        let leaders: Vec<bool> = from_view(&view(live, vec![])).iter().map(|it| it.is_leader).collect();
        assert_eq!(leaders, [false, true, false]);
    }

    #[test]
    fn an_admin_address_on_another_hosts_loopback_is_not_asked() {
        let mut far = record(1, NodeState::Ready);
        far.http = Some(([10, 0, 0, 1], 8080).into());
        let probe = from_view(&view(vec![far.clone()], vec![]))[0].probe.clone();
        assert_eq!(probe, Probe::Answers(([10, 0, 0, 1], 8080).into()));
        far.admin = Some(([10, 0, 0, 1], 9400).into());
        let probe = from_view(&view(vec![far], vec![]))[0].probe.clone();
        assert_eq!(probe, Probe::Readyz(([10, 0, 0, 1], 9400).into()));
    }
}
