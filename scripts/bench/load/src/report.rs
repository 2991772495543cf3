//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::args::Mode;
use crate::failure::Failure;
use crate::histogram::Histogram;

/// Counts answers while a run lasts.
#[derive(Debug)]
pub struct Tally {
    from: Instant,
    until: Instant,
    /// Answered well inside the measured time, whenever they started: the throughput.
    answered: u64,
    /// Of all well answered requests that started inside the measured time, also those that were
    /// answered after its end: a stall at the end is not left out.
    latencies: Histogram,
    errors: BTreeMap<String, u64>,
}

/// The figures of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub mode: Mode,
    pub connections: usize,
    pub targets: usize,
    pub message_bytes: usize,
    /// Requests a second that were asked for; absent for the closed loop.
    pub rate: Option<f64>,
    pub seconds: f64,
    /// Answered well inside the measured time.
    pub requests: u64,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// By kind, over the warm-up as well.
    pub errors: BTreeMap<String, u64>,
    /// CPU time of this client for each request, in microseconds.
    pub client_us: f64,
}

impl Tally {
    pub fn new(from: Instant, until: Instant) -> Self {
        Self { from, until, answered: 0, latencies: Histogram::default(), errors: BTreeMap::new() }
    }

    pub fn record(&mut self, started: Instant, result: Result<(), Failure>) {
        let now = Instant::now();
        match result {
            Ok(()) => {
                self.answered += u64::from(now >= self.from && now < self.until);
                if started >= self.from && started < self.until {
                    self.latencies.record(now - started);
                }
            }
            Err(failure) => *self.errors.entry(failure.kind().into_owned()).or_default() += 1,
        }
    }

    pub fn record_unsent(&mut self, count: u64) {
        if count > 0 {
            *self.errors.entry("unsent".into()).or_default() += count;
        }
    }

    /// Adds what another thread of the same run counted.
    pub fn merge(&mut self, other: &Self) {
        self.answered += other.answered;
        self.latencies.merge(&other.latencies);
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
    }

    pub fn answered(&self) -> u64 {
        self.answered
    }

    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    pub fn p50(&self) -> Duration {
        self.latencies.quantile(0.50)
    }

    pub fn p99(&self) -> Duration {
        self.latencies.quantile(0.99)
    }

    pub fn max(&self) -> Duration {
        self.latencies.max()
    }
}

impl Report {
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} over {} connections to {} targets: {:.0} requests/s, p50 {:.3} ms, p99 {:.3} ms, max {:.1} ms, \
             client {:.1} µs/request",
            self.mode,
            self.connections,
            self.targets,
            self.per_second,
            self.p50_ms,
            self.p99_ms,
            self.max_ms,
            self.client_us
        )?;
        if self.errors.is_empty() {
            return f.write_str(", no errors");
        }
        write!(f, ", {} errors:", self.error_count())?;
        self.errors.iter().try_for_each(|(kind, count)| write!(f, " {kind}={count}"))
    }
}
