//! What is shipped in `ops/`, and a Prometheus that runs on it.

pub mod prometheus;
pub mod shipped;
