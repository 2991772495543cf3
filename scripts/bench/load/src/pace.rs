//! When the next request starts: at once (closed loop), or at its place in a fixed schedule
//! (open loop).
//!
//! The schedule is kept by a thread of its own, because the runtime's timer is no finer than a
//! millisecond. A request that starts late, for want of a free connection, counts its latency from
//! its place in the schedule all the same: a stalled server cannot hide the requests it held up.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Hands out starts to the connections of one thread.
#[derive(Debug)]
pub struct Pace {
    until: Instant,
    schedule: Option<Schedule>,
}

#[derive(Debug)]
struct Schedule {
    origin: Instant,
    interval_ns: f64,
    total: u64,
    taken: Cell<u64>,
    /// Starts no later than this, however many places are left.
    give_up: Instant,
    due: Arc<Semaphore>,
    stop: Arc<AtomicBool>,
    clock: Option<JoinHandle<()>>,
}

impl Pace {
    /// Each request follows the last one's answer, until then.
    pub fn closed(until: Instant) -> Self {
        Self { until, schedule: None }
    }

    /// `rate` requests a second from `origin` until then, over `connections` takers.
    pub fn open(
        origin: Instant,
        until: Instant,
        rate: f64,
        connections: usize,
        patience: Duration,
    ) -> std::io::Result<Self> {
        let interval_ns = 1e9 / rate;
        let total = ((until - origin).as_nanos() as f64 / interval_ns).round() as u64;
        let due = Arc::new(Semaphore::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let clock = std::thread::Builder::new().name("schedule".into()).spawn({
            let (due, stop) = (due.clone(), stop.clone());
            move || {
                let mut given = 0;
                while given < total && !stop.load(Ordering::Relaxed) {
                    let passed = Instant::now().saturating_duration_since(origin).as_nanos() as f64;
                    let reached = ((passed / interval_ns) as u64 + 1).min(total);
                    due.add_permits((reached - given) as usize);
                    given = reached;
                    let next = origin + Duration::from_nanos((given as f64 * interval_ns) as u64);
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "the load generator keeps its pace by its own clock"
                    )]
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                // One more for each taker, so that each one sees the end.
                due.add_permits(connections);
            }
        })?;
        let schedule = Schedule {
            origin,
            interval_ns,
            total,
            taken: Cell::new(0),
            give_up: until + patience,
            due,
            stop,
            clock: Some(clock),
        };
        Ok(Self { until, schedule: Some(schedule) })
    }

    /// When the next request counts as started, or `None` at the end. Waits for it to be due.
    pub async fn next(&self) -> Option<Instant> {
        let Some(schedule) = &self.schedule else {
            let now = Instant::now();
            return (now < self.until).then_some(now);
        };
        schedule.due.acquire().await.ok()?.forget();
        let place = schedule.taken.get();
        if place >= schedule.total || Instant::now() > schedule.give_up {
            // Hand the permit on: another taker may wait with no place left.
            schedule.due.add_permits(1);
            return None;
        }
        schedule.taken.set(place + 1);
        Some(schedule.origin + Duration::from_nanos((place as f64 * schedule.interval_ns) as u64))
    }

    /// How many requests of the schedule were never started.
    pub fn unsent(&self) -> u64 {
        self.schedule.as_ref().map_or(0, |schedule| schedule.total - schedule.taken.get())
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(clock) = self.clock.take() {
            let _ = clock.join();
        }
    }
}
