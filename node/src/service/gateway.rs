//! The gateway's document: looked at, compared and set.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use skep_base::id::{NodeId, RequestId};
use skep_members::gossip::View;
use skep_state::command::{Op, OpOutcome};
use skep_state::gateway::{GatewayOp, GatewayOutcome, Revision};
use skep_state::kinds::gateway::Gateway;
use skep_state::level::Level;
use tokio::sync::watch;

use super::figures::Heard;
use super::secrets::{Secrets, Stored};
use super::{Service, ServiceError, unexpected};

/// A lineage of its own, for a cluster that has none or another past.
pub fn new_lineage() -> u128 {
    RequestId::random().0.max(1)
}

impl Service {
    /// Looks at the documents as far as they are applied here.
    pub fn gateway<T>(&self, look: impl FnOnce(&Gateway) -> T) -> T {
        self.reader().gateway(look)
    }

    /// Changes whenever another document is the newest here.
    pub fn newest_gateway(&self) -> watch::Receiver<Option<Revision>> {
        self.reader().newest_gateway()
    }

    /// Who is there, as gossip shows it.
    pub fn members(&self) -> watch::Receiver<Arc<View>> {
        self.0.status.gossip.view()
    }

    /// What balancers do, as they say when they are asked now.
    pub async fn figures(&self) -> HashMap<NodeId, Heard> {
        self.0.figures.look().await
    }

    /// Hears what they say, for as long as there is gossip.
    pub async fn hear_balancers(self) {
        let view = self.members();
        let open = || self.shifts(|shifts| shifts.open_ones().map(|(_, held)| held.id).collect());
        let of_shifts = |bytes: &[u8]| self.0.shifts.hear(bytes, &view.borrow(), open, Instant::now());
        self.0.figures.hear(of_shifts).await;
    }

    /// What opens and seals secrets of documents.
    pub fn secrets(&self) -> &Secrets {
        &self.0.status.secrets
    }

    /// Whether the members have agreed to keep secrets sealed, as far as it is known here.
    pub fn keeps_sealed(&self) -> bool {
        self.reader().level() >= Level::SEALED
    }

    /// Fails until the cluster has agreed to certificates: a member of the version before would show their keys.
    pub async fn require_certificates(&self) -> Result<(), ServiceError> {
        self.require_gateway(Level::CERTIFICATES, "certificates in the gateway's document").await
    }

    /// Makes a document the newest, where what is expected still is. Whether it is one, who calls has looked; its secrets
    /// are sealed where [`Self::keeps_sealed`] says so.
    pub async fn set_gateway(
        &self,
        expect: Option<Revision>,
        stored: Stored,
        source: String,
    ) -> Result<GatewayOutcome, ServiceError> {
        self.require_gateway(Level::GATEWAY, "the gateway's document").await?;
        let (nonce, lineage) = (self.0.nonces.next(), new_lineage());
        let Stored { document, keys } = stored;
        let op = match keys.is_empty() {
            true => GatewayOp::Set { nonce, expect, lineage, document, source },
            false => GatewayOp::SetSealed { nonce, expect, lineage, document, source, keys },
        };
        match self.propose(Op::Gateway { time_ms: self.0.time.now_ms(), op }, None).await? {
            (OpOutcome::Gateway(outcome), _) => Ok(outcome),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Fails until the cluster has agreed to have it: a member of the version before could not read it.
    async fn require_gateway(&self, needs: Level, what: &'static str) -> Result<(), ServiceError> {
        if self.reader().level() >= needs {
            return Ok(());
        }
        // One that has just joined may not have heard of it.
        self.current().await?;
        if self.reader().level() >= needs {
            return Ok(());
        }
        self.0.status.require(self.reader().level(), needs, what)?;
        Err(ServiceError::TooOld {
            detail: format!(
                "the members have not agreed to keep {what} yet: they do once all have been of this version for \
                 --level-after"
            ),
        })
    }
}
