//! The gateway's document of a node in memory.

use skep_members::gossip::{NodeState, PeerRecord, Program, RaftRole};
use skep_state::gateway::{GatewayOp, GatewayOutcome};

use super::*;
use crate::kinds::gateway::GatewayApi;
use crate::service::secrets::Stored;

impl Fake {
    /// The same node with other keys.
    pub fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }
}

impl GatewayApi for Fake {
    fn gateway<T>(&self, look: impl FnOnce(&Gateway) -> T) -> T {
        look(&self.state.lock().unwrap().gateway)
    }

    fn newest_gateway(&self) -> watch::Receiver<Option<Revision>> {
        self.newest_gateway.subscribe()
    }

    fn members(&self) -> watch::Receiver<Arc<View>> {
        self.members.subscribe()
    }

    async fn figures(&self) -> HashMap<NodeId, Heard> {
        self.state.lock().unwrap().figures.clone()
    }

    fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    fn keeps_sealed(&self) -> bool {
        TaskApi::level(self) >= Level::SEALED
    }

    async fn set_gateway(
        &self,
        expect: Option<Revision>,
        stored: Stored,
        source: String,
    ) -> Result<GatewayOutcome, ServiceError> {
        self.pass().await?;
        let state = &mut *self.state.lock().unwrap();
        let (clock, limits) = (&mut state.clock, &Limits::of(Level::GATEWAY));
        let time = Stamp(clock.latest().0 + 1);
        let rolling = &mut Rolling::default();
        let mends = skep_state::clock::mends::Mends::default();
        let mut at = At { index: 1, clock, mends: &mends, level: Level::GATEWAY, limits, rolling };
        let (nonce, lineage, Stored { document, keys }) = (time.0, 0xab, stored);
        let op = match keys.is_empty() {
            true => GatewayOp::Set { nonce, expect, lineage, document, source },
            false => GatewayOp::SetSealed { nonce, expect, lineage, document, source, keys },
        };
        let OpOutcome::Gateway(outcome) = state.gateway.apply((&op, time), &mut at).unwrap() else {
            panic!("another outcome");
        };
        self.newest_gateway.send_replace(state.gateway.newest().map(|(revision, _)| revision));
        Ok(outcome)
    }
}

/// That nobody else is.
pub fn alone() -> View {
    let me = PeerRecord {
        id: NodeId(0xa1),
        program: Program::Node,
        state: NodeState::Ready,
        cluster: None,
        peer: ([127, 0, 0, 1], 7400).into(),
        http: None,
        admin: None,
        version: "0.2.0".into(),
        protocol: (1, 1),
        expect: 1,
        raft: RaftRole::Leader,
        leader: None,
        term: 1,
        gateway: None,
        generation: 1,
    };
    let settled_since = std::time::Instant::now();
    View { me, live: vec![], dead: vec![], settled_since, trusted: true, proved: Default::default() }
}
