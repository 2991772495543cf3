//! What one core has for itself: pools, timers, the retry budget, its counters and its log.
//!
//! Nothing here is shared between threads but through [`Shared`]. No tasks of its own; the server
//! calls [`Worker::tick`].

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use skep_base::random::Random;
use skep_vrrp::let_go::LetGo;
use tokio::sync::Notify;

use crate::core::access_log::{AccessLog, Line};
use crate::core::buffer::BufferPool;
use crate::core::connections::Connections;
use crate::core::settings::Settings;
use crate::core::splice::Pipes;
use crate::core::stats::CoreStats;
use crate::core::timer::{Timer, Timers};
use crate::forward::exchange::{Request, Trail};
use crate::forward::idle::Pool;
use crate::forward::problem::Problem;
use crate::forward::retry::{self, Attempt, Budget, Failure};
use crate::forward::upstream::Upstream;
use crate::pools::backends::{Backend, BackendSet};
use crate::pools::choose::{choose, choose_by_key, digest_key};
use crate::wire::request_head::{HEAD_BYTES_MAX, Method, RequestHead};

/// Size of the buffers that answers pass through.
const ANSWER_BUFFER_BYTES: usize = 64 * 1024;

/// What all cores and the control task share.
#[derive(Debug, Default)]
pub struct Shared {
    pub settings: ArcSwap<Settings>,
    pub backends: ArcSwap<BackendSet>,
    /// Told after each change of `backends`; for one listener.
    pub backends_changed: Notify,
    pub connections: Connections,
    /// Set once, by SIGTERM.
    pub draining: AtomicBool,
    /// Idle connections are closed now, too.
    pub close_idle: AtomicBool,
    /// Connections that end although the process stays.
    pub let_go: LetGo,
}

/// One core.
#[derive(Debug)]
pub struct Worker {
    pub shared: Arc<Shared>,
    pub stats: Arc<CoreStats>,
    pub timers: Rc<Timers>,
    /// Of requests' heads and bodies.
    pub request_buffers: Rc<BufferPool>,
    pub answer_buffers: Rc<BufferPool>,
    pub pipes: Rc<Pipes>,
    pub log: AccessLog,
    /// Lent while a head is read; never across an await.
    pub request_head: RefCell<RequestHead>,
    /// Lent while a head is written; never across an await.
    pub text: RefCell<Vec<u8>>,
    settings: RefCell<Rc<Settings>>,
    pool: RefCell<Pool>,
    random: RefCell<Random>,
    budget: RefCell<Budget>,
    freed: Notify,
    waiting: Cell<usize>,
}

impl Worker {
    pub fn new(shared: Arc<Shared>, stats: Arc<CoreStats>, log: AccessLog) -> Rc<Self> {
        let mut seed = [0; 8];
        // A weak seed makes request ids predictable, no more.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        let settings = Rc::new(Settings::clone(&shared.settings.load()));
        Rc::new(Self {
            shared,
            stats,
            timers: Timers::new(),
            request_buffers: BufferPool::new(HEAD_BYTES_MAX),
            answer_buffers: BufferPool::new(ANSWER_BUFFER_BYTES),
            pipes: Rc::default(),
            log,
            request_head: RefCell::default(),
            text: RefCell::default(),
            settings: RefCell::new(settings),
            pool: RefCell::default(),
            random: RefCell::new(Random::new(u64::from_le_bytes(seed))),
            budget: RefCell::default(),
            freed: Notify::new(),
            waiting: Cell::new(0),
        })
    }

