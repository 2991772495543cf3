//! For how long a tunnel goes on: not beyond a silence, and not for who opened it by a key that is none any more.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::core::routes::Via;
use crate::core::timer::{Fired, Timer};
use crate::gateway::Gateway;

/// How long both sides of a tunnel may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(3600);
/// How often it is looked whether who proved who it is still could.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The leave to go on.
pub(super) struct Leave<'a> {
    timer: &'a Timer,
    gateway: &'a Gateway,
    /// Of a request whose route asked who asks.
    proved: Option<Via>,
    moved_at: Instant,
}

impl<'a> Leave<'a> {
    /// Of a tunnel to that backend, by that way.
    pub(super) fn new(timer: &'a Timer, gateway: &'a Gateway, backend: u64, via: Option<&Via>) -> Self {
        let proved = via.filter(|it| it.consumer().is_some()).cloned();
        let leave = Self { timer, gateway, proved, moved_at: Instant::now() };
        timer.arm(if leave.proved.is_some() { LOOK_INTERVAL } else { SILENCE_MAX });
        timer.watch_backend(backend);
        leave
    }

    /// Bytes went one way or the other.
    pub(super) fn moved(&mut self) {
        match self.proved {
            None => self.timer.arm(SILENCE_MAX),
            Some(_) => self.moved_at = Instant::now(),
        }
    }

    /// Ready once it has to end.
    pub(super) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let fired = ready!(self.timer.poll_fired(cx));
            match &self.proved {
                Some(via)
                    if fired == Fired::Deadline
                        && self.moved_at.elapsed() < SILENCE_MAX
                        && self.gateway.still_may(via) =>
                {
                    self.timer.arm(LOOK_INTERVAL);
                }
                _ => return Poll::Ready(()),
            }
        }
    }
}
