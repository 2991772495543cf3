//! What becomes of the request that is read; and the wait of one whose password nobody has looked at yet, which stays in
//! the buffer that it came to.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use super::{ClientStream, Connection};
use crate::core::timer::Timer;
use crate::core::worker::Worker;
use crate::forward::downstream::Downstream as _;
use crate::forward::problem::Problem;
use crate::gateway::{Resumed, Verdict, Wait};
use crate::listen::client::ClientInfo;

/// What becomes of a request, or what it waits for.
type Judged = Result<Verdict, Wait>;

impl<S: ClientStream> Connection<S> {
    /// What becomes of the request that is read, and how long its head is, where that is whole.
    pub(super) fn look(
        &mut self,
        worker: &Worker,
        client: &ClientInfo,
        resumed: Option<&Resumed>,
    ) -> Result<Option<(usize, Judged)>, Problem> {
        let unread = self.input.unread();
        let mut head = worker.request_head.borrow_mut();
        if !head.parse(unread).map_err(Problem::Refused)? {
            return Ok(None);
        }
        let verdict = self.request.read(worker, &self.gateway, &head, unread, client, resumed);
        Ok(Some((head.len, verdict)))
    }

    /// Waits until what the request waits for is there; None where its client is gone.
    pub(super) async fn wait(&mut self, timer: &Timer, wait: Wait) -> Option<Resumed> {
        let begun = Instant::now();
        let mut done = pin!(wait.done(timer));
        let resumed = poll_fn(|cx| match done.as_mut().poll(cx) {
            Poll::Ready(resumed) => Poll::Ready(Some(resumed)),
            Poll::Pending => self.poll_gone(cx).map(|()| None),
        });
        let resumed = resumed.await;
        self.request.waited += begun.elapsed();
        resumed
    }
}
