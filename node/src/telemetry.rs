//! What the node tells its operators: log lines and metrics.
//!
//! Owns the process's tracing subscriber and the metrics registry. No tasks. Logs go to stderr,
//! so that a verb's stdout stays its answer. Neither ever holds a secret: keys have no `Display`,
//! and their `Debug` form shows nothing.

pub mod log;
pub mod metrics;

pub use log::{TelemetryError, init};
pub use metrics::{Latency, Metrics, Scrape};
