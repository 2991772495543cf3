//! Answers that are compressed on their way to the client, behind the cache: what is stored is as it came.
//!
//! Stands between whoever answers and the client's side of it, for requests of routes that want it and nobody else.
//! `head` says which answers and what their heads say then, `encoder` codes. A core is held for no longer than a step
//! takes; what an encoder holds is charged to the account, and where that is spent an answer goes as it is.

mod encoder;
mod head;

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use skep_gateway::compress::{Coding, Compress};
use tokio::net::TcpStream;

use self::encoder::{Encoder, bytes_max};
use self::head::{Becomes, becomes, mapped, trailing};
use crate::core::account::{Charge, Use};
use crate::core::timer::Timer;
use crate::core::trail::Trail;
use crate::core::worker::Worker;
use crate::forward::cached;
use crate::forward::downstream::{Done, Downstream, Fault, Gone, Request};
use crate::forward::exchange;
use crate::forward::plan::Squeeze;
use crate::wire::request_head::Method;
use crate::wire::response_head::ResponseHead;

/// What is coded at once, and before others of the core have their turn, in bytes: a part of a millisecond.
const STEP_BYTES: usize = 16 * 1024;
const TURN_BYTES_MAX: usize = 32 * 1024;

/// As [`exchange::forward`] or [`cached::forward`], of a request whose answer may be compressed.
pub async fn forward<D: Downstream>(
    timer: &Timer,
    request: Request<'_>,
    down: &mut D,
    trail: &mut Trail,
) -> Result<Done, Fault> {
    let plan = request.plan;
    let rules = plan.via.as_ref().and_then(|it| it.entry().route.policies.compress.as_ref());
    let (Some(squeeze), Some(rules)) = (plan.compress, rules) else {
        return cached::forward(timer, request, down, trail).await;
    };
    let mapped = mapped(request.head);
    let head = mapped.as_ref().map_or(request.head, |(head, _)| head.as_slice());
    let request = Request { head, ..request };
    let mut down = Compressing {
        down,
        worker: &plan.pool.worker,
        rules,
        squeeze,
        method: request.method,
        asked: mapped.as_ref().map(|(_, asked)| asked.as_slice()),
        active: None,
        bytes: None,
        trailers: None,
    };
    let outcome = match plan.cache {
        None => exchange::forward(timer, request, &mut down, trail).await,
        Some(_) => cached::forward(timer, request, &mut down, trail).await,
    };
    if let Some(bytes) = down.bytes {
        let stats = &plan.pool.worker.stats;
        stats.compressed_bytes_in.add(trail.bytes_out);
        stats.compressed_bytes_out.add(bytes);
        trail.bytes_out = bytes;
    }
    outcome
}

/// A client's side, what goes to which may be compressed.
struct Compressing<'a, D> {
    down: &'a mut D,
    worker: &'a Rc<Worker>,
    rules: &'a Compress,
    squeeze: Squeeze,
    method: Method,
    /// What came as `If-None-Match`, where that names a tag of what was compressed.
    asked: Option<&'a [u8]>,
    active: Option<Active>,
    /// Of a body that is compressed, what went to the client.
    bytes: Option<u64>,
    /// What comes behind it.
    trailers: Option<Vec<u8>>,
}

/// A body that is compressed.
struct Active {
    encoder: Encoder,
    /// For the encoder.
    _charge: Charge,
    /// What was coded in this turn.
    turn: usize,
    is_finished: bool,
}

impl<D: Downstream> Compressing<'_, D> {
    /// None where there is no room for it.
    fn begin(&self, coding: Coding) -> Option<Active> {
        let mut charge = Charge::none(&self.worker.purse);
        let level = self.rules.level;
        if !charge.cover(bytes_max(coding, level), Use::Coding) {
            self.worker.stats.compressed_full.add(1);
            return None;
        }
        let encoder = Encoder::new(coding, level).inspect_err(|error| {
            tracing::warn!(%error, "an answer is not compressed");
        });
        let stats = &self.worker.stats;
        let count = match coding {
            Coding::Gzip => &stats.compressed_gzip,
            Coding::Zstd => &stats.compressed_zstd,
        };
        let encoder = encoder.ok()?;
        count.add(1);
        Some(Active { encoder, _charge: charge, turn: 0, is_finished: false })
    }

    /// Sends all that is coded.
    fn poll_coded(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(active) = &mut self.active else { return Poll::Ready(Ok(())) };
        while !active.encoder.coded().is_empty() {
            let n = ready!(self.down.poll_send(cx, active.encoder.coded()))?;
            active.encoder.take(n);
            self.bytes = Some(self.bytes.unwrap_or_default() + n as u64);
        }
        Poll::Ready(Ok(()))
    }
}

