//! Members as tests see them by gossip.

use std::time::Instant;

use skep_base::id::NodeId;
use skep_members::gossip::{NodeState, PeerRecord, Program, RaftRole, View};

/// One that is ready; a test says what else it is.
pub fn member(id: u64, program: Program) -> PeerRecord {
    PeerRecord {
        id: NodeId(id),
        program,
        state: NodeState::Ready,
        cluster: None,
        peer: ([192, 0, 2, id as u8], 7401).into(),
        http: None,
        admin: None,
        version: "0.2.0".into(),
        protocol: (1, 1),
        expect: 3,
        raft: RaftRole::None,
        leader: None,
        term: 1,
        gateway: None,
        generation: 1,
    }
}

/// What one sees that has looked around.
pub fn view(me: PeerRecord, live: Vec<PeerRecord>) -> View {
    View {
        me,
        live,
        dead: Vec::new(),
        settled_since: Instant::now(),
        trusted: true,
        proved: Default::default(),
    }
}
