//! Shifts of the gateway's routes: what operators ask of the node about them, what balancers say of them, and what a
//! leader does for them.

pub mod heard;
pub mod leading;
mod next;

use std::sync::Arc;

use skep_base::id::RequestId;
use skep_state::command::{Op, OpOutcome};
use skep_state::kinds::shifts::Shifts;
use skep_state::level::Level;
use skep_state::shift::{ShiftOp, ShiftOutcome};
use tokio::sync::watch;

use super::{Service, ServiceError, unexpected};
use heard::{Heard, Summed};

/// That of a shift: never another's, and never 0.
pub fn new_shift_id() -> u64 {
    (RequestId::random().0 as u64).max(1)
}

impl Service {
    /// Looks at the shifts as far as they are applied here.
    pub fn shifts<T>(&self, look: impl FnOnce(&Shifts) -> T) -> T {
        self.reader().shifts(look)
    }

    /// Changes whenever a shift does.
    pub fn newest_shifts(&self) -> watch::Receiver<u64> {
        self.reader().newest_shifts()
    }

    /// What balancers say of shifts.
    pub fn shift_reports(&self) -> &Arc<Heard> {
        &self.0.shifts
    }

    /// The same of one, of late.
    pub fn shift_seen(&self, id: u64) -> Summed {
        self.0.shifts.of(id, std::time::Instant::now())
    }

    /// Changes a shift, or begins one. Whether its route has such services, who calls has looked.
    pub async fn change_shift(&self, op: ShiftOp) -> Result<ShiftOutcome, ServiceError> {
        self.require_shifts().await?;
        match self.propose(Op::Shifts { time_ms: self.0.time.now_ms(), op }, None).await? {
            (OpOutcome::Shifts(outcome), _) => Ok(outcome),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Fails until the cluster has agreed to have some: a member of the version before could not read them.
    async fn require_shifts(&self) -> Result<(), ServiceError> {
        if self.reader().level() >= Level::SHIFTS {
            return Ok(());
        }
        // One that has just joined may not have heard of it.
        self.current().await?;
        if self.reader().level() >= Level::SHIFTS {
            return Ok(());
        }
        self.0.status.require(self.reader().level(), Level::SHIFTS, "shifts of routes")?;
        Err(ServiceError::TooOld {
            detail: "the members have not agreed to shifts of routes yet: they do once all have been of this version \
                     for --level-after"
                .into(),
        })
    }
}
