//! Purges: what balancers are not to answer with any more, put into the log.

use bytes::Bytes;
use skep_state::command::{Op, OpOutcome};
use skep_state::kinds::purges::Purges;
use skep_state::level::Level;
use skep_state::purge::{PurgeOp, PurgeOutcome};
use tokio::sync::watch;

use super::{Service, ServiceError, unexpected};

impl Service {
    /// Looks at the purges as far as they are applied here.
    pub fn purges<T>(&self, look: impl FnOnce(&Purges) -> T) -> T {
        self.reader().purges(look)
    }

    /// The number of the last one that is applied here; changes with each.
    pub fn last_purge(&self) -> watch::Receiver<u64> {
        self.reader().last_purge()
    }

    /// Has balancers forget what this says. Whether it says something, who calls has looked.
    pub async fn purge(&self, what: Bytes) -> Result<PurgeOutcome, ServiceError> {
        self.require_purges().await?;
        let op = PurgeOp::Add { nonce: self.0.nonces.next(), what };
        match self.propose(Op::Purges { op }, None).await? {
            (OpOutcome::Purges(outcome), _) => Ok(outcome),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Fails until the cluster has agreed to keep some: a member of the version before could not read them.
    async fn require_purges(&self) -> Result<(), ServiceError> {
        if self.reader().level() >= Level::PURGES {
            return Ok(());
        }
        // One that has just joined may not have heard of it.
        self.current().await?;
        if self.reader().level() >= Level::PURGES {
            return Ok(());
        }
        self.0.status.require(self.reader().level(), Level::PURGES, "purges")?;
        Err(ServiceError::TooOld {
            detail:
                "the members have not agreed to purges yet: they do once all have been of this version for \
                     --level-after"
                    .into(),
        })
    }
}
