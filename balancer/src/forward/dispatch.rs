//! One core's way into one pool: which backend gets a request, who waits for one, what may be sent
//! again, and the connections that idle.
//!
//! No tasks; the core's ticker calls [`Dispatch::tick`]. Waiting is cancel-safe: a place in the queue
//! is given back when it is dropped. Who comes later waits behind who waits already.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::core::settings::FAILURE_STATUS_MIN;
use crate::core::timer::Timer;
use crate::core::trail::Trail;
use crate::core::worker::Worker;
use crate::forward::idle::Idle;
use crate::forward::problem::Problem;
use crate::forward::queue::{Place, Queue};
use crate::forward::retry::{self, Attempt, Budget, Failure};
use crate::forward::upstream::Upstream;
use crate::pools::Pool;
use crate::pools::backends::{Backend, Kind, Sample, WAITING_MAX};
use crate::pools::choose::{choose, choose_by_key};
use crate::pools::failures::Way;

/// From here on, an answer says that its server failed.
const SERVER_ERROR: u16 = 500;

/// Which backend a request would have.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Those with the same key go to the same backend, where that can have them.
    pub key: Option<u64>,
    /// What is unsafe would have the leader, where there is one: what changes something ends there
    /// anyway.
    pub kind: Kind,
    /// Its answer may wait for something to happen: it has a room of its own, and never waits for a backend.
    pub waits: bool,
}

/// Why a request got no backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unserved {
    Problem(Problem),
    /// Who asked is not there any more.
    Gone,
}

impl From<Problem> for Unserved {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// One core's side of a pool.
#[derive(Debug)]
pub struct Dispatch {
    pub pool: Arc<Pool>,
    pub worker: Rc<Worker>,
    idle: RefCell<Idle>,
    budget: RefCell<Budget>,
    queue: Queue,
}

impl Dispatch {
    pub(super) fn new(worker: &Rc<Worker>, pool: &Arc<Pool>) -> Rc<Self> {
        Rc::new(Self {
            pool: pool.clone(),
            worker: worker.clone(),
            idle: RefCell::default(),
            budget: RefCell::default(),
            queue: Queue::default(),
        })
    }

    /// Requests that one backend may have in flight.
    fn in_flight_max(&self) -> u32 {
        match self.pool.limits.in_flight_max.load(Relaxed) {
            0 => self.worker.settings().in_flight_max,
            own => own,
        }
    }

    /// Whether anybody waits for a place, on whatever core.
    pub fn is_pressed(&self) -> bool {
        self.pool.waiting.load(Relaxed) > 0
    }

    /// Whether the backends have fewer requests in flight than half of what they may.
    pub fn has_to_spare(&self) -> bool {
        let most = u64::from(self.in_flight_max());
        let set = self.pool.load();
        let taken: u64 = set.serving.iter().map(|it| u64::from(it.stats.outstanding.load(Relaxed))).sum();
        2 * (taken + 1) <= most * set.serving.len() as u64
    }

