//! Time limits for many connections at the price of none.
//!
//! A timer of the runtime's own for each phase of each request would be a good part of what a
//! request costs. Here a limit is a number in a table that one task per core looks through, so limits
//! are exact to [`TICK`]. The same look wakes those that wait for a backend that was found dead.
//! Cancel-safe: a dropped [`Timer`] gives its slot back.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How often the table is looked through.
pub const TICK: Duration = Duration::from_millis(50);

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fired {
    Deadline,
    /// The backend that was waited for is dead or hung.
    BackendDown,
    /// The process drains or lets this go, which is idle or to be told.
    Drain,
}

#[derive(Debug)]
struct Slot {
    deadline_ms: u64,
    /// The backend waited for; 0 for none.
    backend: u64,
    idle: bool,
    /// It fires once the process drains.
    told_of_drain: bool,
    /// It is polled at the next tick, whatever comes.
    look_again: bool,
    /// When it was taken; those of an earlier one are let go.
    generation: u32,
    fired: Option<Fired>,
    waker: Option<Waker>,
}

const UNUSED: Slot = Slot {
    deadline_ms: u64::MAX,
    backend: 0,
    idle: false,
    told_of_drain: false,
    look_again: false,
    generation: 0,
    fired: None,
    waker: None,
};

/// Which connections are let go.
#[derive(Debug, Clone, Copy)]
struct Generations {
    now: u32,
    since: Instant,
    /// Idle ones of an earlier one than this have had their time.
    idle: u32,
}

/// The table of one core.
#[derive(Debug)]
pub struct Timers {
    start: Instant,
    now: Cell<Instant>,
    now_ms: Cell<u64>,
    generations: Cell<Generations>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
}

impl Timers {
    pub fn new() -> Rc<Self> {
        let start = Instant::now();
        Rc::new(Self {
            start,
            now: Cell::new(start),
            now_ms: Cell::new(0),
            generations: Cell::new(Generations { now: 0, since: start, idle: 0 }),
            slots: RefCell::default(),
            free: RefCell::default(),
        })
    }

    pub fn timer(self: &Rc<Self>) -> Timer {
        let mut slots = self.slots.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(UNUSED);
            slots.len() - 1
        });
        slots[slot].generation = self.generation();
        drop(slots);
        Timer { timers: self.clone(), slot }
    }

    /// That of timers which are taken now.
    pub fn generation(&self) -> u32 {
        self.generations.get().now
    }

    /// Timers of an earlier generation are let go: those that want to be told at the next tick, idle
    /// ones after a grace.
    pub fn let_go(&self, generation: u32, idle_grace: Duration) {
        let (before, now) = (self.generations.get(), Instant::now());
        let next = if before.now != generation {
            Generations { now: generation, since: now, ..before }
        } else if before.idle != generation && now.duration_since(before.since) >= idle_grace {
            Generations { idle: generation, ..before }
        } else {
            return;
        };
        self.generations.set(next);
    }

    /// The time of the last tick: exact enough for most, and free.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Looks through the table. `is_down` says which backends are dead; `draining` tells those that
    /// are to be told, `close_idle` ends idle connections.
    pub fn tick(&self, is_down: impl Fn(u64) -> bool, draining: bool, close_idle: bool) {
        let now = Instant::now();
        let now_ms = now.duration_since(self.start).as_millis() as u64;
        self.now.set(now);
        self.now_ms.set(now_ms);
        let generations = self.generations.get();
        for slot in self.slots.borrow_mut().iter_mut() {
            let fired = if slot.deadline_ms <= now_ms {
                Fired::Deadline
            } else if slot.backend != 0 && is_down(slot.backend) {
                Fired::BackendDown
            } else if ((close_idle || slot.generation < generations.idle) && slot.idle)
                || ((draining || slot.generation < generations.now) && slot.told_of_drain)
            {
                Fired::Drain
            } else {
                if std::mem::take(&mut slot.look_again)
                    && let Some(waker) = slot.waker.take()
                {
                    waker.wake();
                }
                continue;
            };
            slot.fired.get_or_insert(fired);
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }
}

/// One connection's limit.
#[derive(Debug)]
pub struct Timer {
    timers: Rc<Timers>,
    slot: usize,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.timers.slots.borrow_mut()[self.slot] = UNUSED;
        self.timers.free.borrow_mut().push(self.slot);
    }
}

