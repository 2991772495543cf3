//! A request to the new service of a shift: how it ends is counted, and where that fails it may be asked of the old one.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use skep_gateway::shift::Ended;

use crate::core::shifts::Turn;
use crate::forward::dispatch::Dispatch;

/// What of a plan is a shift's.
#[derive(Debug, Clone)]
pub struct Trial {
    turn: Arc<Turn>,
    /// The old service's, where it is asked in the same words.
    instead: Option<Rc<Dispatch>>,
}

impl Trial {
    pub fn new(turn: Arc<Turn>, instead: Option<Rc<Dispatch>>) -> Self {
        Self { turn, instead }
    }

    /// Whether somebody else may be asked.
    pub(super) fn has_other(&self) -> bool {
        self.instead.is_some()
    }

    /// The new service is asked. How long one takes whose body is yet to come is its client's affair.
    pub(super) fn begin(&self, is_whole: bool) -> Asking<'_> {
        Asking { trial: self, number: is_whole.then(|| self.turn.begin(Instant::now())) }
    }

    /// Its answer broke off.
    pub(super) fn broke_off(&self) {
        self.turn.broke_off(Instant::now());
    }
}

/// A request that the new service has. Who drops it has left: that counts where it was late by then.
pub(super) struct Asking<'a> {
    trial: &'a Trial,
    /// Until it is over, where it can be late.
    number: Option<u64>,
}

impl<'a> Asking<'a> {
    /// The new service's part ended so. Whom else to ask, where that failed and the request `may` be sent again.
    pub(super) fn ended(mut self, ended: Ended, may: bool) -> Option<&'a Dispatch> {
        let turn = &self.trial.turn;
        let has_failed = turn.ended(self.number.take(), ended, Instant::now());
        let instead = self.trial.instead.as_deref().filter(|_| has_failed && may)?;
        turn.rescued.fetch_add(1, Relaxed);
        Some(instead)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.trial.turn.left(number, Instant::now());
        }
    }
}
