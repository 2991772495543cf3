//! One request and its answer: chosen for, sent, sent again where that is right, and passed back.
//!
//! [`forward`] is the only place that knows attempts. It obeys a plan and never sees a path. The
//! protocol of the client is behind [`Downstream`]; the backend's is HTTP/1.1. Both directions of a body are polled together, so a
//! backend may answer before it has the whole request. Dropping the future ends both sides.

mod clock;
mod mirrored;
mod relay;
mod sender;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use self::clock::Clock;
use self::relay::relay;
use self::sender::Sender;
use crate::core::timer::{Fired, Timer};
use crate::core::trail::Trail;
use crate::core::worker::ANSWER_PIECE_BYTES_MIN;
use crate::forward::dispatch::{Dispatch, Unserved, Wish};
use crate::forward::downstream::{Done, Downstream, Fault, Gone, Request};
use crate::forward::problem::Problem;
use crate::forward::retry::{ATTEMPTS_MAX, Attempt, Failure};
use crate::forward::trial::Trial;
use crate::forward::upstream::Upstream;
use crate::forward::waiting::{Over, Stage, Waiting, over};
use crate::pools::backends::{Backend, InFlight, Kind};
use crate::pools::probe::is_own_lack;
use skep_gateway::shift::Ended;

/// With which a node says that it did nothing, and that another might.
const SERVICE_UNAVAILABLE: u16 = 503;

/// Pause before a backend gets a request that it failed already.
const AGAIN_PAUSE: Duration = Duration::from_millis(50);

/// Sends the request to backends until one answers, and passes the answer on.
pub async fn forward<D: Downstream>(
    timer: &Timer,
    request: Request<'_>,
    down: &mut D,
    trail: &mut Trail,
) -> Result<Done, Fault> {
    let plan = request.plan;
    let kind = if request.method.is_safe() { Kind::Safe } else { Kind::Unsafe };
    let (mut pool, wish) = (&*plan.pool, Wish { key: plan.key, kind, waits: plan.waits });
    // Ends as soon as the request goes elsewhere: what becomes of it there says nothing of the new service.
    let mut trial = plan.trial.as_ref().map(|it| it.begin(down.body_complete()));
    let whole = trail.started + plan.answer_within;
    // The old service is to have time, too.
    let shares = plan.trial.as_ref().is_some_and(Trial::has_other) && request.method.is_safe();
    let mut deadline = if shares { trail.started + plan.answer_within / 2 } else { whole };
    if let Some(mirror) = &plan.mirror {
        mirrored::begin(mirror, &request, down);
    }
    pool.earn_retries();
    let worker = &pool.worker;
    let mut sender = Sender::new(request, down.body_complete(), &worker.purse);
    if let Some(client) = request.client.filter(|_| !sender.whole) {
        let (uploads, most) = (&worker.shared.uploads, worker.settings().uploads_per_client_max);
        let Some(upload) = uploads.take(client, most) else {
            return Err(Fault::Problem(Problem::TooManyUploads));
        };
        sender.upload = Some(upload);
    }
    let mut tried = Tried::default();
    let result = loop {
        let gone = |cx: &mut Context<'_>| match down.poll_cancelled(cx) {
            Poll::Pending if !down.is_gone(cx, plan.waits) => Poll::Pending,
            _ => Poll::Ready(()),
        };
        let chosen = pool.choose(timer, wish, tried.as_slice(), deadline, trail, gone).await;
        let backend = match chosen {
            Ok(backend) => backend,
            Err(Unserved::Gone) => break Err(Fault::Cut),
            Err(Unserved::Problem(problem)) => {
                let may = may_go_elsewhere(&sender, whole);
                if let Some(other) = trial.take().and_then(|it| it.ended(Ended::Unanswered, may)) {
                    (pool, tried, deadline) = (other, Tried::default(), whole);
                    continue;
                }
                // An attempt before may have got through.
                let reset = Problem::Failed(Failure::Reset);
                break Err(Fault::Problem(if tried.executions > 0 { reset } else { problem }));
            }
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
        let in_flight = InFlight::begin(backend.clone(), kind, plan.waits);
        sender.restart();
        let outcome = attempt(pool, timer, &mut sender, &backend, down, trail, deadline).await;
        let (failure, upstream) = match outcome {
            Ok(mut upstream) => {
                if tried.executions > 0 {
                    // It speaks for itself, not for who had the request before.
                    upstream.head.drop_unprocessed(upstream.buffer.unread());
                }
                if !is_unprocessed(pool, &upstream) {
                    let (ended, may) =
                        (Ended::Answered(upstream.head.status), may_go_elsewhere(&sender, whole));
                    if let Some(other) = trial.take().and_then(|it| it.ended(ended, may)) {
                        drop((upstream, in_flight));
                        timer.watch_backend(0);
                        pool.freed();
                        (pool, tried, deadline) = (other, Tried::default(), whole);
                        continue;
                    }
                    break relay(pool, timer, sender, upstream, down, trail, in_flight).await;
                }
                (Failure::Unprocessed, Some(upstream))
            }
            Err(Stop::Gone(Gone::Problem(problem))) => break Err(Fault::Problem(problem)),
            Err(Stop::Gone(Gone::Lost)) => break Err(Fault::Cut),
            Err(Stop::Failed(failure)) => (failure, None),
        };
        match failure {
            Failure::OwnLack => {}
            Failure::Unprocessed => backend.declined(Instant::now()),
            _ => pool.failed(&backend, failure),
        }
        tried.executions += u32::from(!failure.is_unprocessed());
        let facts = Attempt {
            repeatable: plan.repeatable,
            body_kept: sender.may_restart(),
            attempts: trail.attempts,
            executions: tried.executions,
            told: sender.told,
            time_left: Instant::now() < deadline,
        };
        // An answer that says "not now" is passed on rather than asked for again from the same
        // backend: it has waited as long as it may already.
        let elsewhere = upstream.is_none() || pool.has_other(tried.as_slice());
        if elsewhere && pool.may_retry(failure, facts) {
            drop(in_flight);
            // Who waits for the next one does not wait for this one any more.
            timer.watch_backend(0);
            pool.freed();
            continue;
        }
        let ended = upstream.as_ref().map_or(Ended::Unanswered, |it| Ended::Answered(it.head.status));
        let may = may_go_elsewhere(&sender, whole);
        let of_service = trial.take().filter(|_| failure != Failure::OwnLack);
        if let Some(other) = of_service.and_then(|it| it.ended(ended, may)) {
            drop((upstream, in_flight));
            timer.watch_backend(0);
            pool.freed();
            (pool, tried, deadline) = (other, Tried::default(), whole);
            continue;
        }
        break match upstream {
            Some(upstream) => relay(pool, timer, sender, upstream, down, trail, in_flight).await,
            None => Err(Fault::Problem(tried.problem(failure))),
        };
    };
    timer.disarm();
    pool.freed();
    result
}