    pub fn settings(&self) -> Rc<Settings> {
        self.settings.borrow().clone()
    }

    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Relaxed)
    }

    /// Whether a connection of that generation is to take no more requests.
    pub fn is_ending(&self, generation: u32) -> bool {
        self.is_draining() || generation != self.timers.generation()
    }

    pub fn is_ready(&self) -> bool {
        !self.is_draining() && !self.shared.backends.load().serving.is_empty()
    }

    /// To be called every [`crate::core::timer::TICK`].
    pub fn tick(&self) {
        let set = self.shared.backends.load();
        self.timers.let_go(self.shared.let_go.generation(), IDLE_GRACE_MAX);
        self.timers.tick(&set.down, self.is_draining(), self.shared.close_idle.load(Relaxed));
        let settings = self.shared.settings.load();
        if **settings != **self.settings.borrow() {
            *self.settings.borrow_mut() = Rc::new(Settings::clone(&settings));
        }
        self.pool
            .borrow_mut()
            .sweep(self.timers.now(), |serial| set.serving.iter().any(|it| it.serial == serial));
        // Another core may have made room.
        if self.waiting.get() > 0 {
            self.freed.notify_waiters();
        }
        self.stats.log_lines_dropped.add(self.log.flush());
    }

    /// 32 hexadecimal digits, unlikely to come twice.
    pub fn request_id(&self, out: &mut Vec<u8>) {
        let mut random = self.random.borrow_mut();
        for word in [random.next_u64(), random.next_u64()] {
            for shift in (0..16).rev() {
                out.push(b"0123456789abcdef"[(word >> (shift * 4)) as usize & 15]);
            }
        }
    }

    /// What ties a request to a backend, where that is asked for.
    pub fn key(&self, method: Method, target: &[u8]) -> Option<u64> {
        (self.settings.borrow().by_digest && method.is_safe()).then(|| digest_key(target)).flatten()
    }

    /// The backend for a request, waited for in the queue where all are busy.
    pub async fn choose(
        &self,
        timer: &Timer,
        request: &Request<'_>,
        tried: &[u64],
        deadline: Instant,
        trail: &mut Trail,
    ) -> Result<Arc<Backend>, Problem> {
        if let Some(chosen) = self.pick(request, tried)? {
            return Ok(chosen);
        }
        let settings = self.settings();
        let begun = Instant::now();
        let limit = settings.queue_timeout.min(deadline.saturating_duration_since(begun));
        if self.waiting.get() >= settings.queue_max {
            return Err(Problem::Overloaded);
        }
        let _waiter = Waiter::begin(self);
        timer.arm(limit);
        let chosen = loop {
            let freed = timer.limit(self.freed.notified()).await;
            match self.pick(request, tried) {
                Ok(Some(chosen)) => break Ok(chosen),
                Ok(None) if freed.is_err() => break Err(Problem::Overloaded),
                Ok(None) => {}
                Err(problem) => break Err(problem),
            }
        };
        trail.queued += begun.elapsed();
        chosen
    }

    fn pick(&self, request: &Request<'_>, tried: &[u64]) -> Result<Option<Arc<Backend>>, Problem> {
        let set = self.shared.backends.load();
        if set.serving.is_empty() {
            return Err(Problem::NoBackend);
        }
        let in_flight_max = self.settings.borrow().in_flight_max;
        let now = self.timers.now();
        let candidate = |at: usize| {
            let backend = &set.serving[at];
            backend.candidate(now, in_flight_max, tried.contains(&backend.serial))
        };
        if let Some(key) = request.key {
            let chosen = choose_by_key(set.serving.len(), key, |at| set.serving[at].identity(), candidate);
            if let Some(at) = chosen {
                return Ok(Some(set.serving[at].clone()));
            }
        }
        let leader = set.leader.filter(|_| !request.method.is_safe());
        let chosen = choose(set.serving.len(), leader, &mut self.random.borrow_mut(), candidate);
        Ok(chosen.map(|at| set.serving[at].clone()))
    }

    /// Whether a backend that was not tried is served from.
    pub fn has_other(&self, tried: &[u64]) -> bool {
        self.shared.backends.load().serving.iter().any(|it| !tried.contains(&it.serial))
    }

    pub fn pooled(&self, backend: &Backend) -> Option<Upstream> {
        self.pool.borrow_mut().take(backend.serial)
    }

    pub async fn connect(&self, backend: &Arc<Backend>) -> io::Result<Upstream> {
        backend.stats.connects.fetch_add(1, Relaxed);
        Upstream::connect(backend.clone(), &self.answer_buffers).await
    }

    /// The connection is good for another exchange.
    pub fn release(&self, upstream: Upstream) {
        self.pool.borrow_mut().put(upstream, self.timers.now());
        if self.waiting.get() > 0 {
            self.freed.notify_one();
        }
    }

    pub fn earn_retries(&self) {
        self.budget.borrow_mut().earn();
    }

    pub fn may_retry(&self, failure: Failure, attempt: Attempt) -> bool {
        let may = retry::may_retry(failure, attempt, &mut self.budget.borrow_mut());
        if may {
            self.stats.retries.add(1);
        }
        may
    }

    /// A backend failed a request.
    pub fn failed(&self, backend: &Backend, failure: Failure) {
        tracing::debug!(backend = backend.name, ?failure, "attempt failed");
        self.shared.backends.load().failed(backend);
    }

    /// A backend's answer is passed on.
    pub fn answered(&self, backend: &Backend, status: u16) {
        if let Some(count) = backend.stats.answers.get(usize::from(status / 100)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Counts and logs an exchange that is over.
    pub fn finish(&self, line: &Line<'_>) {
        let (stats, trail) = (&self.stats, line.trail);
        if let Some(count) = stats.answers.get(usize::from(trail.status / 100)) {
            count.add(1);
        }
        stats.durations.observe(line.whole);
        stats.bytes_in.add(trail.bytes_in);
        stats.bytes_out.add(trail.bytes_out);
        if let Some(backend) = &trail.backend {
            backend.stats.bytes_in.fetch_add(trail.bytes_in, Relaxed);
            backend.stats.bytes_out.fetch_add(trail.bytes_out, Relaxed);
        }
        let lost = self.log.add(line);
        if lost > 0 {
            stats.log_lines_dropped.add(lost);
        }
    }
}

/// A place in the queue.
struct Waiter<'a>(&'a Worker);

impl<'a> Waiter<'a> {
    fn begin(worker: &'a Worker) -> Self {
        worker.waiting.set(worker.waiting.get() + 1);
        worker.stats.queued.add(1);
        worker.stats.waiting.add(1);
        Self(worker)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
        self.0.stats.waiting.sub(1);
    }
}

/// Longest time that idle clients may send one more request in, once their connections are to end.
const IDLE_GRACE_MAX: Duration = Duration::from_secs(2);

/// That time once the process drains.
pub fn idle_grace(drain: Duration) -> Duration {
    (drain / 4).min(IDLE_GRACE_MAX)
}
