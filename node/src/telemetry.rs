//! What the node counts and measures for its operators.
//!
//! Owns the metrics registry. No tasks. Log lines are `skep_base::log`'s.

pub mod metrics;

pub use metrics::{Latency, Metrics, Scrape};
