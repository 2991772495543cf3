//! Answers of the balancer's own over HTTP/2. Most are short and go out at once; what a service says that was asked may
//! be a page, and goes as its client takes it.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;

use super::super::head;
use super::{FIRST_PIECE_BYTES_MAX, Stream};
use crate::forward::downstream::Downstream as _;
use crate::gateway::Answer;

impl Stream {
    pub(super) async fn answer(&mut self, answer: Answer, is_head: bool) {
        self.head = Some(head::own(&answer, self.worker.clock.date()));
        let mut rest: &[u8] = if is_head { &[] } else { &answer.body };
        if rest.len() <= FIRST_PIECE_BYTES_MAX {
            self.held = (!rest.is_empty()).then(|| Bytes::copy_from_slice(rest));
            // Who is not told is gone.
            let _ = self.send_held(true);
            return;
        }
        let (timer, limit) = (self.worker.timers.timer(), self.worker.settings().body_timeout);
        while !rest.is_empty() {
            timer.arm(limit);
            let mut turn = self.turn();
            let sent = poll_fn(|cx| {
                if self.poll_cancelled(cx).is_ready() {
                    return Poll::Ready(None);
                }
                if let Poll::Ready(sent) = self.poll_send(cx, rest) {
                    return Poll::Ready(sent.ok());
                }
                // Who waits for others of its connection is not slow while these are sent.
                let now = self.turn();
                if now != turn {
                    turn = now;
                    timer.arm(limit);
                }
                timer.poll_fired(cx).map(|_| None)
            });
            match sent.await {
                Some(n) => rest = &rest[n..],
                None => return self.reset(),
            }
        }
        let _ = self.send_held(true);
    }
}