    /// The backend for a request, waited for in the queue where all are busy, as long as its client is not `gone`.
    pub async fn choose(
        &self,
        timer: &Timer,
        wish: Wish,
        tried: &[u64],
        deadline: Instant,
        trail: &mut Trail,
        mut gone: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Result<Arc<Backend>, Unserved> {
        if wish.waits {
            // In the queue it would stand in the way of those that have another room.
            return self.pick(wish, tried)?.ok_or(Problem::Overloaded.into());
        }
        // Who was at a backend already has waited.
        if (self.queue.is_empty() || !tried.is_empty())
            && let Some(chosen) = self.pick(wish, tried)?
        {
            return Ok(chosen);
        }
        let settings = self.worker.settings();
        let begun = Instant::now();
        let limit = settings.queue_timeout.min(deadline.saturating_duration_since(begun));
        let queue_max = match self.pool.limits.queue_max.load(Relaxed) {
            0 => settings.queue_max,
            own => own as usize,
        };
        if self.queue.len() >= queue_max {
            return Err(Problem::Overloaded.into());
        }
        let waiter = Waiter::begin(self);
        timer.arm(limit);
        let chosen = loop {
            let turn = timer.limit(poll_fn(|cx| match gone(cx) {
                Poll::Ready(()) => Poll::Ready(Err(Unserved::Gone)),
                Poll::Pending => waiter.place.poll_turn(cx).map(Ok),
            }));
            match turn.await {
                Ok(Ok(())) => {}
                Ok(Err(gone)) => break Err(gone),
                Err(_) => break Err(Problem::Overloaded.into()),
            }
            match self.pick(wish, tried) {
                Ok(Some(chosen)) => break Ok(chosen),
                Ok(None) => {}
                Err(problem) => break Err(problem.into()),
            }
        };
        trail.queued += begun.elapsed();
        chosen
    }

    fn pick(&self, wish: Wish, tried: &[u64]) -> Result<Option<Arc<Backend>>, Problem> {
        let set = self.pool.load();
        if set.serving.is_empty() {
            return Err(Problem::NoBackend);
        }
        let in_flight_max = if wish.waits { WAITING_MAX } else { self.in_flight_max() };
        let now = self.worker.timers.now();
        let candidate = |at: usize| {
            let backend = &set.serving[at];
            backend.candidate(now, wish.kind, wish.waits, in_flight_max, tried.contains(&backend.serial))
        };
        if let Some(key) = wish.key {
            let chosen = choose_by_key(set.serving.len(), key, |at| set.serving[at].identity(), candidate);
            if let Some(at) = chosen {
                return Ok(Some(set.serving[at].clone()));
            }
        }
        // What waits is spread: it comes to the leader when there is something to do.
        let leader = set.leader.filter(|_| wish.kind == Kind::Unsafe && !wish.waits);
        let random = &mut self.worker.random.borrow_mut();
        let chosen = choose(set.serving.len(), &set.chances, leader, random, candidate);
        Ok(chosen.map(|at| set.serving[at].clone()))
    }

    /// Whether a backend that was not tried is served from.
    pub fn has_other(&self, tried: &[u64]) -> bool {
        self.pool.load().serving.iter().any(|it| !tried.contains(&it.serial))
    }

    /// A connection that idles, where there is a good one.
    pub fn idle(&self, backend: &Backend) -> Option<Upstream> {
        self.idle.borrow_mut().take(backend.serial)
    }

    pub fn connect_timeout(&self) -> Duration {
        self.pool.connect_timeout(self.worker.settings().connect_timeout)
    }

    pub async fn connect(&self, backend: &Arc<Backend>) -> io::Result<Upstream> {
        backend.stats.connects.fetch_add(1, Relaxed);
        Upstream::connect(backend.clone(), self.pool.tls.as_ref(), &self.worker.answer_buffers).await
    }

    /// The connection is good for another exchange.
    pub fn release(&self, upstream: Upstream) {
        self.idle.borrow_mut().put(upstream, self.worker.timers.now());
    }

    /// A backend has one request less: who waits first may have its place.
    pub fn freed(&self) {
        self.queue.call();
    }

    pub fn earn_retries(&self) {
        self.budget.borrow_mut().earn();
    }

    pub fn may_retry(&self, failure: Failure, attempt: Attempt) -> bool {
        let mut budget = self.budget.borrow_mut();
        let refused = budget.refused();
        let may = retry::may_retry(failure, attempt, &mut budget);
        self.worker.stats.retries_refused.add(budget.refused() - refused);
        if may {
            self.worker.stats.retries.add(1);
        }
        may
    }

    /// A backend failed a request.
    pub fn failed(&self, backend: &Backend, failure: Failure) {
        tracing::debug!(backend = backend.name, ?failure, "attempt failed");
        if let Some(way) = failure.of_backend() {
            backend.stats.failed.add(way);
        }
        self.pool.load().failed(backend, false, Instant::now());
    }

    /// A backend began an answer and did not end it.
    pub fn broke(&self, backend: &Backend) {
        tracing::debug!(backend = backend.name, "answer broke off");
        let now = Instant::now();
        backend.broke(now);
        self.pool.load().failed(backend, true, now);
    }

    /// An answer with that status began, `latency` after the backend had all of the request, where that
    /// says something of the backend.
    pub fn began(&self, backend: &Backend, status: u16, kind: Kind, latency: Option<Duration>, now: Instant) {
        let counts =
            status >= FAILURE_STATUS_MIN && self.worker.settings().failure_statuses.contains(&status);
        backend.began(Sample { kind, good: status < SERVER_ERROR && !counts, latency }, now);
        if counts {
            backend.stats.failed.add(Way::Status);
            self.pool.load().failed(backend, true, now);
        }
    }

    /// Retries that there may be now.
    pub(super) fn retry_tokens(&self) -> u64 {
        self.budget.borrow().tokens()
    }

    pub(super) fn tick(&self) {
        let set = self.pool.load();
        let is_served_from = |serial| set.serving.iter().any(|it| it.serial == serial);
        self.idle.borrow_mut().sweep(self.worker.timers.now(), is_served_from);
        // Another core may have made room.
        self.queue.call();
    }
}

/// Who waits, and is counted.
struct Waiter<'a> {
    dispatch: &'a Dispatch,
    place: Place<'a>,
}

impl<'a> Waiter<'a> {
    fn begin(dispatch: &'a Dispatch) -> Self {
        dispatch.worker.stats.queued.add(1);
        dispatch.worker.stats.waiting.add(1);
        dispatch.pool.waiting.fetch_add(1, Relaxed);
        Self { dispatch, place: dispatch.queue.join() }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.dispatch.worker.stats.waiting.sub(1);
        self.dispatch.pool.waiting.fetch_sub(1, Relaxed);
    }
}
