//! Shifts of routes of a node in memory.

use skep_state::kinds::shifts::Shifts;
use skep_state::shift::{ShiftOp, ShiftOutcome};

use super::*;

/// The shifts, and who waits for a change of them.
#[derive(Default)]
pub struct Held {
    pub all: Shifts,
    pub newest: watch::Sender<u64>,
}

impl Fake {
    /// Changes shifts as they are, but for the log.
    pub async fn change_shifts(&self, op: ShiftOp) -> Result<ShiftOutcome, ServiceError> {
        self.pass().await?;
        let state = &mut *self.state.lock().unwrap();
        let (clock, limits, rolling) =
            (&mut state.clock, &Limits::of(Level::SHIFTS), &mut Rolling::default());
        let time = Stamp(clock.latest().0 + 1);
        let mends = skep_state::clock::mends::Mends::default();
        let mut at = At { index: 1, clock, mends: &mends, level: Level::SHIFTS, limits, rolling };
        let outcome = state.shifts.all.apply((&op, time), &mut at);
        state.shifts.newest.send_replace(state.shifts.all.revision());
        match outcome {
            Ok(OpOutcome::Shifts(outcome)) => Ok(outcome),
            other => panic!("another outcome: {other:?}"),
        }
    }
}
