//! Whether the other nodes reach this one at the address that it tells them.
//!
//! Two peers use one connection in both directions. So a node that tells a wrong address works for as long
//! as it dials first: it follows and votes, and yet no balancer finds it, and no peer that has lost the
//! connection. Therefore a node asks the others to dial it there, the leader first, and is not ready before
//! one of them could. Once is enough: what comes later is the others' to see. Where nobody is there to be
//! asked, nothing is asked.
//!
//! One task, [`run`]; it may be dropped at any await.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, NodeState, PeerRecord, Program, View};
use skep_raft::peers::Peers;
use skep_raft::wire::{Request, Response};
use skep_state::level::Level;
use skep_store::Raft;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long one node is waited for.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two rounds of questions, before the first answer and after it.
const INTERVAL: Duration = Duration::from_millis(100);
const INTERVAL_AGAIN: Duration = Duration::from_secs(1);

/// The first level at which members dial each other when they are asked to.
const REACH: Level = Level(3);

/// What is known of it. Clones share it.
#[derive(Clone)]
pub struct Reached {
    raft: Raft,
    gossip: Gossip,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nobody has said anything yet.
    Unknown,
    /// What the last one said who could not.
    No(String),
    Yes,
}

impl Reached {
    pub fn of(raft: Raft, gossip: Gossip) -> Self {
        Self { raft, gossip, state: watch::Sender::new(State::Unknown) }
    }

    fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow_watched().current_leader.map(NodeId)
    }

    /// What is lacking, for an operator.
    pub fn lack(&self) -> Option<String> {
        lack(&self.state.borrow(), &self.gossip.view().borrow(), self.leader())
    }

    /// Returns once nothing is lacking.
    pub async fn wait(&self) {
        let (mut state, mut view) = (self.state.subscribe(), self.gossip.view());
        while lack(&state.borrow_and_update(), &view.borrow_and_update(), self.leader()).is_some() {
            tokio::select! {
                // Another may lead meanwhile.
                () = tokio::time::sleep(INTERVAL) => {}
                changed = state.changed() => if changed.is_err() { return },
                changed = view.changed() => if changed.is_err() { return },
            }
        }
    }
}

fn lack(state: &State, view: &View, leader: Option<NodeId>) -> Option<String> {
    let address = view.me.peer;
    // It may have found this node where it was before, and know nothing of where it is now.
    if let Some(leader) = leader.filter(|leader| *leader != view.me.id && view.live(*leader).is_none()) {
        return Some(format!("gossip does not show {leader} yet, which leads"));
    }
    let someone = others(view).next()?;
    match state {
        State::Yes => None,
        State::Unknown => {
            Some(format!("no other node has reached this one at {address} yet ({} is asked)", someone.id))
        }
        State::No(why) => {
            Some(format!("this node tells the others that it is at {address} (--advertise), and {why}"))
        }
    }
}

/// Those who can be asked.
fn others(view: &View) -> impl Iterator<Item = &PeerRecord> {
    view.live.iter().filter(|record| {
        record.program == Program::Node
            && record.cluster.is_some()
            && record.cluster == view.me.cluster
            && matches!(record.state, NodeState::Joining | NodeState::Ready)
            && record.protocol.1 >= REACH.0
    })
}

/// Asks until one node has reached this one.
pub async fn run(reached: Reached, peers: Peers) {
    loop {
        let view = reached.gossip.view().borrow().clone();
        let leader = reached.leader();
        let mut asked: Vec<_> = others(&view).map(|record| record.id).collect();
        asked.sort_by_key(|id| Some(*id) != leader);
        for id in asked {
            let request = Request::Reach { address: view.me.peer };
            match peers.call(id, request, Instant::now() + ASK_TIMEOUT).await {
                Ok(Response::Reached(Ok(()))) => {
                    reached.state.send_replace(State::Yes);
                    return;
                }
                Ok(Response::Reached(Err(why))) => {
                    let why = format!("node {id} cannot reach it there: {why}");
                    let is_news = reached.state.send_if_modified(|state| {
                        let no = State::No(why.clone());
                        std::mem::replace(state, no.clone()) != no
                    });
                    if is_news {
                        tracing::warn!("{why}");
                    }
                }
                answer => tracing::debug!(peer = %id, ?answer, "whether it reaches this node is not known"),
            }
        }
        let is_told = *reached.state.borrow() != State::Unknown;
        tokio::time::sleep(if is_told { INTERVAL_AGAIN } else { INTERVAL }).await;
    }
}

#[cfg(test)]
mod tests {
    use skep_base::id::ClusterId;
    use skep_members::gossip::RaftRole;

    use super::*;

    fn record(id: u64, protocol: u16) -> PeerRecord {
        PeerRecord {
            id: NodeId(id),
            program: Program::Node,
            state: NodeState::Ready,
            cluster: Some(ClusterId(7)),
            peer: ([192, 0, 2, 1], 7400).into(),
            http: None,
            admin: None,
            version: "0.2.0".into(),
            protocol: (1, protocol),
            expect: 3,
            raft: RaftRole::Follower,
            leader: None,
            term: 1,
            gateway: None,
            generation: 1,
        }
    }

    fn view(live: Vec<PeerRecord>) -> View {
        let settled_since = std::time::Instant::now();
        View {
            me: record(1, 3),
            live,
            dead: Vec::new(),
            settled_since,
            trusted: true,
            proved: Default::default(),
        }
    }

    #[test]
    fn where_nobody_can_be_asked_nothing_is_lacking() {
        let stranger = PeerRecord { cluster: Some(ClusterId(8)), ..record(2, 3) };
        let balancer = PeerRecord { program: Program::Balancer, ..record(3, 3) };
        let leaving = PeerRecord { state: NodeState::Draining, ..record(4, 3) };
        assert_eq!(lack(&State::Unknown, &view(Vec::new()), Some(NodeId(1))), None);
        assert_eq!(lack(&State::Unknown, &view(vec![stranger, balancer, leaving, record(5, 2)]), None), None);
    }

    #[test]
    fn one_that_can_be_asked_must_have_reached_it() {
        let view = view(vec![record(2, 3)]);
        assert!(lack(&State::Unknown, &view, None).unwrap().contains("192.0.2.1:7400"));
        let said = lack(&State::No("node 2 cannot".into()), &view, None).unwrap();
        assert!(said.contains("192.0.2.1:7400 (--advertise), and node 2 cannot"), "{said}");
        assert_eq!(lack(&State::Yes, &view, Some(NodeId(2))), None);
    }
    #[test]
    fn while_gossip_does_not_show_the_leader_nobody_can_be_asked_yet() {
        for state in [State::Unknown, State::Yes] {
            assert!(lack(&state, &view(Vec::new()), Some(NodeId(2))).unwrap().contains("gossip"));
        }
    }
}
