//! A copy of a request, for a second service: a task of its own on the same core, whose answer is read and thrown away.
//!
//! The request itself waits for nothing of it. What there is no room for, or whose body is not all there, is not copied.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::forward;
use crate::core::mirrors::{BODY_BYTES_MAX, Place};
use crate::core::trail::Trail;
use crate::forward::downstream::{Downstream, Gone, Request};
use crate::forward::plan::{Mirror, Plan};
use crate::wire::response_head::ResponseHead;

/// Time for a copy's answer to begin, and for all of it.
const ANSWER_WITHIN_MAX: Duration = Duration::from_secs(10);
const WHOLE_WITHIN: Duration = Duration::from_secs(30);
/// Most of an answer that is read: a connection whose answer is longer is closed.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Sends a copy on its way.
pub(super) fn begin<D: Downstream>(mirror: &Mirror, request: &Request<'_>, down: &D) {
    let worker = mirror.pool.worker.clone();
    if !down.body_complete() || down.body().len() > BODY_BYTES_MAX {
        worker.shared.mirrors.large.fetch_add(1, Relaxed);
        return;
    }
    let Some(place) = Place::take(&worker.shared.mirrors) else { return };
    let (head, body) = (with_host(request.head, &mirror.host), down.body().to_vec());
    let (method, pace) = (request.method, request.pace);
    let plan = Plan {
        pool: mirror.pool.clone(),
        repeatable: false,
        key: None,
        answer_within: request.plan.answer_within.min(ANSWER_WITHIN_MAX),
        waits: false,
        via: None,
        body_bytes_max: None,
        takes_trailers: true,
        cache: None,
        compress: None,
        trial: None,
        mirror: None,
    };
    tokio::task::spawn_local(async move {
        let (timer, begun) = (worker.timers.timer(), Instant::now());
        let request = Request {
            head: &head,
            method,
            upgrade: b"",
            must_change: false,
            client: None,
            expects: false,
            keep: false,
            pace,
            plan: &plan,
        };
        let (mut discard, mut trail) = (Discard { body, left: ANSWER_BYTES_MAX }, Trail::new(begun));
        // One that stands still in its middle wakes nothing.
        let whole = worker.timers.timer();
        whole.arm(WHOLE_WITHIN);
        let outcome = whole.limit(forward(&timer, request, &mut discard, &mut trail)).await;
        place.end(matches!(outcome, Ok(Ok(_))));
    });
}

/// The head for another service: it was written for one, each field in a line.
fn with_host(head: &[u8], host: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + host.len());
    for line in head.split_inclusive(|b| *b == b'\n') {
        let is_host = line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"host:"));
        if is_host {
            out.extend_from_slice(b"host: ");
            out.extend_from_slice(host);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(line);
        }
    }
    out
}

/// A client that reads an answer and keeps nothing of it.
struct Discard {
    /// What is left of the request's.
    body: Vec<u8>,
    /// How much more is read.
    left: usize,
}

impl Downstream for Discard {
    fn poll_body(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        Poll::Ready(Ok(()))
    }

    fn poll_ahead(&mut self, _cx: &mut Context<'_>) -> Poll<Result<bool, Gone>> {
        Poll::Ready(Ok(true))
    }

    fn body(&self) -> &[u8] {
        &self.body
    }

    fn consume_body(&mut self, n: usize) {
        self.body.drain(..n.min(self.body.len()));
    }

    fn body_complete(&self) -> bool {
        true
    }

    fn takes_chunks(&self) -> bool {
        false
    }

    fn interim(&mut self, _head: &ResponseHead, _buf: &[u8]) -> bool {
        false
    }

    fn respond(&mut self, _head: &ResponseHead, _buf: &[u8], _whole: bool) {}

    fn poll_send(&mut self, _cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        if piece.len() > self.left {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.left -= piece.len();
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>, _trailers: &[u8]) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_asks_for_its_own_host_and_for_the_rest_as_it_was() {
        let head = b"POST /a HTTP/1.1\r\nHost: a.test\r\nx-host: b\r\nhost-x: c\r\n\r\n";
        let copy = with_host(head, b"mirror:8080");
        assert_eq!(copy, b"POST /a HTTP/1.1\r\nhost: mirror:8080\r\nx-host: b\r\nhost-x: c\r\n\r\n");
    }
}