impl<D: Downstream> Downstream for Compressing<'_, D> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.down.poll_body(cx)
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Gone>> {
        self.down.poll_ahead(cx)
    }

    fn is_held_up(&self) -> bool {
        self.down.is_held_up()
    }

    fn body(&self) -> &[u8] {
        self.down.body()
    }

    fn consume_body(&mut self, n: usize) {
        self.down.consume_body(n);
    }

    fn body_complete(&self) -> bool {
        self.down.body_complete()
    }

    fn takes_chunks(&self) -> bool {
        self.active.is_none() && self.down.takes_chunks()
    }

    fn interim(&mut self, head: &ResponseHead, buf: &[u8]) -> bool {
        self.down.interim(head, buf)
    }

    fn respond(&mut self, head: &ResponseHead, buf: &[u8], whole: bool) {
        match becomes(head, buf, self.rules, self.squeeze, self.method, self.asked) {
            Becomes::AsItIs => self.down.respond(head, buf, whole),
            Becomes::Head(head) => self.down.respond(&head, buf, whole),
            Becomes::Coded { coded, plain, coding } => {
                self.active = self.begin(coding);
                self.bytes = self.active.as_ref().map(|_| 0);
                match self.active {
                    Some(_) => self.down.respond(&coded, buf, whole),
                    None => self.down.respond(&plain, buf, whole),
                }
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_coded(cx))?;
        let Some(active) = &mut self.active else { return self.down.poll_send(cx, piece) };
        if piece.is_empty() {
            // Nothing more is at hand: what is there goes out, however little that is.
            active.encoder.flush()?;
            ready!(self.poll_coded(cx))?;
            return self.down.poll_send(cx, &[]);
        }
        if active.turn >= TURN_BYTES_MAX {
            active.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = piece.len().min(STEP_BYTES);
        active.encoder.add(&piece[..n])?;
        active.turn += n;
        Poll::Ready(Ok(n))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.down.poll_room(cx)
    }

    fn turn(&self) -> Option<u64> {
        self.down.turn()
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>, trailers: &[u8]) -> Poll<io::Result<()>> {
        ready!(self.poll_coded(cx))?;
        if let Some(active) = self.active.as_mut().filter(|it| !it.is_finished) {
            active.encoder.finish()?;
            active.is_finished = true;
        }
        ready!(self.poll_coded(cx))?;
        if self.active.is_none() {
            return self.down.poll_finish(cx, trailers);
        }
        let trailers = self.trailers.get_or_insert_with(|| trailing(trailers));
        self.down.poll_finish(cx, trailers)
    }

    fn socket(&self) -> Option<&TcpStream> {
        self.down.socket().filter(|_| self.active.is_none())
    }

    fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.down.poll_cancelled(cx)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.down.poll_gone(cx)
    }

    fn says_no_more(&self) -> bool {
        self.down.says_no_more()
    }

    fn is_gone(&mut self, cx: &mut Context<'_>, waits: bool) -> bool {
        self.down.is_gone(cx, waits)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::{Wake, Waker};

    use super::*;
    use crate::core::access_log::AccessLog;

    /// Takes all at once.
    struct Sink(usize);

    impl Downstream for Sink {
        fn takes_chunks(&self) -> bool {
            true
        }

        fn interim(&mut self, _head: &ResponseHead, _buf: &[u8]) -> bool {
            true
        }

        fn respond(&mut self, _head: &ResponseHead, _buf: &[u8], _whole: bool) {}

        fn poll_send(&mut self, _cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
            self.0 += piece.len();
            Poll::Ready(Ok(piece.len()))
        }

        fn poll_finish(&mut self, _cx: &mut Context<'_>, _trailers: &[u8]) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn others_of_the_core_have_their_turn_in_the_middle_of_what_is_coded() {
        let worker = Worker::new(Arc::default(), Arc::default(), AccessLog::new(None));
        let rules = Compress::default();
        let mut down = Compressing {
            down: &mut Sink(0),
            worker: &worker,
            rules: &rules,
            squeeze: Squeeze { coding: Some(Coding::Gzip), has_cookie: false },
            method: Method::Get,
            asked: None,
            active: None,
            bytes: None,
            trailers: None,
        };
        down.active = down.begin(Coding::Gzip);
        assert!(down.active.is_some() && !down.takes_chunks());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let cx = &mut Context::from_waker(&waker);
        let text = vec![b'x'; 256 * 1024];
        let (mut at, mut in_turn) = (0, 0);
        while at < text.len() {
            match down.poll_send(cx, &text[at..]) {
                Poll::Ready(n) => {
                    let n = n.unwrap();
                    (at, in_turn) = (at + n, in_turn + n);
                    assert!(n <= STEP_BYTES && in_turn <= TURN_BYTES_MAX);
                }
                Poll::Pending => in_turn = 0,
            }
        }
        assert_eq!(woken.0.load(Relaxed), text.len() / TURN_BYTES_MAX - 1, "each time it is polled again");
        assert!(matches!(down.poll_finish(cx, b""), Poll::Ready(Ok(()))));
        assert!(down.bytes.is_some_and(|it| it > 0 && it < 4096));
    }
}
