//! An answer on its way to the client, and what is left of its request on the way to the backend.
//! Both directions are polled together.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::sender::Sender;
use crate::core::splice::{Pipes, SPLICE_BYTES_MIN, Splice};
use crate::core::timer::{Fired, Timer};
use crate::core::trail::Trail;
use crate::core::worker::{ANSWER_PIECE_BYTES, ANSWER_PIECE_BYTES_MIN};
use crate::forward::dispatch::Dispatch;
use crate::forward::downstream::{Done, Downstream, Fault};
use crate::forward::upstream::Upstream;
use crate::forward::waiting::{Limits, Stage, Waiting};
use crate::pools::backends::InFlight;
use crate::wire::body::{Body, Piece};
use crate::wire::response_head::AnswerLength;

/// How long an answer whose end is not known counts as in flight. What goes on for longer is a stream:
/// it may last for hours, and is no load that a backend's limit should count.
const COUNTED_MAX: Duration = Duration::from_secs(5);

/// A client that takes so much at once gets its answer in large pieces.
const ROOMY_BYTES: usize = 16 * 1024;

/// Which side an answer's end came from, where it came too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// The client's; or nobody's: a time is over.
    Here,
    Backend,
}

/// Passes the answer on, and what is left of the request.
pub(super) async fn relay<D: Downstream>(
    pool: &Dispatch,
    timer: &Timer,
    mut sender: Sender<'_>,
    mut upstream: Upstream,
    down: &mut D,
    trail: &mut Trail,
    in_flight: InFlight,
) -> Result<Done, Fault> {
    let settings = pool.worker.settings();
    sender.answered(down);
    trail.status = upstream.head.status;
    upstream.backend.answered(trail.status);
    let (length, keep_alive) = (upstream.head.body, upstream.head.keep_alive);
    let unbounded = matches!(length, AnswerLength::Chunked | AnswerLength::Close);
    let is_events = unbounded && upstream.head.is_event_stream(upstream.buffer.unread());
    if let Some(edits) = sender.request.plan.via.as_ref().and_then(|it| it.answer_edits()) {
        upstream.head.edit(upstream.buffer.unread(), edits);
    }
    if let Some(it) = sender.request.plan.via.as_ref().and_then(|it| it.rate_limit()) {
        upstream.head.say_rate_limit(it);
    }
    if let Some(cookie) = sender.request.plan.via.as_ref().and_then(|it| it.cookie()) {
        upstream.head.set_cookie(upstream.buffer.unread(), cookie);
    }
    down.respond(&upstream.head, upstream.buffer.unread(), sender.done);
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
    let mut load = Load::new(pool, timer, in_flight, unbounded, is_events);
    let mut answer = Answer {
        body: length.into(),
        pending: 0,
        trailers: Vec::new(),
        sent: 0,
        unbounded,
        waits: sender.request.plan.waits,
        splice: None,
        waiting: Waiting::Client,
    };
    let limits = Limits {
        body: settings.body_timeout,
        stream: settings.stream_timeout,
        answer: settings.request_timeout,
    };
    let mut armed = None;
    let mut answer_moved = (0, pool.worker.timers.now());
    let outcome = poll_fn(|cx| {
        if let Poll::Ready(Err(_)) = sender.poll(cx, &mut upstream, down) {
            // What the backend answers still reaches a client that sent half a request.
            sender.broken = true;
        }
        if let Poll::Ready(result) = answer.poll(cx, &pool.worker.pipes, &mut upstream, down) {
            return Poll::Ready(result);
        }
        let waiting = Waiting::of(sender.waiting(), Some(answer.waiting));
        let now = Some((waiting, answer.sent, sender.body_sent, down.turn()));
        if armed != now {
            armed = now;
            let limit = limits.limit(Stage::Answering, waiting, false);
            let now = pool.worker.timers.now();
            if answer_moved.0 != answer.sent {
                answer_moved = (answer.sent, now);
            }
            // A body that is never over keeps an answer that does not move for no longer than a body may take.
            let left = match sender.waiting() {
                Some(Waiting::Client) => sender.request.pace.left_beside(answer_moved.1, now),
                _ => limit,
            };
            load.arm(limit.min(left));
        }
        if down.poll_cancelled(cx).is_ready() {
            return Poll::Ready(Err(Broken::Here));
        }
        load.poll_fired(cx)
            .map(|fired| Err(if fired == Fired::BackendDown { Broken::Backend } else { Broken::Here }))
    })
    .await;
    trail.bytes_out = answer.sent;
    trail.bytes_in = sender.body_sent as u64;
    match outcome {
        Ok(()) => {
            let whole = sender.done;
            if keep_alive && whole && upstream.buffer.is_empty() {
                pool.release(upstream);
            }
            Ok(if whole { Done::Complete } else { Done::Early })
        }
        Err(broken) => {
            if broken == Broken::Backend {
                pool.broke(&upstream.backend);
                let plan = sender.request.plan;
                if let Some(trial) = plan.trial.as_ref().filter(|_| std::ptr::eq(pool, &*plan.pool)) {
                    trial.broke_off();
                }
            }
            Err(Fault::Cut)
        }
    }
}