/// The backends that a request was at.
#[derive(Default)]
struct Tried {
    serials: [u64; ATTEMPTS_MAX as usize],
    len: usize,
    /// Attempts that may have executed it.
    executions: u32,
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

    /// What is said after the last attempt: that nothing was done only where that is so of all.
    fn problem(&self, last: Failure) -> Problem {
        Problem::Failed(if self.executions > 0 && last.is_unprocessed() { Failure::Reset } else { last })
    }
}

enum Stop {
    Failed(Failure),
    Gone(Gone),
}

/// Sends the request to one backend and reads its answer's head, passing interim ones on.
async fn attempt<D: Downstream>(
    pool: &Dispatch,
    timer: &Timer,
    sender: &mut Sender<'_>,
    backend: &Arc<Backend>,
    down: &mut D,
    trail: &mut Trail,
    deadline: Instant,
) -> Result<Upstream, Stop> {
    let mut sent_at = Instant::now();
    let (method, plan) = (sender.request.method, sender.request.plan);
    let settings = pool.worker.settings();
    let mut upstream = match pool.idle(backend) {
        Some(upstream) => upstream,
        None => {
            timer.watch_backend(backend.serial);
            timer.arm(pool.connect_timeout().min(deadline.saturating_duration_since(sent_at)));
            let connected = timer.limit(pool.connect(backend)).await;
            let connecting = sent_at.elapsed();
            trail.connecting += connecting;
            sent_at += connecting;
            match connected {
                Ok(Ok(upstream)) => upstream,
                Ok(Err(error)) if is_own_lack(&error) => {
                    tracing::debug!(%error, "no connection can be made");
                    return Err(Stop::Failed(Failure::OwnLack));
                }
                _ => {
                    backend.stats.connect_failures.fetch_add(1, Relaxed);
                    return Err(Stop::Failed(Failure::Connect));
                }
            }
        }
    };
    timer.arm(deadline.saturating_duration_since(sent_at));
    timer.watch_backend(backend.serial);
    let mut clock = Clock::new(plan, timer, sender.taken);
    let mut polled = false;
    loop {
        let read = poll_fn(|cx| {
            let was_done = sender.done;
            let sent = sender.poll(cx, &mut upstream, down);
            // The backend's time begins when it has all of the request.
            if polled && sender.done && !was_done {
                sent_at = Instant::now();
            }
            // A body that is wrong is read no further, whatever comes of the answer.
            sender.broken |= matches!(sent, Poll::Ready(Err(_)));
            match (upstream.poll_head(cx, method, ANSWER_PIECE_BYTES_MIN), sent) {
                (Poll::Ready(Ok(())), _) => return Poll::Ready(Ok(())),
                // No fault of the backend's that it does not go on with it.
                (_, Poll::Ready(Err(gone))) => return Poll::Ready(Err(Stop::Gone(gone))),
                (Poll::Ready(Err(failure)), _) => return Poll::Ready(Err(Stop::Failed(failure))),
                (Poll::Pending, _) => {}
            }
            // Whether the client is still there is looked at once it has waited for a moment.
            if polled && down.is_gone(cx, plan.waits) || down.poll_cancelled(cx).is_ready() {
                return Poll::Ready(Err(Stop::Gone(Gone::Lost)));
            }
            if !polled {
                timer.look_again();
            }
            polled = true;
            let waiting = if sender.whole { Waiting::Backend } else { clock.look(sender, down) };
            timer.poll_fired(cx).map(|fired| match (fired, over(Stage::Asking, waiting)) {
                (Fired::BackendDown, _) => Err(Stop::Failed(Failure::Silent)),
                // A client whose body is slow is not its backend's fault, nor the other way round.
                (_, Over::Client(problem)) => Err(Stop::Gone(Gone::Problem(problem))),
                (_, Over::Backend(failure)) => Err(Stop::Failed(failure)),
                (_, Over::Cut) => Err(Stop::Gone(Gone::Lost)),
            })
        })
        .await;
        read?;
        let (head, buf) = (&upstream.head, upstream.buffer.unread());
        let wrong = match head.status {
            101 if !head.changes_to(buf, sender.request.upgrade) => {
                Some("it changes to what was not asked for")
            }
            200..300 if sender.request.must_change => Some("it does not change to what was asked for"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            tracing::warn!(backend = backend.name, "the backend's answer: {wrong}");
            // It may pass over a wish to change (RFC 9110, 7.8), and the client chose where to ask: not to be
            // held against it.
            return Err(match sender.request.upgrade {
                [] => Stop::Failed(Failure::BadAnswer),
                _ => Stop::Gone(Gone::Problem(Problem::Failed(Failure::BadAnswer))),
            });
        }
        if upstream.head.status >= 200 || upstream.head.status == 101 {
            break;
        }
        sender.told |= down.interim(&upstream.head, upstream.buffer.unread());
        upstream.buffer.consume(upstream.head.len);
        timer.arm(settings.body_timeout);
        match timer.limit(poll_fn(|cx| down.poll_send(cx, &[]))).await {
            Ok(Ok(_)) => timer.arm(deadline.saturating_duration_since(Instant::now())),
            _ => return Err(Stop::Gone(Gone::Lost)),
        }
        sender.bidden = true;
        clock.forget(sender);
    }
    let now = Instant::now();
    trail.first_byte = Some(now - trail.started);
    // A backend that says "not now" at once must not look like the fastest.
    if !is_unprocessed(pool, &upstream) {
        // How long a body took that was streamed is the client's affair.
        let latency = (sender.whole && !plan.waits).then(|| now.saturating_duration_since(sent_at));
        let kind = if method.is_safe() { Kind::Safe } else { Kind::Unsafe };
        pool.began(backend, upstream.head.status, kind, latency, now);
    }
    Ok(upstream)
}

/// Whether a request that failed at the new service of a shift may be asked of the old one: one that changes nothing, of
/// which nothing is missing, and of whose answer nothing was passed on.
fn may_go_elsewhere(sender: &Sender<'_>, deadline: Instant) -> bool {
    let request = &sender.request;
    let is_plain = request.method.is_safe() && request.upgrade.is_empty();
    is_plain && sender.may_restart() && !sender.told && Instant::now() < deadline
}

/// Whether the answer says that the request was certainly not executed, and is believed. A refusal is an answer:
/// another node would say the same.
fn is_unprocessed(pool: &Dispatch, upstream: &Upstream) -> bool {
    upstream.head.unprocessed && upstream.head.status == SERVICE_UNAVAILABLE && pool.pool.are_nodes
}
