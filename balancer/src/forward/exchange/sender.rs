//! A request on its way to one backend after another: its head, and its body as it comes from the
//! client or, where it was sent before, as it was kept. Cancel-safe: its state is what was sent.

use std::task::{Context, Poll, ready};

use crate::forward::downstream::{Downstream, Gone, Request};
use crate::forward::retry::KEPT_BYTES_MAX;
use crate::forward::upstream::Upstream;

/// The request's way to one backend after another.
pub(super) struct Sender<'a> {
    pub(super) request: Request<'a>,
    /// All of the body was there before the first attempt, and stays where it is.
    pub(super) whole: bool,
    /// What was read of the body, while it may be needed again.
    pub(super) kept: Vec<u8>,
    pub(super) kept_all: bool,
    /// Bytes of the body that were taken from the client.
    taken: usize,
    /// Bytes that this attempt has sent.
    head_sent: usize,
    pub(super) body_sent: usize,
    pub(super) done: bool,
    /// The backend takes no more; it may have answered.
    pub(super) broken: bool,
    /// An interim answer was passed on: this is what the client waits for the end of.
    pub(super) told: bool,
}

impl<'a> Sender<'a> {
    pub(super) fn new(request: Request<'a>, whole: bool) -> Self {
        Self {
            request,
            whole,
            kept: Vec::new(),
            kept_all: request.keep,
            taken: 0,
            head_sent: 0,
            body_sent: 0,
            done: false,
            broken: false,
            told: false,
        }
    }

    /// Whether all of the body that was sent is still there.
    pub(super) fn may_restart(&self) -> bool {
        self.whole || self.kept_all || self.taken == 0
    }

    /// The next attempt begins.
    pub(super) fn restart(&mut self) {
        (self.head_sent, self.body_sent, self.done, self.broken) = (0, 0, false, false);
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
                (false, true) => &self.kept[self.body_sent..],
                (false, false) => down.body(),
            };
            let head = &self.request.head[self.head_sent..];
            if head.is_empty() && body.is_empty() {
                if down.body_complete() {
                    self.done = true;
                    break;
                }
                ready!(down.poll_body(cx))?;
                continue;
            }
            let Ok(n) = ready!(upstream.poll_write(cx, head, body)) else {
                self.broken = true;
                break;
            };
            let of_head = n.min(head.len());
            self.head_sent += of_head;
            let of_body = n - of_head;
            self.body_sent += of_body;
            if of_body > 0 && !self.whole && !again {
                self.take(of_body, down);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take<D: Downstream>(&mut self, n: usize, down: &mut D) {
        self.taken += n;
        if self.kept_all && self.kept.len() + n <= KEPT_BYTES_MAX {
            self.kept.extend_from_slice(&down.body()[..n]);
        } else {
            self.kept_all = false;
            self.kept = Vec::new();
        }
        down.consume_body(n);
    }
}
