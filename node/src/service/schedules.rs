//! Schedules of tasks: what operators ask of the node about them, and what a leader does for them.

mod cron;
pub mod firing;
mod times;

use skep_base::id::RequestId;
use skep_state::command::{Op, OpOutcome};
use skep_state::kinds::schedules::Schedules;
use skep_state::level::Level;
use skep_state::schedule::{Schedule, ScheduleOp, ScheduleOutcome};

use super::{Service, ServiceError, unexpected};
pub(crate) use times::Times;

impl Service {
    /// Looks at the schedules as far as they are applied here.
    pub fn schedules<T>(&self, look: impl FnOnce(&Schedules) -> T) -> T {
        self.reader().schedules(look)
    }

    /// Makes a schedule, or another of the one that has the name. Whether its times can be read, who calls has looked.
    pub async fn set_schedule(
        &self,
        name: String,
        schedule: Schedule,
    ) -> Result<ScheduleOutcome, ServiceError> {
        let nonce = RequestId::random().0 as u64;
        self.change_schedules(ScheduleOp::Set { nonce, name, schedule: Box::new(schedule) }).await
    }

    /// Takes a schedule out. What it has put goes its way.
    pub async fn remove_schedule(&self, name: String) -> Result<ScheduleOutcome, ServiceError> {
        let nonce = RequestId::random().0 as u64;
        self.change_schedules(ScheduleOp::Remove { nonce, name }).await
    }

    async fn change_schedules(&self, op: ScheduleOp) -> Result<ScheduleOutcome, ServiceError> {
        self.require_schedules().await?;
        match self.propose(Op::Schedules { time_ms: self.0.time.now_ms(), op }, None).await? {
            (OpOutcome::Schedules(outcome), _) => Ok(outcome),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Fails until the cluster has agreed to have some: a member of the version before could not read them.
    async fn require_schedules(&self) -> Result<(), ServiceError> {
        if self.reader().level() >= Level::SCHEDULES {
            return Ok(());
        }
        // One that has just joined may not have heard of it.
        self.current().await?;
        if self.reader().level() >= Level::SCHEDULES {
            return Ok(());
        }
        self.0.status.require(self.reader().level(), Level::SCHEDULES, "schedules")?;
        Err(ServiceError::TooOld {
            detail: "the members have not agreed to schedules yet: they do once all have been of this version for \
                     --level-after"
                .into(),
        })
    }
}
