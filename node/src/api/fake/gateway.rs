//! The gateway's document of a node in memory.

use skep_state::gateway::{GatewayOp, GatewayOutcome};

use super::*;
use crate::kinds::gateway::GatewayApi;

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

    async fn set_gateway(
        &self,
        expect: Option<Revision>,
        document: Bytes,
        source: String,
    ) -> Result<GatewayOutcome, ServiceError> {
        self.pass().await?;
        let state = &mut *self.state.lock().unwrap();
        let (clock, limits) = (&mut state.clock, &Limits::of(Level::GATEWAY));
        let time = Stamp(clock.latest().0 + 1);
        let rolling = &mut Rolling::default();
        let mends = skep_state::clock::mends::Mends::default();
        let mut at = At { index: 1, clock, mends: &mends, level: Level::GATEWAY, limits, rolling };
        let op = GatewayOp::Set { nonce: time.0, expect, lineage: 0xab, document, source };
        let OpOutcome::Gateway(outcome) = state.gateway.apply((&op, time), &mut at).unwrap() else {
            panic!("another outcome");
        };
        self.newest_gateway.send_replace(state.gateway.newest().map(|(revision, _)| revision));
        Ok(outcome)
    }
}
