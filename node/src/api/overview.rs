//! What a node keeps for those who ask who is there: the last answer, and how busy it is itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::telemetry::metrics::HttpMetrics;

/// Over how many seconds requests are averaged.
const RATE_SECONDS: usize = 5;

/// What is kept between two askers.
#[derive(Default)]
pub(crate) struct Overview {
    /// Held while others are asked: who comes meanwhile waits for the same answer.
    pub last: Mutex<Option<(Instant, Bytes)>>,
    /// Requests a second, as the bits of a float.
    rate: Arc<AtomicU64>,
}

impl Overview {
    /// With the task that averages requests; it ends with the overview.
    pub(crate) fn start(metrics: Arc<HttpMetrics>) -> Self {
        let overview = Self::default();
        let rate = Arc::downgrade(&overview.rate);
        tokio::spawn(async move {
            let mut counts = std::collections::VecDeque::from([metrics.answered()]);
            let mut second = tokio::time::interval(Duration::from_secs(1));
            loop {
                second.tick().await;
                let Some(rate) = rate.upgrade() else { return };
                counts.push_back(metrics.answered());
                if counts.len() > RATE_SECONDS + 1 {
                    counts.pop_front();
                }
                let (first, last) = (counts.front().copied(), counts.back().copied());
                let answered = last.unwrap_or(0) - first.unwrap_or(0);
                let average = answered as f64 / counts.len().saturating_sub(1).max(1) as f64;
                rate.store(average.to_bits(), Ordering::Relaxed);
            }
        });
        overview
    }

    pub(crate) fn requests_per_second(&self) -> f64 {
        f64::from_bits(self.rate.load(Ordering::Relaxed))
    }
}
