//! One request and its answer: chosen for, sent, sent again where that is right, and passed back.
//!
//! [`forward`] is the only place that knows attempts. The protocol of the client is behind
//! [`Downstream`]; the backend's is HTTP/1.1. Both directions of a body are polled together, so a
//! backend may answer before it has the whole request. Dropping the future ends both sides.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::body::{Body, Piece};
use super::problem::Problem;
use super::request_head::Method;
use super::response_head::{AnswerLength, ResponseHead};
use super::retry::{ATTEMPTS_MAX, Attempt, Failure, KEPT_BYTES_MAX};
use super::timer::{Fired, Timer};
use super::upstream::Upstream;
use crate::backends::{Backend, InFlight};
use crate::worker::Worker;

/// Pause before a backend gets a request that it failed already.
const AGAIN_PAUSE: Duration = Duration::from_millis(50);

/// The client's side of an exchange.
pub trait Downstream {
    /// Waits until [`Self::body`] has bytes or the body is complete.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>>;
    /// Bytes of the request's body, framed as the backend is to get them.
    fn body(&self) -> &[u8];
    fn consume_body(&mut self, n: usize);
    /// Whether `body` is all that is left of it.
    fn body_complete(&self) -> bool;

    /// Whether the answer's body is wanted as it is framed; else as data alone.
    fn takes_chunks(&self) -> bool;
    /// Queues an interim answer's head, whose bytes are in `buf`.
    fn interim(&mut self, head: &ResponseHead, buf: &[u8]);
    /// Queues the answer's head. `whole` says whether the request's body was read to its end.
    fn respond(&mut self, head: &ResponseHead, buf: &[u8], whole: bool);
    /// Sends what is queued and then some of `piece`: how much of that. With an empty piece, it is
    /// ready once nothing is queued.
    fn poll_send(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>>;
    /// The answer is complete but for these trailers, in their HTTP/1.1 form.
    fn poll_finish(&mut self, cx: &mut Context<'_>, trailers: &[u8]) -> Poll<io::Result<()>>;
    /// Ready where the client is gone for good.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// How the client's side failed while its body was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It is answered with this, where an answer is still possible.
    Problem(Problem),
    /// It is not there any more.
    Lost,
}

/// A request as the backends get it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// In HTTP/1.1, the blank line included.
    pub head: &'a [u8],
    pub method: Method,
    /// See [`Attempt::repeatable`].
    pub repeatable: bool,
    /// Whether its body may be kept for another attempt.
    pub keep: bool,
}

/// What the log and the metrics say of an exchange.
#[derive(Debug)]
pub struct Trail {
    pub started: Instant,
    /// Waited for a backend.
    pub queued: Duration,
    /// Waited for a connection, over all attempts.
    pub connecting: Duration,
    /// From the start to the answer's head.
    pub first_byte: Option<Duration>,
    pub backend: Option<Arc<Backend>>,
    pub attempts: u32,
    /// Of the answer that was passed on; 0 for none.
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Trail {
    pub fn new(started: Instant) -> Self {
        Self {
            started,
            queued: Duration::ZERO,
            connecting: Duration::ZERO,
            first_byte: None,
            backend: None,
            attempts: 0,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }
}

/// How an exchange ended well.
#[derive(Debug)]
pub enum Done {
    /// Both messages are complete.
    Complete,
    /// The answer is complete, the request is not: the connection cannot go on.
    Early,
    /// The protocol changes; what the backend said first is in its buffer.
    Upgraded(Box<Upstream>),
}

/// How it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was passed on yet: the client may be told.
    Problem(Problem),
    /// The answer ends in the middle: the connection must, too.
    Cut,
}

/// The request's way to one backend after another.
struct Sender<'a> {
    request: Request<'a>,
    /// All of the body was there before the first attempt, and stays where it is.
    whole: bool,
    /// What was read of the body, while it may be needed again.
    kept: Vec<u8>,
    kept_all: bool,
    /// Bytes of the body that were taken from the client.
    taken: usize,
    /// Bytes that this attempt has sent.
    head_sent: usize,
    body_sent: usize,
    done: bool,
    /// The backend takes no more; it may have answered.
    broken: bool,
}

impl Sender<'_> {
    fn restart(&mut self) {
        (self.head_sent, self.body_sent, self.done, self.broken) = (0, 0, false, false);
    }

