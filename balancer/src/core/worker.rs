//! What one core has for itself: timers, buffers, pipes, its counters and its log.
//!
//! Nothing here is shared between threads but through [`Shared`]. No tasks of its own; the core's
//! ticker calls [`Worker::tick`].

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use skep_base::random::Random;

use crate::core::access_log::{AccessLog, Line};
use crate::core::account::{Purse, Use};
use crate::core::buffer::BufferPool;
use crate::core::cache::hot::Hot;
use crate::core::date::Clock;
use crate::core::settings::Settings;
use crate::core::shared::Shared;
use crate::core::splice::Pipes;
use crate::core::stats::CoreStats;
use crate::core::timer::Timers;
use crate::wire::request_head::{HEAD_BYTES_MAX, RequestHead};

/// What is read of an answer at once: while its client takes it, and where it does not, or there is no memory.
pub const ANSWER_PIECE_BYTES: usize = 64 * 1024;
pub const ANSWER_PIECE_BYTES_MIN: usize = 4 * 1024;
/// Most that is read of a body before it has a backend.
pub const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// One core.
#[derive(Debug)]
pub struct Worker {
    pub shared: Arc<Shared>,
    pub stats: Arc<CoreStats>,
    pub timers: Rc<Timers>,
    /// Its part of the account.
    pub purse: Rc<Purse>,
    /// Of requests' heads and bodies.
    pub request_buffers: Rc<BufferPool>,
    pub answer_buffers: Rc<BufferPool>,
    pub pipes: Rc<Pipes>,
    pub clock: Clock,
    pub log: AccessLog,
    /// What it has used of the cache of late.
    pub hot: Hot,
    /// Lent while a head is read; never across an await.
    pub request_head: RefCell<RequestHead>,
    /// Lent while a head is written; never across an await.
    pub text: RefCell<Vec<u8>>,
    /// Lent for one draw.
    pub random: RefCell<Random>,
    settings: RefCell<Rc<Settings>>,
}

impl Worker {
    pub fn new(shared: Arc<Shared>, stats: Arc<CoreStats>, log: AccessLog) -> Rc<Self> {
        let mut seed = [0; 8];
        // A weak seed makes request ids predictable, no more.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        let settings = Rc::new(Settings::clone(&shared.settings.load()));
        let purse = Purse::new(shared.account.clone());
        let buffers = |small, large, usual, of| BufferPool::new(small, large, usual, of, &purse);
        Rc::new(Self {
            shared,
            stats,
            timers: Timers::new(),
            request_buffers: buffers(HEAD_BYTES_MAX, AHEAD_BYTES_MAX, HEAD_BYTES_MAX, Use::Body),
            answer_buffers: buffers(
                ANSWER_PIECE_BYTES_MIN,
                ANSWER_PIECE_BYTES,
                ANSWER_PIECE_BYTES,
                Use::Answer,
            ),
            purse,
            pipes: Rc::default(),
            clock: Clock::new(),
            log,
            hot: Hot::default(),
            request_head: RefCell::default(),
            text: RefCell::default(),
            random: RefCell::new(Random::new(u64::from_le_bytes(seed))),
            settings: RefCell::new(settings),
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

    /// To be called every [`crate::core::timer::TICK`]. `is_down` says of a backend's serial whether it
    /// is dead or hung.
    pub fn tick(&self, is_down: impl Fn(u64) -> bool) {
        self.timers.let_go(self.shared.let_go.generation(), IDLE_GRACE_MAX);
        self.timers.tick(is_down, self.is_draining(), self.shared.close_idle.load(Relaxed));
        self.clock.look();
        let settings = self.shared.settings.load();
        if **settings != **self.settings.borrow() {
            *self.settings.borrow_mut() = Rc::new(Settings::clone(&settings));
        }
        self.hot.tick();
        self.purse.settle();
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

    /// Counts and logs an exchange that is over.
    pub fn finish(&self, line: &Line<'_>) {
        let (stats, trail) = (&self.stats, line.trail);
        if let Some(count) = stats.answers.get(usize::from(trail.status / 100)) {
            count.add(1);
        }
        stats.durations.observe(line.whole);
        stats.bytes_in.add(trail.bytes_in);
        stats.bytes_out.add(trail.bytes_out);
        if let Some(via) = &trail.via {
            via.count(trail.status);
        }
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

/// Longest time that idle clients may send one more request in, once their connections are to end.
const IDLE_GRACE_MAX: Duration = Duration::from_secs(2);

/// That time once the process drains.
pub fn idle_grace(drain: Duration) -> Duration {
    (drain / 4).min(IDLE_GRACE_MAX)
}