impl Timer {
    fn set(&self, change: impl FnOnce(&mut Slot)) {
        change(&mut self.timers.slots.borrow_mut()[self.slot]);
    }

    /// Starts a wait of at most `limit`; forgets what fired before.
    pub fn arm(&self, limit: Duration) {
        let deadline_ms = self.timers.now_ms.get().saturating_add(limit.as_millis() as u64);
        self.set(|slot| (slot.deadline_ms, slot.fired) = (deadline_ms, None));
    }

    /// The wait is for this backend too; 0 for none.
    pub fn watch_backend(&self, id: u64) {
        self.set(|slot| slot.backend = id);
    }

    /// The connection is between requests, or no more.
    pub fn set_idle(&self, idle: bool) {
        self.set(|slot| slot.idle = idle);
    }

    /// Whether the drain's begin is to be heard of, as [`Fired::Drain`].
    pub fn tell_of_drain(&self, tell: bool) {
        self.set(|slot| slot.told_of_drain = tell);
    }

    /// Who waits is polled once more at the next tick: for what has no event, or is not worth one at once.
    pub fn look_again(&self) {
        self.set(|slot| slot.look_again = true);
    }

    pub fn disarm(&self) {
        self.set(|slot| {
            (slot.deadline_ms, slot.backend, slot.fired, slot.look_again) = (u64::MAX, 0, None, false);
        });
    }

    /// Ready where the wait is over.
    pub fn poll_fired(&self, cx: &mut Context<'_>) -> Poll<Fired> {
        let slot = &mut self.timers.slots.borrow_mut()[self.slot];
        if let Some(fired) = slot.fired {
            return Poll::Ready(fired);
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// What `future` gives, where it gives it in time.
    pub async fn limit<F: Future>(&self, future: F) -> Result<F::Output, Fired> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_fired(cx).map(Err),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_wait_ends_at_its_limit_at_the_backends_death_or_at_the_drain() {
        let timers = Timers::new();
        let timer = timers.timer();
        timer.arm(Duration::ZERO);
        timers.tick(|_| false, false, false);
        assert_eq!(timer.limit(pending::<()>()).await, Err(Fired::Deadline));
        timer.arm(Duration::from_secs(100));
        timer.watch_backend(7);
        timers.tick(|serial| [8, 7].contains(&serial), false, false);
        assert_eq!(timer.limit(pending::<()>()).await, Err(Fired::BackendDown));
        timer.disarm();
        timer.set_idle(true);
        timers.tick(|serial| serial == 7, true, true);
        assert_eq!(timer.limit(pending::<()>()).await, Err(Fired::Drain));
    }

    #[tokio::test]
    async fn who_is_let_go_is_told_at_once_and_ended_after_a_grace_where_it_is_idle() {
        let timers = Timers::new();
        let (told, idle) = (timers.timer(), timers.timer());
        told.tell_of_drain(true);
        idle.set_idle(true);
        timers.let_go(1, Duration::ZERO);
        let late = timers.timer();
        late.set_idle(true);
        late.tell_of_drain(true);
        timers.tick(|_| false, false, false);
        assert_eq!(told.limit(pending::<()>()).await, Err(Fired::Drain));
        let waits = |timer: &Timer| timer.timers.slots.borrow()[timer.slot].fired.is_none();
        assert!(waits(&idle), "it may send one more request");
        timers.let_go(1, Duration::ZERO);
        timers.tick(|_| false, false, false);
        assert_eq!(idle.limit(pending::<()>()).await, Err(Fired::Drain));
        assert!(waits(&late), "it came after that");
    }

    #[tokio::test]
    async fn who_asks_for_it_is_polled_at_the_next_tick_and_not_at_the_one_after() {
        let timers = Timers::new();
        let timer = timers.timer();
        timer.look_again();
        let mut waiting = pin!(timer.limit(pending::<()>()));
        let woken = std::sync::Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        for wakes in [1, 1] {
            assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            timers.tick(|_| false, false, false);
            assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), wakes);
        }
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_slot_is_used_again_and_remembers_nothing() {
        let timers = Timers::new();
        let timer = timers.timer();
        timer.arm(Duration::ZERO);
        timers.tick(|_| false, false, false);
        drop(timer);
        let timer = timers.timer();
        assert_eq!(timer.slot, 0);
        assert_eq!(timer.limit(std::future::ready(1)).await, Ok(1));
        let waits = poll_fn(|cx| Poll::Ready(timer.poll_fired(cx).is_pending())).await;
        assert!(waits);
    }
}
