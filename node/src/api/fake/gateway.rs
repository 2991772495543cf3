//! The gateway's document of a node in memory.

use skep_members::gossip::{NodeState, PeerRecord, Program, RaftRole};
use skep_state::gateway::{GatewayOp, GatewayOutcome};
use skep_state::kinds::purges::Purges;
use skep_state::kinds::shifts::Shifts;
use skep_state::purge::{PurgeOp, PurgeOutcome};
use skep_state::shift::{ShiftOp, ShiftOutcome};

use super::*;
use crate::kinds::gateway::GatewayApi;
use crate::service::secrets::Stored;
use crate::service::shifts::heard::Summed;

/// What balancers are told of.
#[derive(Default)]
pub struct Told {
    newest: watch::Sender<Option<Revision>>,
    purges: Mutex<Purges>,
    last_purge: watch::Sender<u64>,
}

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
        self.told.newest.subscribe()
    }

    fn shifts<T>(&self, look: impl FnOnce(&Shifts) -> T) -> T {
        look(&self.state.lock().unwrap().shifts.all)
    }

    fn newest_shifts(&self) -> watch::Receiver<u64> {
        self.state.lock().unwrap().shifts.newest.subscribe()
    }

    fn shift_seen(&self, _id: u64) -> Summed {
        Summed::default()
    }

    async fn change_shift(&self, op: ShiftOp) -> Result<ShiftOutcome, ServiceError> {
        self.change_shifts(op).await
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

    async fn require_certificates(&self) -> Result<(), ServiceError> {
        if TaskApi::level(self) >= Level::CERTIFICATES {
            return Ok(());
        }
        Err(ServiceError::TooOld { detail: "the members have not agreed to certificates yet".into() })
    }

    fn reads_rollout(&self) -> bool {
        TaskApi::level(self) >= Level::SHIFTS
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
        self.told.newest.send_replace(state.gateway.newest().map(|(revision, _)| revision));
        Ok(outcome)
    }

    fn purges<T>(&self, look: impl FnOnce(&Purges) -> T) -> T {
        look(&self.told.purges.lock().unwrap())
    }

    fn last_purge(&self) -> watch::Receiver<u64> {
        self.told.last_purge.subscribe()
    }

    async fn purge(&self, what: Bytes) -> Result<PurgeOutcome, ServiceError> {
        self.pass().await?;
        let state = &mut *self.state.lock().unwrap();
        let (clock, limits) = (&mut state.clock, &Limits::of(Level::PURGES));
        let (rolling, mends) = (&mut Rolling::default(), skep_state::clock::mends::Mends::default());
        let mut at = At { index: 1, clock, mends: &mends, level: Level::PURGES, limits, rolling };
        let purges = &mut *self.told.purges.lock().unwrap();
        let op = PurgeOp::Add { nonce: purges.last(), what };
        let OpOutcome::Purges(outcome) = purges.apply(&op, &mut at).unwrap() else {
            panic!("another outcome");
        };
        self.told.last_purge.send_replace(purges.last());
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
