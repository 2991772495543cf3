//! What one core has for itself: timers, buffers, pipes, counters, its side of the log.

pub mod access_log;
pub mod buffer;
pub mod connections;
pub mod settings;
pub mod shared;
pub mod splice;
pub mod stats;
pub mod timer;
pub mod trail;
pub mod worker;
