//! The limit of a body that is passed on as it comes: armed anew with each byte, and whenever somebody else
//! is waited for.

use std::time::Instant;

use super::sender::Sender;
use crate::core::timer::Timer;
use crate::forward::plan::Plan;
use crate::forward::waiting::{Limits, Pace, Stage, Waiting};

pub(super) struct Clock<'a> {
    plan: &'a Plan,
    timer: &'a Timer,
    limits: Limits,
    pace: Pace,
    /// What the timer was armed for.
    armed: Option<(Waiting, usize, bool)>,
    moved_at: Instant,
}

impl<'a> Clock<'a> {
    pub(super) fn new(plan: &'a Plan, timer: &'a Timer, pace: Pace) -> Self {
        let worker = &plan.pool.worker;
        let settings = worker.settings();
        let limits = Limits {
            body: settings.body_timeout,
            stream: settings.stream_timeout,
            answer: plan.answer_within,
        };
        Self { plan, timer, limits, pace, armed: None, moved_at: worker.timers.now() }
    }

    /// The timer was armed for something else.
    pub(super) fn forget(&mut self) {
        self.armed = None;
    }

    /// Who is waited for, while the answer has not begun; arms the timer for that.
    pub(super) fn look(&mut self, sender: &Sender<'_>) -> Waiting {
        let waiting = Waiting::of(sender.waiting(), None);
        let for_client = waiting == Waiting::Client;
        let pressed = for_client && self.plan.pool.is_pressed();
        let now = self.plan.pool.worker.timers.now();
        let moved = self.armed.is_none_or(|(who, sent, _)| who != waiting || sent != sender.body_sent);
        if moved {
            self.moved_at = now;
        }
        let armed = Some((waiting, sender.body_sent, pressed));
        if self.armed != armed {
            self.armed = armed;
            let still = now.saturating_duration_since(self.moved_at);
            let limit = self.limits.limit(Stage::Asking, waiting, pressed).saturating_sub(still);
            let left = self.pace.left(sender.taken as u64, Instant::now());
            self.timer.arm(if for_client { limit.min(left) } else { limit });
        }
        if for_client {
            // Who comes to wait for this place has no event here.
            self.timer.look_again();
        }
        waiting
    }
}
