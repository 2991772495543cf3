//! The limit of a body that is passed on as it comes: armed anew with each byte, and whenever somebody else
//! is waited for.

use std::time::{Duration, Instant};

use super::sender::Sender;
use crate::core::timer::Timer;
use crate::forward::downstream::Downstream;
use crate::forward::plan::Plan;
use crate::forward::waiting::{Limits, Stage, Waiting};

pub(super) struct Clock<'a> {
    plan: &'a Plan,
    timer: &'a Timer,
    limits: Limits,
    /// What the timer was armed for.
    armed: Option<(Waiting, usize, bool)>,
    moved_at: Instant,
    /// For how long more the client may be held up by what it has sent otherwise.
    excuse: Duration,
    looked_at: Instant,
    /// Since when the request has its place and may bring its body, and what that had brought before.
    since: Instant,
    taken: usize,
}

impl<'a> Clock<'a> {
    pub(super) fn new(plan: &'a Plan, timer: &'a Timer, taken: usize) -> Self {
        let worker = &plan.pool.worker;
        let settings = worker.settings();
        let limits = Limits {
            body: settings.body_timeout,
            stream: settings.stream_timeout,
            answer: plan.answer_within,
        };
        let now = worker.timers.now();
        let (excuse, moved_at) = (limits.body, now);
        Self { plan, timer, limits, armed: None, moved_at, excuse, looked_at: now, since: now, taken }
    }

    /// The timer was armed for something else: an interim answer is passed on.
    pub(super) fn forget(&mut self, sender: &mut Sender<'_>) {
        self.armed = None;
        if sender.taken == 0 {
            // What expected that begins only now.
            let now = self.plan.pool.worker.timers.now();
            self.since = now;
            sender.request.pace.begin_again(now);
        }
    }

    /// Who is waited for, while the answer has not begun; arms the timer for that.
    pub(super) fn look<D: Downstream>(&mut self, sender: &mut Sender<'_>, down: &D) -> Waiting {
        let waiting = Waiting::of(sender.waiting(), None);
        let for_client = waiting == Waiting::Client;
        let pressed = for_client && self.plan.pool.is_pressed();
        let now = self.plan.pool.worker.timers.now();
        let looked_at = std::mem::replace(&mut self.looked_at, now);
        let moved = self.armed.is_none_or(|(who, sent, _)| who != waiting || sent != sender.body_sent);
        if moved {
            self.moved_at = now;
        }
        let was_for_client = matches!(self.armed, Some((Waiting::Client, ..)));
        let held_up = for_client && !moved && !self.excuse.is_zero() && down.is_held_up();
        if held_up || !was_for_client {
            // That was not the client's time.
            let passed = now.saturating_duration_since(looked_at);
            self.since += passed;
            sender.request.pace.forgive(passed);
        }
        if held_up {
            self.excuse = self.excuse.saturating_sub(now.saturating_duration_since(looked_at));
            (self.moved_at, self.armed) = (now, None);
        }
        let armed = Some((waiting, sender.body_sent, pressed));
        if self.armed != armed {
            self.armed = armed;
            let still = now.saturating_duration_since(self.moved_at);
            let limit = self.limits.limit(Stage::Asking, waiting, pressed).saturating_sub(still);
            let left = match sender.waiting() {
                Some(Waiting::Client) => self.left(sender, pressed),
                // However slowly a backend takes a body, that has an end.
                Some(_) => sender.request.pace.whole_left(now),
                None => limit,
            };
            self.timer.arm(limit.min(left));
        }
        if for_client {
            // Who comes to wait for this place has no event here.
            self.timer.look_again();
        }
        waiting
    }

    /// What the client has left. A byte now and then keeps no place that others wait for.
    fn left(&self, sender: &Sender<'_>, pressed: bool) -> Duration {
        let (pace, now) = (sender.request.pace, Instant::now());
        let left = pace.left(sender.taken as u64, now);
        if !pressed {
            return left;
        }
        let brought = sender.taken.saturating_sub(self.taken);
        left.min(pace.pressed(self.since).left(brought as u64, now))
    }
}
