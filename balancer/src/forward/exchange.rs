//! One request and its answer: chosen for, sent, sent again where that is right, and passed back.
//!
//! [`forward`] is the only place that knows attempts. The protocol of the client is behind
//! [`Downstream`]; the backend's is HTTP/1.1. Both directions of a body are polled together, so a
//! backend may answer before it has the whole request. Dropping the future ends both sides.

mod relay;
mod sender;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use self::relay::relay;
use self::sender::Sender;
use crate::core::timer::{Fired, Timer};
use crate::core::worker::Worker;
use crate::forward::problem::Problem;
use crate::forward::retry::{ATTEMPTS_MAX, Attempt, Failure};
use crate::forward::upstream::Upstream;
use crate::pools::backends::{Backend, InFlight};
use crate::wire::request_head::Method;
use crate::wire::response_head::ResponseHead;

/// Most that is read before an answer's head is known, where its body may be spliced: what is read
/// is copied.
const SPLICED_HEAD_READ_BYTES: usize = 4 * 1024;
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
    /// The client's socket, where bytes may go to it as they are.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
    /// Ready where the client took its request back.
    fn poll_cancelled(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
    /// Ready where the client is gone for good. Asked while an answer without end has nothing to say.
    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
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
    /// Those with the same key go to the same backend, where that can have them.
    pub key: Option<u64>,
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
    let mut sender = Sender::new(request, down.body_complete());
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
    let mut sent_at = Instant::now();
    let settings = worker.settings();
    let mut upstream = match worker.pooled(backend) {
        Some(upstream) => upstream,
        None => {
            timer.arm(settings.connect_timeout.min(deadline.saturating_duration_since(sent_at)));
            let connected = timer.limit(worker.connect(backend)).await;
            let connecting = sent_at.elapsed();
            trail.connecting += connecting;
            sent_at += connecting;
            match connected {
                Ok(Ok(upstream)) => upstream,
                _ => {
                    backend.stats.connect_failures.fetch_add(1, Relaxed);
                    return Err(Stop::Failed(Failure::Connect));
                }
            }
        }
    };
    timer.arm(deadline.saturating_duration_since(sent_at));
    timer.watch_backend(backend.serial);
    let method = sender.request.method;
    let read_max = down.socket().map_or(usize::MAX, |_| SPLICED_HEAD_READ_BYTES);
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
            match upstream.poll_head(cx, method, read_max) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(Stop::Failed(failure))),
                Poll::Pending => {}
            }
            match sent {
                Poll::Ready(Err(gone)) => return Poll::Ready(Err(Stop::Gone(gone))),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if down.poll_cancelled(cx).is_ready() {
                return Poll::Ready(Err(Stop::Gone(Gone::Lost)));
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
    let now = Instant::now();
    trail.first_byte = Some(now - trail.started);
    // A backend that says "not now" at once must not look like the fastest.
    if !upstream.head.unprocessed {
        backend.succeeded(now - sent_at, now);
    }
    Ok(upstream)
}