    fn poll<D: Downstream>(
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

/// Sends the request to backends until one answers, and passes the answer on.
pub async fn forward<D: Downstream>(
    worker: &Worker,
    timer: &Timer,
    request: Request<'_>,
    down: &mut D,
    trail: &mut Trail,
) -> Result<Done, Fault> {
    let settings = worker.settings();
    let deadline = trail.started + settings.request_timeout;
    worker.earn_retries();
    let mut sender = Sender {
        request,
        whole: down.body_complete(),
        kept: Vec::new(),
        kept_all: request.keep,
        taken: 0,
        head_sent: 0,
        body_sent: 0,
        done: false,
        broken: false,
    };
    let mut tried = Tried::default();
    let result = loop {
        let chosen = worker.choose(timer, &request, tried.as_slice(), deadline, trail).await;
        let backend = match chosen {
            Ok(backend) => backend,
            // An attempt before may have got through.
            Err(_) if tried.maybe_executed => break Err(Fault::Problem(Problem::Failed(Failure::Reset))),
            Err(problem) => break Err(Fault::Problem(problem)),
        };
        if tried.contains(backend.serial) {
            timer.arm(AGAIN_PAUSE);
            let _ = timer.limit(std::future::pending::<()>()).await;
        }
        trail.attempts += 1;
        if trail.attempts > 1 {
            backend.stats.retries.fetch_add(1, Relaxed);
        }
        tried.push(backend.serial);
        trail.backend = Some(backend.clone());
        let in_flight = InFlight::begin(backend.clone());
        sender.restart();
        let outcome = attempt(worker, timer, &mut sender, &backend, down, trail, deadline).await;
        let (failure, upstream) = match outcome {
            Ok(upstream) if upstream.head.unprocessed => (Failure::Unprocessed, Some(upstream)),
            Ok(upstream) => break relay(worker, timer, sender, upstream, down, trail, in_flight).await,
            Err(Stop::Gone(Gone::Problem(problem))) => break Err(Fault::Problem(problem)),
            Err(Stop::Gone(Gone::Lost)) => break Err(Fault::Cut),
            Err(Stop::Failed(failure)) => (failure, None),
        };
        if failure != Failure::Unprocessed {
            worker.failed(&backend, failure);
        }
        tried.maybe_executed |= !matches!(failure, Failure::Connect | Failure::Unprocessed);
        let facts = Attempt {
            repeatable: request.repeatable,
            body_kept: sender.whole || sender.kept_all,
            attempts: trail.attempts,
            time_left: Instant::now() < deadline,
        };
        // An answer that says "not now" is passed on rather than asked for again from the same
        // backend: it has waited as long as it may already.
        let elsewhere = upstream.is_none() || worker.has_other(tried.as_slice());
        if elsewhere && worker.may_retry(failure, facts) {
            drop(in_flight);
            continue;
        }
        break match upstream {
            Some(upstream) => relay(worker, timer, sender, upstream, down, trail, in_flight).await,
            None => Err(Fault::Problem(Problem::Failed(failure))),
        };
    };
    timer.disarm();
    result
}

/// The backends that a request was at.
#[derive(Default)]
struct Tried {
    serials: [u64; ATTEMPTS_MAX as usize],
    len: usize,
    maybe_executed: bool,
}

impl Tried {
    fn as_slice(&self) -> &[u64] {
        &self.serials[..self.len]
    }

    fn contains(&self, serial: u64) -> bool {
        self.as_slice().contains(&serial)
    }

    fn push(&mut self, serial: u64) {
        if let Some(slot) = self.serials.get_mut(self.len) {
            *slot = serial;
            self.len += 1;
        }
    }
}

enum Stop {
    Failed(Failure),
    Gone(Gone),
}

/// Sends the request to one backend and reads its answer's head, passing interim ones on.
async fn attempt<D: Downstream>(
    worker: &Worker,
    timer: &Timer,
    sender: &mut Sender<'_>,
    backend: &Arc<Backend>,
    down: &mut D,
    trail: &mut Trail,
    deadline: Instant,
) -> Result<Upstream, Stop> {
    let begun = Instant::now();
    let settings = worker.settings();
    let left = deadline.saturating_duration_since(begun);
    let pooled = worker.pooled(backend);
    let mut upstream = match pooled {
        Some(upstream) => upstream,
        None => {
            timer.arm(settings.connect_timeout.min(left));
            let connected = timer.limit(worker.connect(backend)).await;
            trail.connecting += begun.elapsed();
            match connected {
                Ok(Ok(upstream)) => upstream,
                _ => {
                    backend.stats.connect_failures.fetch_add(1, Relaxed);
                    return Err(Stop::Failed(Failure::Connect));
                }
            }
        }
    };
    let sent_at = Instant::now();
    timer.arm(deadline.saturating_duration_since(sent_at));
    timer.watch_backend(backend.serial);
    let method = sender.request.method;
    loop {
        let read = poll_fn(|cx| {
            let (was_done, sent_before) = (sender.done, sender.body_sent);
            let sent = sender.poll(cx, &mut upstream, down);
            // A long body has its time for progress, and the answer's time begins with its end.
            if !sender.whole && sender.body_sent != sent_before {
                timer.arm(settings.body_timeout);
            }
            if !sender.whole && sender.done && !was_done {
                timer.arm(settings.request_timeout);
            }
            match upstream.poll_head(cx, method) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(Stop::Failed(failure))),
                Poll::Pending => {}
            }
            match sent {
                Poll::Ready(Err(gone)) => return Poll::Ready(Err(Stop::Gone(gone))),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            timer.poll_fired(cx).map(|fired| match fired {
                Fired::BackendDown => Err(Stop::Failed(Failure::Silent)),
                // A client whose body is slow is not its backend's fault.
                _ if !sender.done && !sender.broken => {
                    Err(Stop::Gone(Gone::Problem(Problem::RequestTimeout)))
                }
                _ => Err(Stop::Failed(Failure::Deadline)),
            })
        })
        .await;
        read?;
        if upstream.head.status >= 200 || upstream.head.status == 101 {
            break;
        }
        down.interim(&upstream.head, upstream.buffer.unread());
        upstream.buffer.consume(upstream.head.len);
        timer.arm(settings.body_timeout);
        match timer.limit(poll_fn(|cx| down.poll_send(cx, &[]))).await {
            Ok(Ok(_)) => timer.arm(deadline.saturating_duration_since(Instant::now())),
            _ => return Err(Stop::Gone(Gone::Lost)),
        }
    }
    let first_byte = sent_at.elapsed();
    // A backend that says "not now" at once must not look like the fastest.
    if !upstream.head.unprocessed {
        backend.succeeded(first_byte);
    }
    Ok(upstream)
}

/// Passes the answer on, and what is left of the request.
async fn relay<D: Downstream>(
    worker: &Worker,
    timer: &Timer,
    mut sender: Sender<'_>,
    mut upstream: Upstream,
    down: &mut D,
    trail: &mut Trail,
    in_flight: InFlight,
) -> Result<Done, Fault> {
    let settings = worker.settings();
    sender.kept = Vec::new();
    sender.kept_all = false;
    trail.first_byte = Some(trail.started.elapsed());
    trail.status = upstream.head.status;
    worker.answered(&upstream.backend, trail.status);
    down.respond(&upstream.head, upstream.buffer.unread(), sender.done);
    let (length, keep_alive) = (upstream.head.body, upstream.head.keep_alive);
    upstream.buffer.consume(upstream.head.len);
    if upstream.head.status == 101 {
        timer.arm(settings.body_timeout);
        let sent = timer.limit(poll_fn(|cx| down.poll_send(cx, &[]))).await;
        return if matches!(sent, Ok(Ok(_))) {
            Ok(Done::Upgraded(Box::new(upstream)))
        } else {
            Err(Fault::Cut)
        };
    }
    // A stream that may go on for hours is no load that a backend's limit should count.
    let unbounded = matches!(length, AnswerLength::Chunked | AnswerLength::Close);
    let _in_flight = (!unbounded).then_some(in_flight);
    let mut answer = Answer { body: length.into(), pending: 0, trailers: Vec::new(), sent: 0, unbounded };
    timer.arm(settings.body_timeout);
    let outcome = poll_fn(|cx| {
        let before = (answer.sent, sender.body_sent);
        if let Poll::Ready(Err(_)) = sender.poll(cx, &mut upstream, down) {
            // What the backend answers still reaches a client that sent half a request.
            sender.broken = true;
        }
        if let Poll::Ready(result) = answer.poll(cx, &mut upstream, down) {
            return Poll::Ready(result);
        }
        if before != (answer.sent, sender.body_sent) {
            let waits_for_client = answer.pending > 0;
            timer.arm(if waits_for_client { settings.body_timeout } else { settings.stream_timeout });
        }
        timer.poll_fired(cx).map(|_| Err(()))
    })
    .await;
    trail.bytes_out = answer.sent;
    trail.bytes_in = sender.body_sent as u64;
    match outcome {
        Ok(()) => {
            let whole = sender.done;
            if keep_alive && whole && upstream.buffer.is_empty() {
                worker.release(upstream);
            }
            Ok(if whole { Done::Complete } else { Done::Early })
        }
        Err(()) => Err(Fault::Cut),
    }
}

/// An answer's body on its way.
struct Answer {
    body: Body,
    /// Bytes at the front of the upstream's buffer that are to be sent.
    pending: usize,
    trailers: Vec<u8>,
    sent: u64,
    unbounded: bool,
}

impl Answer {
    fn poll<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
        down: &mut D,
    ) -> Poll<Result<(), ()>> {
        loop {
            if self.pending > 0 {
                let piece = &upstream.buffer.unread()[..self.pending];
                let n = ready!(down.poll_send(cx, piece)).map_err(drop)?;
                upstream.buffer.consume(n);
                self.pending -= n;
                self.sent += n as u64;
                continue;
            }
            if self.body.is_done() {
                return down.poll_finish(cx, &self.trailers).map_err(drop);
            }
            if !upstream.buffer.is_empty() {
                let piece = if down.takes_chunks() {
                    self.body.take(upstream.buffer.unread()).map(Piece::Pass)
                } else {
                    self.body.take_data(upstream.buffer.unread())
                };
                match piece {
                    Ok(Piece::Pass(n)) => self.pending = n,
                    Ok(Piece::Skip(n)) => upstream.buffer.consume(n),
                    Ok(Piece::Trailer(n)) => {
                        self.trailers.extend_from_slice(&upstream.buffer.unread()[..n]);
                        upstream.buffer.consume(n);
                    }
                    Err(_) => return Poll::Ready(Err(())),
                }
                if self.pending > 0 || self.body.is_done() || !upstream.buffer.is_empty() {
                    continue;
                }
            }
            // What is at hand goes out before more is waited for.
            match upstream.buffer.poll_fill(&mut upstream.stream, cx) {
                Poll::Ready(Ok(0)) if matches!(self.body, Body::Close) => self.body = Body::Done,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    if let Poll::Ready(Err(_)) = down.poll_send(cx, &[]) {
                        return Poll::Ready(Err(()));
                    }
                    if self.unbounded && down.poll_gone(cx).is_ready() {
                        return Poll::Ready(Err(()));
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}
