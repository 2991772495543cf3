//! What was done in the measured time, and how long it took.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use skep_load::histogram::Histogram;
use skep_load::pace::Pace;

use crate::Args;

/// A payload's time of put, in hexadecimal digits of nanoseconds.
pub const STAMP_BYTES: usize = 16;

/// How long after its end a schedule may still be caught up.
const PATIENCE: Duration = Duration::from_secs(1);

/// Counts and times, from the warm-up's end to the end of all.
pub struct Tally {
    begun: Instant,
    from: Instant,
    until: Instant,
    pace: Pace,
    put: Cell<u64>,
    taken: Cell<u64>,
    ended: Cell<u64>,
    /// From the beginning of a put to its acknowledgement.
    puts: RefCell<Histogram>,
    /// From the beginning of a put to the worker that has its task.
    ways: RefCell<Histogram>,
}

impl Tally {
    pub fn new(
        warmup: Duration,
        measured: Duration,
        rate: Option<f64>,
        producers: usize,
    ) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let from = begun + warmup;
        let until = from + measured;
        let pace = match rate {
            Some(rate) => Pace::open(begun, until, rate, producers, PATIENCE)?,
            None => Pace::closed(until),
        };
        Ok(Self {
            begun,
            from,
            until,
            pace,
            put: Cell::default(),
            taken: Cell::default(),
            ended: Cell::default(),
            puts: RefCell::default(),
            ways: RefCell::default(),
        })
    }

    /// Waits for the end.
    pub fn over(&self) -> impl Future<Output = ()> + use<> {
        tokio::time::sleep_until(self.until.into())
    }

    /// When the next put begins; `None` at the end.
    pub async fn next(&self) -> Option<Instant> {
        self.pace.next().await
    }

    /// Writes a payload of that many bytes that was put then.
    pub fn stamp(&self, at: Instant, bytes: usize, into: &mut Vec<u8>) {
        let nanos = at.saturating_duration_since(self.begun).as_nanos() as u64;
        into.extend_from_slice(format!("{nanos:016x}").as_bytes());
        into.resize(into.len() + bytes.saturating_sub(STAMP_BYTES), b'x');
    }

    /// So many puts that began then are acknowledged.
    pub fn was_put(&self, at: Instant, count: u64) {
        let now = Instant::now();
        if self.measures(now) {
            self.put.set(self.put.get() + count);
            self.puts.borrow_mut().record(now - at);
        }
    }

    /// A worker has the task with that payload.
    pub fn was_taken(&self, payload: &[u8]) {
        let now = Instant::now();
        if !self.measures(now) {
            return;
        }
        self.taken.set(self.taken.get() + 1);
        let stamp = payload.get(..STAMP_BYTES).and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(nanos) = stamp.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            let way = now.saturating_duration_since(self.begun + Duration::from_nanos(nanos));
            self.ways.borrow_mut().record(way);
        }
    }

    /// It has ended.
    pub fn has_ended(&self) {
        if self.measures(Instant::now()) {
            self.ended.set(self.ended.get() + 1);
        }
    }

    fn measures(&self, now: Instant) -> bool {
        now >= self.from && now < self.until
    }

    /// One line of JSON.
    pub fn report(&self, args: &Args) -> String {
        let seconds = (self.until - self.from).as_secs_f64();
        let rate = |count: &Cell<u64>| (count.get() as f64 / seconds).round();
        let ms = |histogram: &RefCell<Histogram>, share: f64| {
            (histogram.borrow().quantile(share).as_secs_f64() * 1e5).round() / 100.0
        };
        serde_json::json!({
            "peer": format!("{:?}", args.peer).to_lowercase(),
            "producers": args.producers,
            "workers": args.workers,
            "batch": args.batch,
            "puts": args.puts,
            "rate": args.rate,
            "put_per_s": rate(&self.put),
            "taken_per_s": rate(&self.taken),
            "ended_per_s": rate(&self.ended),
            "put_p50_ms": ms(&self.puts, 0.5),
            "put_p99_ms": ms(&self.puts, 0.99),
            "way_p50_ms": ms(&self.ways, 0.5),
            "way_p99_ms": ms(&self.ways, 0.99),
        })
        .to_string()
    }
}
