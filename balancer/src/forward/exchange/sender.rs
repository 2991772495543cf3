//! A request on its way to one backend after another: its head, and its body as it comes from the
//! client or, where it was sent before, as it was kept. Cancel-safe: its state is what was sent.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::core::account::Purse;
use crate::core::connections::Place;
use crate::forward::downstream::{Downstream, Gone, Request};
use crate::forward::kept::Kept;
use crate::forward::upstream::Upstream;
use crate::forward::waiting::Waiting;

/// The request's way to one backend after another.
pub(super) struct Sender<'a> {
    pub(super) request: Request<'a>,
    /// All of the body was there before the first attempt, and stays where it is.
    pub(super) whole: bool,
    /// What was read of the body, while it may be needed again.
    pub(super) kept: Kept,
    /// The client's right to have a body on its way, until that is sent.
    pub(super) upload: Option<Place>,
    /// Bytes of the body that were taken from the client.
    pub(super) taken: usize,
    /// Bytes that this attempt has sent.
    head_sent: usize,
    pub(super) body_sent: usize,
    pub(super) done: bool,
    /// The backend takes no more; it may have answered.
    pub(super) broken: bool,
    /// An answer has begun: there is no other attempt.
    answered: bool,
    /// Who keeps the rest from being sent.
    waiting: Waiting,
    /// An interim answer was passed on: this is what the client waits for the end of.
    pub(super) told: bool,
    /// The backend has said something before its answer: what expects that may come.
    pub(super) bidden: bool,
}

impl<'a> Sender<'a> {
    pub(super) fn new(request: Request<'a>, whole: bool, purse: &Rc<Purse>) -> Self {
        let pool = &request.plan.pool.pool;
        // Only nodes say that they did nothing; from others nothing comes that would allow another attempt.
        let wanted = !whole && request.keep && (request.plan.repeatable || pool.are_nodes);
        Self {
            request,
            whole,
            kept: Kept::new(purse, wanted),
            upload: None,
            taken: 0,
            head_sent: 0,
            body_sent: 0,
            done: false,
            broken: false,
            answered: false,
            waiting: Waiting::Backend,
            told: false,
            bidden: false,
        }
    }

    /// Whether all of the body that was sent is still there.
    pub(super) fn may_restart(&self) -> bool {
        self.whole || self.kept.is_whole() || self.taken == 0
    }

    /// The next attempt begins.
    pub(super) fn restart(&mut self) {
        (self.head_sent, self.body_sent, self.done, self.broken) = (0, 0, false, false);
        self.bidden = false;
    }

    /// An answer has begun. What was kept goes, once it was sent to this backend, too.
    pub(super) fn answered<D: Downstream>(&mut self, down: &mut D) {
        self.answered = true;
        self.upload = None;
        if self.body_sent >= self.taken {
            self.kept.give_up();
        }
        self.let_go(down);
    }

    /// A whole body that is sent, and not to be sent again.
    fn let_go<D: Downstream>(&self, down: &mut D) {
        if self.whole && self.done && self.answered {
            down.consume_body(down.body().len());
        }
    }

    /// Who is waited for, where something is left to be sent.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        (!self.done && !self.broken).then_some(self.waiting)
    }

    /// Sends what can be sent now. Ready without an error: nothing is left, or nothing more is taken.
    pub(super) fn poll<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
        down: &mut D,
    ) -> Poll<Result<(), Gone>> {
        while !self.done && !self.broken {
            let again = !self.whole && self.body_sent < self.taken;
            let body = match (self.whole, again) {
                (true, _) => &down.body()[self.body_sent..],
                (false, true) => self.kept.rest(self.body_sent),
                (false, false) => down.body(),
            };
            let head = &self.request.head[self.head_sent..];
            if head.is_empty() && body.is_empty() {
                if down.body_complete() {
                    self.done = true;
                    self.upload = None;
                    self.let_go(down);
                    break;
                }
                // Who expects to be asked for the body waits for the backend, and not the other way round.
                let unasked = self.request.expects && !self.bidden && self.taken == 0;
                self.waiting = if unasked { Waiting::Backend } else { Waiting::Client };
                ready!(down.poll_body(cx))?;
                continue;
            }
            self.waiting = Waiting::Backend;
            let Ok(n) = ready!(upstream.poll_write(cx, head, body)) else {
                self.broken = true;
                break;
            };
            let of_head = n.min(head.len());
            self.head_sent += of_head;
            let of_body = n - of_head;
            self.body_sent += of_body;
            if of_body > 0 && !self.whole && !again {
                self.taken += of_body;
                self.kept.add(&down.body()[..of_body]);
                down.consume_body(of_body);
            } else if again && self.answered && self.body_sent >= self.taken {
                self.kept.give_up();
            }
        }
        Poll::Ready(Ok(()))
    }
}
