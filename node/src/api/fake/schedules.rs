//! Schedules of a node in memory.

use super::*;

impl Fake {
    /// Changes schedules as they are, but for the log.
    pub async fn change_schedules(
        &self,
        op: impl FnOnce(u64) -> ScheduleOp,
    ) -> Result<ScheduleOutcome, ServiceError> {
        self.pass().await?;
        let state = &mut *self.state.lock().unwrap();
        let (clock, limits, rolling) =
            (&mut state.clock, &Limits::of(Level::SCHEDULES), &mut Rolling::default());
        let time = Stamp(clock.latest().0 + 1);
        let mends = skep_state::clock::mends::Mends::default();
        let mut at = At { index: 1, clock, mends: &mends, level: Level::SCHEDULES, limits, rolling };
        match state.schedules.apply((&op(time.0), time, &mut state.tasks), &mut at) {
            Ok(OpOutcome::Schedules(outcome)) => Ok(outcome),
            other => panic!("another outcome: {other:?}"),
        }
    }
}