/// What an answer is to its backend's limit, and the time that it may be silent.
struct Load<'a> {
    pool: &'a Dispatch,
    timer: &'a Timer,
    in_flight: Option<InFlight>,
    /// Until when it counts, where its end is not known.
    until: Option<Instant>,
    /// What is left of the silence once it counts no more.
    rest: Duration,
}

impl<'a> Load<'a> {
    fn new(
        pool: &'a Dispatch,
        timer: &'a Timer,
        in_flight: InFlight,
        unbounded: bool,
        is_events: bool,
    ) -> Self {
        let until = unbounded.then(|| pool.worker.timers.now() + COUNTED_MAX);
        let mut load = Self { pool, timer, in_flight: Some(in_flight), until, rest: Duration::ZERO };
        if is_events {
            load.let_go();
        }
        load
    }

    fn let_go(&mut self) {
        (self.in_flight, self.until) = (None, None);
        self.pool.freed();
    }

    fn arm(&mut self, limit: Duration) {
        let counted = self
            .until
            .map_or(limit, |until| until.saturating_duration_since(self.pool.worker.timers.now()).min(limit));
        self.rest = limit - counted;
        self.timer.arm(counted);
    }

    fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<Fired> {
        let fired = self.timer.poll_fired(cx);
        if fired != Poll::Ready(Fired::Deadline) || self.rest.is_zero() {
            return fired;
        }
        self.let_go();
        self.timer.arm(std::mem::take(&mut self.rest));
        self.timer.poll_fired(cx)
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
    /// Of a plan that does.
    waits: bool,
    /// What is left of the body goes from socket to socket.
    splice: Option<Splice>,
    /// Who keeps it from going on.
    waiting: Waiting,
}

impl Answer {
    fn poll<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        pipes: &Rc<Pipes>,
        upstream: &mut Upstream,
        down: &mut D,
    ) -> Poll<Result<(), Broken>> {
        loop {
            self.waiting = Waiting::Client;
            if self.splice.is_some() {
                ready!(self.poll_splice(cx, upstream, down))?;
            }
            if self.pending > 0 {
                let piece = &upstream.buffer.unread()[..self.pending];
                let n = ready!(down.poll_send(cx, piece)).map_err(|_| Broken::Here)?;
                upstream.buffer.consume(n);
                self.pending -= n;
                self.sent += n as u64;
                continue;
            }
            if self.body.is_done() {
                return down.poll_finish(cx, &self.trailers).map_err(|_| Broken::Here);
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
                    Err(_) => return Poll::Ready(Err(Broken::Backend)),
                }
                if self.pending > 0 || self.body.is_done() || !upstream.buffer.is_empty() {
                    continue;
                }
            }
            if let Body::Length(left) = self.body
                && left >= SPLICE_BYTES_MIN
                && upstream.buffer.is_empty()
                && down.socket().is_some()
                && upstream.stream.socket().is_some()
            {
                self.splice = pipes.splice(left);
                if self.splice.is_some() {
                    continue;
                }
            }
            // No more is read than the client takes; where it takes little, in small pieces.
            let Poll::Ready(room) = down.poll_room(cx) else {
                upstream.buffer.release();
                return Poll::Pending;
            };
            let most = if room < ROOMY_BYTES { ANSWER_PIECE_BYTES_MIN } else { room.min(ANSWER_PIECE_BYTES) };
            // What is at hand goes out before more is waited for.
            self.waiting = Waiting::Backend;
            match upstream.buffer.poll_fill_some(&mut upstream.stream, cx, most) {
                Poll::Ready(Ok(0)) if matches!(self.body, Body::Close) => self.body = Body::Done,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Broken::Backend)),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    match down.poll_send(cx, &[]) {
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Here)),
                        Poll::Ready(Ok(_)) => {}
                        Poll::Pending => self.waiting = Waiting::Client,
                    }
                    if self.unbounded && down.is_gone(cx, self.waits) {
                        return Poll::Ready(Err(Broken::Here));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Ready once the body is over.
    fn poll_splice<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
        down: &mut D,
    ) -> Poll<Result<(), Broken>> {
        ready!(down.poll_send(cx, &[])).map_err(|_| Broken::Here)?;
        while let (Some(splice), Some(from), Some(to)) =
            (&mut self.splice, upstream.stream.socket(), down.socket())
        {
            let moved = splice.poll(cx, from, to);
            self.waiting = if splice.holds_bytes() { Waiting::Client } else { Waiting::Backend };
            let moved = ready!(moved);
            self.sent +=
                moved.map_err(|_| if splice.holds_bytes() { Broken::Here } else { Broken::Backend })? as u64;
            if splice.is_done() {
                (self.splice, self.body) = (None, Body::Done);
            }
        }
        Poll::Ready(Ok(()))
    }
}
